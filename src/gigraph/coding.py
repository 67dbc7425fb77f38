"""The coefficients of PFVs in concepts: the lasso's, or those of the extractor's own encoder (Eqs. 1 and 2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gigraph import tables
from gigraph.extractors.extraction import Encoder
from gigraph.lasso import MEMORY, Codes, lambda_max, lasso
from gigraph.reconstruction import relative_l2

ENCODER = "encoder"
"""The penalty of a calibration where an encoder gives the coefficients."""


def code(
    x: np.ndarray,
    vectors: np.ndarray,
    calibration: dict[str, Any],
    tolerance: float,
    encoder: Encoder | None = None,
    memory: int = MEMORY,
) -> Codes:
    """Return the coefficients of centred PFVs [N, C] on concept vectors [K, C].

    Parameters
    ----------
    calibration : dict
        ``penalty`` (absolute, relative or encoder) and ``value``: a row of the table ``calibration``.
    tolerance : float
        Largest relative duality gap.
    encoder : Encoder, optional
        Takes the lasso's place; its codes have no duality gap, NaN.
    memory : int
        Bytes that the lasso may hold at once.
    """
    if encoder is None:
        lam = calibration["value"] * (lambda_max(x, vectors) if calibration["penalty"] == "relative" else 1)
        return lasso(x, vectors, lam, tol=tolerance, memory=memory)
    u = encoder.dense(x)
    rows, indices = np.nonzero(u)
    return Codes(
        indptr=np.append(0, np.cumsum(np.bincount(rows, minlength=len(x)))).astype(np.int64),
        indices=indices.astype(np.int32),
        values=u[rows, indices],
        gap=np.full(len(x), np.nan, np.float32),
        rel_l2=relative_l2(x, u @ vectors).astype(np.float32),
    )


def encoder_path(concepts: str | Path) -> Path:
    """Return where the encoder lies that belongs to a table of concepts."""
    return Path(concepts).with_suffix(".encoder.parquet")


def read_encoder(concepts: str | Path) -> Encoder | None:
    """Return the encoder that belongs to a table of concepts, or None where the lasso gives the coefficients."""
    table = tables.read(encoder_path(concepts))
    return Encoder(tables.numpy(table, "weights"), tables.numpy(table, "bias")) if len(table) else None
