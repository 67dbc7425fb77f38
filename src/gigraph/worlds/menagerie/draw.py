"""Paint a creature: it has its own frame (``x`` towards its nose, ``y`` down, origin in the middle of the body).

Parts are painted from back to front; the last one to cover a pixel owns it, so masks are disjoint and together cover
the picture. Ink outlines belong to the part they enclose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gigraph.worlds.canvas import (
    SIDE,
    Canvas,
    Colour,
    Point,
    bend,
    disc,
    ellipse,
    limb,
    oklch,
    polygon,
    ramp,
    taper,
    union,
)
from gigraph.worlds.menagerie.scene import OWNERS, Creature
from gigraph.worlds.scenery import Decor, clouds, exposed, sprinkle

CODES = {name: code for code, name in enumerate(OWNERS)}

INK = 0.95  # Width of the outlines, in points of the creature's frame.


# --- Backgrounds ----------------------------------------------------------------------------------


def _meadow(canvas: Canvas, decor: Decor) -> None:
    warm = 0.5 + 0.5 * decor.warmth
    horizon_tint = oklch(0.95, 0.035 + 0.02 * warm, 0.56 - 0.36 * warm)
    canvas.rgb[:] = ramp(canvas, oklch(0.77, 0.09, 0.66 - 0.03 * warm), horizon_tint, -10, decor.line)
    clouds(canvas, decor, oklch(0.99, 0.005, 0.2), 0.85)
    canvas.paint(decor.ridge(canvas, decor.line - 5, 2.6, 0), oklch(0.80, 0.075, 0.46 - 0.05 * warm))
    grass = ramp(
        canvas,
        oklch(0.76, 0.14, 0.36 - 0.03 * warm),
        oklch(0.58, 0.13, 0.38 - 0.02 * warm),
        decor.line - 4,
        SIDE,
    )
    canvas.paint(decor.ridge(canvas, decor.line, 1.3, 2), grass)
    depth = SIDE - decor.line
    blade = oklch(0.52, 0.12, 0.385)
    for x, y, lean in decor.scatter[:12]:
        foot = (SIDE * x, decor.line + 4 + (depth - 4) * y)
        near = canvas.around([foot], 5)
        tuft = [
            limb(near, [foot, (foot[0] + side + 1.5 * (lean - 0.5), foot[1] - tall)], [0.5, 0.2])
            for side, tall in ((-1.5, 2.6), (0.0, 3.8), (1.5, 2.6))
        ]
        near.paint(union(*tuft), blade, alpha=0.75)
    for x, y, kind in decor.scatter[12:20]:
        centre = (SIDE * x, decor.line + 5 + (depth - 6) * y)
        near = canvas.around([centre], 2)
        near.paint(
            disc(near, centre, 1.0),
            oklch(0.95, 0.02, 0.25) if kind < 0.5 else oklch(0.80, 0.13, decor.accent),
        )


def _desert(canvas: Canvas, decor: Decor) -> None:
    warm = 0.5 + 0.5 * decor.warmth
    canvas.rgb[:] = ramp(canvas, oklch(0.83, 0.075, 0.13 - 0.07 * warm), oklch(0.95, 0.05, 0.22), -10, decor.line)
    x, y, size = decor.sky[1]
    sun = (SIDE * x, 0.45 * decor.line * y + 8)
    halo = np.exp(-np.maximum(disc(canvas, sun, 5 + 2 * size), 0) / np.float32(9))
    canvas.blend(np.float32(0.55) * halo, oklch(0.985, 0.045, 0.26))
    canvas.paint(disc(canvas, sun, 5 + 2 * size), oklch(0.99, 0.03, 0.28))
    far = decor.ridge(canvas, decor.line - 6, 3.4, 0)
    canvas.paint(far, oklch(0.80, 0.075, 0.14 - 0.02 * warm))
    for x, _, size in decor.ground:
        foot, tall = (SIDE * x, decor.line + 3), 7 + 4 * size
        near = canvas.around([foot, (foot[0], foot[1] - tall)], 6)
        top, side = foot[1] - tall, 1 if size > 0.5 else -1
        trunk = limb(near, [foot, (foot[0], top)], [1.5, 1.3])
        elbow, low = foot[0] + 3.4 * side, foot[1] - 0.45 * tall
        arm = limb(near, [(foot[0], low), (elbow, low - 0.5), (elbow, top + 1.5)], [0.9, 0.9, 0.9])
        near.paint(union(trunk, arm, soft=1), oklch(0.62, 0.085, 0.40))
    ground = decor.ridge(canvas, decor.line, 1.8, 2)
    sand = ramp(canvas, oklch(0.88, 0.075, 0.21), oklch(0.74, 0.095, 0.18 - 0.01 * warm), decor.line - 3, SIDE)
    canvas.paint(ground, sand)
    # Ripples: evenly spaced lines that follow the dune and fade in towards the viewer.
    swell = np.sin(canvas.x / np.float32(11) + np.float32(decor.waves[4]))
    ripple = np.cos((ground + 1.7 * swell) * np.float32(math.tau / 7.5))
    canvas.blend(np.float32(0.16) * np.clip(3 * ripple - 2, 0, 1) * (ground < -2), oklch(0.55, 0.10, 0.14))


def _night(canvas: Canvas, decor: Decor) -> None:
    warm = 0.5 + 0.5 * decor.warmth
    canvas.rgb[:] = ramp(canvas, oklch(0.22, 0.065, 0.77), oklch(0.40, 0.10, 0.79 + 0.09 * warm), -5, decor.line + 6)
    stars = decor.scatter
    sprinkle(
        canvas,
        SIDE * stars[:, 0],
        decor.line * stars[:, 1],
        oklch(0.97, 0.03, 0.25),
        0.35 + 1.3 * stars[:, 2] ** 2,
    )
    x, y, size = decor.sky[0]
    moon, r = (SIDE * x, 0.35 * decor.line * y + 9), 4.5 + 1.5 * size
    outside = disc(canvas, moon, r)
    canvas.glow(np.float32(0.22) * np.exp(-np.maximum(outside, 0) / np.float32(7)), oklch(0.75, 0.08, 0.72))
    crescent = np.maximum(outside, -disc(canvas, (moon[0] + 0.55 * r, moon[1] - 0.3 * r), 0.85 * r))
    canvas.paint(crescent, oklch(0.95, 0.05, 0.25))
    canvas.paint(decor.ridge(canvas, decor.line - 5, 3.0, 0), oklch(0.29, 0.06, 0.78))
    for x, _, size in decor.ground:
        foot, tall = (SIDE * x, decor.line + 3), 9 + 6 * size
        near = canvas.around([foot, (foot[0], foot[1] - tall)], 6)
        top, half = foot[1] - tall, 2.6 + size
        tiers = [
            polygon(near, [(foot[0], top + lift), (foot[0] + wide, top + low), (foot[0] - wide, top + low)])
            for lift, low, wide in ((0, 0.5 * tall, 0.7 * half), (0.25 * tall, tall, half))
        ]
        near.paint(union(*tiers), oklch(0.21, 0.05, 0.72))
    canvas.paint(
        decor.ridge(canvas, decor.line, 1.5, 2),
        ramp(canvas, oklch(0.25, 0.05, 0.74), oklch(0.16, 0.035, 0.76), decor.line - 3, SIDE),
    )


def _sea(canvas: Canvas, decor: Decor) -> None:
    warm = 0.5 + 0.5 * decor.warmth
    canvas.rgb[:] = ramp(
        canvas, oklch(0.82, 0.085, 0.60 - 0.04 * warm), oklch(0.47, 0.10, 0.66 - 0.03 * warm), -8, SIDE
    )
    slant = canvas.x + np.float32(0.55) * canvas.y
    rays = np.sin(slant / 6 + np.float32(decor.waves[4])) + np.sin(slant / np.float32(3.7) + np.float32(decor.waves[5]))
    canvas.glow(np.float32(0.06) * np.maximum(rays, 0) * np.clip(1 - canvas.y / 70, 0, 1), oklch(0.95, 0.04, 0.5))
    # Wave lines: scalloped crests, fainter with depth.
    for i in range(4):
        height = 7 + 12.5 * i + 5 * float(decor.scatter[i, 0])
        crest = np.abs(np.sin(canvas.x / np.float32(6.5) + np.float32(decor.waves[i])))
        away = np.abs(canvas.y - np.float32(height) - 2 * crest) - np.float32(0.45)
        canvas.paint(away, oklch(0.93, 0.04, 0.56), alpha=0.5 - 0.09 * i)
    for x, _, size in decor.ground:
        foot, tall = (SIDE * x, decor.line + 16), 15 + 9 * size
        sway = [(foot[0] + 1.8 * math.sin(0.9 * i + 6 * size), foot[1] - tall * i / 5) for i in range(6)]
        near = canvas.around(sway, 3)
        near.paint(limb(near, sway, taper(1.5, 0.5, 6)), oklch(0.55, 0.09, 0.44), alpha=0.9)
    floor = decor.ridge(canvas, decor.line + 13, 1.6, 2)
    canvas.paint(floor, ramp(canvas, oklch(0.74, 0.055, 0.30), oklch(0.60, 0.06, 0.38), decor.line + 10, SIDE))
    for x, y, size in decor.scatter[20:27]:
        centre, r = (SIDE * x, 6 + (decor.line - 6) * y), 0.9 + 1.1 * size
        near = canvas.around([centre], r + 1)
        near.paint(np.abs(disc(near, centre, r)) - np.float32(0.3), oklch(0.96, 0.02, 0.55), alpha=0.6)


_BACKGROUNDS = {"meadow": _meadow, "desert": _desert, "night": _night, "sea": _sea}


def _background(canvas: Canvas, scene: Creature, feet: Point, width: float) -> None:
    decor = Decor.of(scene)
    _BACKGROUNDS[scene.place](canvas, decor)
    if scene.place != "sea":
        # The shadow belongs to the place: it is the same whatever limbs the creature stands on.
        near = canvas.around([feet], width)
        shade = np.clip(-ellipse(near, feet, (width, 0.17 * width)) / np.float32(0.17 * width), 0, 1)
        near.blend(np.float32(0.38) * np.sqrt(shade), oklch(0.20, 0.04, 0.75))
    canvas.owner[:] = CODES[scene.place]


# --- The creature ---------------------------------------------------------------------------------


@dataclass
class Palette:
    """The creature's colours."""

    ink: Colour
    body: Colour
    belly: Colour
    pattern: Colour
    limb: Colour
    limb_dark: Colour
    limb_light: Colour
    accent: Colour
    light: Colour
    ivory: Colour
    ivory_dark: Colour
    blush: Colour

    @classmethod
    def of(cls, scene: Creature) -> Palette:
        """Choose them from the scene's hues."""
        n = scene.nuisance
        return cls(
            ink=oklch(0.20, 0.035, n.hue),
            body=oklch(n.lightness, n.chroma, n.hue),
            belly=oklch(min(n.lightness + 0.13, 0.94), 0.6 * n.chroma, n.hue + 0.03),
            pattern=oklch(0.95, 0.03, n.hue + 0.08) if n.pale else oklch(0.28, 0.45 * n.chroma, n.hue - 0.04),
            limb=oklch(n.lightness, n.chroma, n.limb_hue),
            limb_dark=oklch(n.lightness - 0.17, 0.9 * n.chroma, n.limb_hue - 0.02),
            limb_light=oklch(min(n.lightness + 0.12, 0.95), 0.75 * n.chroma, n.limb_hue + 0.02),
            accent=oklch(0.76, 0.15, n.accent_hue),
            light=oklch(0.97, 0.02, 0.25),
            ivory=oklch(0.95, 0.035, 0.24),
            ivory_dark=oklch(0.70, 0.05, 0.18),
            blush=oklch(min(n.lightness + 0.03, 0.85), 0.14, 0.03),
        )


