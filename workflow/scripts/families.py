"""Find one layer's families: near-parallel concepts, which the graph shows as one."""

from argparse import Namespace

import numpy as np

from gigraph.method.families import Families, average_families, tree_families
from gigraph.records import tables
from gigraph.records.families import write_families
from gigraph.reporting import log
from gigraph.running.runtime import run


def main(args: Namespace) -> None:
    settings = args.settings
    vectors = tables.numpy(tables.read(args.concepts, ["vector"]), "vector")
    found = _families(vectors, settings["cosine"], args.tree, settings["layer"])
    write_families(args.families, found, args.lineage)
    log.info(
        "%d families of %d concepts, the largest has %d; cosine within families of several at least %.2f",
        len(found.ids), len(vectors), found.size.max(), found.least.min(),
    )  # fmt: skip


def _families(vectors: np.ndarray, cosine: float | None, tree: list[str], layer: str) -> Families:
    if cosine is None:
        return Families.alone(len(vectors))
    if not tree:
        return average_families(vectors, cosine)
    table = tables.read(tree)
    if len(table) == len(vectors):
        log.info("note: %s: there is no split tree, so that every concept is its own family", layer)
    parent, concept = (
        np.array([-1 if value is None else value for value in table[name].to_pylist()])
        for name in ("parent", "concept")
    )
    return tree_families(vectors, cosine, tables.numpy(table, "node"), parent, concept)


if __name__ == "__main__":
    run(main, "concepts", "tree+", "families")
