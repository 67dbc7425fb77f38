r"""How faithful attributions are: concepts deleted and inserted in their order, and C-muFidelity.

Notation
--------
``V``      [K, C]   concept vectors, one per row
``Q``               active concepts of an image, in the order in which they are deleted or inserted
``start``  [C]      the centre beta, for an autoencoder its own
``X~``     [P, C]   start + U V, the image's reconstruction                                            [Eq. 9]

C-Deletion starts at X~ and deletes concepts, the most relevant first; C-Insertion starts at the centre and inserts
them in the same order (Fel et al. 2024; Sec. 4.2.1). After j of Q concepts the first shows X~ - sum of the first j,
the second start + the same sum, so that both end where the other starts. Between layers (Sec. 4.2.3) what is read
off is the projection on a concept of the target layer, over that at F(X~).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gigraph.method.gig import Batch, Decomposition, Score, Segment
from gigraph.method.tasks import probabilities

Reading = Callable[[Tensor], Tensor]
"""Output of a segment for B inputs to the M numbers that are followed, [B, M]."""

# ---- deletion and insertion ----------------------------------------------------------------------------------


def counts(active: int, points: int, also: int = 0) -> np.ndarray:
    """Return after how many of the active concepts a curve is read: 0, `active`, `also`, and some between.

    All of them where there are at most `points`; else they get sparser with the square, since curves change at
    their start.
    """
    if active <= points:
        return np.arange(active + 1)
    spread = np.round(active * (np.arange(points + 1) / points) ** 2).astype(np.int64)
    return np.unique(np.append(spread, min(also, active)))


def curve(
    segment: Segment,
    reading: Reading,
    start: Tensor,
    image: Decomposition,
    vectors: Tensor,
    order: Tensor,
    at: np.ndarray,
    batch: int | Batch = 256,
) -> tuple[np.ndarray, np.ndarray]:
    """Delete and insert an image's concepts in an order.

    Parameters
    ----------
    segment : callable
        F_ab (see `gigraph.method.gig`).
    reading : callable
        What is read off its output.
    start : Tensor [C]
        The centre.
    image : Decomposition
        One image.
    vectors : Tensor [K, C]
        Concept vectors.
    order : Tensor of int64 [Q]
        Positions in ``image.concepts``, the first is deleted and inserted first.
    at : int array [S]
        After how many concepts the curve is read, ascending.
    batch : int or Batch
        Variants held at once.

    Returns
    -------
    deletion, insertion : float64 arrays [S, M]
    """
    full = image.offset(vectors)
    chosen = image.concepts[order]

    def readings(points: int) -> Tensor:
        """Return what is read off after deleting and after inserting [2, S, M]."""
        few = max(1, points // 2)  # every count makes two variants
        partial, reached, read = torch.zeros_like(full), 0, []
        for first in range(0, len(at), few):
            sums = []
            for count in at[first : first + few].tolist():
                rows = slice(reached, count)
                partial = partial + image.u[:, order[rows]] @ vectors[chosen[rows]]
                reached = count
                sums.append(partial)
            inserted = torch.stack(sums)
            variants = torch.cat([start + full - inserted, start + inserted])
            parts = [reading(segment(part)) for part in variants.split(max(1, points))]
            read.append(torch.cat(parts).unflatten(0, (2, len(sums))))
        return torch.cat(read, 1)

    with torch.no_grad():
        values = _room(batch).run(readings).double().cpu().numpy()
    return values[0], values[1]


def _room(batch: int | Batch) -> Batch:
    return batch if isinstance(batch, Batch) else Batch(batch)


def over_active(at: np.ndarray, active: int) -> tuple[np.ndarray, np.ndarray]:
    """Place a curve over an image's active concepts: x from 0 to 1, and the position in `at` of each value.

    Without any the curve is one value, which holds everywhere, as it does in `over_all`.
    """
    if not active:
        return np.array([0.0, 1.0]), np.zeros(2, np.int64)
    return at / active, np.arange(len(at))


def over_all(at: np.ndarray, positive: int, active: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Place a curve over all k concepts of a layer, ranked with the inactive ones, whose relevance is 0.

    Parameters
    ----------
    at : int array [S]
        After how many active concepts the curve was read; `positive` is among them.
    positive, active, k : int
        Concepts of positive relevance, active concepts, all concepts. The inactive ones come between the positive
        and the negative ones and change nothing.

    Returns
    -------
    x : float64 array [S + 1]
        Share of the k concepts, from 0 to 1.
    which : int64 array [S + 1]
        Position in `at` whose value the curve has there.
    """
    index = np.arange(len(at))
    before, after = index[at <= positive], index[at >= positive]
    which = np.concatenate([before, after])
    x = np.concatenate([at[before], at[after] + (k - active)]) / k
    return x, which


def area(x: np.ndarray, y: np.ndarray) -> float:
    """Return the area under a curve (trapezoids)."""
    return float(np.trapezoid(y, x))