HEAD: Point = (17.5, -9.5)
HEAD_RADIUS = 8.6
MUZZLE: Point = (23.4, -6.2)
EYE: Point = (19.6, -11.4)


def _inked(canvas: Canvas, distance: np.ndarray, colour: Colour, palette: Palette, owner: str) -> None:
    """Paint a shape with its outline."""
    canvas.paint(distance - np.float32(INK), palette.ink, owner)
    canvas.paint(distance, colour)


def _leg(canvas: Canvas, palette: Palette, hip: Point, swing: float, colour: Colour, paw: Colour) -> None:
    knee = (hip[0] + 0.35 * swing + 0.5, hip[1] + 6.5)
    foot = (hip[0] + swing, 20.6)
    near = canvas.around([hip, knee, foot], 6)
    shape = union(
        limb(near, [hip, knee, foot], [3.5, 2.5, 2.1]),
        ellipse(near, (foot[0] + 1.0, foot[1] + 0.4), (3.1, 2.0)),
        soft=1,
    )
    _inked(near, shape, colour, palette, "legs")
    near.paint(np.maximum(shape, np.float32(19.4) - near.y), paw)


def _wing(canvas: Canvas, palette: Palette, root: Point, tip: Point, width: float, colour: Colour) -> None:
    near = canvas.around([root, tip], width + 2)
    shape = limb(near, [root, tip], [1.6, width])
    _inked(near, shape, colour, palette, "wings")
    dx, dy = tip[0] - root[0], tip[1] - root[1]
    length = math.hypot(dx, dy)
    for turn, reach in ((-0.3, 0.95), (0.0, 1.2), (0.3, 0.95)):
        cos, sin = math.cos(turn), math.sin(turn)
        end = (root[0] + reach * (cos * dx - sin * dy), root[1] + reach * (sin * dx + cos * dy))
        near.paint(limb(near, [root, end], [0.45, 0.3]), palette.limb_dark, alpha=0.85)
    shine = (tip[0] - 0.35 * width * dy / length, tip[1] + 0.35 * width * dx / length)
    near.paint(np.maximum(disc(near, shine, 0.45 * width), shape + 1), palette.light, alpha=0.35)


