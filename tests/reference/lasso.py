"""Eq. 2 literally: coordinate descent in float64, one coefficient after the other, until nothing moves."""

from __future__ import annotations

import numpy as np


def objective(x: np.ndarray, v: np.ndarray, u: np.ndarray, lam: float) -> float:
    """1/2 |x - u V|^2 + lambda |u|_1 in float64."""
    r = x.astype(np.float64) - u.astype(np.float64) @ v.astype(np.float64)
    return float(0.5 * r @ r + lam * np.abs(u.astype(np.float64)).sum())


def pull(c: np.ndarray, sign: str) -> np.ndarray:
    """How strongly correlations pull coefficients from zero: |c|, or their positive part."""
    return np.maximum(c, 0) if sign == "nonnegative" else np.abs(c)


def gap(x: np.ndarray, v: np.ndarray, u: np.ndarray, lam: float, sign: str = "any") -> float:
    """Primal minus dual at theta = s r, s the best scale with pull(V theta) <= lambda and s <= 1."""
    x, v, u = (array.astype(np.float64) for array in (x, v, u))
    r = x - u @ v
    s = min(1.0, lam / max(pull(v @ r, sign).max(), 1e-300), max(0.0, x @ r / max(r @ r, 1e-300)))
    dual = 0.5 * x @ x - 0.5 * (x - s * r) @ (x - s * r)
    return objective(x, v, u, lam) - float(dual)


def lasso(
    x: np.ndarray, v: np.ndarray, lam: float, tol: float = 1e-10, sweeps: int = 200_000, sign: str = "any"
) -> np.ndarray:
    """Solve Eq. 2 for one sample x [C], u of either sign or non-negative, until primal - dual <= tol * primal."""
    gram = v.astype(np.float64) @ v.astype(np.float64).T
    g = v.astype(np.float64) @ x.astype(np.float64)
    u = np.zeros(len(v))
    for sweep in range(sweeps):
        for j in np.flatnonzero(np.diag(gram) > 0):
            z = u[j] * gram[j, j] + g[j]
            new = np.sign(z) * max(pull(z, sign) - lam, 0.0) / gram[j, j]
            if new != u[j]:
                g -= gram[j] * (new - u[j])
                u[j] = new
        if sweep % 10 == 9 and gap(x, v, u, lam, sign) <= tol * objective(x, v, u, lam):
            return u
    raise AssertionError("the reference did not converge")