def over_targets(
    curves: Callable[[Reading, np.ndarray], tuple[np.ndarray, np.ndarray]],
    readings: list[Reading],
    scores: dict[str, np.ndarray],
    x: np.ndarray,
    which: np.ndarray,
    grid: np.ndarray,
) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
    """Average one image's curves over its targets, which are no independent looks: standard errors are over images.

    Parameters
    ----------
    curves : callable
        A reading and an order of the active concepts to deletion and insertion [S, M] each.
    readings : list of callables
        One a target, T of them.
    scores : dict of str to array [T, Q]
        By name of the order: the concept of the largest score is deleted and inserted first.
    x, which : arrays
        Where values lie (`over_active`).
    grid : array [G]
        Where mean curves are read.

    Returns
    -------
    dict of (order, "deletion" or "insertion") to (curves [M, G], areas [M])
    """
    found: dict[tuple[str, str], list[list[np.ndarray]]] = {}
    for t, reading in enumerate(readings):
        for order, values in scores.items():
            both = curves(reading, np.argsort(-values[t], kind="stable"))
            for metric, read in zip(("deletion", "insertion"), both, strict=True):
                rows = [np.append(np.interp(grid, x, y), area(x, y)) for y in read[which].T]
                found.setdefault((order, metric), []).append(rows)
    means = {key: np.mean(rows, 0) for key, rows in found.items()}
    return {key: (rows[:, :-1], rows[:, -1]) for key, rows in means.items()}


def differences(areas: dict[tuple[str, str, str], list[float]]) -> dict[tuple[str, str], np.ndarray]:
    """Return insertion minus deletion of each image by (order, output), of areas by (order, metric, output)."""
    return {
        (order, output): np.array(many) - areas[order, "deletion", output]
        for (order, metric, output), many in areas.items()
        if metric == "insertion"
    }


def gains(found: dict[tuple[str, str], np.ndarray], own: str) -> dict[tuple[str, str], np.ndarray]:
    """Return by how much the `differences` of the order `own` exceed those of each other order, image by image."""
    return {(order, output): found[own, output] - many for (order, output), many in found.items() if order != own}


# ---- what is read off ----------------------------------------------------------------------------------------


def class_reading(label: int, task: str = "classes") -> Reading:
    """Return the reading of a class: its probability (a regression's score), and 1 where it is the predicted one.

    Of ``labels`` (`gigraph.method.tasks`), 1 where it is likelier than not.
    """

    def read(logits: Tensor) -> Tensor:
        size = logits if task == "regression" else probabilities(logits, task)
        right = logits[:, label] > 0 if task == "labels" else logits.argmax(1) == label
        return torch.stack([size[:, label], right.to(logits.dtype)], 1)

    return read


def projection_reading(direction: Tensor, centre: Tensor, original: Tensor) -> Reading:
    """Return the reading of a concept of the target layer: its projection score, fixed and maximised anew.

    Parameters
    ----------
    direction : Tensor [C_b]
        The concept vector; normalised here.
    centre : Tensor [C_b]
        Centre of the target layer, from which concept vectors point; the paper leaves it out.
    original : Tensor [P_b, C_b]
        The target layer's PFVs at F(X~). The PFV with the largest projection there is the one that is followed;
        its projection is what scores are divided by (Sec. 4.2.3).
    """
    unit = torch.nn.functional.normalize(direction, dim=0)
    first = (original - centre) @ unit  # [P_b]
    place = int(first.argmax())

    def read(omega: Tensor) -> Tensor:
        projections = (omega - centre) @ unit  # [B, P_b]
        return torch.stack([projections[:, place], projections.max(1).values], 1) / first[place]

    return read


CLEAR = 0.1
"""Cosine from which a projection is clearly positive: scores divided by a smaller one would blow up or turn round."""


def largest_projections(original: Tensor, centre: Tensor, vectors: Tensor) -> Tensor:
    """Return each concept's largest projection at F(X~) over the length of the PFV that has it, a cosine [K].

    Parameters
    ----------
    original : Tensor [P_b, C_b]
        The target layer's PFVs at F(X~).
    centre : Tensor [C_b]
        Centre of the target layer; lengths are from there, too.
    vectors : Tensor [K, C_b]
        Concept vectors; normalised here.
    """
    pfvs = original - centre
    largest, place = (pfvs @ torch.nn.functional.normalize(vectors, dim=1).T).max(0)
    return largest / pfvs.norm(dim=1)[place].clamp_min(1e-30)


def clear_targets(relevance: np.ndarray, cosines: np.ndarray, count: int) -> tuple[np.ndarray, int]:
    """Return the most relevant concepts whose projection is clear (`CLEAR`), and how many more relevant were not.

    Parameters
    ----------
    relevance, cosines : arrays [K]
        Of one image (`largest_projections`).
    count : int
        Concepts to choose, if there are as many.
    """
    order = np.argsort(-relevance, kind="stable")
    places = np.flatnonzero(cosines[order] >= CLEAR)[:count]
    seen = places[-1] + 1 if len(places) == count else len(order)
    return order[places], int(seen - len(places))


# ---- C-muFidelity --------------------------------------------------------------------------------------------


def subsets(generator: np.random.Generator, active: int, count: int, share: float = 0.2) -> np.ndarray:
    """Return `count` random sets of `share` of the active concepts, at least one, bool [count, active]."""
    size = max(1, round(share * active))
    ranks = generator.random((count, active)).argsort(1).argsort(1)
    return ranks < size


