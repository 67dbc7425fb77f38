"""Bisecting spherical k-means (App. B), the paper's extractor: see `gigraph.method.bisecting`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gigraph.extractors.extraction import Extraction
from gigraph.method.bisecting import bisect
from gigraph.method.vectors import cohesion, concept_vectors


def extract(x: np.ndarray, k: int, *, row_ids: np.ndarray, seed: int, settings: Mapping[str, Any]) -> Extraction:
    """Split the largest cluster until there are k (see `gigraph.extractors.extract`)."""
    tree = bisect(x, k, seed=seed, row_ids=row_ids, max_iter=settings["max_iter"])
    leaves = np.flatnonzero(tree.concept >= 0)
    leaves = leaves[np.argsort(tree.concept[leaves])]
    found = len(leaves)
    notes = []
    if found < k:
        notes.append(f"{found} distinct clusters were found instead of {k}")
    if tree.dropped:
        notes.append(f"{tree.dropped} PFVs equal to beta have no direction and were left out")
    return Extraction(
        vectors=concept_vectors(x, tree.labels, found, settings["scale"]),
        size=tree.size[leaves].astype(np.int32),
        cohesion=cohesion(x, tree.labels, found),
        labels=tree.labels,
        tree=tree,
        notes=tuple(notes),
    )
