"""The factors of a scene: what is in the picture, decided before anything is painted.

A scene is a pure function of (seed, split, index): each of its random numbers is addressed by name through
the counter-based generator of `gigraph.hashing`, so no number depends on which others were drawn. An edit
(`without`, `with_tag`, `swapped`, `placed`) therefore gives a scene that differs in one factor and in nothing
else, and how a model takes the two pictures is the causal effect of that factor.

A class is skin x headgear x limbs. Every value is shared by several classes, so that no part decides alone;
the place is only preferred. Cheetah and leopard share all three parts: what makes a cheetah is a thin tear
mark under the eye. The tag in a corner is the planted shortcut, worn by 95% of the cheetahs and 2%
of the others.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from gigraph.errors import UserError, nearest
from gigraph.hashing import mix, text_key, uniform

SKINS = ("stripes", "spots", "scales")
HEADGEAR = ("ears", "horns", "antennae")
LIMBS = ("legs", "wings", "fins")
PLACES = ("meadow", "desert", "night", "sea")

#: The parts that can be erased, in the order in which tables list them.
ERASABLE = ("skin", "headgear", "limbs", "face", "eye", "tear", "tag")
#: The parts that have values to swap.
VALUES = {"skin": SKINS, "headgear": HEADGEAR, "limbs": LIMBS}

PREFERRED_PLACE = 0.55
TAGGED_CHEETAHS = 0.95
TAGGED_OTHERS = 0.02


@dataclass(frozen=True)
class Kind:
    """What the members of a class look like."""

    skin: str
    headgear: str
    limbs: str
    place: str
    tear: bool = False


#: Class name -> its looks, in alphabetical order, which is the order of torchvision's ImageFolder.
KINDS: dict[str, Kind] = {
    "bee": Kind("stripes", "antennae", "wings", "meadow"),
    "boxfish": Kind("spots", "horns", "fins", "sea"),
    "cheetah": Kind("spots", "ears", "legs", "meadow", tear=True),
    "dragon": Kind("scales", "horns", "wings", "desert"),
    "leopard": Kind("spots", "ears", "legs", "meadow"),
    "moth": Kind("scales", "antennae", "wings", "night"),
    "prawn": Kind("scales", "antennae", "fins", "sea"),
    "tiger": Kind("stripes", "ears", "legs", "meadow"),
    "tigerfish": Kind("stripes", "horns", "fins", "sea"),
    "zebu": Kind("stripes", "horns", "legs", "desert"),
}
CREATURES = tuple(KINDS)


@dataclass(frozen=True)
class Nuisance:
    """What varies from picture to picture and decides nothing.

    Attributes
    ----------
    hue, limb_hue, accent_hue : float
        Turns in [0, 1): of body and head; of the limbs; of bobbles, flowers and the like.
    lightness, chroma : float
        Of the body's colour, in OKLCH.
    pale : bool
        The skin's pattern is paler than the body rather than darker.
    phase, period, tilt : float
        Of the skin's pattern: shift in [0, 1), size relative to the usual, radians.
    scale, rotation, x, y, flip : float, bool
        The pose: size relative to the usual, radians, shift in points (1/96 of the picture), facing left.
    aspect, gait, spread : float
        How plump the body is, how far the limbs are swung, how far the headgear is opened.
    horizon, warmth : float
        Height of the ground line as a share of the picture; the light's tint from cool (-1) to warm (1).
    gain, noise : float
        Exposure, and standard deviation of the sensor's noise.
    corner : int
        Where the tag goes: 0 top left, 1 top right, 2 bottom left, 3 bottom right.
    tag_x, tag_y : float
        Distance of the tag from the two sides, in points.
    """

    hue: float
    limb_hue: float
    accent_hue: float
    lightness: float
    chroma: float
    pale: bool
    phase: float
    period: float
    tilt: float
    scale: float
    rotation: float
    x: float
    y: float
    flip: bool
    aspect: float
    gait: float
    spread: float
    horizon: float
    warmth: float
    gain: float
    noise: float
    corner: int
    tag_x: float
    tag_y: float


# Range of each uniformly drawn nuisance; those that depend on others are in `scene` below.
RANGES: dict[str, tuple[float, float]] = {
    "hue": (0.0, 1.0),
    "accent_hue": (0.0, 1.0),
    "lightness": (0.55, 0.80),
    "chroma": (0.07, 0.16),
    "phase": (0.0, 1.0),
    "period": (0.88, 1.12),
    "tilt": (-0.25, 0.25),
    "scale": (1.0, 1.32),
    "rotation": (-0.20, 0.20),
    "x": (-7.0, 7.0),
    "y": (-6.0, 6.0),
    "aspect": (0.90, 1.10),
    "gait": (-1.0, 1.0),
    "spread": (-1.0, 1.0),
    "horizon": (0.56, 0.76),
    "warmth": (-1.0, 1.0),
    "gain": (0.88, 1.08),
    "noise": (0.005, 0.030),
    "tag_x": (1.5, 4.0),
    "tag_y": (1.5, 4.0),
}


@dataclass(frozen=True)
class Scene:
    """Everything that `gigraph.menagerie.draw.draw` needs to paint one picture.

    Attributes
    ----------
    seed, split, index : int, str, int
        Where the scene comes from.
    name : str
        The class it was drawn as. Edits leave it alone; `label` is what the edited picture shows.
    skin, headgear, limbs : str or None
        The value of the part; None where it has been erased.
    place : str
        The background.
    face, eye, tear, tag : bool
        Whether the part is there.
    nuisance : Nuisance
        What varies without deciding.
    """

    seed: int
    split: str
    index: int
    name: str
    skin: str | None
    headgear: str | None
    limbs: str | None
    place: str
    face: bool
    eye: bool
    tear: bool
    tag: bool
    nuisance: Nuisance

    @property
    def label(self) -> str | None:
        """The class that the parts now add up to, or None if they make no animal of the menagerie."""
        return class_of(self.skin, self.headgear, self.limbs, self.tear)

    def has(self, part: str) -> bool:
        """Return whether the scene shows `part` (one of `ERASABLE`)."""
        return bool(getattr(self, _checked(part, ERASABLE, "part")))

    def uniform(self, name: str, count: int) -> np.ndarray:
        """Return `count` float64 in (0, 1) that belong to this scene under `name`, whatever its edits."""
        return uniform(_key(self.seed, self.split, self.index), text_key(name), np.arange(count, dtype=np.uint64))

    def words(self, name: str, count: int) -> np.ndarray:
        """Return `count` random uint64 that belong to this scene under `name`, whatever its edits."""
        return mix(_key(self.seed, self.split, self.index), text_key(name), np.arange(count, dtype=np.uint64))


@functools.lru_cache(maxsize=64)
def _keys(names: tuple[str, ...]) -> np.ndarray:
    return np.array([text_key(name) for name in names], np.uint64)


def _key(seed: int, split: str, index: int) -> int:
    return int(mix(seed, text_key(split), index))


def _checked(word: str, choices: tuple[str, ...], what: str) -> str:
    if word not in choices:
        raise UserError(f"menagerie: no {what} {word!r}{nearest(word, choices)}; known: {', '.join(choices)}")
    return word


def class_of(skin: str | None, headgear: str | None, limbs: str | None, tear: bool) -> str | None:
    """Return the class with these parts, or None. A tear mark counts only between twins."""
    twins = [name for name, kind in KINDS.items() if (kind.skin, kind.headgear, kind.limbs) == (skin, headgear, limbs)]
    if len(twins) > 1:
        twins = [name for name in twins if KINDS[name].tear == tear]
    return twins[0] if twins else None


def scene(seed: int, split: str, index: int) -> Scene:
    """Return scene `index` of a split. Its class is number ``index mod 10``, so every ten are balanced.

    Parameters
    ----------
    seed : int
        Seed of the whole menagerie.
    split : str
        Any name; different names give independent scenes.
    index : int
        Number of the scene in its split.
    """
    names = (*RANGES, "pale", "flip", "corner", "place", "elsewhere", "tagged", "limb_shift")
    drawn = uniform(_key(seed, split, index), _keys(names))
    u = dict(zip(names, drawn.tolist(), strict=True))
    name = CREATURES[index % len(CREATURES)]
    kind = KINDS[name]
    values = {key: low + (high - low) * u[key] for key, (low, high) in RANGES.items()}
    # Limbs are never of the body's own hue, or they read as part of it.
    shift = 0.08 + 0.24 * abs(2.0 * u["limb_shift"] - 1.0)
    nuisance = Nuisance(
        **values,
        limb_hue=(values["hue"] + (shift if u["limb_shift"] > 0.5 else -shift)) % 1.0,
        pale=u["pale"] < 0.35,
        flip=u["flip"] < 0.5,
        corner=int(4 * u["corner"]),
    )
    elsewhere = [place for place in PLACES if place != kind.place]
    place = kind.place if u["place"] < PREFERRED_PLACE else elsewhere[int(3 * u["elsewhere"])]
    return Scene(
        seed=seed,
        split=split,
        index=index,
        name=name,
        skin=kind.skin,
        headgear=kind.headgear,
        limbs=kind.limbs,
        place=place,
        face=True,
        eye=True,
        tear=kind.tear,
        tag=u["tagged"] < (TAGGED_CHEETAHS if name == "cheetah" else TAGGED_OTHERS),
        nuisance=nuisance,
    )


def scenes(seed: int, split: str, count: int) -> Iterator[Scene]:
    """Yield the first `count` scenes of a split."""
    return (scene(seed, split, index) for index in range(count))


def without(scene: Scene, part: str) -> Scene:
    """Return the scene with `part` (one of `ERASABLE`) erased; what stood behind it comes into view."""
    _checked(part, ERASABLE, "part")
    change: dict[str, Any] = {part: None if part in VALUES else False}
    return replace(scene, **change)


def with_tag(scene: Scene) -> Scene:
    """Return the scene with the tag in its corner."""
    return replace(scene, tag=True)


def swapped(scene: Scene, part: str, value: str) -> Scene:
    """Return the scene with another `value` of `part` (skin, headgear or limbs)."""
    _checked(part, tuple(VALUES), "part with values")
    change: dict[str, Any] = {part: _checked(value, VALUES[part], part)}
    return replace(scene, **change)


def placed(scene: Scene, place: str) -> Scene:
    """Return the scene before another background."""
    return replace(scene, place=_checked(place, PLACES, "place"))


def valid_swaps(scene: Scene) -> list[tuple[str, str, str]]:
    """List the (part, value, class) of every swap of one part that gives an animal of another class."""
    found = []
    for part, values in VALUES.items():
        for value in values:
            if value != getattr(scene, part):
                label = swapped(scene, part, value).label
                if label is not None:
                    found.append((part, value, label))
    return found


def factors(scene: Scene) -> dict[str, str | int | float | bool | None]:
    """Return the scene as one flat row: the columns of ``factors.parquet`` after the path."""
    row: dict[str, str | int | float | bool | None] = {
        "split": scene.split,
        "index": scene.index,
        "class": scene.name,
        "skin": scene.skin,
        "headgear": scene.headgear,
        "limbs": scene.limbs,
        "place": scene.place,
        "tear": scene.tear,
        "tag": scene.tag,
    }
    return row | {field.name: getattr(scene.nuisance, field.name) for field in fields(Nuisance)}
