"""Drawing by signed distances: every shape is a distance field, anti-aliased over one pixel.

Lengths are in points, 1/96 of the picture's side, and colours are OKLCH, so that any hue is equally bright and vivid.
Shapes are painted from back to front; the last one to cover a pixel owns it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

SIDE = 96
"""Points of a picture's side, and pixels of one of the usual size."""

Colour = np.ndarray
Point = tuple[float, float]


def oklch(lightness: float, chroma: float, turns: float) -> Colour:
    """Return the sRGB colour [3], in [0, 1], of an OKLCH one (B. Ottosson, 2020)."""
    a, b = chroma * math.cos(math.tau * turns), chroma * math.sin(math.tau * turns)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )
    encoded = [12.92 * c if c <= 0.0031308 else 1.055 * c ** (1 / 2.4) - 0.055 for c in linear]
    return np.clip(np.array(encoded, np.float32), 0.0, 1.0)


@dataclass
class Canvas:
    """A window of the picture with coordinates in some frame.

    Attributes
    ----------
    rgb : array of float32 [h, w, 3]
        Colours; a view of the whole picture's.
    owner : array of uint8 [h, w]
        Who owns each pixel; a view too.
    x, y : array of float32 [h, w]
        The frame's coordinates of the pixels' centres.
    pixels : float
        Pixels per unit of the frame.
    affine : tuple of six floats
        (a, b, c, d, e, f): column = a x + b y + c and row = d x + e y + f, from the top left of this window.
    codes : mapping of str to int
        What stands for each owner.
    """

    rgb: np.ndarray
    owner: np.ndarray
    x: np.ndarray
    y: np.ndarray
    pixels: float
    affine: tuple[float, float, float, float, float, float]
    codes: Mapping[str, int]

    @classmethod
    def blank(cls, size: int, codes: Mapping[str, int]) -> Canvas:
        """Return an empty picture of `size` x `size` pixels, its frame in points."""
        pixels = size / SIDE
        centres = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(pixels)
        x, y = np.meshgrid(centres, centres)
        rgb = np.zeros((size, size, 3), np.float32)
        owner = np.zeros((size, size), np.uint8)
        return cls(rgb, owner, x, y, pixels, (pixels, 0.0, 0.0, 0.0, pixels, 0.0), codes)

    def framed(self, centre: Point, scale: float, rotation: float, flip: bool) -> Canvas:
        """Return the same pixels in a frame of its own origin, scale and direction."""
        cos, sin, side = math.cos(rotation), math.sin(rotation), -1.0 if flip else 1.0
        x, y = (self.x - np.float32(centre[0])) * np.float32(side), self.y - np.float32(centre[1])
        u, v = (x * cos + y * sin) / scale, (y * cos - x * sin) / scale
        pixels = self.pixels * scale
        affine = (
            side * cos * pixels,
            -side * sin * pixels,
            centre[0] * self.pixels,
            sin * pixels,
            cos * pixels,
            centre[1] * self.pixels,
        )
        return Canvas(self.rgb, self.owner, u.astype(np.float32), v.astype(np.float32), pixels, affine, self.codes)

    def around(self, points: Sequence[Point], reach: float) -> Canvas:
        """Return the window around all within `reach` of the points, so that small things cost little."""
        a, b, c, d, e, f = self.affine
        columns = [a * x + b * y + c for x, y in points]
        rows = [d * x + e * y + f for x, y in points]
        margin = reach * self.pixels + 1.5
        height, width = self.owner.shape
        top, bottom = (min(max(round(r), 0), height) for r in (min(rows) - margin, max(rows) + margin))
        left, right = (min(max(round(r), 0), width) for r in (min(columns) - margin, max(columns) + margin))
        at = (slice(top, bottom), slice(left, right))
        moved = (a, b, c - left, d, e, f - top)
        return Canvas(self.rgb[at], self.owner[at], self.x[at], self.y[at], self.pixels, moved, self.codes)

    def paint(self, distance: np.ndarray, colour: Colour, owner: str | None = None, alpha: float = 1.0) -> None:
        """Fill where `distance` [h, w] is negative with a colour [3] or [h, w, 3]."""
        cover = np.clip(0.5 - distance * np.float32(self.pixels), 0.0, np.float32(1.0))
        if alpha != 1.0:
            cover *= np.float32(alpha)
        self.blend(cover, colour)
        if owner is not None:
            self.owner[distance < 0] = self.codes[owner]

    def blend(self, cover: np.ndarray, colour: Colour) -> None:
        """Mix a colour in by `cover` [h, w]."""
        # In this form a full cover leaves not even a rounding error of what it hides: edits stay local.
        cover = cover[..., None]
        self.rgb *= 1 - cover
        self.rgb += cover * colour

    def glow(self, amount: np.ndarray, colour: Colour) -> None:
        """Add light of a colour [3] by `amount` [h, w]."""
        self.rgb += amount[..., None] * colour


