"""Measures against a drawn world's truth: what concepts show, and what relevance says against redrawing.

Notation: N scenes, P positions of a layer's map, K concepts, M parts.

Average precision of the best concept is in `gigraph.worlds.alignment`; here are measures that separate methods more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gigraph.method.vectors import unit

NEAREST = 10


def intersection_over_union(
    fit: np.ndarray, masks_fit: np.ndarray, score: np.ndarray, masks_score: np.ndarray, levels: int = 40
) -> float:
    """Return the IoU of one concept's thresholded map with a part's mask.

    Parameters
    ----------
    fit, score : arrays of floats [n]
        The concept's response at each position; the threshold is chosen on the first set.
    masks_fit, masks_score : arrays of bool [n]
        Where the part is.
    levels : int
        Thresholds tried, quantiles of the positive responses: those of all of a sparse map would nearly all be 0.

    Returns
    -------
    float
        NaN where the part is shown in neither set's positions.
    """
    if not masks_fit.any() or not masks_score.any():
        return float("nan")
    some = fit[fit > 0]
    if not len(some):
        return 0.0
    thresholds = np.unique(np.quantile(some, np.linspace(0, 1, levels, endpoint=False), method="higher"))
    best = max(thresholds, key=lambda t: _iou(fit >= t, masks_fit))
    return _iou(score >= best, masks_score)


def _iou(found: np.ndarray, mask: np.ndarray) -> float:
    union = (found | mask).sum()
    return float((found & mask).sum() / union) if union else 0.0


def purity(pfvs: np.ndarray, shown: np.ndarray, vectors: np.ndarray, nearest: int = NEAREST) -> np.ndarray:
    """Return of each concept the share of its nearest patches that show its commonest part, float64 [K].

    Parameters
    ----------
    pfvs : float array [N, P, C]
        Centred PFVs; each scene gives its nearest one.
    shown : bool array [N, P, M]
        Which parts each position shows.
    vectors : float array [K, C]
        Concept vectors.
    nearest : int
        Patches looked at, by cosine.
    """
    cosine = unit(pfvs.reshape(-1, pfvs.shape[2])) @ unit(vectors).T
    cosine = cosine.reshape(*pfvs.shape[:2], -1)  # [N, P, K]
    place, best = cosine.argmax(1), cosine.max(1)  # [N, K]
    found = np.empty(len(vectors))
    for k in range(len(vectors)):
        top = np.argsort(-best[:, k], kind="stable")[:nearest]
        found[k] = shown[top, place[top, k]].mean(0).max()
    return found


def part_shares(u: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Return which share of each concept's coefficients lies where each part is, float64 [K, M].

    Parameters
    ----------
    u : float array [n, K]
        Coefficients at n positions; their magnitudes count.
    shown : array [n, M]
        Whether each position shows each part. It can show several, so shares need not add up to 1.
    """
    weight = np.abs(u).astype(np.float64)
    total = weight.sum(0)[:, None]
    return np.divide(weight.T @ shown, total, out=np.zeros((u.shape[1], shown.shape[1])), where=total > 0)


def by_kind(found: np.ndarray, parts: Sequence[str], values: Mapping[str, Sequence[str]]) -> dict[str, np.ndarray]:
    """Sum the last axis over the values of each kind of part: stripes, spots and scales are the skin.

    Parameters
    ----------
    found : array [..., M]
        A number of each part.
    parts : sequence of M str
        Their names.
    values : mapping of str to sequence of str
        Kind -> the parts that are its values.
    """
    return {
        kind: found[..., [m for m, part in enumerate(parts) if part in own]].sum(-1) for kind, own in values.items()
    }


def off_diagonal(matrix: np.ndarray) -> np.ndarray:
    """Return the entries above the diagonal of the matrix made symmetric."""
    return ((matrix + matrix.T) / 2)[np.triu_indices(len(matrix), 1)]
