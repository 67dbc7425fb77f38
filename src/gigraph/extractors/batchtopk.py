"""The autoencoder whose features are the largest of a batch: as many a PFV on average, more where more is needed.

Bussmann et al., "BatchTopK sparse autoencoders", 2024. Where there is no batch, a threshold takes its place, with which
the PFVs have the wanted number of features on average.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from gigraph.extractors.autoencoder import as_concepts, folded, scaled, train
from gigraph.extractors.extraction import Extraction
from gigraph.extractors.topk import DEAD, TopK


def extract(x: np.ndarray, k: int, *, row_ids: np.ndarray, seed: int, settings: Mapping[str, Any]) -> Extraction:
    """Train an autoencoder with k features (see `gigraph.extractors.extract`)."""
    rows, scale = scaled(x)
    given = {name: settings[name] for name in ("steps", "batch_size", "learning_rate")}
    active, patience = min(k, max(1, round(settings["nonzeros"]))), DEAD * settings["steps"]
    recipe = TopK(active, settings["decoder_bias"], patience, pooled=True)
    model = train(rows, k, recipe, seed=seed, **given)
    features = torch.cat([model.features(part) for part in rows.split(4096)]).flatten()
    wanted = min(recipe.active * len(x), features.numel())
    # The first that is not taken: what exceeds it is.
    threshold = float(features.kthvalue(features.numel() - wanted).values) if wanted < features.numel() else 0.0
    return as_concepts(x, model, folded(model, scale, "threshold", threshold))
