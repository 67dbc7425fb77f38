"""Which concept of one run is which of another: by how they respond to the same images, each at most once.

Notation: N images that both runs look at, P positions of a layer's map, K concepts of the one run and L of the other,
r_ik the responses of concept k over all positions of image i; S_kl the correlation of two concepts' responses over all
images and positions.

*Chance.* The null: the images of one side are permuted, each map as it is and none in its place, so that what always
lies at the same place, or is everywhere, still agrees, and nothing else does. M_k, the best correlation of concept k
with any of the other run, has a mean and a deviation over permutations; the largest of (M_k - mean) / deviation over
all concepts of a layer has a 95% quantile z, and the level of concept k is mean + z deviation (the single-step maxT
procedure of Westfall and Young, "Resampling-based multiple testing", 1993): were all concepts unrelated, any of a
layer would pass its level in 5% of comparisons. A pair must be above both of its levels. The assignment is the one of
the largest sum of correlations above chance (Kuhn, "The Hungarian method for the assignment problem", Naval Research
Logistics Quarterly 1955).

*Splitting.* A dictionary may cut in two what another has as one ("feature splitting", Bricken et al., "Towards
monosemanticity", 2023): then one half has a partner and the other none, and yet is not new. A concept k without a
partner is split from l of the other run if it is above chance like l, and more so than it is like the concept of its
own run that is l's partner. (What merely goes along with that partner is as like it as like l.) What has no partner and
is not split only one run has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gigraph.method.vectors import unit

PERMUTATIONS, FEWEST = 99, 19
"""Orders of the images that chance is estimated from, and where there are too many products for these: with 19 the
quantile is the largest."""
PRODUCTS = 1e11
"""Multiplications that all orders together may take, some seconds, if that leaves the fewest."""
QUANTILE = 0.95
"""Of the largest excess of a layer's unrelated concepts."""
EQUAL = 1e-6
"""Correlations nearer than this are equal, and equal positions are then preferred: rounding does not part twins."""


@dataclass(frozen=True)
class Matching:
    """Concepts of two runs that belong together.

    Attributes
    ----------
    one, two : int64 array [M]
        Positions of the matched concepts among the K and the L, ascending in `one`.
    similarity, chance : float64 arrays [M]
        Their correlations, and the levels that these are above.
    best_of_one, best_of_two : float64 arrays [K], [L]
        Largest correlation of each concept with any of the other run; NaN where it responds alike everywhere.
    level_of_one, level_of_two : float64 arrays [K], [L]
        Each concept's chance.
    split_of_one, split_of_two : int64 arrays [K], [L]
        Which concept of the other run one without a partner is split from, the nearest; -1 where it is not.
    """

    one: np.ndarray
    two: np.ndarray
    similarity: np.ndarray
    chance: np.ndarray
    best_of_one: np.ndarray
    best_of_two: np.ndarray
    level_of_one: np.ndarray
    level_of_two: np.ndarray
    split_of_one: np.ndarray
    split_of_two: np.ndarray

    @property
    def only_one(self) -> np.ndarray:
        """Concepts that only the one run has, ascending, int64."""
        return np.setdiff1d(np.flatnonzero(self.split_of_one < 0), self.one)

    @property
    def only_two(self) -> np.ndarray:
        """Concepts that only the other run has, ascending, int64."""
        return np.setdiff1d(np.flatnonzero(self.split_of_two < 0), self.two)


def match(one: np.ndarray, two: np.ndarray, seed: int = 0) -> Matching:
    """Match the concepts of two runs by their responses.

    Parameters
    ----------
    one, two : float arrays [N, P, K], [N, P, L]
        Responses to the same N images at the same P positions.
    seed : int
        Of the permutations.

    Raises
    ------
    ValueError
        If the images or positions differ, or there are fewer than two images.
    """
    if one.shape[:2] != two.shape[:2] or len(one) < 2:
        raise ValueError(f"responses {one.shape} and {two.shape} are not of the same two images or more")
    left, right = standardised(one), standardised(two)
    found = _flat(left).T @ _flat(right)
    levels = _chance(left, right, seed)
    # Constant responses have no correlation.
    found[~_flat(left).any(0)] = np.nan
    found[:, ~_flat(right).any(0)] = np.nan
    least = np.maximum(levels[0][:, None], levels[1][None])
    first, second = assign(found, least)
    at = first, second
    splits = (
        split(found, least, partner, own)
        for found, least, partner, own in (
            (found, least, (first, second), _flat(left)), (found.T, least.T, (second, first), _flat(right)),
        )
    )  # fmt: skip
    return Matching(first, second, found[at], least[at], _largest(found, 1), _largest(found, 0), *levels, *splits)


