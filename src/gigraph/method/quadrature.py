"""The rule on [0, 1] for the path integrals of Eqs. 4, 5 and 7, with an estimate of its true error.

Notation: J nodes alpha_j of the path, Q components (one a source concept), f_j [Q] the integrand there.

Along the path a ReLU network is piecewise linear, so that its gradient jumps: no rule is better than O(1/J) there, and
the midpoint rule has the smallest constant of the simple ones. Where a jump lies between two nodes is unknown: if
anywhere alike over their distance s, a jump of size d gives an error of variance s^2 d^2 / 12. So the size of the error
can be told from the values that the integral is made of, and intervals are refined only where it arises. What rises and
falls again between two nodes, or changes before the first or behind the last alone, no node sees; completeness tells
of it what does not cancel in the sum. A smooth integrand (GELU, softmax, normalisation) is refined in the same way; its
estimate is mostly too large.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

WORTH = 0.5
"""An interval is tripled with the worst one if its share of the error is at least so much of the worst one's."""
NARROWEST = 1e-6
"""Width up to which no interval is tripled: a float32 path has no finer points."""
HIDDEN = 2.0
"""Times the estimate from which what is missed must lie elsewhere."""
FEWEST = 3
"""Nodes of which an error can be told."""
SPREAD = 1.5
"""How much larger the squares of a lone jump become when its neighbours' trend is taken away: (1 + 1/4 + 1/4)."""


def midpoint(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the midpoint rule: nodes (s + 1/2) / S and weights 1 / S, float64 [S] each."""
    return (np.arange(steps) + 0.5) / steps, np.full(steps, 1 / steps)


class Tripling:
    """The midpoint rule whose intervals are tripled where the integrand changes.

    The midpoints of the thirds of an interval are its own midpoint and two more, so that every value is used again.

    Parameters
    ----------
    steps : int
        Equal intervals to begin with.
    values : float array [steps, Q]
        The integrand at their midpoints.
    sums : array [Q, F], optional
        0 or 1: which components each of F sums is of. What is refined, and told the error of, are then the sums.
    """

    def __init__(self, steps: int, values: np.ndarray, sums: np.ndarray | None = None):
        self.nodes, self.widths = midpoint(steps)
        self.values = np.asarray(values, np.float64)
        self.sums = sums

    def value(self) -> np.ndarray:
        """Return the integral, float64 [Q]."""
        return self.widths @ self.values

    def read(self) -> np.ndarray:
        """Return the integral of what is read, the sums or the components, float64 [F]."""
        return self.value() if self.sums is None else self.value() @ self.sums

    def error(self) -> np.ndarray:
        """Return sqrt(sum over gaps s^2 d^2 / 12), float64 [F]: the size of the error if jumps lie anywhere in a gap.

        Before the first node and behind the last nothing is seen: jumps are taken to be as dense and as large there as
        in the two gaps beside. Of fewer than three nodes nothing is known, and the whole value counts as error.
        """
        return np.abs(self.read()) if len(self.nodes) < FEWEST else np.sqrt(self._squares.sum(0))

    @cached_property
    def _squares(self) -> np.ndarray:
        """Return s^2 d^2 / 12 before the first node, of each gap between neighbours, and behind the last [J + 1, F].

        d is what a gap's difference exceeds the neighbouring gaps' trend by, since the midpoint rule misses nothing of
        a linear integrand. A lone jump is then seen three times, as 1, -1/2 and -1/2: hence `SPREAD`. A jump at a
        distance u from an end of the path gives an error of d u, whose square is in the mean that of a gap of twice
        the length of what lies before the first node.
        """
        gap = np.diff(self.nodes)[:, None]
        jumps = np.diff(self.values if self.sums is None else self.values @ self.sums, axis=0)
        if len(jumps) >= 3:
            steep, around = jumps / gap, gap[:-2] + gap[2:]
            jumps[1:-1] -= gap[1:-1] * (jumps[:-2] + jumps[2:]) / around
            jumps[0] -= gap[0] * steep[1]
            jumps[-1] -= gap[-1] * steep[-2]
            jumps /= SPREAD**0.5
        squares = np.empty((len(jumps) + 2, jumps.shape[1]))
        np.square(gap * jumps, out=squares[1:-1])
        for end, half, beside in ((0, self.widths[0] / 2, slice(2)), (-1, self.widths[-1] / 2, slice(-2, None))):
            dense = np.square(jumps[beside]).sum(0) / gap[beside].sum()
            squares[end] = (2 * half) ** 2 * half * dense
        return squares / 12

    def wanted(self, most: int, missed: float = 0.0) -> np.ndarray:
        """Return the new midpoints of the intervals to triple [n]: the worst and those nearly as bad.

        An interval answers for half the error of the gap on either side, at an end for all of it. Where more is missed
        than the estimate knows of, jumps hide between nodes that agree: then the widest intervals are tripled.

        Parameters
        ----------
        most : int
            Nodes in all, at most.
        missed : float
            What the sum of all components is known to err by.
        """
        due = self._due(most, missed)
        return (self.nodes[due, None] + self.widths[due, None] * np.array([-1, 1]) / 3).ravel()

    def _due(self, most: int, missed: float) -> np.ndarray:
        room = max(0, most - len(self.nodes)) // 2
        if len(self.nodes) < FEWEST:
            return np.arange(len(self.nodes) if room >= len(self.nodes) else 0)
        own = (self._squares[:-1] + self._squares[1:]) / 2
        own[[0, -1]] += self._squares[[0, -1]] / 2
        share = np.sqrt(own).sum(1) * (self.widths > NARROWEST)
        if missed > HIDDEN * self.error().sum() or not share.any():
            share = self.widths * (missed > 0)
        worst = np.argsort(-share, kind="stable")[:room]
        return np.sort(worst[share[worst] >= max(WORTH * share.max(initial=0), 1e-300)])

    def refine(self, nodes: np.ndarray, values: np.ndarray) -> None:
        """Take in the integrand [n, Q] at the `wanted` nodes [n]."""
        self.__dict__.pop("_squares", None)
        due = np.searchsorted(self.nodes, nodes[::2])  # each pair lies around the midpoint that it was made from
        self.widths[due] /= 3
        every = np.concatenate([self.nodes, nodes])
        order = np.argsort(every, kind="stable")
        self.nodes = every[order]
        self.widths = np.concatenate([self.widths, np.repeat(self.widths[due], 2)])[order]
        self.values = np.concatenate([self.values, np.asarray(values, np.float64)])[order]
