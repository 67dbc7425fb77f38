"""Which images a run is about: a folder's files, labelled by the configured classes and divided into shards.

Quick, and without torch or Pillow, since Snakemake lists the images whenever it reads the workflow.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from gigraph.errors import UserError, nearest
from gigraph.hashing import image_id
from gigraph.images.imagenet import IMAGENET, OUTPUTS, imagenet_names, named_by_wordnet
from gigraph.reporting import log

READ = ".jpg .jpeg .jpe .jfif .png .apng .webp .avif .bmp .dib .tif .tiff .gif .ppm .pgm .pbm .pnm .jp2 .j2k .jpx .tga"
"""Suffixes of pictures that decoding reads."""
UNREAD = frozenset(".heic .heif .hif .jxl .dng .cr2 .cr3 .nef .arw .orf .rw2 .raf .svg .eps .exr .dcm".split())  # noqa: SIM905
"""Suffixes of pictures that it does not read: they are rejected by name, and not passed over."""
SUFFIXES = frozenset(READ.split()) | {".npy"} | UNREAD
TOOLS = frozenset(
    name.lower()
    for name in ("@eaDir", "@Recycle", "@Recently-Snapshot", "@tmp", "#recycle", "#snapshot", "__MACOSX", "lost+found",
                 "found.000", "$RECYCLE.BIN", "System Volume Information", "Network Trash Folder", "Temporary Items",
                 "__pycache__")
)  # fmt: skip
"""Folders that appliances and tools make; their names are no classes."""
SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "eval", "dev", "holdout"})
"""Names of folders that hold a part of a data set each."""
PART = re.compile(rf"({'|'.join(sorted(SPLITS))}|fold|split|part)[ _-]?\d*")
"""Names of folders that may hold such a part, numbered or of a year, where there are folders in them."""
PASSED_OVER = "passed over: "
"""How the reason begins of what is no picture by its name; it does not count as an unreadable image."""


class Entry(NamedTuple):
    """An image file of the folder."""

    path: str
    """Relative to the folder, with ``/``."""
    class_name: str | None
    """Name of the sub-folder; None in a flat folder."""
    label: int
    """Index of the class among the sorted class names; -1 in a flat folder."""
    image_id: int
    size: int
    """Bytes; -1 where the file cannot be reached (a broken link)."""
    mtime_ns: int


def scan(folder: Path | str) -> list[Entry]:
    """List the images of a folder with one sub-folder per class, or of a flat folder.

    Parameters
    ----------
    folder : Path
        Classes are its sub-folders, in sorted order; images may lie deeper below them. Hidden files and folders are
        skipped, and those of `TOOLS`; links are followed unless they lead back to a folder they lie in.

    Returns
    -------
    list of Entry
        Sorted by class and path.

    Raises
    ------
    UserError
        If the folder is missing, no folder, unreadable or without images; if a class has no images, if there
        are images both beside and in class folders, if a name is not valid text, or if two paths have the
        same id.
    """
    root = Path(folder)
    if not root.exists():
        raise UserError(f"images.source: there is no folder {root}; correct the path (it is relative to {Path.cwd()})")
    if not root.is_dir():
        raise UserError(f"images.source: {root} is a file, not a folder; give the folder that holds the class folders")
    files, folders = _listed(root)
    home = _identity(root.stat())
    flat = [_entry(e, e.name, None, -1) for e in files]
    if flat and folders:
        raise UserError(
            f"images.source: {root} holds images ({flat[0].path}) beside class folders ({folders[0].name}); "
            "move them into a class folder, or give a folder that holds class folders alone"
        )
    twice = _twice([entry.name for entry in folders])
    if twice:
        raise UserError(
            f"images.source: {root} has two class folders {twice!r}, whose accents are written differently; merge them"
        )
    entries = flat
    for label, entry in enumerate(folders):
        below = sorted(_below(Path(entry.path), f"{entry.name}/", entry.name, label, (home,)))
        if not below:
            raise UserError(
                f"images.source: class folder {entry.name} of {root} holds no images{_held(Path(entry.path))}; "
                "fill or remove it"
            )
        entries.extend(below)
    if not entries:
        raise UserError(f"images.source: {root} holds no images{_held(root)} (read are {READ})")
    _check_ids(entries)
    return entries


def is_passed_over(folder: str) -> bool:
    """Whether a folder of this name holds nobody's images: it is hidden, or made by an appliance or a tool."""
    return folder.startswith(".") or folder.lower() in TOOLS


