"""Which images a run is about: the folder's entries, labelled by the configured classes and divided into shards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from gigraph.errors import UserError, nearest
from gigraph.images.preprocessing import Entry, scan


def labelled(folder: str | Path, classes: Sequence[str] | None = None) -> list[Entry]:
    """List a folder's images with the labels of the configured class order.

    Parameters
    ----------
    folder : path
        See `gigraph.images.preprocessing.scan`.
    classes : sequence of str, optional
        Folder name of each model output, in order; the sorted folders if not given.

    Raises
    ------
    UserError
        As `scan`, or if a class folder is not among `classes`.
    """
    entries = scan(folder)
    if classes is None:
        return entries
    label = {name: index for index, name in enumerate(classes)}
    for entry in entries:
        if entry.class_name is not None and entry.class_name not in label:
            raise UserError(
                f"images.classes: folder {entry.class_name} of {folder} is not listed"
                f"{nearest(entry.class_name, classes)}"
            )
    return [entry._replace(label=label.get(entry.class_name or "", -1)) for entry in entries]


def members(
    folder: str | Path, shard: int, shards: int, classes: Sequence[str] | None = None, limit: int | None = None
) -> list[Entry]:
    """Return one shard's entries sorted by path; of each class at most the `limit` smallest ids of the whole folder."""
    entries = limited(labelled(folder, classes), limit)
    return sorted((e for e in entries if e.image_id % shards == shard), key=lambda e: e.path)


def limited(entries: Sequence[Entry], limit: int | None = None) -> list[Entry]:
    """Return of each class the `limit` entries with the smallest ids; all of them if there is no limit."""
    if limit is None:
        return list(entries)
    groups: dict[int, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry.label].append(entry)
    return [entry for group in groups.values() for entry in sorted(group, key=lambda e: e.image_id)[:limit]]