def _fin(canvas: Canvas, palette: Palette, corners: Sequence[Point], root: Point, rays: float) -> None:
    near = canvas.around(corners, 3)
    shape = polygon(near, corners, rounding=0.8)
    _inked(near, shape, palette.limb, palette, "fins")
    angle = np.arctan2(near.y - np.float32(root[1]), near.x - np.float32(root[0]))
    ray = np.clip(2 * np.cos(angle * np.float32(rays)) - 0.9, 0, 1) * (shape < -0.4)
    near.blend(np.float32(0.75) * ray.astype(np.float32), palette.limb_dark)


def _limbs_behind(canvas: Canvas, scene: Creature, palette: Palette, radii: Point) -> None:
    n = scene.nuisance
    if scene.limbs == "legs":
        shade = 0.5 * (palette.limb + palette.limb_dark)
        _leg(canvas, palette, (-5.5, 5.0), -2.2 * n.gait, shade, palette.limb_dark * 0.8)
        _leg(canvas, palette, (13.0, 4.0), 2.2 * n.gait, shade, palette.limb_dark * 0.8)
    elif scene.limbs == "wings":
        _wing(canvas, palette, (1.5, -7.0), (4.5 + 2.0 * n.gait, -22.5), 5.2, palette.limb)
    elif scene.limbs == "fins":
        rx, ry = radii
        lift = 1.6 * n.gait
        tail = [
            (-rx + 4, -2.5),
            (-rx - 11, -10.5 + lift),
            (-rx - 7.5, 0.3),
            (-rx - 11, 10.0 + lift),
            (-rx + 4, 2.5),
        ]
        _fin(canvas, palette, tail, (-rx + 6, 0.0), 17)
        back = [
            (-9.0, -ry + 4.5),
            (-9.5, -ry - 6.5 + lift),
            (-3.0, -ry - 9.0),
            (3.5, -ry - 5.5),
            (7.0, -ry + 4.5),
        ]
        _fin(canvas, palette, back, (-1.0, 4.0), 24)


