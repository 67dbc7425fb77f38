"""What an extractor returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gigraph.method.bisecting import SplitTree
from gigraph.method.encoder import Encoder
from gigraph.method.vectors import cohesion, unit


@dataclass(frozen=True)
class Extraction:
    """A layer's concepts.

    Attributes
    ----------
    vectors : float32 array [K, C]
        Concept vectors, from the centre.
    size : int32 array [K]
        PFVs to which the concept is nearest, or its members.
    cohesion : float32 array [K]
        Mean cosine of these to their spherical centroid, in [-1, 1]; 0 where there are none.
    labels : int array [N], optional
        Concept of each PFV, -1 for none; not given where PFVs are members of several.
    tree : SplitTree, optional
        The splits, where there are any: its leaves are the concepts, in order.
    encoder : Encoder, optional
        Gives the coefficients in the lasso's place.
    notes : tuple of str
        What the reader of the log should know, such as the number of dead features.
    """

    vectors: np.ndarray
    size: np.ndarray
    cohesion: np.ndarray
    labels: np.ndarray | None = None
    tree: SplitTree | None = None
    encoder: Encoder | None = None
    notes: tuple[str, ...] = ()


def flat(x: np.ndarray, vectors: np.ndarray, encoder: Encoder | None = None, notes: tuple[str, ...] = ()) -> Extraction:
    """Return concepts without a tree: each PFV counts for the vector with the largest cosine."""
    labels = nearest(x, vectors)
    k = len(vectors)
    sizes = np.bincount(labels[labels >= 0], minlength=k).astype(np.int32)
    return Extraction(vectors.astype(np.float32), sizes, cohesion(x, labels, k), labels, None, encoder, notes)


class Active:
    """How many PFVs each of k concepts is active in, and how alike these are, gathered part by part."""

    def __init__(self, k: int, channels: int):
        self.size, self._sums = np.zeros(k, np.int32), np.zeros((k, channels))

    def add(self, x: np.ndarray, active: np.ndarray) -> None:
        """Add PFVs [N, C] and which concepts are active in each, bool [N, k]."""
        self.size += active.sum(0, dtype=np.int32)
        self._sums += active.T.astype(np.float32) @ unit(x)

    @property
    def cohesion(self) -> np.ndarray:
        """Mean cosine of the PFVs to their spherical centroid, float32 [k]; 0 where there are none."""
        return (np.linalg.norm(self._sums, axis=1) / np.maximum(self.size, 1)).astype(np.float32)


def images_of(labels: np.ndarray, images: np.ndarray, k: int) -> np.ndarray:
    """Return how many images the PFVs of each concept are of, int64 [k], from the concept and image of each PFV."""
    pairs = np.unique(np.stack([labels, images], 1)[labels >= 0], axis=0)
    return np.bincount(pairs[:, 0], minlength=k)


def nearest(x: np.ndarray, vectors: np.ndarray, rows: int = 4096) -> np.ndarray:
    """Return the vector with the largest cosine to each row, int64 [N]; -1 for a zero row."""
    towards = unit(vectors).T
    labels = np.concatenate(
        [np.empty(0, np.int64), *((x[i : i + rows] @ towards).argmax(1) for i in range(0, len(x), rows))]
    )
    labels[~x.any(1)] = -1
    return labels
