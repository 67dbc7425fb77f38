"""The drawn worlds by their names: the one door to them.

A world is loaded by its name where a setting chooses it, and imported by none of the modules that serve every run: so
a run on somebody's own model and images does not rest on its code. Planning adds what `code_of` and `MODEL` name to
what a run of the world is made from.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from gigraph.errors import UserError, nearest

if TYPE_CHECKING:
    from gigraph.worlds.world import World

NAMES = ("menagerie", "traffic")
"""Each world's name: that of its sub-package, and what `images.source` and `model.source` call it."""
ROOM = "gigraph.worlds"
MODEL = f"{ROOM}.model"
"""The module of every world's classifier."""


def get(name: str) -> World:
    """Return a world.

    Raises
    ------
    UserError
        If there is none of this name.
    """
    _checked(name)
    return importlib.import_module(f"{ROOM}.{name}.world").WORLD


def model() -> ModuleType:
    """Return the module of the worlds' classifiers, which imports torch."""
    return importlib.import_module(MODEL)


def code_of(name: str) -> list[str]:
    """Return the modules that say what a world is and how it is drawn; none of other sources of images."""
    return [f"{ROOM}.{name}.world"] if name in NAMES else []


def checkpoint_of(name: str) -> Path:
    """Return the file of a world's trained model."""
    return Path(__file__).parent / _checked(name) / "checkpoint.safetensors"


def _checked(name: str) -> str:
    if name not in NAMES:
        raise UserError(f"there is no drawn world {name!r}{nearest(name, NAMES)}; known: {', '.join(NAMES)}")
    return name
