"""Rank one layer's families by their mean relevance to each class (Eq. 7) and keep the strongest."""

from argparse import Namespace

import numpy as np

from gigraph.method.graph import Rows, class_edges, keep, scopes_of
from gigraph.records import tables
from gigraph.reporting import log
from gigraph.running.runtime import run


def main(args: Namespace) -> None:
    settings = args.settings
    table = tables.read(args.attributions, ["label", "target", "sources", "values"])
    rows = Rows.from_csr(
        tables.numpy(table, "label"), tables.numpy(table, "target"),
        *tables.csr(table, "sources"), tables.csr(table, "values")[1],
    )  # fmt: skip
    images = scopes_of(tables.numpy(tables.read(args.selection), "label"))
    kept = keep(class_edges(rows, images), settings["class_targets"])
    columns = {key: getattr(kept, key) for key in ("scope", "rank", "concept", "relevance", "se", "support")}
    columns = {key: value.astype(np.float32 if value.dtype.kind == "f" else np.int32) for key, value in columns.items()}
    columns |= {"layer": [settings["layer"]] * len(kept.scope), "se": tables.nullable(kept.se)}
    tables.write(args.kept, "kept", columns, args.lineage)
    log.info("%d families kept for some class", len(np.unique(kept.concept)))


if __name__ == "__main__":
    run(main, "selection", "attributions+", "kept")
