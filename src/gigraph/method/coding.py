"""The coefficients of PFVs in concepts: the lasso's, or those of the extractor's own encoder (Eqs. 1 and 2)."""

from __future__ import annotations

from typing import Any

import numpy as np

from gigraph.method.encoder import Encoder
from gigraph.method.lasso import MEMORY, Codes, Solver, lambda_max
from gigraph.method.reconstruction import relative_l2

ENCODER = "encoder"
"""The penalty of a calibration where an encoder gives the coefficients."""
LOOSE = 1e-3
"""Relative duality gap where a lambda is only tried."""


class Coder:
    """The coefficients of centred PFVs on the concept vectors of one layer.

    Parameters
    ----------
    vectors : float32 array [K, C]
        Concept vectors.
    calibration : dict
        ``penalty`` (absolute, relative or encoder) and ``value``: a row of the table ``calibration``.
    tolerance : float
        Largest relative duality gap.
    encoder : Encoder, optional
        Takes the lasso's place; its codes have no certificate, NaN.
    memory : int
        Bytes that the lasso may hold at once.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        calibration: dict[str, Any],
        tolerance: float,
        encoder: Encoder | None = None,
        memory: int = MEMORY,
    ) -> None:
        self.vectors, self.calibration, self.tolerance, self.encoder = vectors, calibration, tolerance, encoder
        self.solver = Solver(vectors, memory=memory) if encoder is None else None

    def __call__(self, x: np.ndarray, factor: float = 1.0) -> Codes:
        """Return the codes of x [N, C] with `factor` times the layer's lambda.

        Under another lambda than the layer's own, a duality gap of `LOOSE` is enough.
        """
        if self.solver is not None:
            relative = self.calibration["penalty"] == "relative"
            lam = factor * self.calibration["value"] * (lambda_max(x, self.vectors) if relative else 1)
            return self.solver.solve(x, lam, tol=self.tolerance if factor == 1 else max(self.tolerance, LOOSE))
        assert self.encoder is not None
        u = self.encoder.dense(x)
        rows, indices = np.nonzero(u)
        return Codes(
            indptr=np.append(0, np.cumsum(np.bincount(rows, minlength=len(x)))).astype(np.int64),
            indices=indices.astype(np.int32),
            values=u[rows, indices],
            gap=np.full(len(x), np.nan, np.float32),
            rel_l2=relative_l2(x, self.encoder.offset + u @ self.vectors).astype(np.float32),
            stationarity=np.full(len(x), np.nan, np.float32),
        )
