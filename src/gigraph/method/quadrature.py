"""Nodes and weights on [0, 1] for the path integrals of Eqs. 4, 5 and 7."""

from __future__ import annotations

import numpy as np


def midpoint(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the midpoint rule: nodes (s + 1/2) / S and weights 1 / S, float64 [S] each.

    Along the path a ReLU network is piecewise linear, so that its gradient jumps: no rule is better than O(1/S)
    there, and this one has the smallest constant of the simple ones.
    """
    return (np.arange(steps) + 0.5) / steps, np.full(steps, 1 / steps)


def tripled(steps: int) -> np.ndarray:
    """Return the 2 S nodes that the midpoint rule of 3 S steps adds to that of S steps, float64.

    The midpoints of a third of an interval each are its own midpoint and two more: so no gradient is wasted when
    an integral is refined, as the rule of 3 S steps is a third of the old value and the mean over the new nodes.
    """
    return midpoint(3 * steps)[0].reshape(steps, 3)[:, [0, 2]].ravel()


def gauss_legendre(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the Gauss-Legendre rule on [0, 1]: nodes and weights, float64 [S] each.

    Exact for polynomials of degree 2 S - 1: the rule for smooth integrands (GELU, softmax, normalisation), of no
    use across the kinks of a ReLU.
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return (nodes + 1) / 2, weights / 2
