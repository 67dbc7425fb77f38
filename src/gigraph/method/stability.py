"""Whether concepts are found again: how alike each concept's best match in another set of concepts is.

By the cosine of their vectors, or by the correlation of their maps. PFVs lie so close together that the vectors of as
many random ones match at .9; maps tell more.
"""

from __future__ import annotations

import numpy as np

from gigraph.method.vectors import unit


def best_match(vectors: np.ndarray, others: np.ndarray, rows: int = 4096) -> np.ndarray:
    """Return the largest cosine of each concept vector [K, C] to the others [L, C], float32 [K].

    Parameters
    ----------
    vectors, others : float arrays [K, C], [L, C]
        Concept vectors from the same centre; lengths do not matter.
    rows : int
        Concepts compared at once.
    """
    towards = unit(others).T
    parts = [(unit(vectors[i : i + rows]) @ towards).max(1) for i in range(0, len(vectors), rows)]
    return np.concatenate([np.empty(0), *parts]).astype(np.float32)


def best_map(maps: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the largest correlation of each concept's map with the others', float32 [K]; NaN where it is constant.

    Parameters
    ----------
    maps, others : float arrays [n, K], [n, L]
        Responses at the same n positions.
    """
    one, two = (_standardised(each) for each in (maps, others))
    found = (one.T @ two).max(1) if others.shape[1] else np.full(maps.shape[1], np.nan)
    return np.where(one.any(0), found, np.nan).astype(np.float32)


def _standardised(maps: np.ndarray) -> np.ndarray:
    centred = maps - maps.mean(0, dtype=np.float64)
    return unit(centred.T).T
