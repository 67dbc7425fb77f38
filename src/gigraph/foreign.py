"""Files that are not what their name says: what their first bytes tell of them."""

from __future__ import annotations

from pathlib import Path

HEADS = {
    b"version https://git-lfs": "a pointer of Git LFS instead of the file; run git lfs pull",
    b"<!doctype html": "a web page, as a failed download leaves it; fetch it again",
    b"<html": "a web page, as a failed download leaves it; fetch it again",
    b"\x1f\x8b": "packed by gzip; unpack it",
    b"<?xml": "XML; give another file",
    b"%pdf": "PDF; give another file",
    b"\x89hdf": "HDF5; give another file",
    b"{": "JSON; give another file",
}
"""First bytes, in small letters: what begins so, and the remedy."""


def foreign(path: Path) -> str | None:
    """Return what a file is, and the remedy, that is neither picture nor checkpoint; None where it does not say."""
    with path.open("rb") as stream:
        head = stream.read(64).lstrip().lower()
    return next((what for begin, what in HEADS.items() if head.startswith(begin)), None)
