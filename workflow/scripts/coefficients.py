"""Decompose every PFV of one shard's attributed images as calibrated (Eqs. 1, 2); say what is kept of the decisions."""

from argparse import Namespace

import numpy as np

from gigraph.device import as_device
from gigraph.method.certificate import certified
from gigraph.method.coding import Coder
from gigraph.method.decision import Decisions
from gigraph.method.gig import Batch
from gigraph.records import tables
from gigraph.records.attributions import Decompositions
from gigraph.records.encoders import read_encoder
from gigraph.records.schemas import SCHEMAS
from gigraph.reporting import log, progress
from gigraph.reserved import CLASSES
from gigraph.running.runtime import run
from gigraph.subject import Subject


def main(args: Namespace) -> None:
    settings = args.settings
    name = settings["layer"]
    selection = tables.read(args.selection)
    here = selection.filter(tables.numpy(selection, "shard") == int(args.shard))
    ids = tables.numpy(here, "image_id")
    vectors = tables.numpy(tables.read(args.concepts, ["vector"]), "vector")
    beta = tables.beta(args.centre)
    (calibration,) = tables.read(args.calibration).to_pylist()
    subject = Subject(settings, args.compute, [name])
    encoder = read_encoder(args.concepts)
    coder = Coder(vectors, calibration, settings["tolerance"], encoder, subject.memory)
    layer = subject.layers[name]
    positions = layer.height * layer.width
    start = beta if encoder is None else beta + encoder.offset
    start, directions = as_device(start, subject.device), as_device(vectors, subject.device)
    start = start * (settings["baseline"] != "zero")  # as a `gigraph.pair.Pair` starts
    room = Batch(subject.path_points(name))
    decisions = Decisions(subject.segment(name, CLASSES), room, subject.network.task)
    indptr, indices, values = [np.zeros(1, np.int64)], [], []
    measured = {"rel_l2": [], "gap": [], "stationarity": []}
    sweep = subject.images(settings["source"], ids, here["path"].to_pylist())
    for part, x in progress(sweep, -(-len(ids) // subject.images_at_once), "batches"):
        pfvs = subject.pfvs(x, name, ids[part])
        codes = coder(pfvs.flatten(0, 1).cpu().numpy() - beta)
        coded = Decompositions(codes.indptr, codes.indices, codes.values, positions, subject.device)
        decisions.add(pfvs, [("concepts", coded.reconstructed(start, directions)), ("baseline", start)])
        indptr.append(indptr[-1][-1] + codes.indptr[1:])
        indices.append(codes.indices)
        values.append(codes.values)
        for key, parts in measured.items():
            parts.append(getattr(codes, key))
    where = np.tile(np.arange(positions), len(ids))
    pointer = np.concatenate(indptr)
    join = lambda parts, kind: np.concatenate([np.empty(0), *parts]).astype(kind)  # noqa: E731
    columns = {key: join(parts, np.float32) for key, parts in measured.items()}
    tables.write(
        args.coefficients,
        "coefficients",
        {
            "image_id": np.repeat(ids, positions),
            "y": (where // layer.width).astype(np.int32),
            "x": (where % layer.width).astype(np.int32),
            "concepts": tables.ragged(pointer, join(indices, np.int32)),
            "values": tables.ragged(pointer, join(values, np.float32)),
            **columns,
        },
        args.lineage,
    )
    found = {name: [] for name in SCHEMAS["decisions"].names} | decisions.columns()
    found |= {"image_id": ids, "label": tables.numpy(here, "label")}
    tables.write(args.decisions, "decisions", found, args.lineage)
    if len(where):
        log.info(
            "%d PFVs: %.1f non-zeros, relative l2 error %.3f, %s",
            len(where), pointer[-1] / len(where), columns["rel_l2"].astype(float).mean(),
            certified(columns["gap"], columns["stationarity"]),
        )  # fmt: skip


if __name__ == "__main__":
    run(main, "selection", "centre", "concepts", "calibration", "coefficients", "decisions", "shard")
