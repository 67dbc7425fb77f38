"""Eq. 2 literally: coordinate descent in float64, one coefficient after the other, until nothing moves."""

from __future__ import annotations

import numpy as np


def objective(x: np.ndarray, v: np.ndarray, u: np.ndarray, lam: float) -> float:
    """1/2 |x - u V|^2 + lambda |u|_1 in float64."""
    r = x.astype(np.float64) - u.astype(np.float64) @ v.astype(np.float64)
    return float(0.5 * r @ r + lam * np.abs(u.astype(np.float64)).sum())


def dual(x: np.ndarray, v: np.ndarray, u: np.ndarray, lam: float) -> float:
    """The dual objective 1/2 |x|^2 - 1/2 |x - theta|^2 at theta = r, shrunk until |V theta|_inf <= lambda."""
    x, v = x.astype(np.float64), v.astype(np.float64)
    r = x - u @ v
    theta = r * min(1.0, lam / max(np.abs(v @ r).max(), 1e-300))
    return float(0.5 * x @ x - 0.5 * (x - theta) @ (x - theta))


def lasso(x: np.ndarray, v: np.ndarray, lam: float, tol: float = 1e-10, sweeps: int = 200_000) -> np.ndarray:
    """Solve Eq. 2 for one sample x [C] until primal - dual <= tol * primal."""
    gram = v.astype(np.float64) @ v.astype(np.float64).T
    g = v.astype(np.float64) @ x.astype(np.float64)
    u = np.zeros(len(v))
    for sweep in range(sweeps):
        for j in np.flatnonzero(np.diag(gram) > 0):
            z = u[j] * gram[j, j] + g[j]
            new = np.sign(z) * max(abs(z) - lam, 0.0) / gram[j, j]
            if new != u[j]:
                g -= gram[j] * (new - u[j])
                u[j] = new
        if sweep % 10 == 9:
            primal = objective(x, v, u, lam)
            if primal - dual(x, v, u, lam) <= tol * primal:
                return u
    raise AssertionError("the reference did not converge")
