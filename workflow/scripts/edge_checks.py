"""Check GIG by exact ablation, for shown edges and for a random sample of others; and say what |GIG| is made of."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import polars as pl

from gigraph.device import as_device
from gigraph.evaluation.measures import Measures, per_image
from gigraph.hashing import mix
from gigraph.method.fidelity import agreement, checkable, shares
from gigraph.method.gig import Batch, ablate, class_score, concept_score
from gigraph.records import tables
from gigraph.records.schemas import SCHEMAS
from gigraph.reporting import log, progress
from gigraph.reserved import CLASSES
from gigraph.running.runtime import run
from gigraph.subject import Subject
from gigraph.vocabulary import Vocabulary


def main(args: Namespace) -> None:
    settings, root = args.settings, Path(args.root)
    folder = root / settings["method"]
    subject = Subject(settings, args.compute, settings["layers"])

    def vocabulary(layer: str) -> Vocabulary:
        return Vocabulary(root, settings["method"], layer, settings["tolerances"][layer], subject)

    edges = pl.read_parquet(folder / "graph" / "edges.parquet").filter((pl.col("scope") >= 0) & (pl.col("source") >= 0))
    selection = tables.read(args.selection).to_pylist()
    checked, measures = [], Measures(method=settings["method"])
    for source, target in progress(settings["pairs"], len(settings["pairs"]), "layer pairs"):
        pair = edges.filter((pl.col("source_layer") == source) & (pl.col("target_layer") == target))
        shown = pair.filter("shown")
        columns = (pair[name].to_numpy() for name in ("scope", "target", "shown"))
        candidates = pair.filter(pl.Series(checkable(*columns, classes=target == CLASSES)))
        others = _sample(candidates, settings["edges"], settings["seed"])
        # Opened a pair at a time: all layers' vocabularies at once would not fit.
        here, there = vocabulary(source), None if target == CLASSES else vocabulary(target)
        ablations = _ablations(subject, here, there, others, selection, settings)
        del here, there
        others = others.with_columns(pl.Series("ablation", ablations, pl.Float32))
        both = pl.concat([shown, others]).select(SCHEMAS["checks"].names)
        checked.append(both)
        names = {"layer": source, "target": target}
        for which, some in (("shown", shown), ("others", others), ("all", both)):
            _agreement(measures, some, which, names)
        _shares(measures, folder / "attributions" / f"{source}--{target}", settings["shards"], names)
        log.info("%s to %s: %d shown edges, %d others", source, target, len(shown), len(others))
    everything = pl.concat(checked)
    tables.write(args.checks, "checks", {name: everything[name].to_list() for name in everything.columns}, args.lineage)
    measures.write("measures", args.measures, args.lineage)


def _sample(edges: pl.DataFrame, count: int, seed: int) -> pl.DataFrame:
    keys = mix(seed, *(edges[name].to_numpy().astype(np.int64) for name in ("scope", "source", "target")))
    return edges[np.sort(np.argsort(keys, kind="stable")[:count])]


def _ablations(subject, here, there, edges, selection, settings) -> list[float]:
    """Return each edge's exact effect: the mean drop of the target over the class's images without the source."""
    segment = subject.segment(here.layer, there.layer if there else CLASSES)
    score = concept_score(there.directions) if there else class_score(settings["class_output"])
    room = Batch(subject.path_points(here.layer))
    start = here.start * 0 if settings["baseline"] == "zero" else here.start
    found: dict[tuple[int, int, int], float] = {}
    for scope, part in edges.group_by("scope", maintain_order=True):
        rows = [row for row in selection if row["label"] == scope[0]]
        sources, targets = part["source"].unique().to_list(), part["target"].unique().to_list()
        to = as_device(np.array(targets), subject.device)
        total = np.zeros((len(sources), len(targets)))
        sweep = subject.images(settings["images"], [row["image_id"] for row in rows], [row["path"] for row in rows])
        for _, x in sweep:
            images, _ = here.decompose(subject.pfvs(x, here.layer).cpu().numpy())
            for image in images:
                total += ablate(segment, score, here.directions, start, image, sources, to, room).cpu().numpy()
        for i, q in enumerate(sources):
            for j, t in enumerate(targets):
                found[scope[0], q, t] = float(total[i, j]) / len(rows)
    return [found[key] for key in edges.select("scope", "source", "target").iter_rows()]


def _agreement(measures: Measures, edges: pl.DataFrame, which: str, names: dict[str, str]) -> None:
    edges = edges.filter(pl.col("ablation").is_finite())
    gig, exact = edges["mean"].to_numpy().astype(np.float64), edges["ablation"].to_numpy().astype(np.float64)
    for metric, value in agreement(gig, exact).items():
        measures.add(f"{metric}_{which}", value, **names, order="gig", n=len(gig))


def _shares(measures: Measures, pair: Path, shards: int, names: dict[str, str]) -> None:
    """Add the `shares` of sum |GIG|, each image's mean over its targets."""
    table = tables.read([pair / f"{shard}.parquet" for shard in range(shards)])
    numbers = (tables.numpy(table, name) for name in ("total_absolute", "error"))
    found = shares(tables.csr(table, "sources")[0], tables.csr(table, "values")[1], *numbers)
    for name, share in found.items():
        measures.add(f"share_{name}", per_image(share, tables.numpy(table, "image_id")), **names, order="gig")


if __name__ == "__main__":
    run(main, "root", "selection", "checks", "measures")
