"""From attributions of single images to the graph: means, standard errors, support, weights, and what is shown.

A *scope* is a class (its images) or the whole dataset (-1). A mean over a scope counts an image in which the target
was not evaluated as zero. So means are additive: up to the completeness error, a target's kept sources, remainder and
error node add up to the sum of S(X) - S(baseline) over the images where it was evaluated, over all images of the scope.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

DATASET = -1
"""Scope of the whole dataset, beside the classes' labels."""


@dataclass(frozen=True)
class Edges:
    """Aggregated attributions of one layer pair; arrays of equal length [E].

    Attributes
    ----------
    scope, source, target : array of int64
        Class label or -1; concept (-1: error node, -2: remainder); concept or class label.
    mean, se : array of float64
        Mean GIG over the scope's images and its standard error, which a single image does not have (NaN).
    support : array of int64
        Images with a non-zero attribution.
    evaluated : array of int64
        Images in which the target was evaluated.
    images : array of int64
        Images of the scope.
    """

    scope: np.ndarray
    source: np.ndarray
    target: np.ndarray
    mean: np.ndarray
    se: np.ndarray
    support: np.ndarray
    evaluated: np.ndarray
    images: np.ndarray


@dataclass(frozen=True)
class Rows:
    """Attributions of single images of one layer pair; arrays of equal length [M].

    Attributes
    ----------
    label : array of int64
        Class of the image.
    source, target : array of int64
        Concept (-1: error node, -2: remainder); concept or class label.
    value : array of float
        GIG.
    """

    label: np.ndarray
    source: np.ndarray
    target: np.ndarray
    value: np.ndarray

    @classmethod
    def from_csr(
        cls, label: np.ndarray, target: np.ndarray, indptr: np.ndarray, sources: np.ndarray, values: np.ndarray
    ) -> Rows:
        """Build from one list of sources and values per (image, target), in CSR form."""
        row = np.repeat(np.arange(len(label)), np.diff(indptr))
        label, target = label.astype(np.int64), target.astype(np.int64)
        return cls(label[row], sources.astype(np.int64), target[row], values)

    def with_source(self, source: int, label: np.ndarray, target: np.ndarray, value: np.ndarray) -> Rows:
        """Add one row per (image, target) for a source that every one of them has, such as the error node."""
        more = (label, np.full(len(label), source), target, value)
        mine = (self.label, self.source, self.target, self.value)
        return Rows(*(np.concatenate(both) for both in zip(mine, more, strict=True)))

    def towards_own_class(self) -> Rows:
        """Keep the attributions of each image to its own class."""
        own = self.label == self.target
        return Rows(self.label[own], self.source[own], self.target[own], self.value[own])


def class_edges(rows: Rows, images: dict[int, int]) -> Edges:
    """Average attributions of images to their own class: over each class, and (target -1) over the dataset."""
    own = rows.towards_own_class()
    nowhere = np.full(len(own.label), DATASET)
    return _both(
        aggregate(nowhere, own.source, nowhere, own.value, images),
        aggregate(own.label, own.source, own.label, own.value, images),
    )


def edges_of(rows: Rows, images: dict[int, int]) -> Edges:
    """Average attributions over each class and over the dataset."""
    nowhere = np.full(len(rows.label), DATASET)
    return _both(
        aggregate(nowhere, rows.source, rows.target, rows.value, images),
        aggregate(rows.label, rows.source, rows.target, rows.value, images),
    )


def _both(dataset: Edges, classes: Edges) -> Edges:
    """Return the edges over the dataset, whose scope comes first, and over the classes."""
    return Edges(*(np.concatenate([getattr(one, f.name) for one in (dataset, classes)]) for f in fields(Edges)))


