"""Choose the images to attribute: of each class those with the smallest keyed hash of their id.

In a folder without class folders, the predicted class takes the label's place from here on.
"""

from argparse import Namespace

import numpy as np

from gigraph.errors import UserError
from gigraph.hashing import mix
from gigraph.records import tables
from gigraph.reporting import log
from gigraph.running.runtime import run


def main(args: Namespace) -> None:
    settings = args.settings
    manifests = [tables.read(path) for path in args.manifests]
    rejected = tables.read(args.rejects)
    images = sum(len(table) for table in manifests)
    if len(rejected) > settings["max_rejected"] * (images + len(rejected)):
        worst = rejected.to_pylist()[0]
        raise UserError(
            f"{len(rejected)} of {images + len(rejected)} images are unreadable, more than images.max_rejected "
            f"({settings['max_rejected']:g}); the first is {worst['path']}: {worst['reason']}; "
            "remove them or raise images.max_rejected"
        )
    if not images:
        raise UserError("no readable image is left; see rejected.parquet")
    _check_sizes(manifests, settings["uniform"])
    ids = np.concatenate([tables.numpy(table, "image_id") for table in manifests])
    if len(np.unique(ids)) < len(ids):
        raise UserError("two images have the same 63-bit id; rename one of them")
    labels = np.concatenate([tables.numpy(table, "label") for table in manifests])
    if args.predictions:
        labels = tables.numpy(tables.read(args.predictions, ["predicted"]), "predicted")
    paths = [path for table in manifests for path in table["path"].to_pylist()]
    shards = np.repeat(np.arange(len(manifests)), [len(table) for table in manifests])
    order = np.lexsort((mix(settings["seed"], ids), labels))
    rank = np.arange(len(order)) - np.searchsorted(labels[order], labels[order])
    chosen = np.sort(order[rank < settings["images_per_class"]])
    tables.write(
        args.selection,
        "selection",
        {
            "image_id": ids[chosen],
            "path": [paths[i] for i in chosen],
            "label": labels[chosen].astype(np.int32),
            "shard": shards[chosen].astype(np.int32),
        },
        args.lineage,
    )
    tables.write(args.rejected, "rejected", {name: rejected[name] for name in ("path", "reason")}, args.lineage)
    log.info("%d of %d images will be attributed; %d were rejected", len(chosen), images, len(rejected))


def _check_sizes(manifests, uniform: bool) -> None:
    """Without resizing or cropping, all images must have one size."""
    if not uniform:
        return
    seen: dict[tuple[int, int], str] = {}
    for table in manifests:
        for row in table.to_pylist():
            seen.setdefault((row["width"], row["height"]), row["path"])
            if len(seen) > 1:
                (one, first), (two, second) = list(seen.items())[:2]
                raise UserError(
                    f"image {second} has {two[0]} x {two[1]} pixels but {first} has {one[0]} x {one[1]}; "
                    "set preprocessing.resize and preprocessing.crop"
                )


if __name__ == "__main__":
    run(main, "manifests+", "rejects+", "predictions+", "selection", "rejected")
