"""Check the edges that may be shown: delete each kept source concept from X~ and recompute the targets, exactly."""

from argparse import Namespace

import numpy as np

from gigraph.device import as_device
from gigraph.method.graph import mean_and_error
from gigraph.pair import Pair
from gigraph.records import tables
from gigraph.records.attributions import Decompositions
from gigraph.reporting import log, progress
from gigraph.reserved import CLASSES
from gigraph.running.runtime import run
from gigraph.subject import Subject


def main(args: Namespace) -> None:
    settings = args.settings
    source, target = settings["layers"]
    subject = Subject(settings, args.compute, [source] if target == CLASSES else [source, target])
    pair = Pair.open(subject, args.root, args.method, source, target, settings["attribution"])
    positions = subject.layers[source].positions
    labels = {row["image_id"]: row["label"] for row in tables.read(args.selection, ["image_id", "label"]).to_pylist()}
    sources = _kept(args.kept)
    kept_targets = {} if target == CLASSES else _kept(args.targets[1])
    drops: dict[tuple[int, int, int], list[float]] = {}
    for label, image in progress(_images(args.coefficients, labels, positions, subject.device), len(labels), "images"):
        delete = sources.get(label, [])
        towards = [label] if target == CLASSES else kept_targets.get(label, [])
        if not delete or not towards:
            continue
        to = as_device(np.array(towards), subject.device)
        drop = pair.ablate(image, delete, to).cpu().numpy()
        for i, q in enumerate(delete):
            for j, t in enumerate(towards):
                drops.setdefault((label, q, t), []).append(float(drop[i, j]))
    keys = sorted(drops)
    many = [mean_and_error(np.array(drops[key])) for key in keys]
    tables.write(
        args.ablation,
        "ablation",
        {
            "scope": [key[0] for key in keys],
            "source": [key[1] for key in keys],
            "target": [key[2] for key in keys],
            "ablation": [mean for mean, _ in many],
            "se": tables.nullable([error for _, error in many]),
            "images": [len(drops[key]) for key in keys],
        },
        args.lineage,
    )
    log.info("%d edges checked", len(keys))


def _images(paths, labels, positions, device):
    """Yield (label, decomposition) of each image, with one shard in memory at a time."""
    for path in paths:
        coefficients = tables.read(path)
        decompositions = Decompositions.of_table(coefficients, positions, device)
        for index, image in enumerate(tables.numpy(coefficients, "image_id")[::positions].tolist()):
            yield labels[image], decompositions(slice(index, index + 1))[0]


def _kept(path: str) -> dict[int, list[int]]:
    """Return the kept concepts of each scope."""
    found: dict[int, list[int]] = {}
    for row in tables.read(path).to_pylist():
        found.setdefault(row["scope"], []).append(row["concept"])
    return found


if __name__ == "__main__":
    run(main, "root", "method", "selection", "kept", "coefficients+", "targets+", "ablation")
