"""Sparse coefficients of many samples, compressed by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Sign = Literal["any", "nonnegative"]
"""Of coefficients."""


@dataclass(frozen=True)
class Codes:
    """Sparse coefficients of N samples, compressed by row.

    Attributes
    ----------
    indptr : int64 array [N + 1]
        Sample i holds entries ``indptr[i]:indptr[i + 1]``.
    indices : int32 array [entries]
        Concepts, ascending within a sample.
    values : float32 array [entries]
        Their coefficients, none zero.
    gap : float32 array [N]
        Duality gap over primal: by at most this share does the lasso's objective exceed the optimum; NaN where no
        lasso was solved.
    rel_l2 : float32 array [N]
        |x - u V| / |x|; 0 where x is zero.
    stationarity : float32 array [N]
        max |v_j . r| / (|v_j| |x|) over the concepts used, for r = x - u V: how far u is from the least squares on
        its own support, whose residual is orthogonal to it; 0 where x or u is zero, NaN where no least squares were
        solved.
    """

    indptr: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    gap: np.ndarray
    rel_l2: np.ndarray
    stationarity: np.ndarray

    def dense(self, k: int) -> np.ndarray:
        """Return U [N, k] float32."""
        u = np.zeros((len(self.gap), k), dtype=np.float32)
        u[np.repeat(np.arange(len(self.gap)), self.nonzeros()), self.indices] = self.values
        return u

    def nonzeros(self) -> np.ndarray:
        """Return the number of concepts each sample uses, int64 [N]."""
        return np.diff(self.indptr)


def is_signed(sign: Sign) -> bool:
    """Return whether coefficients may have either sign.

    Raises
    ------
    ValueError
        If `sign` is neither ``any`` nor ``nonnegative``.
    """
    if sign not in get_args(Sign):
        raise ValueError(f"sign must be any or nonnegative, not {sign!r}")
    return sign == "any"


def chunks(rows: int, step: int) -> list[slice]:
    """Cut so many rows into slices of at most `step`."""
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def compressed(
    work: np.ndarray,
    u: np.ndarray,
    rel_l2: np.ndarray,
    *,
    gap: np.ndarray | None = None,
    stationarity: np.ndarray | None = None,
) -> Codes:
    """Compress padded working sets: atoms `work` and coefficients `u` [B, width]; padding has u = 0.

    A certificate that is not given is NaN.
    """
    row, column = np.nonzero(u)
    atom = work[row, column]
    order = np.lexsort((atom, row))
    indptr = np.zeros(len(u) + 1, dtype=np.int64)
    np.cumsum(np.bincount(row, minlength=len(u)), out=indptr[1:])
    return Codes(
        indptr=indptr,
        indices=atom[order].astype(np.int32),
        values=u[row, column][order].astype(np.float32),
        gap=_certificate(gap, len(u)),
        rel_l2=rel_l2.astype(np.float32),
        stationarity=_certificate(stationarity, len(u)),
    )


def _certificate(given: np.ndarray | None, samples: int) -> np.ndarray:
    return np.full(samples, np.nan, dtype=np.float32) if given is None else given.astype(np.float32)


def joined(parts: list[Codes]) -> Codes:
    """Return the codes of several batches as those of all their samples, in order."""
    if not parts:
        return compressed(np.zeros((0, 1), np.int32), np.zeros((0, 1)), np.zeros(0))
    offsets = np.cumsum([0] + [part.indptr[-1] for part in parts])
    return Codes(
        indptr=np.concatenate(
            [[0], *(part.indptr[1:] + offset for part, offset in zip(parts, offsets, strict=False))]
        ).astype(np.int64),
        indices=np.concatenate([part.indices for part in parts]),
        values=np.concatenate([part.values for part in parts]),
        gap=np.concatenate([part.gap for part in parts]),
        rel_l2=np.concatenate([part.rel_l2 for part in parts]),
        stationarity=np.concatenate([part.stationarity for part in parts]),
    )
