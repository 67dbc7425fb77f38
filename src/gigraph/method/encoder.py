"""An extractor's own encoder: how an autoencoder or filters code PFVs, where others leave that to the lasso."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

Activation = Literal["relu", "topk", "threshold", "support", "none"]


@dataclass(frozen=True)
class Encoder:
    """How a PFV z, centred at beta, becomes coefficients u: a = ReLU(W z + b), and X~ = beta + offset + U V.

    Attributes
    ----------
    weights : float32 array [m, C]
        W.
    bias : float32 array [m]
        b.
    offset : float32 array [C]
        The decoder's bias: what no concept explains, and what is there before the first one is inserted. With beta it
        is this extractor's centre (Eq. 9).
    activation : {"relu", "topk", "threshold", "support", "none"}
        ``relu``: u = a; ``topk``: the `level` largest of a; ``threshold``: what of a exceeds `level`; ``support``:
        where a is not zero, u is the non-negative least squares of z on the concept vectors; ``none``: it only detects,
        and u is another method's.
    level : float
        See `activation`.

    Raises
    ------
    ValueError
        If there is no such activation.
    """

    weights: np.ndarray
    bias: np.ndarray
    offset: np.ndarray
    activation: Activation = "relu"
    level: float = 0.0

    def __post_init__(self) -> None:
        if self.activation not in get_args(Activation):
            raise ValueError(f"activation must be one of {', '.join(get_args(Activation))}, not {self.activation!r}")

    @property
    def codes(self) -> bool:
        """Whether it gives the coefficients."""
        return self.activation != "none"

    def detecting(self) -> Encoder:
        """Return what only detects, and leaves the coefficients to another method, from beta."""
        return replace(self, activation="none", offset=np.zeros_like(self.offset))

    @property
    def solves(self) -> bool:
        """Whether `dense` gives no more than the support, on which a least squares is to be solved."""
        return self.activation == "support"

    def dense(self, x: np.ndarray) -> np.ndarray:
        """Return u, or where it `solves` a, [N, m] float32 of PFVs [N, C], centred at beta."""
        a = np.maximum(x @ self.weights.T + self.bias, 0).astype(np.float32)
        if self.activation == "topk" and self.level < a.shape[1]:
            # Of equal ones the first: as torch's, and whatever the batch.
            beyond = np.argsort(-a, axis=1, kind="stable")[:, int(self.level) :]
            np.put_along_axis(a, beyond, 0, 1)
        elif self.activation == "threshold":
            a[a <= self.level] = 0
        return a
