"""Orthogonal matching pursuit literally, in float64: least squares afresh at each atom, for one sample."""

from __future__ import annotations

import numpy as np

FLOOR = 1e-6
SINE = 1e-3


def least_squares(x: np.ndarray, v: np.ndarray, support: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the coefficients on the support's atoms and the residual."""
    if not support:
        return np.zeros(0), x
    u = np.linalg.lstsq(v[support].T, x, rcond=None)[0]
    return u, x - u @ v[support]


def choice(v: np.ndarray, r: np.ndarray, support: list[int], sign: str) -> int | None:
    """Return the unit atom that correlates most with r and is not in the support's span; None without any."""
    strength = v @ r if sign == "nonnegative" else np.abs(v @ r)
    for j in np.argsort(-strength, kind="stable"):
        if strength[j] <= FLOOR:
            return None
        if j not in support and np.linalg.norm(least_squares(v[j], v, support)[1]) > SINE:
            return int(j)
    return None


def omp(
    x: np.ndarray, v: np.ndarray, nonzeros: int, residual: float = 0.0, sign: str = "any"
) -> tuple[list[int], np.ndarray, list[float]]:
    """Pursue x [C] on v [K, C]; return the support as chosen, u [K], and |r| / |x| after each step."""
    x, v = x.astype(np.float64), v.astype(np.float64)
    lengths, length = np.linalg.norm(v, axis=1), np.linalg.norm(x)
    atoms = v / np.where(lengths > 0, lengths, 1)[:, None]
    sample = x / length
    support: list[int] = []
    coefficients, r, path = np.zeros(0), sample, [1.0]
    while len(support) < nonzeros and np.linalg.norm(r) > max(residual, FLOOR):
        j = choice(atoms, r, support, sign)
        if j is None:
            break
        support, coefficients = [*support, j], np.append(coefficients, 0.0)
        goal, r = least_squares(sample, atoms, support)
        while sign == "nonnegative" and (goal <= 0).any():  # Lawson & Hanson's inner loop
            reach = [a / (a - b) if b <= 0 else np.inf for a, b in zip(coefficients, goal, strict=True)]
            coefficients = coefficients + min(reach) * (goal - coefficients)
            coefficients[int(np.argmin(reach))] = 0.0
            kept = np.flatnonzero(coefficients > 0)
            support, coefficients = [support[p] for p in kept], coefficients[kept]
            goal, r = least_squares(sample, atoms, support)
        coefficients = goal
        path.append(float(np.linalg.norm(r)))
    u = np.zeros(len(v))
    u[support] = coefficients * length / lengths[support]
    return support, u, path
