"""Paint a vehicle: it has its own frame (``x`` towards its front, ``y`` down, origin in the middle of the body).

Parts are painted from back to front; the last one to cover a pixel owns it, so masks are disjoint and together cover
the picture. Ink outlines belong to the part they enclose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gigraph.worlds.canvas import (
    SIDE,
    Canvas,
    Colour,
    Point,
    box,
    disc,
    ellipse,
    limb,
    oklch,
    polygon,
    ramp,
    union,
)
from gigraph.worlds.scenery import Decor, clouds, exposed, sprinkle
from gigraph.worlds.traffic.scene import OWNERS, Vehicle

CODES = {name: code for code, name in enumerate(OWNERS)}

INK = 0.9  # Width of the outlines, in points of the vehicle's frame.


# --- Backgrounds ----------------------------------------------------------------------------------


def _street(canvas: Canvas, decor: Decor) -> None:
    warm = 0.5 + 0.5 * decor.warmth
    canvas.rgb[:] = ramp(canvas, oklch(0.74, 0.08, 0.68), oklch(0.94, 0.03 + 0.03 * warm, 0.22), -10, decor.line)
    clouds(canvas, decor, oklch(0.98, 0.01, 0.2), 0.8)
    left = -6.0
    for wide, tall, tone in decor.scatter[:8]:
        if left > SIDE:
            break
        right, top = left + 13 + 9 * wide, decor.line - 13 - 15 * tall
        near = canvas.around([(left, top), (right, decor.line)], 2)
        wall = oklch(0.70 + 0.12 * tone, 0.06, decor.accent + 0.35 * tone)
        near.paint(box(near, (left, top), (right, decor.line + 2)), wall)
        near.paint(box(near, (left - 0.6, top - 1.6), (right + 0.6, top)), oklch(0.48, 0.07, 0.08 + 0.2 * tone))
        # Windows on a grid of the house's own.
        u, v = near.x - np.float32(left), near.y - np.float32(top)
        pane = np.maximum(np.abs(u % np.float32(5) - 2.5) - 1.3, np.abs(v % np.float32(6) - 3.5) - 1.7)
        inside = (u > 0.4) & (u < np.float32(5 * ((right - left) // 5))) & (v > 1) & (v < decor.line - top - 1)
        near.paint(np.where(inside, pane, 9), oklch(0.45, 0.05, 0.70), alpha=0.8)
        left = right + 0.4
    road = ramp(canvas, oklch(0.58, 0.012, 0.75), oklch(0.40, 0.015, 0.75), decor.line, SIDE)
    canvas.paint(np.float32(decor.line) - canvas.y, road)
    canvas.paint(np.abs(canvas.y - np.float32(decor.line + 1.2)) - np.float32(1.4), oklch(0.78, 0.015, 0.2))
    lane = decor.line + 0.72 * (SIDE - decor.line)
    dash = np.abs((canvas.x + np.float32(20 * decor.waves[0])) % np.float32(19) - np.float32(9.5)) - np.float32(5)
    canvas.paint(np.maximum(dash, np.abs(canvas.y - np.float32(lane)) - np.float32(0.9)), oklch(0.93, 0.03, 0.25))


def _snow(canvas: Canvas, decor: Decor) -> None:
    warm = 0.5 + 0.5 * decor.warmth
    canvas.rgb[:] = ramp(
        canvas, oklch(0.66, 0.06, 0.72), oklch(0.90, 0.03 + 0.03 * warm, 0.72 + 0.25 * warm), -10, decor.line
    )
    for x, y, size in decor.sky:
        peak, half, base = (SIDE * x, decor.line - 17 - 13 * y), 15 + 8 * size, decor.line + 2
        near = canvas.around([(peak[0] - half, base), (peak[0] + half, peak[1])], 2)
        rock = polygon(near, [peak, (peak[0] + half, base), (peak[0] - half, base)])
        near.paint(rock, oklch(0.60 + 0.08 * size, 0.045, 0.74))
        jag = np.abs((near.x + near.y) % np.float32(5) - 2.5)
        near.paint(np.maximum(rock, near.y - np.float32(peak[1] + 8) - jag), oklch(0.95, 0.015, 0.70))
    for x, _, size in decor.ground:
        foot, tall = (SIDE * x, decor.line + 2), 11 + 6 * size
        near = canvas.around([foot, (foot[0], foot[1] - tall)], 6)
        top, half = foot[1] - tall, 3.2 + size
        tiers = [
            polygon(near, [(foot[0], top + lift), (foot[0] + wide, top + low), (foot[0] - wide, top + low)])
            for lift, low, wide in ((0, 0.5 * tall, 0.65 * half), (0.28 * tall, tall, half))
        ]
        near.paint(union(*tiers), oklch(0.42, 0.07, 0.43))
        near.paint(tiers[0] + np.float32(0.9), oklch(0.90, 0.02, 0.65), alpha=0.75)
    drift = decor.ridge(canvas, decor.line, 1.2, 2)
    canvas.paint(drift, ramp(canvas, oklch(0.97, 0.01, 0.70), oklch(0.80, 0.045, 0.70), decor.line, SIDE + 6))
    swell = np.cos((drift + 2.2 * np.sin(canvas.x / np.float32(13) + np.float32(decor.waves[4]))) * np.float32(0.75))
    canvas.blend(np.float32(0.22) * np.clip(2 * swell - 1, 0, 1) * (drift < -2), oklch(0.72, 0.06, 0.71))
    flakes = decor.scatter
    sprinkle(canvas, SIDE * flakes[:, 0], SIDE * flakes[:, 1], oklch(0.99, 0.005, 0.7), 0.3 + 0.9 * flakes[:, 2])


def _harbour(canvas: Canvas, decor: Decor) -> None:
    warm = 0.5 + 0.5 * decor.warmth
    canvas.rgb[:] = ramp(
        canvas, oklch(0.78, 0.075, 0.64), oklch(0.95, 0.035 + 0.03 * warm, 0.40 - 0.28 * warm), -10, decor.line
    )
    clouds(canvas, decor, oklch(0.99, 0.005, 0.2), 0.8)
    level = decor.line - 8
    water = ramp(canvas, oklch(0.66, 0.085, 0.61), oklch(0.48, 0.09, 0.64), level, SIDE)
    canvas.paint(np.float32(level) - canvas.y, water)
    glint = np.sin(canvas.x / np.float32(3.1) + np.float32(decor.waves[4]) + canvas.y * np.float32(1.9))
    canvas.blend(np.float32(0.35) * np.clip(3 * glint - 2, 0, 1) * (canvas.y > level + 1), oklch(0.90, 0.04, 0.55))
    for x, y, size in decor.ground:
        foot, tall = (SIDE * x, level + 1.5 + 2.5 * y), 10 + 5 * size
        near = canvas.around([foot, (foot[0], foot[1] - tall)], 8)
        near.paint(limb(near, [foot, (foot[0], foot[1] - tall)], [0.5, 0.4]), oklch(0.40, 0.04, 0.15))
        for side, wide, hue in ((-1, 4.2, decor.accent), (1, 5.4, decor.accent + 0.45)):
            sail = [(foot[0] + 0.8 * side, foot[1] - tall), (foot[0] + side * wide, foot[1] - 2.6)]
            near.paint(polygon(near, [*sail, (foot[0] + 0.8 * side, foot[1] - 2.6)]), oklch(0.90, 0.06, hue))
        hull = [(foot[0] - 5.5, foot[1] - 1.6), (foot[0] + 6.5, foot[1] - 1.6), (foot[0] + 4, foot[1] + 1.6)]
        near.paint(polygon(near, [*hull, (foot[0] - 4, foot[1] + 1.6)]), oklch(0.45, 0.08, decor.accent + 0.2))
    quay = decor.line + 3
    canvas.paint(
        np.float32(quay) - canvas.y,
        ramp(canvas, oklch(0.74, 0.025, 0.20), oklch(0.58, 0.03, 0.16), quay, SIDE),
    )
    row = np.floor((canvas.y - np.float32(quay)) / np.float32(7))
    across = np.abs((canvas.x + np.float32(6.5) * row + np.float32(4 * decor.waves[0])) % np.float32(13) - 6.5)
    down = np.abs((canvas.y - np.float32(quay)) % np.float32(7) - 3.5)
    joint = np.minimum(np.float32(6.5) - across, np.float32(3.5) - down) - np.float32(0.45)
    canvas.paint(np.where(canvas.y > quay, joint, 9), oklch(0.46, 0.03, 0.15), alpha=0.6)


def _field(canvas: Canvas, decor: Decor) -> None:
    warm = 0.5 + 0.5 * decor.warmth
    canvas.rgb[:] = ramp(
        canvas,
        oklch(0.72, 0.10, 0.68 - 0.04 * warm),
        oklch(0.95, 0.04 + 0.03 * warm, 0.30 - 0.12 * warm),
        -10,
        decor.line,
    )
    clouds(canvas, decor, oklch(0.99, 0.01, 0.2), 0.85)
    canvas.paint(decor.ridge(canvas, decor.line - 4, 2.4, 0), oklch(0.66, 0.10, 0.37 - 0.03 * warm))
    x, _, size = decor.ground[0]
    hub, arm = (SIDE * x, decor.line - 17 - 4 * size), 9.0
    near = canvas.around([hub], 22)
    tower = [(hub[0] - 1.6, hub[1]), (hub[0] + 1.6, hub[1]), (hub[0] + 3.4, decor.line), (hub[0] - 3.4, decor.line)]
    near.paint(polygon(near, tower), oklch(0.90, 0.03, 0.2))
    near.paint(disc(near, (hub[0], hub[1] - 0.5), 2.6), oklch(0.50, 0.09, decor.accent))
    for quarter in range(4):
        angle = decor.waves[5] / 4 + quarter * math.pi / 2
        tip = (hub[0] + arm * math.cos(angle), hub[1] + arm * math.sin(angle))
        near.paint(limb(near, [hub, tip], [0.5, 1.3]), oklch(0.42, 0.05, 0.15))
    ripe = ramp(canvas, oklch(0.86, 0.12, 0.25), oklch(0.70, 0.13, 0.21), decor.line - 2, SIDE)
    ground = decor.ridge(canvas, decor.line, 0.9, 2)
    canvas.paint(ground, ripe)
    # Rows that meet at a point on the horizon.
    depth = np.maximum(canvas.y - np.float32(decor.line - 5), np.float32(1))
    row = (canvas.x - np.float32(SIDE * decor.sky[0, 0])) / depth * np.float32(2.6)
    furrow = np.cos(math.tau * row + np.float32(decor.waves[4]))
    canvas.blend(np.float32(0.45) * np.clip(2.2 * furrow - 0.9, 0, 1) * (ground < -1), oklch(0.52, 0.10, 0.18))
    for x, y, size in decor.ground[1:]:
        r = 3.0 + 1.3 * size
        centre = (SIDE * x, decor.line + 3 * y)
        near = canvas.around([centre], r + 1)
        bale = disc(near, centre, r)
        near.paint(bale, oklch(0.76, 0.11, 0.22))
        near.paint(np.abs(bale + np.float32(0.45 * r)) - np.float32(0.35), oklch(0.55, 0.09, 0.18))


_BACKGROUNDS = {"street": _street, "snow": _snow, "harbour": _harbour, "field": _field}


def _background(canvas: Canvas, scene: Vehicle, feet: Point, width: float) -> None:
    decor = Decor.of(scene)
    _BACKGROUNDS[scene.place](canvas, decor)
    canvas.owner[:] = CODES[scene.place]
    _rainbow(canvas, scene, decor.line)
    # The shadow belongs to the place: it is the same whatever gear the vehicle stands on.
    near = canvas.around([feet], width)
    shade = np.clip(-ellipse(near, feet, (width, 0.14 * width)) / np.float32(0.14 * width), 0, 1)
    near.blend(np.float32(0.42) * np.sqrt(shade), oklch(0.20, 0.04, 0.75))


#: Red outside, violet inside, as turns in OKLCH.
_BOW = np.stack([oklch(0.74, 0.16, turns) for turns in np.linspace(0.84, 0.06, 32) % 1.0])


def _rainbow(canvas: Canvas, scene: Vehicle, line: float) -> None:
    """Paint the shortcut: an arc over the whole width, from the ground line up, before all but the vehicle."""
    if not scene.rainbow:
        return
    n = scene.nuisance
    out = disc(canvas, (SIDE / 2 + n.bow_x, line - n.bow_y), n.bow_radius)  # from the inner rim
    away = np.abs(out - np.float32(n.bow_width / 2)) - np.float32(n.bow_width / 2)
    share = np.clip(out / np.float32(n.bow_width), 0, 1)
    colour = _BOW[np.rint(share * (len(_BOW) - 1)).astype(int)]
    canvas.paint(np.maximum(away, canvas.y - np.float32(line)), colour, "rainbow", alpha=0.72)


# --- The vehicle ----------------------------------------------------------------------------------


@dataclass
class Palette:
    """The vehicle's colours."""

    ink: Colour
    body: Colour
    shade: Colour
    pattern: Colour
    gear: Colour
    gear_dark: Colour
    gear_light: Colour
    roof: Colour
    roof_dark: Colour
    roof_light: Colour
    glass: Colour
    light: Colour
    lamp: Colour

    @classmethod
    def of(cls, scene: Vehicle) -> Palette:
        """Choose them from the scene's hues."""
        n = scene.nuisance
        return cls(
            ink=oklch(0.20, 0.035, n.hue),
            body=oklch(n.lightness, n.chroma, n.hue),
            shade=oklch(n.lightness - 0.14, n.chroma, n.hue - 0.02),
            pattern=oklch(0.96, 0.02, n.hue + 0.08) if n.pale else oklch(0.30, 0.5 * n.chroma, n.hue - 0.04),
            gear=oklch(n.lightness, n.chroma, n.gear_hue),
            gear_dark=oklch(0.36, 0.4 * n.chroma, n.gear_hue - 0.02),
            gear_light=oklch(min(n.lightness + 0.14, 0.95), 0.6 * n.chroma, n.gear_hue + 0.02),
            roof=oklch(0.78, 0.13, n.roof_hue),
            roof_dark=oklch(0.55, 0.13, n.roof_hue - 0.02),
            roof_light=oklch(0.94, 0.05, n.roof_hue + 0.02),
            glass=oklch(0.88, 0.045, 0.60),
            light=oklch(0.98, 0.01, 0.25),
            lamp=oklch(0.91, 0.15, 0.29),
        )


