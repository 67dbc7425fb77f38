"""Choose the images to attribute: of each chosen class those with the smallest keyed hash of their id.

In a folder without class folders, the predicted class takes the label's place from here on.
"""

from argparse import Namespace

import numpy as np

from gigraph.errors import UserError, nearest
from gigraph.hashing import mix
from gigraph.images.naming import find_class
from gigraph.records import tables
from gigraph.reporting import log
from gigraph.running.runtime import run


def main(args: Namespace) -> None:
    settings = args.settings
    manifests = [tables.read(path) for path in args.manifests]
    rejected = tables.read(args.rejects)
    images = sum(len(table) for table in manifests)
    unreadable = rejected.to_pylist()
    if len(unreadable) > settings["max_rejected"] * (images + len(unreadable)):
        worst = unreadable[0]
        raise UserError(
            f"{len(unreadable)} of {images + len(unreadable)} images are unreadable, more than images.max_rejected "
            f"({settings['max_rejected']:g}); the first is {worst['path']}: {worst['reason']}; "
            "remove them or raise images.max_rejected"
        )
    if not images:
        worst = unreadable[0]
        raise UserError(
            f"no readable image is left; the first is {worst['path']}: {worst['reason']}; give other images"
        )
    _check_sizes(manifests, settings["uniform"])
    ids = np.concatenate([tables.numpy(table, "image_id") for table in manifests])
    if len(np.unique(ids)) < len(ids):
        raise UserError("two images have the same 63-bit id; rename one of them")
    labels = np.concatenate([tables.numpy(table, "label") for table in manifests])
    if args.predictions:
        labels = tables.numpy(tables.read(args.predictions, ["predicted"]), "predicted")
    paths = [path for table in manifests for path in table["path"].to_pylist()]
    shards = np.repeat(np.arange(len(manifests)), [len(table) for table in manifests])
    wanted = np.isin(labels, _classes(labels, settings["classes"], args.classes))
    key = mix(settings["seed"], ids)
    order = np.lexsort((key, labels))
    rank = np.empty(len(ids), np.int64)
    rank[order] = np.arange(len(ids)) - np.searchsorted(labels[order], labels[order])
    first = np.lexsort((key, rank))  # every class gives its first image before one gives its second
    first = first[wanted[first] & (rank[first] < settings["images_per_class"])]
    chosen = np.sort(first[: settings["images"]])
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
    log.info(
        "%d of %d images will be attributed, of %d of %d classes; %d were rejected",
        len(chosen), images, len(np.unique(labels[chosen])), len(np.unique(labels)), len(unreadable),
    )  # fmt: skip


def _classes(labels: np.ndarray, wanted: list[str] | int | None, class_table: list[str]) -> np.ndarray:
    """Return the labels of the classes whose images are attributed."""
    found, counts = np.unique(labels, return_counts=True)
    if wanted is None:
        return found
    if isinstance(wanted, int):
        return found[np.lexsort((found, -counts))][:wanted]
    names = tables.read(class_table)["class"].to_pylist()
    meant = [find_class(name, names) for name in wanted]
    for name, label in zip(wanted, meant, strict=True):
        if label is None:
            raise UserError(f"attribution.classes: there is no class {name!r}{nearest(name, names)}")
    chosen = np.array(meant)
    without = [name for name, label in zip(wanted, chosen, strict=True) if label not in found]
    if len(without) == len(wanted):
        raise UserError(f"attribution.classes: no image is of {', '.join(wanted)}; choose classes that have images")
    if without:
        log.info("note: no image is of %s, of attribution.classes", ", ".join(without))
    return chosen


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
    run(main, "manifests+", "rejects+", "predictions+", "classes+", "selection")
