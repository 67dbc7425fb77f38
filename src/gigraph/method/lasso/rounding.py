"""Bounds on what float32 products may be off by."""

from __future__ import annotations

import numpy as np

FLOAT32_UNIT = 2.0**-24
"""Largest relative error of rounding to float32."""


def longest(v: np.ndarray) -> float:
    """Return the largest length of the rows of v [K, C], 0 for none."""
    return float(np.sqrt(np.einsum("kc,kc->k", v, v, dtype=np.float64).max(initial=0.0)))


def dot_error(channels: int) -> float:
    """Bound the error of a float32 dot product in any order, over |a| |b| (Higham 2002, Sec. 3.1)."""
    return 1.01 * (channels + 2) * FLOAT32_UNIT