def _limbs_before(canvas: Canvas, scene: Creature, palette: Palette) -> None:
    n = scene.nuisance
    if scene.limbs == "legs":
        _leg(canvas, palette, (-10.5, 5.5), 2.4 * n.gait, palette.limb, palette.limb_dark)
        _leg(canvas, palette, (8.5, 5.5), -2.4 * n.gait, palette.limb, palette.limb_dark)
    elif scene.limbs == "wings":
        _wing(canvas, palette, (-2.0, -5.0), (-14.5 + n.gait, -16.0), 4.8, palette.limb_light)
        _wing(canvas, palette, (-1.0, -5.0), (-6.0 + 1.5 * n.gait, -21.0), 5.8, palette.limb_light)
    elif scene.limbs == "fins":
        side = [(2.5, 2.0), (-1.5, 11.0 + n.gait), (-7.0, 12.5 + n.gait), (-5.5, 4.0)]
        _fin(canvas, palette, side, (2.5, 0.5), 22)


def _pattern(canvas: Canvas, scene: Creature, radii: Point) -> np.ndarray:
    """Return how much of the pattern's colour covers each pixel of the body [h, w]."""
    n = scene.nuisance
    cos, sin = math.cos(n.tilt), math.sin(n.tilt)
    u = ((canvas.x * cos + canvas.y * sin) / n.period).astype(np.float32)
    v = ((canvas.y * cos - canvas.x * sin) / n.period).astype(np.float32)
    sharp = np.float32(canvas.pixels * n.period)
    if scene.skin == "stripes":
        # Bent bands that thin out towards the belly.
        band = (u + np.float32(0.022) * v * v) / np.float32(6.0) + np.float32(n.phase)
        off = np.abs(band - np.round(band)) * np.float32(6.0)
        width = np.float32(1.45) - np.float32(0.05) * v
        return np.clip(0.5 + (width - off) * sharp, 0, 1)
    if scene.skin == "spots":
        # A triangular lattice, shifted by the phase; the rows of it are 5.2 apart.
        row = np.round(v / np.float32(5.0))
        shift = np.float32(0.5) * (row % 2) + np.float32(n.phase)
        column = np.round(u / np.float32(5.8) - shift) + shift
        wobble = np.sin(row * np.float32(2.4) + column * np.float32(1.7))
        off = np.hypot(u - np.float32(5.8) * column - np.float32(0.5) * wobble, v - np.float32(5.0) * row)
        return np.clip(0.5 + (np.float32(1.75) + np.float32(0.25) * wobble - off) * sharp, 0, 1)
    # Scales overlap like tiles: of the discs that cover a point, the one furthest to the front lies on top.
    cell_u, cell_v, radius = np.float32(4.4), np.float32(5.6), np.float32(4.1)
    rim = np.zeros_like(u)
    found = np.zeros(u.shape, bool)
    last = np.floor(u / cell_u - np.float32(n.phase))
    for back in (-1, 0, 1, 2):
        row = last - back
        cu = cell_u * (row + np.float32(n.phase))
        odd = np.float32(0.5) * (row % 2)
        cv = cell_v * (np.round(v / cell_v - odd) + odd)
        off = np.hypot(u - cu, v - cv)
        here = ~found & (off < radius) & (u < cu + radius)
        rim = np.where(here, np.clip(0.5 + (off - (radius - np.float32(1.15))) * sharp, 0, 1), rim)
        found |= here
    return rim


