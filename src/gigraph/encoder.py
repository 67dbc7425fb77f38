"""An extractor's own encoder: how a sparse autoencoder codes PFVs, where others leave that to the lasso."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gigraph import tables


@dataclass(frozen=True)
class Encoder:
    """How a sparse autoencoder codes a PFV z, centred at beta: u = ReLU(W z + b), and X~ = beta + offset + U V.

    Attributes
    ----------
    weights : float32 array [m, C]
        W.
    bias : float32 array [m]
        b.
    offset : float32 array [C]
        The decoder's bias: what no concept explains, and what is there before the first one is inserted. With beta it
        is this extractor's centre (Eq. 9).
    """

    weights: np.ndarray
    bias: np.ndarray
    offset: np.ndarray

    def dense(self, x: np.ndarray) -> np.ndarray:
        """Return U [N, m] float32 of PFVs [N, C], centred at beta."""
        return np.maximum(x @ self.weights.T + self.bias, 0).astype(np.float32)


def encoder_path(concepts: str | Path) -> Path:
    """Return where the encoder lies that belongs to a table of concepts."""
    return Path(concepts).with_suffix(".encoder.parquet")


def read_encoder(concepts: str | Path) -> Encoder | None:
    """Return the encoder that belongs to a table of concepts, or None where the lasso gives the coefficients."""
    table = tables.read(encoder_path(concepts))
    if not len(table):
        return None
    weights = tables.numpy(table, "weights")
    return Encoder(weights[:-1], tables.numpy(table, "bias")[:-1], weights[-1])


def write_encoder(path: str | Path, encoder: Encoder | None, channels: int, lineage: str) -> None:
    """Write the table ``encoder``, the offset as its last row; without rows for None."""
    own = encoder or Encoder(np.empty((0, channels)), np.empty(0), np.zeros(channels))
    rows = len(own.weights) + (encoder is not None)
    columns = {
        "concept": [*range(len(own.weights)), None][:rows],
        "bias": np.append(own.bias, 0)[:rows].astype(np.float32),
        "weights": np.concatenate([own.weights, own.offset[None]])[:rows].astype(np.float32),
    }
    tables.write(path, "encoder", columns, lineage, vectors="weights")


def path_start(centre: str | Path, concepts: str | Path, baseline: str = "beta") -> np.ndarray:
    """Return what X~ is without any concept [C]: the layer's centre, moved by the offset of an encoder [Eq. 9].

    With the baseline "zero", Eq. 3 to the letter, it is zero.
    """
    encoder = read_encoder(concepts)
    start = tables.beta(centre) + (0 if encoder is None else encoder.offset)
    return start if baseline != "zero" else np.zeros_like(start)
