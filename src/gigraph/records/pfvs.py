"""From the tables of PFVs to those that a calibration or an extractor looks at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gigraph.hashing import mix
from gigraph.method.heldout import held_out
from gigraph.records import tables


def uniform_pfvs(path: str | Path | None, centre: str | Path) -> np.ndarray | None:
    """Return centred PFVs at positions drawn uniformly, float32 [M, C]; None without a table of them."""
    return tables.numpy(tables.read(path, ["pfv"]), "pfv") - tables.beta(centre) if path else None


def subsample(paths: str | Path | Sequence[str | Path], seed: int, holdout: float, count: int) -> np.ndarray:
    """Return `count` PFVs of images that are not held out, float32 [at most count, C], in the tables' order.

    They are chosen by a hash of image and position, so that shards and added images hardly move the choice.
    """
    pfvs = tables.read(paths, ["image_id", "y", "x", "pfv"])
    pfvs = pfvs.filter(~held_out(tables.numpy(pfvs, "image_id"), seed, holdout))
    key = mix(seed, *(tables.numpy(pfvs, name).astype(np.int64) for name in ("image_id", "y", "x")))
    return tables.numpy(pfvs, "pfv")[np.sort(np.argsort(key, kind="stable")[:count])]
