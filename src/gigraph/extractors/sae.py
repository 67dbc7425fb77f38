"""The sparse autoencoder: the penalty on its features, and how it is chosen [Eq. 11; Templeton et al. 2024].

The penalty rises from 0 over the first twentieth of the steps; each feature weighs the norm of its decoder column. It
is chosen so that the PFVs have the wanted number of active features on average, as every other method's is. Eq. 11
gives the decoder a bias; without one (`autoencoder.decoder_bias`) concepts are measured from beta, as all others are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gigraph.extractors.autoencoder import Autoencoder, as_concepts, folded, scaled, train
from gigraph.extractors.extraction import Extraction

WARM_UP = 0.05
FIRST_PENALTY = 0.5
TRIALS = 4
"""Short trainings, a quarter of the steps each, that look for the penalty."""
LONG_TRIALS = 3
"""Whole trainings that correct it."""
CLOSE = 0.1
"""A count of active features within this share of the wanted one will do."""


@dataclass(frozen=True)
class Penalised:
    """The penalty on features [Eq. 11].

    Attributes
    ----------
    penalty : float
        lambda.
    biased : bool
        Whether the decoder has a bias.
    """

    penalty: float
    biased: bool

    def loss(self, model: Autoencoder, x: Tensor, done: float) -> Tensor:
        """Return the mean squared error plus the penalty on features, a number [Eq. 11].

        The paper writes the penalty outside the mean over x, though it depends on x; it is averaged here, as in
        the source that the paper follows. Each feature weighs the norm of its decoder column, so that no scale can
        be moved from one to the other.
        """
        features = model.features(x)
        error = (x - model.reconstruct(features)).square().sum(1)
        return (error + min(1.0, done / WARM_UP) * self.penalty * features @ model.decoder.norm(dim=0)).mean()

    def constrain(self, model: Autoencoder) -> None:
        """Leave the model as it is."""


def extract(x: np.ndarray, k: int, *, row_ids: np.ndarray, seed: int, settings: Mapping[str, Any]) -> Extraction:
    """Train an autoencoder with k features (see `gigraph.extractors.extract`).

    Concept vectors are the decoder's columns at length 1; a decoder's bias moves the centre (`Encoder.offset`).
    """
    rows, scale = scaled(x)
    given = {name: settings[name] for name in ("batch_size", "learning_rate")}
    steps, wanted = settings["steps"], settings["nonzeros"]
    tried: dict[float, Autoencoder] = {}

    def count(penalty: float, steps: int) -> float:
        recipe = Penalised(penalty, settings["decoder_bias"])
        tried[penalty] = train(rows, k, recipe, steps=steps, seed=seed, **given)
        return _active(tried[penalty], rows) / len(x)

    penalty = _search(lambda p: count(p, max(1, steps // 4)), wanted, FIRST_PENALTY, TRIALS)
    tried.clear()
    # A long training is sparser than a short one.
    model = tried[_search(lambda p: count(p, steps), wanted, penalty, LONG_TRIALS)]
    return as_concepts(x, model, folded(model, scale))


def _active(model: Autoencoder, x: Tensor, rows: int = 4096) -> float:
    return float(sum(torch.count_nonzero(model.features(part)).double() for part in x.split(rows)))


def _search(count: Callable[[float], float], wanted: float, first: float, trials: int) -> float:
    """Return a penalty at which count(penalty) is close to `wanted`, by secants in the logarithms."""
    seen: list[tuple[float, float]] = []
    guess = math.log(first)
    for _ in range(trials):
        found = count(math.exp(guess))
        off = math.log(max(found, 1e-3) / wanted)
        seen.append((guess, off))
        if abs(off) < CLOSE:
            break
        slope = -1.0
        if len(seen) > 1 and seen[-1][0] != seen[-2][0]:
            slope = min(-0.2, (seen[-1][1] - seen[-2][1]) / (seen[-1][0] - seen[-2][0]))
        guess -= max(-2.0, min(2.0, off / slope))
    return math.exp(min(seen, key=lambda one: abs(one[1]))[0])
