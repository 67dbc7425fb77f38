"""What the autoencoders share: the model, its training, and how it becomes concepts [Templeton et al. 2024].

1. PFVs, centred, are scaled so that their mean length is sqrt(C).
2. Decoder columns start as random directions of length 0.1, the encoder as the decoder's transpose, biases at 0.
3. Adam, gradients clipped to norm 1, no weight decay; the learning rate falls to 0 over the last fifth of the steps.

What makes features few is the recipe's: `gigraph.extractors.sae`, `topk`, `batchtopk`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from gigraph.extractors.extraction import Active, Extraction
from gigraph.method.encoder import Activation, Encoder

DECAY = 0.2
FIRST_NORM = 0.1
LONGEST_GRADIENT = 1.0


@dataclass(frozen=True)
class Autoencoder:
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


class Recipe(Protocol):
    """What makes the features of an autoencoder few."""

    @property
    def biased(self) -> bool:
        """Whether the decoder has a bias, which moves the centre."""

    def loss(self, model: Autoencoder, x: Tensor, done: float) -> Tensor:
        """Return what is minimised over PFVs x [N, C] once a share `done` of the steps is."""

    def constrain(self, model: Autoencoder) -> None:
        """Change the model in place after each step."""


def decayed(step: int, steps: int) -> float:
    """Return the factor of the learning rate at a step, from 0 to steps - 1."""
    return min(1.0, (steps - step) / (DECAY * steps))


def train(
    x: Tensor, features: int, recipe: Recipe, *, steps: int, batch_size: int, learning_rate: float, seed: int
) -> Autoencoder:
    """Train an autoencoder on PFVs [N, C] of mean length sqrt(C).

    Parameters
    ----------
    x : Tensor [N, C]
        Scaled PFVs.
    features : int
        m.
    recipe : Recipe
        Its loss.
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
    parts[3].requires_grad_(recipe.biased)
    learned = [part for part in parts if part.requires_grad]
    model = Autoencoder(*parts)
    optimiser = torch.optim.Adam(learned, lr=learning_rate)
    order = torch.empty(0, dtype=torch.int64)
    for step in range(steps):
        if len(order) < min(batch_size, len(x)):
            order = torch.randperm(len(x), generator=random)
        rows, order = order[:batch_size].to(x.device), order[batch_size:]
        optimiser.param_groups[0]["lr"] = decayed(step, steps) * learning_rate
        optimiser.zero_grad()
        recipe.loss(model, x[rows], (step + 1) / steps).backward()
        torch.nn.utils.clip_grad_norm_(learned, LONGEST_GRADIENT)
        optimiser.step()
        with torch.no_grad():
            recipe.constrain(model)
    return Autoencoder(*(part.detach() for part in parts))


def scaled(x: np.ndarray) -> tuple[Tensor, float]:
    """Return PFVs [N, C] on the device, of mean length sqrt(C), and the factor that makes them so."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    scale = math.sqrt(x.shape[1]) / max(float(np.linalg.norm(x, axis=1).mean()), 1e-30)
    return torch.from_numpy(x).to(device) * scale, scale


def folded(model: Autoencoder, scale: float, activation: Activation = "relu", level: float = 0.0) -> Encoder:
    """Return the encoder of unscaled PFVs into concept vectors of length 1; `level` is one of scaled features."""
    norms = model.decoder.norm(dim=0)
    return Encoder(
        weights=(model.encoder * norms[:, None]).cpu().numpy(),
        bias=(model.encoder_bias * norms / scale).cpu().numpy(),
        offset=(model.decoder_bias / scale).cpu().numpy(),
        activation=activation,
        level=level / scale if activation == "threshold" else level,
    )


def as_concepts(x: np.ndarray, model: Autoencoder, encoder: Encoder) -> Extraction:
    """Return the decoder's columns as the concepts of PFVs x [N, C]; members are the PFVs in which one is active."""
    vectors = (model.decoder / model.decoder.norm(dim=0).clamp_min(1e-30)).T.cpu().numpy()
    active = Active(*vectors.shape)
    for rows in range(0, len(x), 4096):
        active.add(x[rows : rows + 4096], encoder.dense(x[rows : rows + 4096]) > 0)
    size, dead = active.size, int((active.size == 0).sum())
    note = f"{size.sum() / max(1, len(x)):.1f} active features per PFV; {dead} of {len(size)} features are dead: "
    return Extraction(
        vectors.astype(np.float32), size, active.cohesion, encoder=encoder, notes=(note + "active in no PFV",)
    )
