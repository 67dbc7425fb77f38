"""The coefficients of PFVs in concepts (Eqs. 1 and 2), by one of three methods or the extractor's own encoder.

- ``lasso``: Eq. 2, the paper's.
- ``refitted``: the least squares on the lasso's support, without its shrinkage: the relaxed lasso with its second
  penalty zero (Meinshausen, "Relaxed lasso", CSDA 2007).
- ``pursuit``: orthogonal matching pursuit with a number of concepts (`gigraph.method.pursuit`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np

from gigraph.method.encoder import Encoder
from gigraph.method.lasso import MEMORY, Calibration, Codes, Solver, calibrate, lambda_max
from gigraph.method.pursuit import Pursuit
from gigraph.method.reconstruction import relative_l2

ENCODER = "encoder"
"""The method and the penalty of a calibration where an encoder gives the coefficients."""
LOOSE = 1e-3
"""Relative duality gap where a lambda is only tried."""


def sparse(numbers: Sequence[int], concepts: int, channels: int) -> list[int]:
    """Return the numbers of non-zeros that can be taken of K concepts in C channels, ascending: at most C / 2 and K.

    As many concepts as there are channels code any PFV exactly, whatever they are, as a sum of opposites; deleting one
    of them then says little of it.
    """
    most = max(1, min(concepts, channels // 2))
    return sorted({min(number, most) for number in numbers})


def has_lambda(calibration: Mapping[str, Any]) -> bool:
    """Return whether a row of the table ``calibration`` fixes a lambda, of which there can be larger and smaller."""
    return calibration["penalty"] in ("absolute", "relative")


def settle(
    x: np.ndarray,
    vectors: np.ndarray,
    asked: Mapping[str, Any],
    nonzeros: float,
    tolerance: float,
    memory: int = MEMORY,
) -> tuple[dict[str, Any], Calibration | None]:
    """Return what fixes coefficients with so many non-zeros a PFV.

    Parameters
    ----------
    x : float32 array [N, C]
        Centred PFVs, on which a lambda is found.
    vectors : float32 array [K, C]
        Concept vectors.
    asked : mapping
        ``method`` and ``sign``.
    nonzeros : float
        Mean non-zeros of the lasso, or the number of concepts of a pursuit.
    tolerance, memory
        As of `Coder`.

    Returns
    -------
    fixed : dict
        ``method``, ``sign``, ``penalty`` and ``value``, as `Coder` takes them.
    found : Calibration or None
        How lambda was found; None for a pursuit.
    """
    fixed = {"method": asked["method"], "sign": asked["sign"], "penalty": "nonzeros", "value": nonzeros}
    if asked["method"] == "pursuit":
        return fixed, None
    found = calibrate(x, vectors, nonzeros, sign=asked["sign"], tol=tolerance, memory=memory)
    return fixed | {"penalty": "absolute", "value": found.lam}, found


class Coder:
    """The coefficients of centred PFVs on the concept vectors of one layer.

    Parameters
    ----------
    vectors : float32 array [K, C]
        Concept vectors.
    calibration : mapping
        ``method``, ``sign``, ``penalty`` and ``value``: a row of the table ``calibration``. The value is a lambda,
        or the pursuit's number of concepts.
    tolerance : float
        Largest relative duality gap of the lasso; a refit's support is that of such a solution.
    encoder : Encoder, optional
        Takes the method's place, if it codes; its codes have no certificate, NaN, but where it solves a least squares.
    memory : int
        Bytes that the work may hold at once.

    Raises
    ------
    ValueError
        If there is no such method.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        calibration: Mapping[str, Any],
        tolerance: float,
        encoder: Encoder | None = None,
        memory: int = MEMORY,
    ) -> None:
        encoder = encoder if encoder is not None and encoder.codes else None
        self.vectors, self.tolerance, self.encoder, self.calibration = vectors, tolerance, encoder, calibration
        self.method = calibration["method"] if encoder is None else ENCODER
        if self.method not in ("lasso", "refitted", "pursuit", ENCODER):
            raise ValueError(f"the method of coefficients must be lasso, refitted or pursuit, not {self.method!r}")
        lasso = self.method in ("lasso", "refitted")
        self.solver = Solver(vectors, sign=calibration["sign"], memory=memory) if lasso else None
        squares = self.method in ("refitted", "pursuit") or (encoder is not None and encoder.solves)
        self.pursuit = Pursuit(vectors, memory=memory) if squares else None

    def asking(self, calibration: Mapping[str, Any]) -> Coder:
        """Return what codes by the same method with another value, and shares all that the work holds."""
        assert all(calibration[key] == self.calibration[key] for key in ("method", "sign"))
        other = copy(self)
        other.calibration = calibration
        return other

    def __call__(self, x: np.ndarray, factor: float = 1.0) -> Codes:
        """Return the codes of x [N, C] with `factor` times the layer's lambda.

        Under another lambda than the layer's own, a duality gap of `LOOSE` is enough.

        Raises
        ------
        ValueError
            For a factor where there is no lambda.
        """
        if factor != 1 and not has_lambda(self.calibration):
            raise ValueError(f"the coefficients are of method {self.method}, which has no lambda to multiply")
        if self.solver is not None:
            codes = self._lasso(self.solver, x, factor)
            return codes if self.pursuit is None else self.pursuit.refit(x, codes, self.calibration["sign"])
        if self.encoder is not None:
            codes = self._encoded(self.encoder, x)
            return codes if self.pursuit is None else self.pursuit.refit(x, codes, "nonnegative")
        assert self.pursuit is not None
        return self.pursuit.solve(x, int(self.calibration["value"]), sign=self.calibration["sign"])

    def _lasso(self, solver: Solver, x: np.ndarray, factor: float) -> Codes:
        relative = self.calibration["penalty"] == "relative"
        lam = (
            factor
            * self.calibration["value"]
            * (lambda_max(x, self.vectors, self.calibration["sign"]) if relative else 1)
        )
        return solver.solve(x, lam, tol=self.tolerance if factor == 1 else max(self.tolerance, LOOSE))

    def _encoded(self, encoder: Encoder, x: np.ndarray) -> Codes:
        u = encoder.dense(x)
        rows, indices = np.nonzero(u)
        return Codes(
            indptr=np.append(0, np.cumsum(np.bincount(rows, minlength=len(x)))).astype(np.int64),
            indices=indices.astype(np.int32),
            values=u[rows, indices],
            gap=np.full(len(x), np.nan, np.float32),
            rel_l2=relative_l2(x, encoder.offset + u @ self.vectors).astype(np.float32),
            stationarity=np.full(len(x), np.nan, np.float32),
        )