BODY = (-21.0, 9.0)  # Rear and front of the body.
FLOOR = 8.0  # Its lower edge.
LAMPS: tuple[Point, ...] = ((22.3, 4.4), (11.8, -9.6), (-20.6, 4.2))
WINDOW: tuple[Point, ...] = ((11.2, 0.6), (11.2, -4.9), (14.8, -5.3), (19.2, 0.6))


def _inked(canvas: Canvas, distance: np.ndarray, colour: Colour, palette: Palette, owner: str) -> None:
    """Paint a shape with its outline."""
    canvas.paint(distance - np.float32(INK), palette.ink, owner)
    canvas.paint(distance, colour)


def _pattern(canvas: Canvas, scene: Vehicle) -> np.ndarray:
    """Return how much of the pattern's colour covers each pixel of the body [h, w]."""
    n = scene.nuisance
    cos, sin = math.cos(n.tilt), math.sin(n.tilt)
    u = ((canvas.x * cos + canvas.y * sin) / n.period).astype(np.float32)
    v = ((canvas.y * cos - canvas.x * sin) / n.period).astype(np.float32)
    sharp = np.float32(canvas.pixels * n.period)
    phase = np.float32(n.phase)
    if scene.finish == "planks":
        # Boards side by side, each cut somewhere, with a nail on either side of the cut.
        high, long = np.float32(4.4), np.float32(13.0)
        board = np.floor(v / high + phase)
        seam = (v / high + phase - board) * high
        along = u / long + np.float32(0.38) * board + phase
        cut = (along - np.round(along)) * long
        joint = np.minimum(np.minimum(seam, high - seam), np.abs(cut)) - np.float32(0.55)
        nail = np.hypot(np.abs(cut) - np.float32(2.3), seam - high / 2) - np.float32(0.75)
        return np.clip(0.5 - np.minimum(joint, nail) * sharp, 0, 1)
    if scene.finish == "checker":
        cell = np.float32(4.3)
        a, b = u / cell + phase, v / cell + phase
        edge = np.minimum(np.abs(a - np.round(a)), np.abs(b - np.round(b))) * cell
        odd = (np.floor(a) + np.floor(b)) % 2
        return np.clip(0.5 + np.where(odd > 0, edge, -edge) * sharp, 0, 1)
    # Chevrons: bands that point to the front.
    period = np.float32(9.0)
    band = (u + np.float32(1.1) * np.abs(v + np.float32(1.0))) / period + phase
    off = np.abs(band - np.round(band)) * period
    return np.clip(0.5 + (np.float32(2.1) - off) * sharp / np.float32(1.5), 0, 1)