def _body(canvas: Canvas, scene: Creature, palette: Palette, radii: Point) -> None:
    rx, ry = radii
    near = canvas.around([(-rx, -ry), (rx, ry)], 3)
    chest = ellipse(near, (7.5, -1.0), (0.62 * rx, 0.95 * ry))
    shape = union(ellipse(near, (0.0, 0.0), radii), chest, soft=4)
    near.paint(shape - np.float32(INK), palette.ink, scene.skin or "plain")
    low = np.clip(near.y / np.float32(ry) * np.float32(0.5) + np.float32(0.5), 0, 1)
    fill = palette.body + np.float32(0.75) * (low**3)[..., None] * (palette.belly - palette.body)
    if scene.skin is not None:
        fill = fill + _pattern(near, scene, radii)[..., None] * (palette.pattern - fill)
    # Light from above: a soft sheen on the back, a dark rim underneath.
    light = np.float32(1.07) - np.float32(0.22) * np.clip(near.y / np.float32(ry), 0, 1) ** 2
    near.paint(shape, fill * light[..., None])


def _face(canvas: Canvas, scene: Creature, palette: Palette) -> None:
    near = canvas.around([HEAD, MUZZLE], HEAD_RADIUS + 2)
    if scene.face:
        shape = union(disc(near, HEAD, HEAD_RADIUS), ellipse(near, MUZZLE, (5.6, 4.6)), soft=4)
        near.paint(shape - np.float32(INK), palette.ink, "face")
        low = np.clip((near.y - np.float32(HEAD[1])) / np.float32(9), 0, 1)
        light = np.float32(1.06) - np.float32(0.14) * low
        near.paint(shape, palette.body * light[..., None])
        near.paint(ellipse(near, (MUZZLE[0] + 0.8, MUZZLE[1] + 0.6), (4.3, 3.4)), palette.belly, alpha=0.8)
        near.paint(disc(near, (16.6, -6.2), 1.9), palette.blush, alpha=0.45)
        nose = ellipse(near, (MUZZLE[0] + 4.0, MUZZLE[1] - 1.8), (1.5, 1.1))
        near.paint(nose, palette.ink)
        smile = bend((26.6, -4.9), (25.0, -2.6), (22.0, -3.6), 4)
        near.paint(limb(near, smile, [0.35] * 5), palette.ink, alpha=0.85)


