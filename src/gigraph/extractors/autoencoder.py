"""The sparse autoencoder: its loss, its training, and its concepts [Eq. 11; Templeton et al. 2024].

The recipe, in full:

1. PFVs, centred, are scaled so that their mean length is sqrt(C).
2. Decoder columns start as random directions of length 0.1, the encoder as the decoder's transpose, biases at 0.
3. Adam, gradients clipped to norm 1, no weight decay; the learning rate falls to 0 over the last fifth of the steps.
4. The penalty rises from 0 over the first twentieth of the steps; each feature weighs the norm of its decoder column.

The penalty is chosen so that the PFVs have the wanted number of active features on average, as every other method's is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gigraph.extractors.extraction import Extraction, flat
from gigraph.method.encoder import Encoder

DECAY, WARM_UP = 0.2, 0.05
FIRST_NORM = 0.1
LONGEST_GRADIENT = 1.0
FIRST_PENALTY = 0.5
TRIALS = 4
"""Short trainings, a quarter of the steps each, that look for the penalty."""
LONG_TRIALS = 3
"""Whole trainings that correct it."""
CLOSE = 0.1
"""A count of active features within this share of the wanted one will do."""


@dataclass(frozen=True)
class SparseAutoencoder:
    """An autoencoder of PFVs with m hidden features.

    Attributes
    ----------
    encoder : Tensor [m, C]
        W_e.
    encoder_bias : Tensor [m]
        b_e.
    decoder : Tensor [C, m]
        W_d; its columns are the concept vectors.
    decoder_bias : Tensor [C]
        b_d.
    """

    encoder: Tensor
    encoder_bias: Tensor
    decoder: Tensor
    decoder_bias: Tensor

    def features(self, x: Tensor) -> Tensor:
        """Return f(x) = ReLU(W_e x + b_e) [N, m] of PFVs [N, C]."""
        return (x @ self.encoder.T + self.encoder_bias).relu()

    def reconstruct(self, features: Tensor) -> Tensor:
        """Return W_d f + b_d [N, C]."""
        return features @ self.decoder.T + self.decoder_bias

    def loss(self, x: Tensor, penalty: float) -> Tensor:
        """Return the mean squared error plus the penalty on features, a number [Eq. 11].

        The paper writes the penalty outside the mean over x, though it depends on x; it is averaged here, as in
        the source that the paper follows. Each feature weighs the norm of its decoder column, so that no scale can
        be moved from one to the other.
        """
        features = self.features(x)
        error = (x - self.reconstruct(features)).square().sum(1)
        return (error + penalty * features @ self.decoder.norm(dim=0)).mean()

    def active(self, x: Tensor, rows: int = 4096) -> Tensor:
        """Return in how many of the PFVs [N, C] each feature is active, float64 [m]."""
        return sum(
            ((self.features(part) > 0).sum(0).double() for part in x.split(rows)),
            start=torch.zeros(len(self.encoder), dtype=torch.float64, device=x.device),
        )


def schedule(step: int, steps: int) -> tuple[float, float]:
    """Return the factors of learning rate and penalty at a step, from 0 to steps - 1 (Templeton et al. 2024)."""
    rate = min(1.0, (steps - step) / (DECAY * steps))
    return rate, min(1.0, (step + 1) / max(1.0, WARM_UP * steps))


def train(
    x: Tensor, features: int, penalty: float, *, steps: int, batch_size: int, learning_rate: float, seed: int
) -> SparseAutoencoder:
    """Train an autoencoder on PFVs [N, C] of mean length sqrt(C), by the recipe above.

    Parameters
    ----------
    x : Tensor [N, C]
        Scaled PFVs.
    features : int
        m.
    penalty : float
        lambda of Eq. 11.
    steps, batch_size, learning_rate : int, int, float
        Of Adam.
    seed : int
        Of the start and of the batches; the random stream is drawn on the CPU, so that every device sees the same.
    """
    random = torch.Generator().manual_seed(seed)
    directions = torch.randn(features, x.shape[1], generator=random)
    decoder = FIRST_NORM * torch.nn.functional.normalize(directions, dim=1).T
    start = (decoder.T.clone(), torch.zeros(features), decoder.clone(), torch.zeros(x.shape[1]))
    parts = [part.to(x).requires_grad_() for part in start]
    model = SparseAutoencoder(*parts)
    optimiser = torch.optim.Adam(parts, lr=learning_rate)
    order = torch.empty(0, dtype=torch.int64)
    for step in range(steps):
        if len(order) < min(batch_size, len(x)):
            order = torch.randperm(len(x), generator=random)
        rows, order = order[:batch_size].to(x.device), order[batch_size:]
        rate, warmth = schedule(step, steps)
        optimiser.param_groups[0]["lr"] = rate * learning_rate
        optimiser.zero_grad()
        model.loss(x[rows], warmth * penalty).backward()
        torch.nn.utils.clip_grad_norm_(parts, LONGEST_GRADIENT)
        optimiser.step()
    return SparseAutoencoder(*(part.detach() for part in parts))


def extract(x: np.ndarray, k: int, *, row_ids: np.ndarray, seed: int, settings: Mapping[str, Any]) -> Extraction:
    """Train an autoencoder with k features (see `gigraph.extractors.extract`).

    Concept vectors are the decoder's columns at length 1; the decoder's bias moves the centre (`Encoder.offset`).
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    scale = math.sqrt(x.shape[1]) / max(float(np.linalg.norm(x, axis=1).mean()), 1e-30)
    rows = torch.from_numpy(x).to(device) * scale
    recipe = {name: settings[name] for name in ("batch_size", "learning_rate")}

    def fit(penalty: float, steps: int) -> tuple[SparseAutoencoder, Tensor]:
        model = train(rows, k, penalty, steps=steps, seed=seed, **recipe)
        return model, model.active(rows)

    steps, wanted = settings["steps"], settings["nonzeros"]
    tried: dict[float, tuple[SparseAutoencoder, Tensor]] = {}

    def count(penalty: float, steps: int) -> float:
        tried[penalty] = fit(penalty, steps)
        return float(tried[penalty][1].sum()) / len(x)

    penalty = _search(lambda p: count(p, max(1, steps // 4)), wanted, FIRST_PENALTY, TRIALS)
    tried.clear()
    # A long training is sparser than a short one.
    model, active = tried[_search(lambda p: count(p, steps), wanted, penalty, LONG_TRIALS)]
    nonzeros = float(active.sum()) / len(x)
    norms = model.decoder.norm(dim=0)
    encoder = Encoder(
        weights=(model.encoder * norms[:, None]).cpu().numpy(),
        bias=(model.encoder_bias * norms / scale).cpu().numpy(),
        offset=(model.decoder_bias / scale).cpu().numpy(),
    )
    vectors = (model.decoder / norms.clamp_min(1e-30)).T
    dead = int((active == 0).sum())
    notes = (f"{nonzeros:.1f} active features per PFV; {dead} of {k} features are dead: active in no PFV",)
    found = flat(x, vectors.cpu().numpy(), encoder, notes)
    # A feature's members are the PFVs in which it is active.
    size = active.cpu().numpy().astype(np.int32)
    return Extraction(found.vectors, size, found.cohesion, encoder=encoder, notes=notes)


def _search(count: Any, wanted: float, first: float, trials: int) -> float:
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