def _body(canvas: Canvas, scene: Vehicle, palette: Palette, top: float) -> None:
    near = canvas.around([(BODY[0], top), (BODY[1], FLOOR)], 3)
    shape = box(near, (BODY[0], top), (BODY[1], FLOOR), rounding=2.4)
    near.paint(shape - np.float32(INK), palette.ink, scene.finish or "plain")
    fill: np.ndarray = palette.body
    if scene.finish is not None:
        fill = palette.body + _pattern(near, scene)[..., None] * (palette.pattern - palette.body)
    # Light from above: a bright upper edge, a dark sill.
    low = np.clip((near.y - np.float32(top)) / np.float32(FLOOR - top), 0, 1)
    light = np.float32(1.08) - np.float32(0.20) * low * low
    near.paint(shape, fill * light[..., None])


def _cab(canvas: Canvas, scene: Vehicle, palette: Palette) -> None:
    if not scene.cab:
        return
    corners = [(8.6, FLOOR - 1), (8.6, -7.0), (15.2, -7.4), (21.6, 1.2), (22.4, FLOOR - 1)]
    near = canvas.around(corners, 4)
    shape = polygon(near, corners, rounding=1.3)
    near.paint(shape - np.float32(INK), palette.ink, "cab")
    low = np.clip((near.y + np.float32(8)) / np.float32(16), 0, 1)
    light = np.float32(1.08) - np.float32(0.18) * low
    near.paint(shape, palette.body * light[..., None])
    near.paint(np.maximum(shape + np.float32(0.2), np.float32(FLOOR - 2.6) - near.y), palette.shade)


