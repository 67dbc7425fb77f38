"""Try numbers of concepts a PFV: how much of the network's decisions about some images one layer keeps with each."""

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
from torch import Tensor

from gigraph.device import as_device
from gigraph.method.coding import Coder, settle, sparse
from gigraph.method.decision import Decisions
from gigraph.method.gig import Batch
from gigraph.method.heldout import tried
from gigraph.method.share import summary
from gigraph.records import tables
from gigraph.records.attributions import Decompositions
from gigraph.records.pfvs import subsample
from gigraph.reporting import log, progress
from gigraph.reserved import CLASSES
from gigraph.running.runtime import run
from gigraph.subject import Subject

IMAGES = 48
"""Images that are looked at; all positions of each are coded with each number."""


def main(args: Namespace) -> None:
    settings = args.settings
    name = settings["layer"]
    subject = Subject(settings, args.compute, [name])
    vectors = tables.numpy(tables.read(args.concepts, ["vector"]), "vector")
    beta = tables.beta(args.centre)
    start, directions = as_device(beta, subject.device), as_device(vectors, subject.device)
    start = start * (settings["baseline"] != "zero")
    coders = _coders(args, vectors, beta, subject.memory)
    manifest = tables.read(args.manifests, ["image_id", "path"])
    ids = tables.numpy(manifest, "image_id")
    some = tried(ids, settings["seed"], settings["holdout"], IMAGES)
    paths = manifest["path"].take(some).to_pylist()
    room = Batch(subject.path_points(name))
    decisions = Decisions(subject.segment(name, CLASSES), room, subject.network.task)
    codes = {asked: [] for asked in coders}
    sweep = subject.images(settings["source"], ids[some], paths)
    for part, x in progress(sweep, -(-len(some) // subject.images_at_once), "batches"):
        pfvs = subject.pfvs(x, name, ids[some][part])
        flat = pfvs.flatten(0, 1).cpu().numpy() - beta

        def inputs(pfvs: Tensor = pfvs, flat: np.ndarray = flat) -> Iterator[tuple[str, Tensor]]:
            yield "baseline", start
            for asked, coder in coders.items():
                coded = coder(flat)
                codes[asked].append((coded.nonzeros(), coded.rel_l2))
                of = Decompositions(coded.indptr, coded.indices, coded.values, pfvs.shape[1], subject.device)
                yield str(asked), of.reconstructed(start, directions)

        decisions.add(pfvs, inputs())
    found, rows = decisions.columns(), []
    for asked, parts in codes.items():
        kept = summary(found, str(asked))
        nonzeros, rel_l2 = (np.concatenate(many).astype(np.float64).mean() for many in zip(*parts, strict=True))
        rows.append({"layer": name, "asked": asked, "nonzeros": nonzeros, "rel_l2": rel_l2, **asdict(kept)})
        log.info("tried: %.4g non-zeros per PFV %s", nonzeros, kept.said())
    tables.write(args.trials, "trials", {key: [row[key] for row in rows] for key in rows[0]}, args.lineage)


def _coders(args: Namespace, vectors: np.ndarray, beta: np.ndarray, memory: int) -> dict[int, Coder]:
    """Return what codes with each number of concepts that may be taken."""
    settings = args.settings
    x = subsample(args.pfvs, settings["seed"], settings["holdout"], settings["calibration"]) - beta
    found: dict[int, Coder] = {}
    for asked in sparse(settings["numbers"], *vectors.shape):
        fixed, _ = settle(x, vectors, settings, asked, settings["tolerance"], memory)
        one = next(iter(found.values()), None)
        found[asked] = one.asking(fixed) if one else Coder(vectors, fixed, settings["tolerance"], memory=memory)
    return found


if __name__ == "__main__":
    run(main, "manifests+", "centre", "concepts", "pfvs+", "trials")
