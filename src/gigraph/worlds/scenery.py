"""What the pictures of all worlds have in common: the random numbers of a background, clouds and stars, the camera.

A scene's ``nuisance`` offers ``horizon`` (height of the ground line as a share of the picture), ``warmth`` (tint of the
light, from -1 to 1), ``accent_hue`` (turns), ``gain`` (exposure) and ``noise`` (standard deviation of the sensor's).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from gigraph.worlds.canvas import SIDE, Canvas, Colour, disc, union


@dataclass
class Decor:
    """The random numbers of a background: every place uses the same ones in its own way."""

    line: float  # Height of the ground, in points.
    warmth: float
    accent: float
    waves: np.ndarray  # [6]
    sky: np.ndarray  # [3, 3]: x, y, size of things in the sky
    ground: np.ndarray  # [3, 3]: x, y, size of things that stand on the ground
    scatter: np.ndarray  # [48, 3]: small things everywhere

    @classmethod
    def of(cls, scene: Any) -> Decor:
        """Collect them."""
        sky = scene.uniform("sky", 9).reshape(3, 3)
        # One slot for each third of the width, in any order of depth: things seldom pile up.
        sky[:, 0] = (np.arange(3) + 0.15 + 0.7 * sky[:, 0]) / 3
        ground = scene.uniform("ground", 9).reshape(3, 3)
        ground[:, 0] = (np.arange(3) + 0.1 + 0.8 * ground[:, 0]) / 3
        return cls(
            line=SIDE * scene.nuisance.horizon,
            warmth=scene.nuisance.warmth,
            accent=scene.nuisance.accent_hue,
            waves=math.tau * scene.uniform("waves", 6),
            sky=sky,
            ground=ground,
            scatter=scene.uniform("scatter", 144).reshape(48, 3),
        )

    def ridge(self, canvas: Canvas, height: float, swing: float, first: int) -> np.ndarray:
        """Return the height above a wavy ridge line, negative below it."""
        x = canvas.x[:1]
        phase, other = self.waves[first], self.waves[first + 1]
        wave = np.sin(x / np.float32(15) + np.float32(phase)) + 0.6 * np.sin(x / np.float32(7.3) + np.float32(other))
        return np.float32(height) + np.float32(swing) * wave - canvas.y


def sprinkle(canvas: Canvas, x: np.ndarray, y: np.ndarray, colour: Colour, amount: np.ndarray) -> None:
    """Add points of light, spread over the four pixels that each one touches."""
    height, width = canvas.owner.shape
    column, row = x * canvas.pixels - 0.5, y * canvas.pixels - 0.5
    left, top = np.floor(column).astype(int), np.floor(row).astype(int)
    across, down = column - left, row - top
    light = np.zeros((height, width), np.float32)
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = (across if dx else 1 - across) * (down if dy else 1 - down)
        at = np.clip(top + dy, 0, height - 1), np.clip(left + dx, 0, width - 1)
        np.add.at(light, at, (amount * share).astype(np.float32))
    canvas.blend(np.minimum(light, 1), colour)


def clouds(canvas: Canvas, decor: Decor, colour: Colour, alpha: float) -> None:
    """Paint three clouds."""
    for x, y, size in decor.sky:
        cx, cy, r = SIDE * x, 0.55 * decor.line * y + 5, 2.6 + 2.4 * size
        near = canvas.around([(cx, cy)], 3.4 * r)
        puffs = union(
            disc(near, (cx - 1.5 * r, cy), 0.8 * r),
            disc(near, (cx, cy - 0.5 * r), 1.15 * r),
            disc(near, (cx + 1.5 * r, cy - 0.1 * r), 0.9 * r),
            soft=1.5,
        )
        near.paint(np.maximum(puffs, near.y - np.float32(cy + 0.35 * r)), colour, alpha=alpha)


def exposed(canvas: Canvas, scene: Any) -> np.ndarray:
    """Return the picture that the camera takes, uint8 [size, size, 3]: with its exposure and its noise."""
    size = len(canvas.owner)
    # Four 16-bit uniforms from each word: one a channel, made triangular by adding the fourth.
    words = scene.words("noise", size * size)
    shifts = np.array([0, 16, 32, 48], np.uint64)
    parts = ((words[:, None] >> shifts) & np.uint64(0xFFFF)).astype(np.float32) / np.float32(65535)
    spread = np.float32(scene.nuisance.noise * math.sqrt(6.0))
    grain = (parts[:, :3] + parts[:, 3:] - 1).reshape(size, size, 3) * spread
    rgb = canvas.rgb * np.float32(scene.nuisance.gain) + grain
    return np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8)