def split(
    similarity: np.ndarray, least: np.ndarray, partners: tuple[np.ndarray, np.ndarray], own: np.ndarray
) -> np.ndarray:
    """Return which concept of the other run each of one without a partner is split from, -1 where none: int64 [K].

    Parameters
    ----------
    similarity, least : float arrays [K, L]
        Correlations, and the levels of chance.
    partners : two int64 arrays [M]
        The pairs.
    own : float array [n, K]
        The run's responses, `standardised`.
    """
    first, second = partners
    rest = np.setdiff1d(np.arange(len(similarity)), first)
    alone = own[:, rest].T @ own[:, first]
    there = similarity[np.ix_(rest, second)]
    near = (there > least[np.ix_(rest, second)]) & (there > alone + EQUAL)
    found = np.full(len(similarity), -1, np.int64)
    if len(first) and len(rest):
        best = np.where(near, there, -np.inf).argmax(1)
        found[rest] = np.where(near.any(1), second[best], -1)
    return found


def assign(similarity: np.ndarray, least: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Return the assignment of the largest sum of similarities above `least`; int64 arrays [M] of rows and columns.

    What lies at `least` or below it, or is NaN, is never matched, and takes nothing from what is.

    Parameters
    ----------
    similarity : float array [K, L]
    least : float or float array [K, L]
    """
    from scipy.optimize import linear_sum_assignment

    gain = np.nan_to_num(similarity - least, nan=0.0).clip(min=0)
    # A bonus that is small enough to decide between equals only.
    shorter = min(gain.shape)
    bonus = np.zeros_like(gain)
    bonus[np.arange(shorter), np.arange(shorter)] = EQUAL
    rows, columns = linear_sum_assignment(np.where(gain > 0, gain + bonus, 0), maximize=True)
    passed = gain[rows, columns] > 0
    return rows[passed].astype(np.int64), columns[passed].astype(np.int64)


def standardised(responses: np.ndarray) -> np.ndarray:
    """Return responses [N, P, K] less their means, at length 1 over all images and positions; constant ones are 0."""
    flat = _flat(np.asarray(responses, dtype=np.float64))
    centred = flat - flat.mean(0)
    # What is left of a constant is rounding.
    centred[:, np.ptp(flat, axis=0) <= 1e-12 * np.abs(flat).max(0, initial=0)] = 0
    return unit(centred.T).T.reshape(responses.shape)


def _chance(left: np.ndarray, right: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the chance of each concept [K] and [L], over permutations of the images of one side."""
    generator = np.random.Generator(np.random.Philox(seed))
    narrow, wide = _flat(left).astype(np.float32).T, right.astype(np.float32)
    permutations = int(np.clip(PRODUCTS / max(1, narrow.size * wide.shape[-1]), FEWEST, PERMUTATIONS))
    best: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for _ in range(permutations):
        found = narrow @ _flat(wide[_moved(generator, len(wide))])
        for side, axis in zip(best, (1, 0), strict=True):
            side.append(found.max(axis, initial=-1))
    one, two = (level(np.array(side, dtype=np.float64)) for side in best)
    return one, two


def level(best: np.ndarray) -> np.ndarray:
    """Return the level of each of K concepts from their best correlations under R permutations [R, K]."""
    mean, deviation = best.mean(0), best.std(0, ddof=1)
    excess = np.divide(best - mean, deviation, out=np.zeros_like(best), where=deviation > 0)
    return mean + np.quantile(excess.max(1, initial=0), QUANTILE, method="higher") * deviation


def _moved(generator: np.random.Generator, n: int) -> np.ndarray:
    """Return a random order of n images that leaves none in its place: a cyclic one (Sattolo 1986)."""
    order = np.arange(n)
    for i in range(n - 1, 0, -1):
        j = int(generator.integers(i))
        order[[i, j]] = order[[j, i]]
    return order


def _largest(found: np.ndarray, axis: int) -> np.ndarray:
    filled = np.where(np.isnan(found), -np.inf, found)
    best = filled.max(axis, initial=-np.inf)
    return np.where(np.isinf(best), np.nan, best)


def _flat(array: np.ndarray) -> np.ndarray:
    return array.reshape(int(np.prod(array.shape[:-1])), array.shape[-1])
