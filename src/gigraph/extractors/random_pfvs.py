"""As many PFVs, drawn at random: the floor that a method must beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gigraph.extractors.extraction import Extraction, flat
from gigraph.hashing import mix


def extract(x: np.ndarray, k: int, *, row_ids: np.ndarray, seed: int, settings: Mapping[str, Any]) -> Extraction:
    """Take the k PFVs with the smallest keyed hash (see `gigraph.extractors.extract`)."""
    nonzero = np.flatnonzero(x.any(1))
    chosen = nonzero[np.argsort(mix(seed, row_ids[nonzero]), kind="stable")[:k]]
    return flat(x, x[chosen])