def drops_without(
    segment: Segment,
    score: Score,
    vectors: Tensor,
    start: Tensor,
    image: Decomposition,
    sets: np.ndarray,
    target: Tensor,
    batch: int | Batch = 256,
) -> np.ndarray:
    """Return how far the score falls from X~ without each set of active concepts, float64 [S].

    Parameters
    ----------
    segment, score, vectors, start : as in `gigraph.method.gig.attribute`
    image : Decomposition
        One image.
    sets : bool array [S, Q]
        Which active concepts each set deletes.
    target : Tensor of int64 [1]
        The target.
    batch : int or Batch
        Variants held at once.
    """
    chosen = vectors[image.concepts]
    keep = torch.as_tensor(np.vstack([np.zeros(sets.shape[1], bool), sets]), device=image.u.device).logical_not()

    def scores(points: int) -> Tensor:
        found = []
        for part in keep.split(max(1, points)):
            variants = torch.stack([start + (image.u * kept) @ chosen for kept in part])
            found.append(score(segment(variants), target.expand(len(part), -1)))
        return torch.cat(found)

    with torch.no_grad():
        found = _room(batch).run(scores)[:, 0].double().cpu().numpy()
    return found[0] - found[1:]


def mu_fidelity(values: np.ndarray, sets: np.ndarray, drops: np.ndarray) -> float:
    """Return Pearson's correlation of summed attributions and drops of the score (Bhatt et al. 2020; Fel et al. 2024).

    Parameters
    ----------
    values : array [Q]
        Attribution of each active concept.
    sets : bool array [S, Q]
        Which concepts each set deletes.
    drops : array [S]
        How far the score falls without them.

    Returns
    -------
    float
        1 where the score is additive in the concepts; NaN where either side does not vary.
    """
    sums = sets @ np.asarray(values, np.float64)
    return correlation(sums, np.asarray(drops, np.float64))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return Pearson's correlation; NaN for fewer than three pairs, or where one side does not vary."""
    if len(a) < 3 or np.ptp(a) <= 1e-12 * np.abs(a).max() or np.ptp(b) <= 1e-12 * np.abs(b).max():
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return Spearman's rank correlation, ties sharing their mean rank; NaN as for `correlation`."""
    return correlation(ranks(a), ranks(b))


def ranks(values: np.ndarray) -> np.ndarray:
    """Return ranks from 0, ties sharing the mean of theirs, float64 [n]."""
    _, inverse, sizes = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(sizes) - (sizes + 1) / 2)[inverse]


# ---- edges beside their exact ablation -----------------------------------------------------------------------


def agreement(attributed: np.ndarray, exact: np.ndarray) -> dict[str, float]:
    """Return how edges agree with their ablation: rank correlation, correlation, share of the same sign.

    NaN where there is nothing to agree in: no edge, or nothing but zeros on both sides.
    """
    same = np.sign(attributed) == np.sign(exact)
    some = attributed.any() or exact.any()
    return {
        "rank_correlation": rank_correlation(attributed, exact),
        "correlation": correlation(attributed, exact),
        "same_sign": float(same.mean()) if some else float("nan"),
    }


ROUNDING = 1e-6
"""Share of a sum of sizes that may be missed by rounding: tables hold sizes and sums as float32."""


def shares(indptr: np.ndarray, values: np.ndarray, total: np.ndarray, error: np.ndarray) -> dict[str, np.ndarray]:
    """Return what kept concepts, the remainder and the error node hold of a target's attributions, in absolute value.

    Parameters
    ----------
    indptr, values : arrays [N + 1], [kept]
        Attributions of the kept sources of each (image, target), in CSR form.
    total : array [N]
        Sum of their sizes over all concepts.
    error : array [N]
        The error node's.

    Returns
    -------
    dict of str to float64 array [N]
        NaN where nothing is attributed to a target, not to the error node either.
    """
    sizes = np.abs(np.append(values, 0).astype(np.float64))
    kept = np.add.reduceat(sizes, indptr[:-1]) * (np.diff(indptr) > 0)
    total, error = np.asarray(total, np.float64), np.abs(np.asarray(error, np.float64))
    rest = total - kept
    rest[rest <= ROUNDING * total] = 0
    whole = np.where(total + error > 0, total + error, np.nan)
    return {name: part / whole for name, part in {"concepts": kept, "remainder": rest, "error": error}.items()}


def checkable(scope: np.ndarray, target: np.ndarray, shown: np.ndarray, classes: bool) -> np.ndarray:
    """Return which edges [E] may be sampled beside the shown ones, bool [E]: those that are attributed in all images.

    Parameters
    ----------
    scope, target, shown : arrays [E]
        Class whose images the edge is over, its target, and whether it is shown.
    classes : bool
        Whether targets are classes: then the scope's own; else those that a shown edge of the scope has.
    """
    if classes:
        return ~shown & (scope == target)
    _, pair = np.unique(np.stack([scope, target], 1), axis=0, return_inverse=True)
    return ~shown & np.isin(pair, pair[shown])
