"""Bisecting spherical k-means, polished: its clusters as the start of a spherical k-means over all of them.

Bisecting never takes a split back. Steinbach, Karypis & Kumar (2000) therefore let k-means run on from its clusters;
the paper does not. The hierarchy of splits is given up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gigraph.extractors.extraction import Extraction
from gigraph.extractors.spherical_kmeans import iterated
from gigraph.method.bisecting import bisect


def extract(x: np.ndarray, k: int, *, row_ids: np.ndarray, seed: int, settings: Mapping[str, Any]) -> Extraction:
    """Split the largest cluster until there are k, then exchange members (see `gigraph.extractors.extract`)."""
    tree = bisect(x, k, seed=seed, row_ids=row_ids, max_iter=settings["max_iter"])
    return iterated(x, tree.labels, tree.k, settings)