def left_out(folder: Path | str) -> list[tuple[str, str]]:
    """Return (path, reason) of what `scan` passes over without decoding it; hidden files are nobody's images.

    Parameters
    ----------
    folder : Path
        As `scan`.
    """
    found = []
    for here, folders, files in os.walk(folder, followlinks=True):
        inside = Path(here).relative_to(folder)
        for name in sorted(name for name in folders if name.lower() in TOOLS):
            found.append((f"{inside / name}/", f"{PASSED_OVER}a folder that an appliance or a tool makes"))
        folders[:] = sorted(name for name in folders if not is_passed_over(name))
        if len(inside.parts) > DEEPEST:  # links that lead back
            folders.clear()
        for name in sorted(name for name in files if not name.startswith(".") and _suffix(name) not in SUFFIXES):
            found.append((str(inside / name), f"{PASSED_OVER}no picture by its suffix ({_suffix(name) or 'none'})"))
    return found


DEEPEST = 16
"""Folders below each other that are looked through for what is passed over."""


def _suffix(name: str) -> str:
    return name[name.rfind(".") :].lower() if "." in name else ""


def _held(folder: Path) -> str:
    """Return in a few words what a folder without images holds."""
    suffixes = sorted(
        {_suffix(Path(path).name) or "without a suffix" for path, _ in left_out(folder) if path[-1] != "/"}
    )
    return f", but files {', '.join(suffixes[:4])}" if suffixes else ""