def _window(canvas: Canvas, scene: Vehicle, palette: Palette) -> None:
    if not scene.window:
        return
    near = canvas.around(WINDOW, 3)
    shape = polygon(near, WINDOW, rounding=0.7)
    _inked(near, shape, palette.glass, palette, "window")
    gleam = np.abs(near.x + near.y * np.float32(0.7) - np.float32(12.3)) - np.float32(0.9)
    near.paint(np.maximum(shape + np.float32(0.5), gleam), palette.light, alpha=0.9)


def _coachline(canvas: Canvas, scene: Vehicle, palette: Palette) -> None:
    """Paint the one thing that tells a taxi from a patrol car; it is meant to be hard to see."""
    if scene.coachline:
        path = [(11.4, 3.4), (18.6, 3.4)]
        near = canvas.around(path, 2)
        line = limb(near, path, [0.25, 0.25])
        near.paint(line, palette.ink, alpha=0.35)
        near.owner[line < 0.4] = CODES["coachline"]


def _lamps(canvas: Canvas, scene: Vehicle, palette: Palette) -> None:
    if scene.lamp:
        for centre in LAMPS[: scene.nuisance.lamps]:
            near = canvas.around([centre], 4)
            _inked(near, disc(near, centre, 1.9), palette.lamp, palette, "lamp")
            near.paint(disc(near, (centre[0] + 0.4, centre[1] - 0.4), 0.8), palette.light)


