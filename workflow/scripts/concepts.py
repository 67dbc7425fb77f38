"""Find the concepts of one layer's PFVs: by bisecting spherical k-means (App. B), or by another extractor.

Images that are held out for the evaluation have no part in it.
"""

from argparse import Namespace

import numpy as np

from gigraph.errors import UserError
from gigraph.extractors import extract
from gigraph.extractors.extraction import images_of
from gigraph.hashing import mix
from gigraph.method.bisecting import capped_concepts
from gigraph.method.heldout import held_out
from gigraph.records import tables
from gigraph.records.encoders import write_encoder
from gigraph.records.pfvs import uniform_pfvs
from gigraph.reporting import log
from gigraph.running.runtime import run


def main(args: Namespace) -> None:
    settings = args.settings
    pfvs = tables.read(args.pfvs, ["image_id", "y", "x", "pfv"])
    pfvs = pfvs.filter(~held_out(tables.numpy(pfvs, "image_id"), settings["seed"], settings["holdout"]))
    if not len(pfvs):
        raise UserError("evaluation.holdout leaves no image to find concepts on; lower it, or give more images")
    x = tables.numpy(pfvs, "pfv") - tables.beta(args.centre)
    if not np.isfinite(x).all():
        bad = int(np.flatnonzero(~np.isfinite(x).all(1))[0])
        raise UserError(f"layer {settings['layer']}: a PFV of image {pfvs['image_id'][bad]} is not finite")
    # A row is known by its image and position, so that concepts do not depend on how images are sharded.
    row_ids = mix(*(tables.numpy(pfvs, name).astype(np.int64) for name in ("image_id", "y", "x")))
    k, capped = capped_concepts(settings["expansion"], x.shape[1], len(x), settings["min_members"])
    if capped:
        log.info(
            "note: %s: K is capped at %d (%g x %d channels asked for), so that concepts have %d PFVs on average: there "
            "are %d; sampling.pfvs_per_image raises that",
            settings["layer"], k, settings["expansion"], x.shape[1], settings["min_members"], len(x),
        )  # fmt: skip
    found = extract(
        settings["method"], x, k, row_ids=row_ids, seed=settings["seed"], settings=settings,
        uniform=uniform_pfvs(args.uniform, args.centre),
    )  # fmt: skip
    for note in found.notes:
        log.info("note: %s: %s", settings["layer"], note)
    concepts = np.arange(len(found.vectors), dtype=np.int32)
    node = concepts
    if found.tree is not None:
        tree = found.tree
        leaves = np.flatnonzero(tree.concept >= 0)
        node = tree.node[leaves[np.argsort(tree.concept[leaves])]].astype(np.int32)
        splits = {"node": tree.node, "parent": tree.parent, "size": tree.size, "concept": tree.concept}
    else:
        splits = {"node": node, "parent": np.full(len(node), -1), "size": found.size, "concept": concepts}
    images = [None] * len(concepts)
    if found.labels is not None:
        images = images_of(found.labels, tables.numpy(pfvs, "image_id"), len(concepts)).tolist()
        if alone := sum(n == 1 for n in images):
            log.info("%s: %d of %d concepts are of one image each", settings["layer"], alone, len(images))
    columns = {"concept": concepts, "size": found.size, "images": images, "cohesion": found.cohesion, "node": node}
    tables.write(args.concepts, "concepts", {**columns, "vector": found.vectors}, args.lineage, vectors="vector")
    nullable = {name: _nullable(splits[name]) for name in ("parent", "concept")}
    tables.write(args.tree, "tree", {**splits, **nullable}, args.lineage)
    encoder = found.encoder if settings.get("encoder", True) or found.encoder is None else found.encoder.detecting()
    write_encoder(args.encoder, encoder, x.shape[1], args.lineage)
    log.info("%d concepts of %d PFVs", len(found.vectors), len(x))


def _nullable(values) -> list[int | None]:
    return [int(value) if value >= 0 else None for value in values]


if __name__ == "__main__":
    run(main, "centre", "pfvs+", "uniform?", "concepts", "tree", "encoder")
