"""Check GIG by exact ablation, for shown edges and for a random sample of others; and say what |GIG| is made of."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import polars as pl

from gigraph import tables
from gigraph.config import CLASSES
from gigraph.fidelity import correlation, rank_correlation
from gigraph.gig import ablate, class_score, concept_score
from gigraph.hashing import mix
from gigraph.measures import Measures
from gigraph.runtime import log, progress, run
from gigraph.subject import Subject, as_device
from gigraph.vocabulary import Vocabulary


def main(args: Namespace) -> None:
    settings, root = args.settings, Path(args.root)
    folder = root / settings["method"]
    subject = Subject(settings, args.compute, settings["layers"])
    vocabularies = {
        layer: Vocabulary(root, settings["method"], layer, settings["tolerances"][layer], subject.device)
        for layer in settings["layers"]
    }
    edges = pl.read_parquet(folder / "graph" / "edges.parquet").filter((pl.col("scope") >= 0) & (pl.col("source") >= 0))
    selection = tables.read(args.selection).to_pylist()
    checked, measures = [], Measures(method=settings["method"])
    for source, target in progress(settings["pairs"], len(settings["pairs"]), "layer pairs"):
        pair = edges.filter((pl.col("source_layer") == source) & (pl.col("target_layer") == target))
        shown = pair.filter("shown")
        others = _sample(_candidates(pair, shown, target), settings["edges"], settings["seed"])
        ablations = _ablations(subject, vocabularies, others, source, target, selection, settings, args.compute)
        others = others.with_columns(pl.Series("ablation", ablations, pl.Float32))
        both = pl.concat([shown, others]).select(tables.SCHEMAS["checks"].names)
        checked.append(both)
        names = {"layer": source, "target": target}
        for which, some in (("shown", shown), ("others", others), ("all", both)):
            _agreement(measures, some, which, names)
        _shares(measures, folder / "attributions" / f"{source}--{target}", settings["shards"], names)
        log.info("%s to %s: %d shown edges, %d others", source, target, len(shown), len(others))
    everything = pl.concat(checked)
    tables.write(args.checks, "checks", {name: everything[name].to_list() for name in everything.columns}, args.lineage)
    measures.write("measures", args.measures, args.lineage)


def _candidates(pair: pl.DataFrame, shown: pl.DataFrame, target: str) -> pl.DataFrame:
    """Return the edges that are not shown, towards targets that were attributed in all images of the class."""
    hidden = pair.filter(~pl.col("shown"))
    if target == CLASSES:
        return hidden.filter(pl.col("scope") == pl.col("target"))
    return hidden.join(shown.select("scope", "target").unique(), on=["scope", "target"], how="semi")


def _sample(edges: pl.DataFrame, count: int, seed: int) -> pl.DataFrame:
    keys = mix(seed, *(edges[name].to_numpy().astype(np.int64) for name in ("scope", "source", "target")))
    return edges[np.sort(np.argsort(keys, kind="stable")[:count])]


def _ablations(subject, vocabularies, edges, source: str, target: str, selection, settings, compute) -> list[float]:
    """Return each edge's exact effect: the mean drop of the target over the class's images without the source."""
    segment = subject.segment(source, target)
    here = vocabularies[source]
    score = (
        class_score(settings["class_output"]) if target == CLASSES else concept_score(vocabularies[target].directions)
    )
    start = here.start * 0 if settings["baseline"] == "zero" else here.start
    found: dict[tuple[int, int, int], float] = {}
    for scope, part in edges.group_by("scope", maintain_order=True):
        rows = [row for row in selection if row["label"] == scope[0]]
        sources, targets = part["source"].unique().to_list(), part["target"].unique().to_list()
        to = as_device(np.array(targets), subject.device)
        total = np.zeros((len(sources), len(targets)))
        sweep = subject.images(settings["images"], [row["image_id"] for row in rows], [row["path"] for row in rows])
        for _, x in sweep:
            images, _ = here.decompose(subject.pfvs(x, source).cpu().numpy())
            for image in images:
                total += ablate(segment, score, here.directions, start, image, sources, to).cpu().numpy()
        for i, q in enumerate(sources):
            for j, t in enumerate(targets):
                found[scope[0], q, t] = float(total[i, j]) / len(rows)
    return [found[key] for key in edges.select("scope", "source", "target").iter_rows()]


def _agreement(measures: Measures, edges: pl.DataFrame, which: str, names: dict[str, str]) -> None:
    edges = edges.filter(pl.col("ablation").is_finite())
    gig, exact = edges["mean"].to_numpy().astype(np.float64), edges["ablation"].to_numpy().astype(np.float64)
    size = len(gig)
    same = np.sign(gig) == np.sign(exact)
    for metric, value in (
        ("rank_correlation", rank_correlation(gig, exact)),
        ("correlation", correlation(gig, exact)),
        ("same_sign", float(same.mean()) if size else float("nan")),
    ):
        measures.add(f"{metric}_{which}", value, **names, order="gig", n=size)


def _shares(measures: Measures, pair: Path, shards: int, names: dict[str, str]) -> None:
    """Add what kept concepts, the remainder and the error node hold of sum |GIG|, the error node's |value| included."""
    table = tables.read([pair / f"{shard}.parquet" for shard in range(shards)])
    indptr, _ = tables.csr(table, "sources")
    values = np.abs(tables.csr(table, "values")[1].astype(np.float64))
    kept = np.add.reduceat(np.append(values, 0), indptr[:-1]) * (np.diff(indptr) > 0)
    concepts = tables.numpy(table, "total_absolute").astype(np.float64)
    error = np.abs(tables.numpy(table, "error").astype(np.float64))
    whole = np.maximum(concepts + error, 1e-30)
    for metric, part in (("concepts", kept), ("remainder", np.maximum(concepts - kept, 0)), ("error", error)):
        measures.add(f"share_{metric}", part / whole, **names, order="gig")


if __name__ == "__main__":
    run(main, "root", "selection", "checks", "measures")