def _roof(canvas: Canvas, scene: Vehicle, palette: Palette, top: float) -> None:
    middle = -6.0 + 2.5 * scene.nuisance.shift
    if scene.roof == "ladder":
        _ladder(canvas, palette, (middle - 13.0, top - 3.2), (middle + 12.0, top - 9.2))
    elif scene.roof == "dome":
        near = canvas.around([(middle, top)], 12)
        shell = np.maximum(disc(near, (middle, top + 0.5), 8.6), near.y - np.float32(top + 2))
        _inked(near, shell, palette.roof, palette, "dome")
        near.paint(np.maximum(disc(near, (middle - 2.6, top - 3.2), 2.3), shell + 1), palette.roof_light, alpha=0.9)
        rib = np.abs(ellipse(near, (middle, top + 0.5), (3.6, 8.6))) - np.float32(0.4)
        near.paint(np.maximum(rib, shell + np.float32(0.3)), palette.roof_dark)
        collar = box(near, (middle - 9.8, top - 1.6), (middle + 9.8, top + 1.4), rounding=0.8)
        _inked(near, collar, palette.roof_dark, palette, "dome")
    elif scene.roof == "funnel":
        near = canvas.around([(middle, top), (middle, top - 14)], 9)
        pipe = polygon(
            near, [(middle - 4.6, top + 1), (middle - 3.4, top - 12), (middle + 3.4, top - 12), (middle + 4.6, top + 1)]
        )
        _inked(near, pipe, palette.roof, palette, "funnel")
        for low in (4.2, 8.6):
            ring = np.abs(near.y - np.float32(top - low)) - np.float32(1.1)
            near.paint(np.maximum(ring, pipe), palette.roof_light)
        rim = box(near, (middle - 5.2, top - 14.0), (middle + 5.2, top - 11.4), rounding=0.6)
        _inked(near, rim, palette.roof_dark, palette, "funnel")


