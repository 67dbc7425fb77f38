"""Whether concepts are found again: the cosine of each concept's best match in another set of concepts."""

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
