"""Spherical k-means, all K centres at once (Dhillon & Modha 2001): what bisecting is measured against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.cluster import kmeans_plusplus

from gigraph.extractors.extraction import Extraction, nearest
from gigraph.method.vectors import cohesion, concept_vectors, unit


def extract(x: np.ndarray, k: int, *, row_ids: np.ndarray, seed: int, settings: Mapping[str, Any]) -> Extraction:
    """Alternate between nearest centres and mean directions (see `gigraph.extractors.extract`).

    Starts from k-means++ on the unit rows.
    """
    rows = unit(x[x.any(1)])
    k = min(k, len(np.unique(rows, axis=0)))
    centres, _ = kmeans_plusplus(rows, k, random_state=np.random.RandomState(seed % 2**32))
    return iterated(x, nearest(x, centres), k, settings)


def iterated(x: np.ndarray, labels: np.ndarray, k: int, settings: Mapping[str, Any]) -> Extraction:
    """Run spherical k-means on from a partition.

    A centre that loses all its rows is given up. The concept vector is the members' mean, as for `bisecting`.

    Parameters
    ----------
    x : float32 array [N, C]
        Centred PFVs.
    labels : int array [N]
        Cluster of each row; -1 for a row of length zero.
    k : int
        Number of clusters.
    settings : mapping
        ``max_iter`` and ``scale``.
    """
    rows = unit(x)
    for _ in range(settings["max_iter"]):
        moved = nearest(rows, unit(concept_vectors(rows, labels, k)))
        if (moved == labels).all():
            break
        labels = moved
    kept, labels = np.unique(labels, return_inverse=True)
    labels = labels - int(kept[0] == -1)
    found = int((kept >= 0).sum())
    notes = (f"{k - found} centres lost all their PFVs",) if found < k else ()
    return Extraction(
        vectors=concept_vectors(x, labels, found, settings["scale"]),
        size=np.bincount(labels[labels >= 0], minlength=found).astype(np.int32),
        cohesion=cohesion(x, labels, found),
        labels=labels,
        notes=notes,
    )