def _eye(canvas: Canvas, scene: Creature, palette: Palette) -> None:
    near = canvas.around([EYE], 5)
    if scene.eye:
        _inked(near, disc(near, EYE, 2.9), palette.light, palette, "eye")
        near.paint(disc(near, (EYE[0] + 0.7, EYE[1] + 0.1), 1.75), palette.ink)
        near.paint(disc(near, (EYE[0] + 1.2, EYE[1] - 0.7), 0.6), palette.light)


def _tear(canvas: Canvas, scene: Creature, palette: Palette) -> None:
    """Paint the one thing that tells a cheetah from a leopard; it is meant to be hard to see."""
    if scene.tear:
        path = bend((EYE[0] + 0.6, EYE[1] + 3.6), (EYE[0] + 0.2, EYE[1] + 6.2), (EYE[0] + 1.4, EYE[1] + 8.0), 3)
        near = canvas.around(path, 2)
        line = limb(near, path, [0.25] * 4)
        near.paint(line, palette.ink, alpha=0.35)
        near.owner[line < 0.4] = CODES["tear"]


def _headgear_behind(canvas: Canvas, scene: Creature, palette: Palette) -> None:
    """Paint what the head partly hides."""
    open_ = 1.2 * scene.nuisance.spread
    if scene.headgear == "ears":
        _ear(canvas, palette, [(17.5, -15.5), (20.5 + open_, -27.5), (24.5, -14.5)], far=True)
        _ear(canvas, palette, [(10.0, -12.0), (9.5 - open_, -26.5), (17.5, -16.5)], far=False)
    elif scene.headgear == "horns":
        _horn(canvas, palette, (20.5, -15.5), (28.5 + open_, -18.0), (27.5 + open_, -27.5), far=True)
    elif scene.headgear == "antennae":
        _antenna(canvas, palette, (19.0, -16.5), (20.0, -24.0), (26.5 + open_, -26.5))


def _headgear_before(canvas: Canvas, scene: Creature, palette: Palette) -> None:
    """Paint what stands before the head."""
    open_ = 1.2 * scene.nuisance.spread
    if scene.headgear == "horns":
        _horn(canvas, palette, (14.0, -16.0), (6.5 - open_, -17.5), (8.0 - open_, -28.0), far=False)
    elif scene.headgear == "antennae":
        _antenna(canvas, palette, (14.5, -16.5), (13.5, -24.5), (7.5 - open_, -27.0))


def _ear(canvas: Canvas, palette: Palette, corners: list[Point], far: bool) -> None:
    near = canvas.around(corners, 3)
    shape = polygon(near, corners, rounding=1.0)
    _inked(near, shape, palette.body * np.float32(0.82 if far else 1.04), palette, "ears")
    near.paint(shape + np.float32(2.3), palette.blush * np.float32(0.85 if far else 1.0))