def _listed(folder: Path) -> tuple[list[os.DirEntry[str]], list[os.DirEntry[str]]]:
    """Return the image files and the sub-folders of a folder, each sorted by name, without hidden ones."""
    files, folders = [], []
    try:
        with os.scandir(folder) as found:
            for entry in found:
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry):
                    if entry.name.lower() not in TOOLS:
                        folders.append(entry)
                elif _suffix(entry.name) in SUFFIXES:
                    files.append(entry)
    except OSError as error:
        raise UserError(f"images.source: {folder} cannot be read: {error.strerror}") from error
    return sorted(files, key=_name), sorted(folders, key=_name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; as a file it is listed, and decoding reports it
        return False


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _below(
    folder: Path, prefix: str, class_name: str, label: int, above: tuple[tuple[int, int], ...]
) -> Iterator[Entry]:
    try:
        here = _identity(folder.stat())
    except OSError as error:
        raise UserError(f"images.source: {folder} cannot be read: {error.strerror}") from error
    if here in above:  # a link back to a folder that it lies in
        return
    files, folders = _listed(folder)
    for entry in files:
        yield _entry(entry, prefix + entry.name, class_name, label)
    for entry in folders:
        yield from _below(Path(entry.path), f"{prefix}{entry.name}/", class_name, label, (*above, here))


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _entry(entry: os.DirEntry[str], path: str, class_name: str | None, label: int) -> Entry:
    try:
        status = entry.stat()
        size, changed = (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else (-1, 0)
    except OSError:
        size, changed = -1, 0  # listed all the same, so that decoding reports it
    return Entry(path, class_name, label, image_id(path), size, changed)


def check_name(name: str, key: str = "") -> None:
    """Refuse a name that is no text: tables hold names.

    Raises
    ------
    UserError
        If it is not valid UTF-8.
    """
    if not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name):
        raise UserError(f"{key}the name of {name!r} is not valid UTF-8; rename the file")


def _check_ids(entries: Sequence[Entry]) -> None:
    first: dict[int, str] = {}
    for entry in entries:
        check_name(entry.path, "images.source: ")
        other = first.setdefault(entry.image_id, entry.path)
        if other != entry.path:
            raise UserError(f"images.source: {other} and {entry.path} have the same id; rename one of them")


SIDES = ("lower", "higher")
"""The sides of a regression's value."""


def unnamed(output: int) -> str:
    """Return the name of an output that has no class folder."""
    return f"class {output}"


def labelled(folder: str | Path, classes: Sequence[str] | None = None, grouped: bool = False) -> list[Entry]:
    """List a folder's images with the labels of the configured class order.

    Parameters
    ----------
    folder : path
        See `scan`.
    classes : sequence of str, optional
        Folder name of each model output, in order; the sorted folders if not given.
    grouped : bool
        The folders are groups of images and no classes: all labels are -1.

    Raises
    ------
    UserError
        As `scan`, or if a class folder is not among `classes`, or the folders are parts of a data set.
    """
    entries = scan(folder)
    if grouped:
        return [entry._replace(label=-1) for entry in entries]
    if classes is None:
        _check_level(Path(folder), entries)
        return entries
    label = {_composed(name): index for index, name in enumerate(classes)}
    for entry in entries:
        if entry.class_name is not None and _composed(entry.class_name) not in label:
            quoted = "; write names of digits in quotes, as YAML takes 010 for 8" * entry.class_name.isdecimal()
            raise UserError(
                f"images.classes: folder {entry.class_name} of {folder} is not listed"
                f"{quoted or nearest(entry.class_name, classes)}"
            )
    return [entry._replace(label=label.get(_composed(entry.class_name or ""), -1)) for entry in entries]


def _composed(name: str) -> str:
    """Return a name as it is typed: file systems and archives of macOS write accents apart from their letters."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _twice(names: Sequence[str]) -> str | None:
    """Return a name that two folders have, but for how their accents are written."""
    composed = [_composed(name) for name in names]
    return next((name for name, count in Counter(composed).items() if count > 1), None)


def _check_level(folder: Path, entries: Sequence[Entry]) -> None:
    """Refuse a folder whose folders are not the classes, but hold them.

    Raises
    ------
    UserError
        If they are parts of a data set, or there is but one and it holds others.
    """
    names = sorted({entry.class_name for entry in entries if entry.class_name})
    nested = [name for name in names if name not in {e.class_name for e in entries if e.path.count("/") == 1}]
    parts = [name for name in nested if PART.fullmatch(name.lower())]
    plain = [name for name in names if name.lower() in SPLITS]
    if names and (plain == names or set(plain) & set(parts) or len(parts) > 1):
        some = plain if plain == names else parts
        raise UserError(
            f"images.source: the folders of {folder} ({', '.join(some[:4])}) are parts of a data set, no classes; "
            f"give one, such as {folder / some[0]}, or list them in images.classes if they are classes"
        )
    if len(names) == 1 and nested and not named_by_wordnet(names):
        homes = {str(Path(entry.path).parent) for entry in entries}
        inside = Path(os.path.commonpath(homes))
        inside = inside.parent if str(inside) in homes else inside
        raise UserError(
            f"images.source: {folder} holds one folder, {names[0]}, and this holds others; give "
            f"{folder / inside} if its folders are the classes, or list {names[0]} in images.classes"
        )


def members(
    folder: str | Path, shard: int, shards: int, classes: Sequence[str] | None = None, limit: int | None = None,
    grouped: bool = False,
) -> list[Entry]:  # fmt: skip
    """Return one shard's entries sorted by path; of each class at most the `limit` smallest ids of the whole folder."""
    entries = limited(labelled(folder, classes, grouped), limit)
    return sorted((e for e in entries if e.image_id % shards == shard), key=lambda e: e.path)


def limited(entries: Sequence[Entry], limit: int | None = None) -> list[Entry]:
    """Return of each class, or group, the `limit` entries with the smallest ids; all of them if there is no limit."""
    if limit is None:
        return list(entries)
    groups: dict[str | None, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry.class_name].append(entry)
    return [entry for group in groups.values() for entry in sorted(group, key=lambda e: e.image_id)[:limit]]


def output_names(
    folder: str | Path, outputs: int, classes: Sequence[str] | Literal["imagenet"] | None = None, task: str = "classes"
) -> list[str]:
    """Return the name of each output of a model: its class folder's, or ``class 7`` where it has none.

    Parameters
    ----------
    folder : path
        See `scan`.
    outputs : int
        Number of the model's outputs.
    classes : sequence of str or "imagenet", optional
        Folder name of each output, in order, or the known label set. If not given: the sorted folders where there is
        one for each output; fewer must be named by ImageNet's WordNet ids, and the outputs be its 1,000.
    task : str
        What the outputs are (`gigraph.method.tasks`). Of a binary model they are its two classes; of a regression the
        two sides of its value, called `SIDES` if not given.

    Raises
    ------
    UserError
        As `labelled`, if there are more classes than outputs, or if it is not known which outputs the folders are.
    """
    if task == "regression":
        sides = list(SIDES) if classes is None else [classes] if isinstance(classes, str) else list(classes)
        if len(sides) != len(SIDES):
            raise UserError(f"images.classes: of a regression they are two, such as {list(SIDES)}")
        return sides
    known = classes == IMAGENET
    has = "one output for two classes" if task == "binary" else f"{outputs} outputs"
    folders = sorted({e.class_name for e in labelled(folder, None if known else classes) if e.class_name})
    if classes is None and len(folders) < outputs == OUTPUTS and named_by_wordnet(folders):
        log.info("note: the %d class folders are named by WordNet ids; they are taken for ImageNet's", len(folders))
        known = True
    if known and outputs != OUTPUTS:
        raise UserError(f"images.classes: {IMAGENET} has {OUTPUTS} classes, but the model has {has}; list its folders")
    if classes is None and not known and folders != sorted(folders, key=_naturally):
        log.info(
            "note: class folders are taken in the order of their text (%s, ...), as torchvision's ImageFolder does; "
            "timm's reader takes %s, ...: if the model was trained by that, list them so in images.classes",
            ", ".join(folders[:3]), ", ".join(sorted(folders, key=_naturally)[:3]),
        )  # fmt: skip
    names = imagenet_names(folders) if known else list(classes or folders)
    if len(names) > outputs:
        raise UserError(
            f"{folder} has {len(names)} class folders, but the model has {has}; remove some of them "
            f"({', '.join(names[:4])}{', ...' * (len(names) > 4)}), or take the model that they belong to"
        )
    if classes is None and 0 < len(names) < outputs:
        raise UserError(
            f"{folder} has {len(names)} class folders for the model's {has}; say in images.classes which "
            f"output each is, such as {{{names[0]}: 0}}"
        )
    return [*names, *(unnamed(i) for i in range(len(names), outputs))]


def _naturally(name: str) -> list[tuple[int, int | str]]:
    """Return the key that timm's reader sorts class folders by: numbers by their size, letters in lower case."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", name.lower())]


def listing_digests(entries: Iterable[Entry], shards: int) -> list[str]:
    """Return one short digest per shard of the images in it: path, size and time of change.

    Parameters
    ----------
    entries : iterable of Entry
        In any order.
    shards : int
        Number of shards; an image belongs to shard ``image_id % shards``.

    Returns
    -------
    list of str
        16 hexadecimal digits each.
    """
    lines: list[list[str]] = [[] for _ in range(shards)]
    for entry in entries:
        lines[entry.image_id % shards].append(f"{entry.path}\0{entry.size}\0{entry.mtime_ns}")
    return [
        hashlib.blake2b("\n".join(sorted(shard)).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
        for shard in lines
    ]
