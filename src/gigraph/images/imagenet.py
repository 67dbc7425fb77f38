"""ImageNet's 1,000 classes: the WordNet id of each output, in the order that its models share.

The list is timm's, read as a file: neither timm nor torch is loaded for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from gigraph.errors import UserError, install

IMAGENET = "imagenet"
"""The value of `images.classes` that names this label set."""
OUTPUTS = 1000
_WORDNET = re.compile(r"n\d{8}(?!\d)")


def wordnet_id(name: str) -> str | None:
    """Return the WordNet id that a folder's name begins with, or None."""
    found = _WORDNET.match(name)
    return found[0] if found else None


def named_by_wordnet(folders: Iterable[str]) -> bool:
    """Return whether there are folders and all their names begin with WordNet ids."""
    names = list(folders)
    return bool(names) and all(map(wordnet_id, names))


def imagenet_names(folders: Iterable[str] = ()) -> list[str]:
    """Return the name of each of the 1,000 outputs: its class folder's, or its WordNet id and first word.

    Parameters
    ----------
    folders : iterable of str
        Names of class folders.

    Raises
    ------
    UserError
        If timm is not installed, or a folder is none of the 1,000 classes or the second of one.
    """
    words = _words()
    own: dict[str, str] = {}
    for folder in folders:
        key = wordnet_id(folder)
        if key not in words:
            raise UserError(
                f"images.source: class folder {folder} is named by none of ImageNet's 1,000 WordNet ids; rename or "
                "remove it, or say in images.classes which output each folder is"
            )
        if key in own:
            raise UserError(f"images.source: class folders {own[key]} and {folder} are both {key}; merge them")
        own[key] = folder
    return [own.get(key, f"{key}_{word}") for key, word in words.items()]


def _words() -> dict[str, str]:
    """Return {WordNet id: its first word} of the 1,000 classes, in the outputs' order."""
    try:
        info = Path(str(distribution("timm").locate_file("timm/data/_info")))
        ids = (info / "imagenet_synsets.txt").read_text(encoding="utf-8").split()
        lines = (info / "imagenet_synset_to_lemma.txt").read_text(encoding="utf-8").splitlines()
    except (PackageNotFoundError, OSError) as error:
        raise UserError(
            "images.classes: ImageNet's WordNet ids are read from timm, which is not installed; run: "
            f"{install('imagenet')}; or say in images.classes which output each folder is"
        ) from error
    known = dict(line.split("\t", 1) for line in lines if "\t" in line)
    return {key: known.get(key, key).split(",")[0].strip().replace(" ", "_").replace("/", "_") for key in ids}
