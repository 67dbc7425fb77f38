"""Vectors and their lengths: concept vectors from the members of clusters (App. B), and how alike members are."""

from __future__ import annotations

from typing import Literal

import numpy as np


def unit(x: np.ndarray) -> np.ndarray:
    """Return the rows of x [..., C] at length 1; a zero row stays zero."""
    lengths = np.linalg.norm(x, axis=-1, keepdims=True)
    return np.divide(x, lengths, out=np.zeros_like(x), where=lengths > 0)


def concept_vectors(x: np.ndarray, labels: np.ndarray, k: int, scale: Literal["mean", "unit"] = "mean") -> np.ndarray:
    """Average each concept's members (App. B, last step).

    Parameters
    ----------
    x : float32 array [N, C]
        Centred vectors, not normalised.
    labels : int array [N]
        Concept of each row, -1 for none.
    k : int
        Number of concepts.
    scale : {"mean", "unit"}
        The mean as it is (the paper's), or scaled to length 1.

    Returns
    -------
    float32 array [k, C]
        Zero for a concept without members.
    """
    sums, counts = _label_sums(x, labels, k, np.ones(len(x)))
    if scale == "unit":
        return unit(sums).astype(np.float32)
    if scale != "mean":
        raise ValueError(f"scale must be 'mean' or 'unit', not {scale!r}")
    return (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)


def cohesion(x: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Return each concept's mean cosine of members to their spherical centroid, [k] float32 (0 if empty).

    The centroid is s / |s| for the sum s of the n members' unit vectors, so the mean cosine is |s| / n.
    """
    wide = np.asarray(x, dtype=np.float64)
    lengths = np.sqrt(np.einsum("nc,nc->n", wide, wide))
    weights = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    sums, counts = _label_sums(x, labels, k, weights)
    return (np.linalg.norm(sums, axis=1) / np.maximum(counts, 1)).astype(np.float32)


def _label_sums(x: np.ndarray, labels: np.ndarray, k: int, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted sums [k, C] float64 and the member counts [k] of each label."""
    counts = np.bincount(labels[labels >= 0], minlength=k)
    order = np.argsort(labels, kind="stable")[len(labels) - counts.sum() :]
    sums = np.zeros((k, x.shape[1]))
    end = np.cumsum(counts)
    for label in np.flatnonzero(counts):
        members = order[end[label] - counts[label] : end[label]]
        sums[label] = weights[members] @ x[members].astype(np.float64)
    return sums, counts
