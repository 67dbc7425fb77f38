"""How well concepts match the parts of a drawn world: average precision of each part's best concept.

Notation: N pictures, P positions of a layer's map (row by row), K concepts, M parts.

The best concept is chosen on one set of pictures and scored on another, or the best of many would be partly
luck. Compare methods at equal K, and with random vectors beside them: best-of-K grows with K.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SCENES = 800
"""Half of them choose the best concept, the other half score it."""
HALF = 0.5
HIDDEN = 0.125


@dataclass(frozen=True)
class Alignment:
    """The best concept of each part.

    Attributes
    ----------
    concept : array of int64 [M]
        The best concept on the first set; -1 for a part that the first set does not show.
    fit, score : array of float64 [M]
        Its average precision on the first and on the second set; NaN where a set does not show the part.
    chance : array of float64 [M]
        Share of positive positions in the second set: what a concept without any knowledge scores.
    table : array of float64 [K, M]
        The average precision of every concept on the first set.
    """

    concept: np.ndarray
    fit: np.ndarray
    score: np.ndarray
    chance: np.ndarray
    table: np.ndarray

    def detectors(self, part: int, least: float) -> tuple[list[int], list[float]]:
        """Return the concepts of at least this average precision for a part on the first set, best first, with it.

        One cause may have several concepts, of which the best detector need not be the one that the model uses.
        """
        score = np.nan_to_num(self.table[:, part])
        found = np.argsort(-score, kind="stable")[: int((score >= least).sum())]
        return found.tolist(), score[found].tolist()


def part_alignment(
    responses_fit: np.ndarray, masks_fit: np.ndarray, responses_score: np.ndarray, masks_score: np.ndarray
) -> Alignment:
    """Choose each part's best concept on one set of pictures and score it on another.

    Parameters
    ----------
    responses_fit, responses_score : array of floats [N, P, K]
        How strongly each concept responds at each position. The two N may differ.
    masks_fit, masks_score : array of bool [N, P, M]
        Where each part is (see `positives`).
    """
    responses_fit, responses_score = _flat(responses_fit), _flat(responses_score)
    masks_fit, masks_score = _flat(masks_fit).astype(bool), _flat(masks_score).astype(bool)
    table = average_precision(responses_fit, masks_fit)  # [K, M]
    parts = np.arange(table.shape[1])
    shown = ~np.isnan(table).any(0)
    concept = np.where(shown, np.where(shown, table, 0.0).argmax(0), -1)
    score = np.full(len(parts), np.nan)
    for k in np.unique(concept[shown]):
        mine = concept == k
        score[mine] = average_precision(responses_score[:, k : k + 1], masks_score[:, mine])[0]
    return Alignment(
        concept=concept,
        fit=table[concept, parts] * np.where(shown, 1.0, np.nan),
        score=score,
        chance=masks_score.mean(0),
        table=table,
    )


def average_precision(responses: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the average precision of each concept for each part, float64 [K, M].

    ``AP = sum_n (R_n - R_(n-1)) P_n`` over the distinct thresholds n, from the highest: scikit-learn's
    definition, for all parts at the price of one sort. Tied responses, such as the zeros of sparse
    coefficients, enter together, so their order cannot matter.

    Parameters
    ----------
    responses : array of floats [n, K]
        One row a position.
    masks : array of bool [n, M]
        Where each part is. A part that is nowhere scores NaN.
    """
    where = [np.flatnonzero(masks[:, m]) for m in range(masks.shape[1])]
    table = np.full((responses.shape[1], masks.shape[1]), np.nan)
    for k, response in enumerate(responses.T):
        ranked = np.sort(response)
        for m, rows in enumerate(where):
            if len(rows):
                # Every positive row adds the precision at its own threshold, which `reached` rows reach.
                own = np.sort(response[rows])[::-1]
                reached = len(ranked) - np.searchsorted(ranked, own, side="left")
                table[k, m] = (np.searchsorted(reached, reached, side="right") / reached).mean()
    return table


def coverage(owners: np.ndarray, codes: Sequence[int], grid: int | tuple[int, ...]) -> np.ndarray:
    """Return the share of each grid cell that each part covers, float64 [N, P, M].

    Parameters
    ----------
    owners : array of integers [N, H, W]
        Who owns each pixel (see `gigraph.worlds.dataset.read_masks`).
    codes : sequence of M ints
        The parts' codes.
    grid : int, (rows, columns) or (rows, columns, first)
        Size of the layer's map; P = first + rows x columns, row by row. The first positions, such as that of a class
        token, are no place and show nothing.
    """
    rows, columns, first = (grid, grid, 0) if isinstance(grid, int) else (*grid, 0)[:3]
    height, width = owners.shape[1:]
    if not (0 < rows <= height and 0 < columns <= width):
        raise ValueError(f"a grid of {rows} x {columns} does not fit pictures of {height} x {width}")
    top, left = np.arange(rows) * height // rows, np.arange(columns) * width // columns
    area = np.diff(top, append=height)[:, None] * np.diff(left, append=width)
    found = np.zeros((len(owners), first + rows * columns, len(codes)))
    for m, code in enumerate(codes):
        counts = np.add.reduceat((owners == code).astype(np.int32), top, axis=1)
        found[:, first:, m] = (np.add.reduceat(counts, left, axis=2) / area).reshape(len(owners), -1)
    return found


def positives(covered: np.ndarray, half: float = HALF, hidden: float = HIDDEN) -> np.ndarray:
    """Return at which cells a part counts as present, bool [N, P, M].

    A cell is positive where the part covers at least `half` of what it covers in the picture's fullest cell.
    A fixed threshold would not do: a body fills cells whole, an antenna a tenth of one on a coarse grid, and
    a tag that straddles four cells a quarter of each. So every picture that shows a part has a positive,
    however small the part. Only a part that is nearly hidden has none: where even its fullest cell has less
    than `hidden` of what is usual (the median over the pictures that show it).

    Parameters
    ----------
    covered : array of floats [N, P, M]
        See `coverage`.
    half, hidden : float
        The two thresholds.
    """
    reach = covered.max(1)  # [N, M]
    shown = np.ma.masked_less_equal(reach, 0.0)
    usual = np.ma.median(shown, axis=0).filled(0.0) if len(reach) else np.zeros(reach.shape[1])  # [M]
    visible = (reach > 0) & (reach >= hidden * usual)
    return visible[:, None] & (covered >= half * reach[:, None])


def _flat(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1, array.shape[-1])
