"""Cluster one layer's PFVs into concepts by bisecting spherical k-means (App. B), or draw PFVs at random."""

from argparse import Namespace

import numpy as np

from gigraph import tables
from gigraph.bisecting import bisect, capped_concepts, cohesion, concept_vectors
from gigraph.config import check_concepts
from gigraph.errors import UserError
from gigraph.hashing import mix
from gigraph.runtime import log, run


def main(args: Namespace) -> None:
    settings = args.settings
    pfvs = tables.read(args.pfvs, ["image_id", "y", "x", "pfv"])
    x = tables.numpy(pfvs, "pfv") - tables.beta(args.centre)
    if not np.isfinite(x).all():
        bad = int(np.flatnonzero(~np.isfinite(x).all(1))[0])
        raise UserError(f"layer {settings['layer']}: a PFV of image {pfvs['image_id'][bad]} is not finite")
    # A row is known by its image and position, so that concepts do not depend on how images are sharded.
    row_ids = mix(*(tables.numpy(pfvs, name).astype(np.int64) for name in ("image_id", "y", "x")))
    check_concepts(settings["layer"], settings["expansion"], x.shape[1], len(x))
    k, capped = capped_concepts(settings["expansion"], x.shape[1], len(x), settings["min_members"])
    if capped:
        log.info(
            "note: %s: K is capped at %d (%g x %d channels asked for), so that concepts have %d PFVs on average",
            settings["layer"], k, settings["expansion"], x.shape[1], settings["min_members"],
        )  # fmt: skip
    if settings["method"] == "random":
        nodes, columns, vectors = _random(x, row_ids, k, settings["seed"])
    else:
        nodes, columns, vectors = _bisecting(x, row_ids, k, settings)
    tables.write(args.concepts, "concepts", {**columns, "vector": vectors}, args.lineage, vectors="vector")
    tables.write(args.tree, "tree", nodes, args.lineage)
    log.info("%d concepts of %d PFVs", len(vectors), len(x))


def _bisecting(x, row_ids, k, settings):
    tree = bisect(x, k, seed=settings["seed"], row_ids=row_ids, max_iter=settings["max_iter"])
    leaves = np.flatnonzero(tree.concept >= 0)
    leaves = leaves[np.argsort(tree.concept[leaves])]
    found = len(leaves)
    if found < k:
        log.info("note: %d distinct clusters were found instead of %d", found, k)
    if tree.dropped:
        log.info("note: %d PFVs equal to beta have no direction and were left out", tree.dropped)
    vectors = concept_vectors(x, tree.labels, found, settings["scale"])
    columns = {
        "concept": np.arange(found, dtype=np.int32),
        "size": tree.size[leaves].astype(np.int32),
        "cohesion": cohesion(x, tree.labels, found).astype(np.float32),
        "node": tree.node[leaves].astype(np.int32),
    }
    nodes = {
        "node": tree.node.astype(np.int32),
        "parent": _nullable(tree.parent),
        "size": tree.size.astype(np.int32),
        "concept": _nullable(tree.concept),
    }
    return nodes, columns, vectors


def _random(x, row_ids, k, seed):
    """Take k PFVs with the smallest keyed hash as concept vectors: the floor that a method must beat."""
    nonzero = np.flatnonzero((x != 0).any(1))
    chosen = nonzero[np.argsort(mix(seed, row_ids[nonzero]), kind="stable")[:k]]
    index = np.arange(len(chosen), dtype=np.int32)
    ones = np.ones(len(chosen))
    columns = {"concept": index, "size": ones.astype(np.int32), "cohesion": ones.astype(np.float32), "node": index}
    nodes = {"node": index, "parent": _nullable(-ones), "size": ones.astype(np.int32), "concept": index}
    return nodes, columns, x[chosen]


def _nullable(values) -> list[int | None]:
    return [int(value) if value >= 0 else None for value in values]


if __name__ == "__main__":
    run(main, "centre", "pfvs+", "concepts", "tree")
