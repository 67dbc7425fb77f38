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
