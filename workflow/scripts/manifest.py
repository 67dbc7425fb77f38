"""List the images of one shard, decoding each once so that unreadable ones are known before the work begins."""

from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gigraph.images.brightness import Seen, remarks
from gigraph.images.decoding import Unreadable, brightest, decoded, size_of
from gigraph.images.listing import members
from gigraph.images.preprocessing import resized_pixels
from gigraph.records import tables
from gigraph.reporting import log, progress
from gigraph.running.runtime import run


def main(args: Namespace) -> None:
    settings = args.settings
    folder = Path(settings["source"])
    classes = settings["classes"]
    if args.classes:
        classes = tables.read(args.classes, ["class"])["class"].to_pylist()
    entries = members(
        folder, int(args.shard), settings["shards"], classes, settings["limit_per_class"], settings["grouped"]
    )

    def size(entry):
        try:
            picture, kind = decoded(folder / entry.path, settings["max_pixels"], settings["channels"])
            seen.append(Seen(entry.path, brightest(picture), kind))
            size = size_of(picture)
            if resize and resized_pixels(size, resize) > max(settings["max_pixels"], size[0] * size[1]):
                return (
                    f"{size[0]}x{size[1]} pixels, too thin: above images.max_pixels once the shorter side is {resize}"
                )
            return size
        except Unreadable as reason:
            return str(reason)

    seen: list[Seen] = []
    resize = settings["resize"]
    with ThreadPoolExecutor(args.compute.workers) as pool:
        sizes = list(progress(pool.map(size, entries), len(entries), "images"))
    good = [(entry, found) for entry, found in zip(entries, sizes, strict=True) if not isinstance(found, str)]
    bad = [(entry, found) for entry, found in zip(entries, sizes, strict=True) if isinstance(found, str)]
    tables.write(
        args.manifest,
        "manifest",
        {
            "image_id": [entry.image_id for entry, _ in good],
            "path": [entry.path for entry, _ in good],
            "label": [entry.label for entry, _ in good],
            "class": [entry.class_name for entry, _ in good],
            "width": [size[0] for _, size in good],
            "height": [size[1] for _, size in good],
        },
        args.lineage,
    )
    columns = {"path": [entry.path for entry, _ in bad], "reason": [reason for _, reason in bad]}
    tables.write(args.rejected, "rejected", columns, args.lineage)
    for remark in remarks(seen):
        log.info("note: %s", remark)
    for entry, reason in bad:
        log.info("rejected %s: %s", entry.path, reason)
    log.info("%d images, %d rejected", len(good), len(bad))


if __name__ == "__main__":
    run(main, "classes+", "manifest", "rejected", "shard")