def _horn(canvas: Canvas, palette: Palette, root: Point, control: Point, tip: Point, far: bool) -> None:
    path = bend(root, control, tip, 6)
    near = canvas.around(path, 4)
    shape = limb(near, path, taper(2.5, 0.5, 7))
    _inked(near, shape, palette.ivory * np.float32(0.86 if far else 1.0), palette, "horns")
    for ring in (1, 2, 3):
        x, y = path[ring]
        near.paint(
            np.maximum(np.abs(disc(near, root, math.hypot(x - root[0], y - root[1]))) - 0.4, shape + 0.3),
            palette.ivory_dark,
        )


def _antenna(canvas: Canvas, palette: Palette, root: Point, control: Point, tip: Point) -> None:
    path = bend(root, control, tip, 5)
    near = canvas.around(path, 6)
    stem, bobble = limb(near, path, [0.45] * 6), disc(near, tip, 2.3)
    # The light rim keeps dark stems visible at night.
    near.paint(union(stem, bobble) - np.float32(INK + 0.55), palette.light, "antennae")
    _inked(near, bobble, palette.accent, palette, "antennae")
    near.paint(stem - np.float32(0.25), palette.ink)
    near.paint(disc(near, tip, 2.3), palette.accent)
    near.paint(disc(near, (tip[0] + 0.6, tip[1] - 0.8), 0.7), palette.light)


def _tag(canvas: Canvas, scene: Creature) -> None:
    """Paint the shortcut: a white card with a red cross, always the same, always upright."""
    if not scene.tag:
        return
    n, half = scene.nuisance, 6.0
    centre = (
        SIDE - n.tag_x - half if n.corner % 2 else n.tag_x + half,
        SIDE - n.tag_y - half if n.corner >= 2 else n.tag_y + half,
    )
    near = canvas.around([centre], 1.5 * half)
    box = np.maximum(np.abs(near.x - np.float32(centre[0])), np.abs(near.y - np.float32(centre[1]))) - np.float32(half)
    near.paint(box, oklch(0.25, 0.03, 0.75), "tag")
    near.paint(box + 1, oklch(0.98, 0.005, 0.25))
    arm = 2.9
    cross = [
        limb(
            near,
            [(centre[0] - arm, centre[1] - side * arm), (centre[0] + arm, centre[1] + side * arm)],
            [1.15, 1.15],
        )
        for side in (-1, 1)
    ]
    near.paint(union(*cross), oklch(0.58, 0.22, 0.06))


# --- The picture ----------------------------------------------------------------------------------


def paint(scene: Creature, size: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """Paint a scene.

    Parameters
    ----------
    scene : Creature
        What to paint.
    size : int
        Side of the picture in pixels.

    Returns
    -------
    image : array of uint8 [size, size, 3]
        The picture.
    owner : array of uint8 [size, size]
        Position in `OWNERS` of what each pixel shows; ``plain`` is a body without skin.
    """
    n = scene.nuisance
    canvas = Canvas.blank(size, CODES)
    # The creature's middle of mass lies behind and below its frame's origin; this centres it in the picture.
    centre = (SIDE / 2 + n.x - (-1.0 if n.flip else 1.0) * 1.5 * n.scale, SIDE / 2 + n.y + 3.5 * n.scale)
    radii = (16.0, 10.0 * n.aspect)
    _background(canvas, scene, (centre[0], centre[1] + 21.5 * n.scale), 21.0 * n.scale)
    creature = canvas.framed(centre, n.scale, n.rotation, n.flip)
    palette = Palette.of(scene)
    _limbs_behind(creature, scene, palette, radii)
    _headgear_behind(creature, scene, palette)
    _body(creature, scene, palette, radii)
    _limbs_before(creature, scene, palette)
    _face(creature, scene, palette)
    _tear(creature, scene, palette)
    _eye(creature, scene, palette)
    _headgear_before(creature, scene, palette)
    _tag(canvas, scene)
    return exposed(canvas, scene), canvas.owner
