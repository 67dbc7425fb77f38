"""Gather what extractors are compared on, of the trained network and of the same with its weights shuffled."""

from argparse import Namespace

import numpy as np

from gigraph.evaluation.probes import gather
from gigraph.model.centre import batchnorm_shift
from gigraph.records import tables
from gigraph.records.paths import NETWORKS, Results
from gigraph.running.runtime import run
from gigraph.subject import Subject


def main(args: Namespace) -> None:
    settings, results = args.settings, Results(args.root)
    manifest, heldout = tables.read(args.manifests), tables.read(args.heldout)
    for network in NETWORKS:
        subject = Subject({**settings, "model": settings["networks"][network]}, args.compute, settings["layers"])
        rows: dict[tuple[str, str], list] = {}
        shifts = {name: batchnorm_shift(subject.traced, layer) for name, layer in subject.layers.items()}
        for layer, kind, columns, vectors in gather(subject, shifts, manifest, heldout, settings):
            rows.setdefault((layer, kind), []).append((columns, vectors))
        for (layer, kind), parts in rows.items():
            path = results(kind, network=network, layer=layer)
            tables.write(path, kind, _joined([columns for columns, _ in parts]), args.lineage, vectors=parts[0][1])


def _joined(parts):
    return {
        name: np.concatenate([part[name] for part in parts])
        if isinstance(parts[0][name], np.ndarray)
        else [one for part in parts for one in part[name]]
        for name in parts[0]
    }


if __name__ == "__main__":
    run(main, "manifests+", "heldout", "root")
