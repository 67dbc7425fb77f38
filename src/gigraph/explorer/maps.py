"""Maps of where a concept is in an image, as text that the page shades the picture with."""

from __future__ import annotations

import numpy as np

from gigraph.images.tiles import grid_of

DIGITS = np.frombuffer(b"0123456789abcdefghijklmnopqrstuvwxyz", np.uint8)
"""A map's levels: none to as much as anywhere in the image."""


def encode_map(coefficients: np.ndarray, height: int, width: int) -> str:
    """Return where a concept is as rows of base-36 digits, relative to its largest coefficient.

    Parameters
    ----------
    coefficients : array [P]
        Of one concept at all positions of one image; negative ones count as absent.
    height, width : int
        Of the layer.
    """
    grid = np.maximum(grid_of(np.asarray(coefficients, np.float64), height, width), 0)
    level = np.rint((len(DIGITS) - 1) * grid / max(grid.max(initial=0), 1e-12)).astype(int)
    text = np.full((level.shape[0], level.shape[1] + 1), ord("/"), np.uint8)
    text[:, :-1] = DIGITS[level]
    return text.tobytes()[:-1].decode()