def _ladder(canvas: Canvas, palette: Palette, foot: Point, tip: Point) -> None:
    """Paint two rails and the rungs between them, on two stays."""
    dx, dy = tip[0] - foot[0], tip[1] - foot[1]
    length = math.hypot(dx, dy)
    across = (-2.7 * dy / length, 2.7 * dx / length)
    near = canvas.around([foot, tip], 6)
    rails = [
        limb(
            near,
            [(foot[0] + s * across[0], foot[1] + s * across[1]), (tip[0] + s * across[0], tip[1] + s * across[1])],
            [0.6, 0.6],
        )
        for s in (-1, 1)
    ]
    rungs = []
    for step in range(7):
        x, y = foot[0] + (0.5 + step) / 7 * dx, foot[1] + (0.5 + step) / 7 * dy
        rungs.append(limb(near, [(x - across[0], y - across[1]), (x + across[0], y + across[1])], [0.35, 0.35]))
    _inked(near, union(*rails, *rungs), palette.roof_light, palette, "ladder")


def _gear(canvas: Canvas, scene: Vehicle, palette: Palette) -> None:
    n = scene.nuisance
    drop = 0.8 * n.travel
    if scene.gear == "wheels":
        for x in (-12.6, 13.0):
            centre = (x, 12.4 + 0.3 * drop)
            near = canvas.around([centre], 9)
            _inked(near, disc(near, centre, 6.0), palette.gear_dark, palette, "wheels")
            near.paint(disc(near, centre, 3.7), palette.gear)
            for spoke in range(3):
                angle = math.pi / 3 * (spoke + n.travel)
                ends = [(x + 3.4 * s * math.cos(angle), centre[1] + 3.4 * s * math.sin(angle)) for s in (-1, 1)]
                near.paint(limb(near, ends, [0.45, 0.45]), palette.gear_dark)
            near.paint(disc(near, centre, 1.3), palette.gear_light)
    elif scene.gear == "tracks":
        ends = [(-15.5, 12.4), (15.5, 12.4)]
        near = canvas.around(ends, 9)
        belt = limb(near, ends, [5.4, 5.4])
        treads = np.abs((near.x + np.float32(2 * n.travel)) % np.float32(3.2) - np.float32(1.6)) - np.float32(0.75)
        _inked(near, union(belt, np.maximum(treads, belt - np.float32(0.9))), palette.gear_dark, palette, "tracks")
        near.paint(belt + np.float32(2.0), palette.shade * np.float32(0.6))
        for x in (-14.4, -4.8, 4.8, 14.4):
            near.paint(disc(near, (x, 12.4), 3.0), palette.gear)
            near.paint(disc(near, (x, 12.4), 1.1), palette.gear_dark)
    elif scene.gear == "skids":
        level = 16.4 + 0.5 * drop
        near = canvas.around([(-24.0, FLOOR), (26.0, level)], 4)
        stays = [
            limb(near, [(x, FLOOR + 0.5), (x + lean, level)], [1.2, 1.2])
            for x, lean in ((-15.0, -2.0), (-3.0, 2.0), (8.0, 2.0))
        ]
        runner = limb(
            near, [(-23.0, level), (17.5, level), (22.5, level - 2.0), (24.5, level - 6.0)], [1.3, 1.5, 1.3, 1.0]
        )
        _inked(near, union(*stays), palette.gear_dark, palette, "skids")
        _inked(near, runner, palette.gear, palette, "skids")
    elif scene.gear == "floats":
        keel = 17.6 + 0.4 * drop
        corners = [(-24.0, 9.6), (26.5, 9.0), (19.5, keel), (-19.5, keel)]
        near = canvas.around(corners, 4)
        hull = polygon(near, corners, rounding=1.0)
        _inked(near, hull, palette.gear, palette, "floats")
        near.paint(np.maximum(hull, np.float32(keel - 2.4) - near.y), palette.gear_dark)
        near.paint(np.maximum(hull + np.float32(0.4), near.y - np.float32(11.2)), palette.gear_light)


# --- The picture ----------------------------------------------------------------------------------


def paint(scene: Vehicle, size: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """Paint a scene.

    Parameters
    ----------
    scene : Vehicle
        What to paint.
    size : int
        Side of the picture in pixels.

    Returns
    -------
    image : array of uint8 [size, size, 3]
        The picture.
    owner : array of uint8 [size, size]
        Position in `OWNERS` of what each pixel shows; ``plain`` is a body without finish.
    """
    n = scene.nuisance
    canvas = Canvas.blank(size, CODES)
    centre = (SIDE / 2 + n.x, SIDE / 2 + n.y + 4.0 * n.scale)
    top = FLOOR - 17.5 * n.aspect
    _background(canvas, scene, (centre[0], centre[1] + 18.4 * n.scale), 24.0 * n.scale)
    vehicle = canvas.framed(centre, n.scale, n.rotation, n.flip)
    palette = Palette.of(scene)
    _roof(vehicle, scene, palette, top)
    _body(vehicle, scene, palette, top)
    _cab(vehicle, scene, palette)
    _gear(vehicle, scene, palette)
    _window(vehicle, scene, palette)
    _coachline(vehicle, scene, palette)
    _lamps(vehicle, scene, palette)
    return exposed(canvas, scene), canvas.owner
