"""Choose the held-out images that the evaluation looks at, balanced over the classes."""

from argparse import Namespace

import numpy as np

from gigraph.errors import UserError
from gigraph.method.heldout import balanced, held_out
from gigraph.records import tables
from gigraph.reporting import log
from gigraph.running.runtime import run

FEWEST = 2
"""Images that the evaluation looks at: one half chooses, the other is judged."""


def main(args: Namespace) -> None:
    settings = args.settings
    manifests = [tables.read(path) for path in args.manifests]
    ids = np.concatenate([tables.numpy(table, "image_id") for table in manifests])
    labels = np.concatenate([tables.numpy(table, "label") for table in manifests])
    if args.predictions:
        labels = tables.numpy(tables.read(args.predictions, ["predicted"]), "predicted")
    paths = [path for table in manifests for path in table["path"].to_pylist()]
    shards = np.repeat(np.arange(len(manifests)), [len(table) for table in manifests])
    rows = np.flatnonzero(held_out(ids, settings["seed"], settings["holdout"]))
    if len(ids) < FEWEST:
        raise UserError("the evaluation needs two images, one to choose and one to judge; give more images")
    if len(rows) < FEWEST:
        log.info(
            "note: evaluation.holdout leaves %s out: the evaluation looks at images that concepts were found on, too; "
            "raise it, or give more images", "only one image" if len(rows) else "no image"
        )  # fmt: skip
        rows = np.arange(len(ids))
    chosen = rows[balanced(ids[rows], labels[rows], settings["images"], settings["seed"])]
    columns = {"image_id": ids[chosen], "path": [paths[i] for i in chosen], "label": labels[chosen].astype(np.int32),
               "shard": shards[chosen].astype(np.int32)}  # fmt: skip
    tables.write(args.heldout, "selection", columns, args.lineage)
    log.info("%d of %d held-out images will be looked at", len(chosen), len(rows))


if __name__ == "__main__":
    run(main, "manifests+", "predictions+", "heldout")
