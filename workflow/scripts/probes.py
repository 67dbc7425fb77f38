"""Gather what extractors are compared on, of the trained network and of the same with its weights shuffled."""

from argparse import Namespace

import numpy as np

from gigraph.errors import UserError
from gigraph.evaluation.probes import gather
from gigraph.model.centre import batchnorm_shift
from gigraph.records import tables
from gigraph.records.paths import NETWORKS, Results
from gigraph.reporting import log
from gigraph.running.runtime import run
from gigraph.subject import Subject

EMPTY = {
    "probes": {"role": [], "image_id": [], "position": []},
    "maps": {"image": [], "label": [], "shown": []},
    "pairs": {"base": [], "factor": []},
}


def main(args: Namespace) -> None:
    settings, results = args.settings, Results(args.root)
    manifest, heldout = tables.read(args.manifests), tables.read(args.heldout)
    for network, model in settings["networks"].items():
        due = {name for name, own in settings["layers"].items() if not _current(results, network, name, own["lineage"])}
        log.info("%s: layers to gather: %s", network, ", ".join(sorted(due)) or "none")
        if not due:
            continue
        # With all layers, as in `sample`: which of them are folded together shows in the last digits.
        subject = Subject({**settings, "model": model}, args.compute, list(settings["layers"]))
        shifts = {name: batchnorm_shift(subject.traced, layer) for name, layer in subject.layers.items()}
        found = {(name, kind): [(columns, "pfv")] for name in subject.layers for kind, columns in EMPTY.items()}
        try:
            rows: dict[tuple[str, str], list] = {}
            for layer, kind, columns, vectors in gather(subject, shifts, manifest, heldout, settings):
                rows.setdefault((layer, kind), []).append((columns, vectors))
            found = rows
        except UserError as error:
            if network == NETWORKS[0]:
                raise
            log.info("note: with its weights shuffled: %s; no measure is held against that network", error)
            found = {
                (name, kind): [({**columns, "pfv": np.empty((0, subject.layers[name].channels), np.float32)}, "pfv")]
                for (name, kind), ((columns, _),) in found.items()
            }
        for (layer, kind), parts in found.items():
            if layer not in due:
                continue
            path = results(kind, network=network, layer=layer)
            lineage = settings["layers"][layer]["lineage"]
            tables.write(path, kind, _joined([columns for columns, _ in parts]), lineage, vectors=parts[0][1])


def _current(results, network, layer, lineage) -> bool:
    return all(tables.lineage_of(results(kind, network=network, layer=layer)) == lineage for kind in EMPTY)


def _joined(parts):
    return {
        name: np.concatenate([part[name] for part in parts])
        if isinstance(parts[0][name], np.ndarray)
        else [one for part in parts for one in part[name]]
        for name in parts[0]
    }


if __name__ == "__main__":
    run(main, "manifests+", "heldout", "root")