# --- Distance fields: negative inside, in units of the frame --------------------------------------


def disc(canvas: Canvas, centre: Point, radius: float) -> np.ndarray:
    """Return the signed distance to a disc."""
    return np.hypot(canvas.x - np.float32(centre[0]), canvas.y - np.float32(centre[1])) - np.float32(radius)


def ellipse(canvas: Canvas, centre: Point, radii: Point) -> np.ndarray:
    """Return the distance to an ellipse to first order (good within an outline's width of its edge)."""
    x, y = canvas.x - np.float32(centre[0]), canvas.y - np.float32(centre[1])
    rx, ry = np.float32(radii[0]), np.float32(radii[1])
    inner = np.hypot(x / rx, y / ry)
    slope = np.hypot(x / (rx * rx), y / (ry * ry))
    return inner * (inner - 1) / np.maximum(slope, np.float32(1e-4))


def box(canvas: Canvas, low: Point, high: Point, rounding: float = 0.0) -> np.ndarray:
    """Return the signed distance to an upright box between two corners, whose own corners are rounded."""
    half = (high[0] - low[0]) / 2 - rounding, (high[1] - low[1]) / 2 - rounding
    x = np.abs(canvas.x - np.float32((low[0] + high[0]) / 2)) - np.float32(half[0])
    y = np.abs(canvas.y - np.float32((low[1] + high[1]) / 2)) - np.float32(half[1])
    outside = np.hypot(np.maximum(x, 0), np.maximum(y, 0))
    return outside + np.minimum(np.maximum(x, y), 0) - np.float32(rounding)


def limb(canvas: Canvas, points: Sequence[Point], radii: Sequence[float]) -> np.ndarray:
    """Return the distance to a chain of tapered segments through `points`, with a radius at each."""
    nearest: np.ndarray | None = None
    for (ax, ay), (bx, by), ra, rb in zip(points[:-1], points[1:], radii[:-1], radii[1:], strict=True):
        x, y, dx, dy = canvas.x - np.float32(ax), canvas.y - np.float32(ay), bx - ax, by - ay
        along = np.clip((x * np.float32(dx) + y * np.float32(dy)) * np.float32(1 / (dx * dx + dy * dy)), 0, 1)
        away = np.hypot(x - along * np.float32(dx), y - along * np.float32(dy))
        away -= np.float32(ra) + along * np.float32(rb - ra)
        nearest = away if nearest is None else np.minimum(nearest, away)
    assert nearest is not None
    return nearest


def polygon(canvas: Canvas, corners: Sequence[Point], rounding: float = 0.0) -> np.ndarray:
    """Return the exact signed distance to a polygon, grown and rounded by `rounding`."""
    edge = np.asarray(corners, np.float32)
    step = np.roll(edge, -1, 0) - edge
    x = canvas.x - edge[:, 0, None, None]
    y = canvas.y - edge[:, 1, None, None]
    dx, dy = step[:, 0, None, None], step[:, 1, None, None]
    along = np.clip((x * dx + y * dy) / (dx * dx + dy * dy), 0, 1)
    away = np.hypot(x - along * dx, y - along * dy).min(0)
    # Even-odd rule: an edge is crossed if it straddles the pixel's height and lies to the right of it.
    straddles = (y >= 0) != (y >= dy)
    right = (x * dy < y * dx) == (dy > 0)
    inside = np.bitwise_xor.reduce(straddles & right, axis=0)
    return np.where(inside, -away, away) - np.float32(rounding)


def union(*distances: np.ndarray, soft: float = 0.0) -> np.ndarray:
    """Return the distance to a union of shapes, whose inner corners are filled in over a width of `soft`."""
    merged = distances[0]
    for other in distances[1:]:
        if soft:
            blend = np.maximum(soft - np.abs(merged - other), 0) / np.float32(soft)
            merged = np.minimum(merged, other) - blend * blend * np.float32(soft / 4)
        else:
            merged = np.minimum(merged, other)
    return merged


def bend(start: Point, control: Point, end: Point, pieces: int) -> list[Point]:
    """Return points along a quadratic Bezier curve."""
    found = []
    for i in range(pieces + 1):
        t = i / pieces
        a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t * t
        found.append((a * start[0] + b * control[0] + c * end[0], a * start[1] + b * control[1] + c * end[1]))
    return found


def taper(first: float, last: float, count: int) -> list[float]:
    """Return `count` radii from `first` to `last`."""
    return [first + (last - first) * i / (count - 1) for i in range(count)]


# --- Surfaces --------------------------------------------------------------------------------------


def ramp(canvas: Canvas, top: Colour, bottom: Colour, start: float, stop: float) -> np.ndarray:
    """Return a vertical gradient [h, 1, 3]: a smooth step from `top` to `bottom`."""
    t = np.clip((canvas.y[:, :1] - np.float32(start)) / np.float32(stop - start), 0, 1)
    t = t * t * (3 - 2 * t)
    return top + t[..., None] * (bottom - top)
