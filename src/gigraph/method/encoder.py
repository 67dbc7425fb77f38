"""An extractor's own encoder: how a sparse autoencoder codes PFVs, where others leave that to the lasso."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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
