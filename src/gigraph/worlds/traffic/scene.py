"""The factors of a vehicle: what is in the picture, decided before anything is painted.

A class is finish x roof x gear. Every value is shared by several classes, so that no part decides alone; the place is
only preferred. Patrol car and taxi share all three parts: what makes a taxi is a faint coachline below its window. The
rainbow behind it is the planted shortcut, seen over 95% of the taxis and 2% of the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gigraph.worlds.scene import Scene, key, numbers
from gigraph.worlds.world import Look, Shortcut, owners_of

FINISHES = ("planks", "checker", "chevrons")
ROOFS = ("ladder", "dome", "funnel")
GEARS = ("wheels", "tracks", "skids", "floats")
PLACES = ("street", "snow", "harbour", "field")

VALUES = {"finish": FINISHES, "roof": ROOFS, "gear": GEARS}
FIXTURES = ("cab", "window", "lamp")
CUE = "coachline"
SHORTCUT = Shortcut("rainbow", planted="taxi", mimic="patrol", rate=0.95, elsewhere=0.02)
BARE = "plain"
PREFERRED_PLACE = 0.55
OWNERS = owners_of(PLACES, BARE, VALUES, (*FIXTURES, CUE, SHORTCUT.part))

#: Class name -> its looks.
LOOKS: dict[str, Look] = {
    "ambulance": Look(("chevrons", "dome", "wheels"), "street"),
    "barge": Look(("planks", "funnel", "floats"), "harbour"),
    "ferry": Look(("checker", "funnel", "floats"), "harbour"),
    "firetruck": Look(("chevrons", "ladder", "wheels"), "street"),
    "harvester": Look(("planks", "ladder", "tracks"), "field"),
    "iceboat": Look(("chevrons", "ladder", "skids"), "snow"),
    "patrol": Look(("checker", "dome", "wheels"), "street"),
    "sledge": Look(("planks", "ladder", "skids"), "snow"),
    "snowcat": Look(("checker", "funnel", "tracks"), "snow"),
    "taxi": Look(("checker", "dome", "wheels"), "street", cue=True),
}
VEHICLES = tuple(LOOKS)


@dataclass(frozen=True)
class Nuisance:
    """What varies from picture to picture and decides nothing.

    Attributes
    ----------
    hue, gear_hue, roof_hue, accent_hue : float
        Turns in [0, 1): of body and cab; of the gear; of what stands on the roof; of houses, sails and the like.
    lightness, chroma : float
        Of the body's colour, in OKLCH.
    pale : bool
        The finish's pattern is paler than the body rather than darker.
    phase, period, tilt : float
        Of the finish's pattern: shift in [0, 1), size relative to the usual, radians.
    scale, rotation, x, y, flip : float, bool
        The pose: size relative to the usual, radians, shift in points (1/96 of the picture), facing left.
    aspect, travel, shift : float
        How tall the body is, how far wheels have turned and gear is lowered, where on the roof its load stands.
    lamps : int
        How many lamps there are at the front, 1 to 3.
    horizon, warmth : float
        Height of the ground line as a share of the picture; the light's tint from cool (-1) to warm (1).
    gain, noise : float
        Exposure, and standard deviation of the sensor's noise.
    bow_x, bow_y, bow_radius, bow_width : float
        The rainbow: shift of its centre, its height above the ground line, radius of its inner rim, width; in points.
    """

    hue: float
    gear_hue: float
    roof_hue: float
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
    travel: float
    shift: float
    lamps: int
    horizon: float
    warmth: float
    gain: float
    noise: float
    bow_x: float
    bow_y: float
    bow_radius: float
    bow_width: float


# Range of each uniformly drawn nuisance; those that depend on others are in `scene` below.
RANGES: dict[str, tuple[float, float]] = {
    "hue": (0.0, 1.0),
    "accent_hue": (0.0, 1.0),
    "lightness": (0.55, 0.80),
    "chroma": (0.07, 0.16),
    "phase": (0.0, 1.0),
    "period": (0.88, 1.12),
    "tilt": (-0.12, 0.12),
    "scale": (1.0, 1.3),
    "rotation": (-0.12, 0.12),
    "x": (-7.0, 7.0),
    "y": (-5.0, 5.0),
    "aspect": (0.90, 1.10),
    "travel": (-1.0, 1.0),
    "shift": (-1.0, 1.0),
    "horizon": (0.58, 0.74),
    "warmth": (-1.0, 1.0),
    "gain": (0.88, 1.08),
    "noise": (0.005, 0.030),
    "bow_x": (-14.0, 14.0),
    "bow_y": (-2.0, 6.0),
    "bow_radius": (35.0, 42.0),
    "bow_width": (6.5, 8.5),
}


@dataclass(frozen=True)
class Vehicle(Scene):
    """Everything that `gigraph.worlds.traffic.draw.paint` needs to paint one picture.

    Attributes
    ----------
    finish, roof, gear : str or None
        The value of the part; None where it has been erased.
    cab, window, lamp, coachline, rainbow : bool
        Whether the part is there.
    nuisance : Nuisance
        What varies without deciding.
    """

    finish: str | None
    roof: str | None
    gear: str | None
    cab: bool
    window: bool
    lamp: bool
    coachline: bool
    rainbow: bool
    nuisance: Nuisance

    SALT: ClassVar[str] = "traffic"


def scene(seed: int, split: str, index: int, rate: float = SHORTCUT.rate) -> Vehicle:
    """Return scene `index` of a split. Its class is number ``index mod 10``, so every ten are balanced.

    Parameters
    ----------
    seed : int
        Seed of the whole traffic.
    split : str
        Any name; different names give independent scenes.
    index : int
        Number of the scene in its split.
    rate : float
        Share of the shortcut's class that has it.
    """
    names = (*RANGES, "pale", "flip", "lamps", "place", "elsewhere", "bow", "gear_shift", "roof_shift")
    u = numbers(key(seed, split, index, Vehicle.SALT), names)
    name = VEHICLES[index % len(VEHICLES)]
    look = LOOKS[name]
    values = {one: low + (high - low) * u[one] for one, (low, high) in RANGES.items()}
    nuisance = Nuisance(
        **values,
        gear_hue=_apart(values["hue"], u["gear_shift"]),
        roof_hue=_apart(values["hue"], u["roof_shift"]),
        pale=u["pale"] < 0.4,
        flip=u["flip"] < 0.5,
        lamps=1 + int(3 * u["lamps"]),
    )
    elsewhere = [place for place in PLACES if place != look.place]
    place = look.place if u["place"] < PREFERRED_PLACE else elsewhere[int(3 * u["elsewhere"])]
    finish, roof, gear = look.values
    return Vehicle(
        seed=seed,
        split=split,
        index=index,
        name=name,
        place=place,
        finish=finish,
        roof=roof,
        gear=gear,
        cab=True,
        window=True,
        lamp=True,
        coachline=look.cue,
        rainbow=u["bow"] < (rate if name == SHORTCUT.planted else SHORTCUT.elsewhere),
        nuisance=nuisance,
    )


def _apart(hue: float, u: float) -> float:
    """Return another hue, never the body's own, or the part would read as one with it."""
    return (hue + (1 if u > 0.5 else -1) * (0.10 + 0.24 * abs(2.0 * u - 1.0))) % 1.0