def edges_of_members(rows: Rows, leader: np.ndarray, wanted: Edges, images: dict[int, int]) -> Edges:
    """Average what each member does over the images of a class, for some edges of families.

    Parameters
    ----------
    rows : Rows
        With members as sources.
    leader : array of int64 [K]
        The family of each concept.
    wanted : Edges
        Of families, over classes. The members' means add up to a family's; standard errors do not.
    images : dict
        Number of images of each scope.

    Returns
    -------
    Edges
        ``evaluated`` counts the rows of the target's most frequent member only.
    """
    size = [1 + max(one.max(initial=0), other.max(initial=0)) for one, other in (
        (wanted.source, leader[rows.source]), (wanted.target, rows.target),
    )]  # fmt: skip

    def key(scope: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        return (scope * size[0] + source) * size[1] + target

    there = np.isin(key(rows.label, leader[rows.source], rows.target), key(wanted.scope, wanted.source, wanted.target))
    return aggregate(rows.label[there], rows.source[there], rows.target[there], rows.value[there], images)


def among(scope: np.ndarray, concept: np.ndarray, kept_scope: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return whether each (scope, concept) is one of the kept ones, bool [E]."""
    return np.isin(_pair_key(scope, concept), _pair_key(kept_scope, kept))


def places_of(wanted: Sequence[np.ndarray], known: Sequence[np.ndarray]) -> np.ndarray:
    """Return where each of the wanted (scope, source, target) is among the known ones, -1 where nowhere, int64 [E].

    Parameters
    ----------
    wanted, known : three arrays of int64 each
        Scopes, sources and targets, of length E and N; of equal known ones the last is found.
    """
    mine, theirs = np.zeros(len(wanted[0]), np.int64), np.zeros(len(known[0]), np.int64)
    for one, other in zip(wanted, known, strict=True):
        both = np.concatenate([one, other])
        least, size = (both.min(), np.ptp(both) + 1) if len(both) else (0, 1)
        mine, theirs = mine * size + (one - least), theirs * size + (other - least)
    order = np.argsort(theirs, kind="stable")
    at = np.searchsorted(theirs[order], mine, side="right") - 1
    if not len(order):
        return at
    found = order[at]
    return np.where((at >= 0) & (theirs[found] == mine), found, -1)


def _pair_key(scope: np.ndarray, concept: np.ndarray) -> np.ndarray:
    return scope.astype(np.int64) * (1 << 32) + concept.astype(np.int64)


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Return the mean and its standard error, which a single value does not have (NaN)."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def scopes_of(labels: np.ndarray) -> dict[int, int]:
    """Return the number of images of each scope: every class (label >= 0) and the dataset (-1)."""
    classes, counts = np.unique(labels[labels >= 0], return_counts=True)
    return {-1: len(labels), **dict(zip(classes.tolist(), counts.tolist(), strict=True))}


def aggregate(
    scope: np.ndarray, source: np.ndarray, target: np.ndarray, value: np.ndarray, images: dict[int, int]
) -> Edges:
    """Average single attributions over each scope.

    Parameters
    ----------
    scope, source, target : array of int [M]
        Of each attribution; at most one row per image, source and target within a scope.
    value : array of float [M]
        GIG.
    images : dict
        Number of images of each scope.

    Returns
    -------
    Edges
        Sorted by scope, target, then falling |mean|. ``se`` is the standard deviation over the scope's images
        (n - 1 in the denominator) over sqrt(n), and NaN for a single image.
    """
    order = _stable_order(scope, target, source)
    scope, source, target = scope[order], source[order], target[order]
    value = value[order].astype(np.float64)
    new = np.ones(len(scope), bool)
    new[1:] = (scope[1:] != scope[:-1]) | (target[1:] != target[:-1]) | (source[1:] != source[:-1])
    first = np.flatnonzero(new)
    if not len(first):
        empty = np.empty(0, np.int64)
        return Edges(empty, empty, empty, np.empty(0), np.empty(0), empty, empty, empty)
    total = np.add.reduceat(value, first)
    support = np.add.reduceat((value != 0).astype(np.int64), first)
    rows = np.add.reduceat(np.ones(len(value), np.int64), first)
    scope, source, target = scope[first], source[first], target[first]
    scopes, group = np.unique(scope, return_inverse=True)
    n = np.array([images[int(s)] for s in scopes], np.int64)[group]
    mean = total / n
    group = np.repeat(np.arange(len(first)), rows)
    # Squared deviations of the rows, and of the images without a row, which count as zero.
    squares = np.add.reduceat((value - mean[group]) ** 2, first) + (n - rows) * mean**2
    se = np.sqrt(squares / np.maximum(n - 1, 1) / n)
    evaluated = _evaluated(scope, target, rows)
    # Sources already ascend within a target, and the order of equal ones stays.
    order = np.lexsort((-np.abs(mean), _first_of_target(scope, target).cumsum()))
    return Edges(*(a[order] for a in (scope, source, target, mean, np.where(n > 1, se, np.nan), support, evaluated, n)))


def _evaluated(scope: np.ndarray, target: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the largest row count among the sources of each (scope, target): its error node has every image."""
    first = np.flatnonzero(_first_of_target(scope, target))
    return np.repeat(np.maximum.reduceat(rows, first), np.diff(np.append(first, len(scope))))


def _first_of_target(scope: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return where a (scope, target) begins, bool [E], of sorted ones."""
    new = np.ones(len(scope), bool)
    new[1:] = (scope[1:] != scope[:-1]) | (target[1:] != target[:-1])
    return new


def _stable_order(*keys: np.ndarray) -> np.ndarray:
    """Return the stable order by several keys, the first before the others; integers.

    Keys and the place of a row are one number where they fit its bits, and sorting these is several times faster.
    """
    size = len(keys[0])
    if not size:
        return np.empty(0, np.int64)
    joined, bits = np.zeros(size, np.int64), (size - 1).bit_length()
    total = bits
    for key in keys:
        least = int(key.min())
        width = (int(key.max()) - least).bit_length()
        total += width
        if total > 63:
            return np.lexsort(keys[::-1])
        joined <<= width
        joined |= key - least
    joined <<= bits
    joined |= np.arange(size)
    joined.sort()
    return joined & ((1 << bits) - 1)


def weights(scope: np.ndarray, mean: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Return |mean| normalised to [0, 1] within each scope of one layer pair, as the paper's figures do (App. A).

    The error node and the remainder (source < 0) get the same scale, clipped to 1, but do not set it.
    """
    scopes, group = np.unique(scope, return_inverse=True)
    size, concepts = np.abs(mean), source >= 0
    largest = np.zeros(len(scopes), size.dtype)
    np.maximum.at(largest, group[concepts], size[concepts])
    scale = largest[group]
    return np.minimum(np.divide(size, scale, out=np.zeros(len(mean)), where=scale > 0), 1)


@dataclass(frozen=True)
class Kept:
    """The concepts of one layer that matter most to each scope, by falling mean relevance; arrays [M]."""

    scope: np.ndarray
    rank: np.ndarray
    concept: np.ndarray
    relevance: np.ndarray
    se: np.ndarray
    support: np.ndarray


def keep(edges: Edges, count: int) -> Kept:
    """Choose the `count` concepts most relevant to each class, and to the dataset.

    Parameters
    ----------
    edges : Edges
        Attributions to classes, aggregated over the images of each class (scope = target), and for the dataset
        (scope -1) of each image's own class, with target -1.
    count : int
        Concepts kept per scope.

    Returns
    -------
    Kept
        Only concepts of positive mean relevance.
    """
    own = (edges.scope == edges.target) & (edges.source >= 0) & (edges.mean > 0)
    index = np.flatnonzero(own)
    index = index[np.lexsort((edges.source[index], -edges.mean[index], edges.scope[index]))]
    scope = edges.scope[index]
    first = np.searchsorted(scope, scope)
    rank = np.arange(len(index)) - first
    index, rank = index[rank < count], rank[rank < count]
    return Kept(edges.scope[index], rank, edges.source[index], edges.mean[index], edges.se[index], edges.support[index])
