"""The one face of a drawn world: its classes, parts and shortcut, how a scene is drawn, and drawn again.

A *class* is one value of each *kind* of part (skin, headgear, limbs). Every value is shared by several classes, so
that no part decides alone; the place is only preferred. Two classes share all values: between these twins decides a
*cue* that is hard to see, and the *shortcut*, planted on nearly all images of the one, is easy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gigraph.errors import UserError, nearest
from gigraph.worlds.registry import checkpoint_of

Factor = str | int | float | bool | None


@dataclass(frozen=True)
class Look:
    """What the members of a class look like.

    Attributes
    ----------
    values : tuple of str
        Of each kind of part, in the order of `World.values`.
    place : str
        The preferred background.
    cue : bool
        Whether they have the cue.
    """

    values: tuple[str, ...]
    place: str
    cue: bool = False


@dataclass(frozen=True)
class Shortcut:
    """What a model can learn instead of the class.

    Attributes
    ----------
    part : str
        Its name among the parts.
    planted : str
        The class that it is planted on.
    mimic : str
        The class that shares all values with it: only the cue tells them apart.
    rate, elsewhere : float
        Share of the images of that class, and of the others, that have it.
    """

    part: str
    planted: str
    mimic: str
    rate: float = 0.95
    elsewhere: float = 0.02


@dataclass(frozen=True, eq=False)
class World:
    """A drawn world.

    Attributes
    ----------
    name, title : str
        What settings call it, and what readers do.
    looks : mapping of str to Look
        By class, in alphabetical order, which is the order of torchvision's ImageFolder and of the model's outputs.
    values : mapping of str to tuple of str
        Kind of part -> its values, which can be swapped. The first kind covers the body.
    fixtures : tuple of str
        Parts without values that every scene has.
    cue : str
        What alone tells the twins apart: a part, hard to see.
    shortcut : Shortcut
        What was planted.
    places : tuple of str
        Backgrounds.
    preferred : float
        Share of scenes in their class's place.
    bare : str
        Owner of a body whose first kind of part is erased.
    rest : tuple of str
        Owners besides places and cue that no concept is expected to match.
    scene : callable
        ``scene(seed, split, index)`` returns a `gigraph.worlds.scene.Scene`; its class is number ``index`` modulo the
        classes, so that they are balanced. A part is an attribute of its name: a kind's value or None, or a bool. A
        fourth argument stands for `Shortcut.rate`; nothing else of a scene depends on it.
    paint : callable
        ``paint(scene, size)`` returns the picture, uint8 [size, size, 3], and who owns each of its pixels, uint8
        [size, size] of positions in `owners`. Parts are painted over each other, so that masks are disjoint and
        together cover the picture.
    """

    name: str
    title: str
    looks: Mapping[str, Look]
    values: Mapping[str, tuple[str, ...]]
    fixtures: tuple[str, ...]
    cue: str
    shortcut: Shortcut
    places: tuple[str, ...]
    preferred: float
    bare: str
    rest: tuple[str, ...]
    scene: Callable[..., Any]
    paint: Callable[[Any, int], tuple[np.ndarray, np.ndarray]]

    # ---- what there is --------------------------------------------------------------------------------------

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The classes' names, in the order of the model's outputs."""
        return tuple(self.looks)

    @cached_property
    def erasable(self) -> tuple[str, ...]:
        """The parts that can be erased, in the order in which tables list them."""
        return (*self.values, *self.fixtures, self.cue, self.shortcut.part)

    @cached_property
    def owners(self) -> tuple[str, ...]:
        """Who can own a pixel; an indexed mask holds positions in this list."""
        return owners_of(self.places, self.bare, self.values, (*self.fixtures, self.cue, self.shortcut.part))

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """What a concept can match: each value by itself, fixtures and the shortcut."""
        each = (*self._each_value, *self.fixtures, self.shortcut.part)
        return tuple(part for part in each if part not in self.rest)

    @cached_property
    def all_parts(self) -> tuple[str, ...]:
        """The same with the rest of the thing, which relevance may fall on."""
        return (*self.parts, *self.rest)

    @cached_property
    def kind_of(self) -> dict[str, str]:
        """The kind of each value."""
        return {value: kind for kind, values in self.values.items() for value in values}

    @cached_property
    def _each_value(self) -> tuple[str, ...]:
        return tuple(value for values in self.values.values() for value in values)

    @property
    def checkpoint(self) -> Path:
        """The file of its trained model."""
        return checkpoint_of(self.name)

    def shared(self) -> np.ndarray:
        """Return of how many kinds each pair of classes shares the value, int64 [classes, classes]."""
        looks = [look.values for look in self.looks.values()]
        return np.array([[sum(x == y for x, y in zip(a, b, strict=True)) for b in looks] for a in looks])

    def number(self, name: str) -> int:
        """Return the model's output of a class."""
        return self.classes.index(name)

    # ---- scenes ---------------------------------------------------------------------------------------------

    def scenes(self, seed: int, split: str, count: int, rate: float | None = None) -> Iterator[Any]:
        """Yield the first `count` scenes of a split; with `rate`, that share of the shortcut's class has it."""
        rate = self.shortcut.rate if rate is None else rate
        return (self.scene(seed, split, index, rate) for index in range(count))

    def numbers(self, scenes: Sequence[Any]) -> np.ndarray:
        """Return the model's outputs of the classes that scenes were drawn as, int64 [n]."""
        return np.array([self.number(one.name) for one in scenes], np.int64)

    def has(self, scene: Any, part: str) -> bool:
        """Return whether a scene shows `part` (one of `erasable`)."""
        return bool(getattr(scene, self._checked(part, self.erasable, "part")))

    def label(self, scene: Any) -> str | None:
        """Return the class that a scene's parts add up to, or None if they make none. The cue counts for twins only."""
        values = tuple(getattr(scene, kind) for kind in self.values)
        found = [name for name, look in self.looks.items() if look.values == values]
        if len(found) > 1:
            found = [name for name in found if self.looks[name].cue == getattr(scene, self.cue)]
        return found[0] if found else None

    def without(self, scene: Any, part: str) -> Any:
        """Return a scene with `part` (one of `erasable`) erased; what stood behind it comes into view."""
        self._checked(part, self.erasable, "part")
        return replace(scene, **{part: None if part in self.values else False})

    def with_shortcut(self, scene: Any) -> Any:
        """Return a scene with the shortcut."""
        return replace(scene, **{self.shortcut.part: True})

    def swapped(self, scene: Any, kind: str, value: str) -> Any:
        """Return a scene with another `value` of a kind of part."""
        self._checked(kind, tuple(self.values), "part with values")
        return replace(scene, **{kind: self._checked(value, self.values[kind], kind)})

    def placed(self, scene: Any, place: str) -> Any:
        """Return a scene before another background."""
        return replace(scene, place=self._checked(place, self.places, "place"))

    def valid_swaps(self, scene: Any) -> list[tuple[str, str, str]]:
        """List the (kind, value, class) of every swap of one part that gives a member of another class."""
        found = []
        for kind, values in self.values.items():
            for value in values:
                if value != getattr(scene, kind):
                    label = self.label(self.swapped(scene, kind, value))
                    if label is not None:
                        found.append((kind, value, label))
        return found

    def factors(self, scene: Any) -> dict[str, Factor]:
        """Return a scene as one flat row: the columns of ``factors.parquet`` after the path."""
        varying = (*self.values, "place", self.cue, self.shortcut.part)
        row: dict[str, Factor] = {"split": scene.split, "index": scene.index, "class": scene.name}
        row |= {name: getattr(scene, name) for name in varying}
        return row | {field.name: getattr(scene.nuisance, field.name) for field in fields(scene.nuisance)}

    def masks(self, scene: Any, owner: np.ndarray) -> dict[str, np.ndarray]:
        """Return the mask of everything in a scene.

        Parameters
        ----------
        scene : Scene
            A scene.
        owner : array of uint8 [size, size]
            Who owns each pixel of its picture.

        Returns
        -------
        dict of arrays of bool [size, size]
            Of each part the scene has, by its value's name, of the bare body where it has no first kind of part, and
            of the place: the pixels that show it.
        """
        first = next(iter(self.values))
        names = [scene.place, *(getattr(scene, kind) or (self.bare if kind == first else None) for kind in self.values)]
        names += [part for part in self.erasable if part not in self.values and self.has(scene, part)]
        return {name: owner == self.owners.index(name) for name in names if name is not None}

    def _checked(self, word: str, choices: tuple[str, ...], what: str) -> str:
        if word not in choices:
            raise UserError(f"{self.name}: no {what} {word!r}{nearest(word, choices)}; known: {', '.join(choices)}")
        return word


def owners_of(
    places: Sequence[str], bare: str, values: Mapping[str, Sequence[str]], single: Sequence[str]
) -> tuple[str, ...]:
    """Return who can own a pixel: the places, the bare body, each value of each kind of part, the single parts."""
    return (*places, bare, *(value for many in values.values() for value in many), *single)
