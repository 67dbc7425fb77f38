"""Random directions: what a measure gives to concepts that know nothing of the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gigraph.extractors.extraction import Extraction, flat
from gigraph.method.vectors import unit


def extract(x: np.ndarray, k: int, *, row_ids: np.ndarray, seed: int, settings: Mapping[str, Any]) -> Extraction:
    """Draw k directions uniformly (see `gigraph.extractors.extract`)."""
    generator = np.random.Generator(np.random.Philox(seed % 2**63))
    return flat(x, unit(generator.normal(size=(k, x.shape[1])).astype(np.float32)))
