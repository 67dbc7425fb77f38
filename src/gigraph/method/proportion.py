"""How sure a share is: intervals of a proportion, and of the difference that two looks at the same cases make."""

from __future__ import annotations

import math

Z = 1.959963984540054
"""Normal quantile of two-sided 95%."""


def wilson(successes: int, n: int, z: float = Z) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion (Wilson, JASA 1927); (0, 1) of no case."""
    if n == 0:
        return 0.0, 1.0
    share, more = successes / n, z * z / n
    half = z * math.sqrt(share * (1 - share) / n + more / (4 * n))
    # At 0 and 1 the interval ends there; rounding must not say otherwise.
    low = 0.0 if successes == 0 else (share + more / 2 - half) / (1 + more)
    high = 1.0 if successes == n else (share + more / 2 + half) / (1 + more)
    return low, high


def paired(gained: int, lost: int, n: int, z: float = Z) -> tuple[float, float]:
    """Return an interval of the difference of two proportions of the same n cases, second minus first.

    The adjusted Wald interval, with half a case added to each of the four cells, which stays honest where few or none
    change (Agresti and Min, "Simple improved confidence intervals for comparing matched proportions", Statistics in
    Medicine 2005).

    Parameters
    ----------
    gained, lost : int
        Cases that succeed only in the second look, only in the first.
    n : int
        All cases; (-1, 1) of none.
    z : float
        Normal quantile.
    """
    if n == 0:
        return -1.0, 1.0
    many = n + 2
    difference = (gained - lost) / many
    spread = math.sqrt((gained + lost + 1) / many - difference**2) / math.sqrt(many)
    return max(-1.0, difference - z * spread), min(1.0, difference + z * spread)
