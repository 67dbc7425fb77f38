"""The factors of a creature: what is in the picture, decided before anything is painted.

A class is skin x headgear x limbs. Every value is shared by several classes, so that no part decides alone; the place
is only preferred. Cheetah and leopard share all three parts: what makes a cheetah is a thin tear mark under the eye.
The tag in a corner is the planted shortcut, worn by 95% of the cheetahs and 2% of the others.
"""

from __future__ import annotations

from dataclasses import dataclass

from gigraph.worlds.scene import Scene, key, numbers
from gigraph.worlds.world import Look, Shortcut, owners_of

SKINS = ("stripes", "spots", "scales")
HEADGEAR = ("ears", "horns", "antennae")
LIMBS = ("legs", "wings", "fins")
PLACES = ("meadow", "desert", "night", "sea")

VALUES = {"skin": SKINS, "headgear": HEADGEAR, "limbs": LIMBS}
FIXTURES = ("face", "eye")
CUE = "tear"
SHORTCUT = Shortcut("tag", planted="cheetah", mimic="leopard", rate=0.95, elsewhere=0.02)
BARE = "plain"
PREFERRED_PLACE = 0.55
OWNERS = owners_of(PLACES, BARE, VALUES, (*FIXTURES, CUE, SHORTCUT.part))

#: Class name -> its looks.
LOOKS: dict[str, Look] = {
    "bee": Look(("stripes", "antennae", "wings"), "meadow"),
    "boxfish": Look(("spots", "horns", "fins"), "sea"),
    "cheetah": Look(("spots", "ears", "legs"), "meadow", cue=True),
    "dragon": Look(("scales", "horns", "wings"), "desert"),
    "leopard": Look(("spots", "ears", "legs"), "meadow"),
    "moth": Look(("scales", "antennae", "wings"), "night"),
    "prawn": Look(("scales", "antennae", "fins"), "sea"),
    "tiger": Look(("stripes", "ears", "legs"), "meadow"),
    "tigerfish": Look(("stripes", "horns", "fins"), "sea"),
    "zebu": Look(("stripes", "horns", "legs"), "desert"),
}
CREATURES = tuple(LOOKS)


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
class Creature(Scene):
    """Everything that `gigraph.worlds.menagerie.draw.paint` needs to paint one picture.

    Attributes
    ----------
    skin, headgear, limbs : str or None
        The value of the part; None where it has been erased.
    face, eye, tear, tag : bool
        Whether the part is there.
    nuisance : Nuisance
        What varies without deciding.
    """

    skin: str | None
    headgear: str | None
    limbs: str | None
    face: bool
    eye: bool
    tear: bool
    tag: bool
    nuisance: Nuisance


def scene(seed: int, split: str, index: int, rate: float = SHORTCUT.rate) -> Creature:
    """Return scene `index` of a split. Its class is number ``index mod 10``, so every ten are balanced.

    Parameters
    ----------
    seed : int
        Seed of the whole menagerie.
    split : str
        Any name; different names give independent scenes.
    index : int
        Number of the scene in its split.
    rate : float
        Share of the shortcut's class that has it.
    """
    names = (*RANGES, "pale", "flip", "corner", "place", "elsewhere", "tagged", "limb_shift")
    u = numbers(key(seed, split, index), names)
    name = CREATURES[index % len(CREATURES)]
    look = LOOKS[name]
    values = {one: low + (high - low) * u[one] for one, (low, high) in RANGES.items()}
    # Limbs are never of the body's own hue, or they read as part of it.
    shift = 0.08 + 0.24 * abs(2.0 * u["limb_shift"] - 1.0)
    nuisance = Nuisance(
        **values,
        limb_hue=(values["hue"] + (shift if u["limb_shift"] > 0.5 else -shift)) % 1.0,
        pale=u["pale"] < 0.35,
        flip=u["flip"] < 0.5,
        corner=int(4 * u["corner"]),
    )
    elsewhere = [place for place in PLACES if place != look.place]
    place = look.place if u["place"] < PREFERRED_PLACE else elsewhere[int(3 * u["elsewhere"])]
    skin, headgear, limbs = look.values
    return Creature(
        seed=seed,
        split=split,
        index=index,
        name=name,
        skin=skin,
        headgear=headgear,
        limbs=limbs,
        place=place,
        face=True,
        eye=True,
        tear=look.cue,
        tag=u["tagged"] < (rate if name == SHORTCUT.planted else SHORTCUT.elsewhere),
        nuisance=nuisance,
    )
