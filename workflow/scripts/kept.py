"""Rank one layer's concepts by their mean relevance to each class (Eq. 7) and keep the strongest."""

from argparse import Namespace

import numpy as np

from gigraph import tables
from gigraph.graph import aggregate, keep, scopes_of
from gigraph.runtime import log, run


def main(args: Namespace) -> None:
    settings = args.settings
    selection = tables.read(args.selection)
    table = tables.read(args.attributions)
    scope = scopes_of(tables.numpy(selection, "label"))
    edges = aggregate(*class_rows(table), scope)
    kept = keep(edges, settings["class_targets"])
    columns = {key: getattr(kept, key) for key in ("scope", "rank", "concept", "relevance", "se", "support")}
    columns["layer"] = [settings["layer"]] * len(kept.scope)
    tables.write(args.kept, "kept", {key: _narrow(value) for key, value in columns.items()}, args.lineage)
    log.info("%d concepts kept for some class", len(np.unique(kept.concept)))


def class_rows(table):
    """Return (scope, source, target, value): of each image the sources of its own class.

    They count twice: for the class's scope, and with target -1 for the whole dataset.
    """
    label, target = tables.numpy(table, "label").astype(np.int64), tables.numpy(table, "target").astype(np.int64)
    own = target == label
    indptr, sources = tables.csr(table, "sources")
    values = tables.csr(table, "values")[1]
    row = np.repeat(np.arange(len(table)), np.diff(indptr))
    inside = own[row]
    row, sources, values = row[inside], sources[inside].astype(np.int64), values[inside]
    scope = np.concatenate([label[row], np.full(len(row), tables.DATASET)])
    return scope, np.tile(sources, 2), scope, np.tile(values, 2)


def _narrow(values):
    if isinstance(values, list):
        return values
    return values.astype(np.float32 if values.dtype.kind == "f" else np.int32)


if __name__ == "__main__":
    run(main, "selection", "attributions+", "kept")
