"""Maps of where a concept is in an image, as text that the page shades the picture with."""

from __future__ import annotations

import numpy as np

DIGITS = np.frombuffer(b"0123456789abcdefghijklmnopqrstuvwxyz", np.uint8)
"""A map's levels: none to as much as anywhere in the image."""


def encode_map(coefficients: np.ndarray, height: int, width: int, first: int = 0) -> str:
    """Return where a concept is as rows of base-36 digits, relative to its largest coefficient.

    Positions that are no places in the image (a class token, registers) follow as a row of their own, behind a ``|``.

    Parameters
    ----------
    coefficients : array [P]
        Of one concept at all positions of one image; negative ones count as absent.
    height, width, first : int
        Of the layer's grid (`gigraph.records.schemas`, ``layers``).
    """
    there = np.maximum(np.asarray(coefficients, np.float64), 0)
    level = np.rint((len(DIGITS) - 1) * there / max(there.max(initial=0), 1e-12)).astype(int)
    grid = slice(first, first + height * width)
    text = np.full((height, width + 1), ord("/"), np.uint8)
    text[:, :-1] = DIGITS[level[grid]].reshape(height, width)
    others = DIGITS[np.delete(level, grid)].tobytes()
    return (text.tobytes()[:-1] + (b"|" + others if others else b"")).decode()


def decode_map(text: str) -> np.ndarray:
    """Return the levels [H, W] of a map's positions in the image, 0 to 1."""
    rows = text.split("|")[0].encode().split(b"/")
    level = np.frombuffer(b"".join(rows), np.uint8)
    return np.searchsorted(DIGITS, level).reshape(len(rows), -1) / (len(DIGITS) - 1)
