"""Where an origin lies in the data whose vectors are measured from it.

From an origin far outside, all vectors point the same way: concepts become each other's twins, and every attribution is
measured from an input that the network never sees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BLOCK = 4096
"""Vectors that are looked at at once, in double precision."""
TWIN = 0.9
"""Cosine above which two concepts are hardly two."""


@dataclass(frozen=True)
class Place:
    """Where an origin beta lies.

    Attributes
    ----------
    distance : float
        |beta - mean| over the vectors' root mean square distance from their mean; 0 at the mean, infinite where all
        vectors are the same and beta is another.
    mean_cosine : float
        Mean cosine of two vectors, each less beta, over all pairs: 1 where all point the same way.
    """

    distance: float
    mean_cosine: float

    @property
    def within(self) -> bool:
        """Whether the origin is no farther from the mean than vectors are."""
        return self.distance <= 1


def place(x: np.ndarray, beta: np.ndarray) -> Place:
    """Return where an origin lies.

    Parameters
    ----------
    x : array [N, C]
        Vectors, N >= 1.
    beta : array [C]
        The origin.
    """
    n = len(x)
    mean = np.asarray(np.mean(x, 0, dtype=np.float64))
    away = float(np.linalg.norm(beta - mean))
    squares, units, alone = 0.0, np.zeros(len(mean)), 0
    for first in range(0, n, BLOCK):
        wide = x[first : first + BLOCK].astype(np.float64)
        squares += float(((wide - mean) ** 2).sum())
        rest = wide - beta
        length = np.linalg.norm(rest, axis=1, keepdims=True)
        units += np.divide(rest, length, out=np.zeros_like(rest), where=length > 0).sum(0)
        alone += int(np.count_nonzero(length))
    spread = float(np.sqrt(squares / n))
    # Over pairs of two different ones: the sum's square holds each with itself as well.
    pairs = (float((units**2).sum()) - alone) / max(1, n * (n - 1))
    return Place(away / spread if spread else (0.0 if away == 0 else float("inf")), pairs)


def twins(vectors: np.ndarray, cosine: float = TWIN) -> int:
    """Return how many of the vectors [K, C] have another one within a cosine."""
    v = np.asarray(vectors, np.float32)
    length = np.linalg.norm(v, axis=1, keepdims=True)
    unit = np.divide(v, length, out=np.zeros_like(v), where=length > 0)
    count, rows = 0, max(1, 2**24 // max(1, len(unit)))
    for first in range(0, len(unit), rows):
        products = unit[first : first + rows] @ unit.T
        products[np.arange(len(products)), np.arange(first, first + len(products))] = -1
        count += int((products > cosine).any(1).sum())
    return count


def choose(x: np.ndarray, beta: np.ndarray | None, center: str) -> tuple[str, np.ndarray]:
    """Return which origin a layer's vectors are measured from, and the origin itself, float32 [C].

    Parameters
    ----------
    x : array [N, C]
        Vectors.
    beta : array [C] or None
        The batch norms' net shift (Eq. 8), where there is one.
    center : str
        ``batchnorm``, ``mean``, ``zero``, or ``auto``: Eq. 8 where it is no farther from the mean than vectors are. The
        mean takes the place of a shift that there is not.
    """
    if center == "auto":
        center = "batchnorm" if beta is not None and place(x, beta).within else "mean"
    if center == "batchnorm" and beta is not None:
        return center, np.asarray(beta, np.float32)
    if center == "zero":
        return center, np.zeros(x.shape[1], np.float32)
    return "mean", np.asarray(np.mean(x, 0, dtype=np.float64), np.float32)
