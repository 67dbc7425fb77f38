"""The autoencoder whose features are the k largest of each PFV.

Gao et al., "Scaling and evaluating sparse autoencoders", 2024: no penalty; decoder columns of length 1; features that
are dead learn what the others leave (their loss AuxK).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gigraph.extractors.autoencoder import Autoencoder, as_concepts, folded, scaled, train
from gigraph.extractors.extraction import Extraction

DEAD = 0.05
"""Share of the steps after which a feature without a PFV counts as dead."""
REVIVAL = 1 / 32
"""Weight of the loss of dead features (AuxK)."""


@dataclass
class TopK:
    """The largest features of each PFV, or of a batch.

    Attributes
    ----------
    active : int
        Features per PFV.
    biased : bool
        Whether the decoder has a bias.
    patience : float
        Steps after which a feature that is among the largest of no PFV counts as dead.
    pooled : bool
        Whether `active` is a mean over the batch, rather than the number of each PFV (BatchTopK).
    """

    active: int
    biased: bool
    patience: float
    pooled: bool = False
    _idle: Tensor = field(default_factory=lambda: torch.zeros(0))

    def largest(self, features: Tensor, count: int) -> Tensor:
        """Return features [N, m] with all but the largest set to 0: `count` of each PFV, or N `count` of all."""
        if self.pooled:
            flat = features.flatten()
            top = flat.topk(min(count * len(features), flat.numel()))
            return torch.zeros_like(flat).index_copy(0, top.indices, top.values).view_as(features)
        return _largest_of_rows(features, count)

    def loss(self, model: Autoencoder, x: Tensor, done: float) -> Tensor:
        """Return the mean squared error, and a share of that of the dead features on what is left, a number."""
        features = model.features(x)
        kept = self.largest(features, self.active)
        left = x - model.reconstruct(kept)
        loss = left.square().sum(1).mean()
        self._idle = torch.zeros_like(model.encoder_bias) if len(self._idle) == 0 else self._idle
        self._idle = torch.where((kept > 0).any(0), torch.zeros_like(self._idle), self._idle + 1).detach()
        dead = self._idle > self.patience
        if not bool(dead.any()):
            return loss
        again = _largest_of_rows(features * dead, max(1, x.shape[1] // 2)) @ model.decoder.T
        return loss + REVIVAL * (left.detach() - again).square().sum(1).mean()

    def constrain(self, model: Autoencoder) -> None:
        """Bring the decoder's columns to length 1."""
        model.decoder.div_(model.decoder.norm(dim=0).clamp_min(1e-30))


def _largest_of_rows(features: Tensor, count: int) -> Tensor:
    top = features.topk(min(count, features.shape[1]), dim=1)
    return torch.zeros_like(features).scatter(1, top.indices, top.values)


def extract(x: np.ndarray, k: int, *, row_ids: np.ndarray, seed: int, settings: Mapping[str, Any]) -> Extraction:
    """Train an autoencoder with k features (see `gigraph.extractors.extract`)."""
    rows, scale = scaled(x)
    given = {name: settings[name] for name in ("steps", "batch_size", "learning_rate")}
    recipe = TopK(min(k, max(1, round(settings["nonzeros"]))), settings["decoder_bias"], DEAD * settings["steps"])
    model = train(rows, k, recipe, seed=seed, **given)
    return as_concepts(x, model, folded(model, scale, "topk", recipe.active))
