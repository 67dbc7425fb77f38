"""What every drawn scene is: a pure function of (seed, split, index).

Each of its random numbers is addressed by name through the counter-based generator of `gigraph.hashing`, so no number
depends on which others were drawn. An edit (`gigraph.worlds.world.World.without` and its like) therefore gives a scene
that differs in one factor and in nothing else, and how a model takes the two pictures is the causal effect of that
factor.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gigraph.hashing import mix, text_key, uniform


@dataclass(frozen=True)
class Scene:
    """What is in a picture; each world adds its parts and ``nuisance``, what varies and decides nothing.

    Attributes
    ----------
    seed, split, index : int, str, int
        Where the scene comes from.
    name : str
        The class it was drawn as. Edits leave it alone; `gigraph.worlds.world.World.label` is what the edited picture
        shows.
    place : str
        The background.
    SALT : str
        Makes a world's random numbers other than those of its fellows.
    """

    seed: int
    split: str
    index: int
    name: str
    place: str

    SALT: ClassVar[str] = ""

    def uniform(self, name: str, count: int) -> np.ndarray:
        """Return `count` float64 in (0, 1) that belong to this scene under `name`, whatever its edits."""
        return uniform(self._key, text_key(name), np.arange(count, dtype=np.uint64))

    def words(self, name: str, count: int) -> np.ndarray:
        """Return `count` random uint64 that belong to this scene under `name`, whatever its edits."""
        return mix(self._key, text_key(name), np.arange(count, dtype=np.uint64))

    @property
    def _key(self) -> int:
        return key(self.seed, self.split, self.index, self.SALT)


def key(seed: int, split: str, index: int, salt: str = "") -> int:
    """Return the random key of a scene."""
    return int(mix(seed, *([text_key(salt)] if salt else []), text_key(split), index))


def numbers(scene_key: int, names: Sequence[str]) -> dict[str, float]:
    """Return a uniform in (0, 1) of each name."""
    drawn: Any = uniform(scene_key, _keys(tuple(names)))
    return dict(zip(names, drawn.tolist(), strict=True))


@functools.lru_cache(maxsize=64)
def _keys(names: tuple[str, ...]) -> np.ndarray:
    return np.array([text_key(name) for name in names], np.uint64)
