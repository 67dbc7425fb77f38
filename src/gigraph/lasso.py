r"""Coefficients of PFVs in concept vectors: the lasso of Eq. 2, each solution with its duality gap.

For each PFV x (centred) and concept vectors V [K, C]::

    u* = argmin_u  1/2 |x - V' u|^2 + lambda |u|_1                                                    [Eq. 2]

1. Work on a small set W of concepts, at first those of the largest |<v_j, x>|.
2. Coordinate descent on W, then Newton on the support: with the signs held, u_S solves G_SS u_S = q_S - lambda s_S.
3. Correlations c = V r over all concepts; those with |c_j| > lambda join W, and back to 2 until there are none.
4. Certificate from r = x - V' u itself: with s = min(lambda / |c|_inf, <x, r> / |r|^2) the dual point s r gives ::

       gap = 1/2 (1 - s)^2 |r|^2 + sum_j |u_j| (lambda - s sign(u_j) c_j),   every term >= 0.

The gap bounds how far the objective is above its minimum (Kim et al., "An interior-point method for large-scale
l1-regularized least squares", 2007; Massias et al., "Celer", 2018, for working sets). All sums are in float64.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numba import njit

BATCH = 1024
"""Samples whose correlations [batch, K] are held at once."""


@dataclass(frozen=True)
class Codes:
    """Sparse coefficients of N samples, as CSR, with their certificates.

    Attributes
    ----------
    indptr : array of int64 [N + 1]
    indices : array of int32
        Concepts of each sample, ascending.
    values : array of float32
        Their coefficients, none of them zero.
    rel_l2 : array of float32 [N]
        |x - V' u| / |x|; 0 for x = 0.
    gap : array of float32 [N]
        Duality gap over the objective.
    """

    indptr: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    rel_l2: np.ndarray
    gap: np.ndarray

    def nonzeros(self) -> np.ndarray:
        """Return the number of non-zeros of each sample [N]."""
        return np.diff(self.indptr)

    def dense(self, k: int) -> np.ndarray:
        """Return the coefficients as float32 [N, k]."""
        u = np.zeros((len(self.indptr) - 1, k), np.float32)
        u[np.repeat(np.arange(len(u)), self.nonzeros()), self.indices] = self.values
        return u


def lambda_max(x: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the smallest lambda for which u* = 0: |V x|_inf [N]; x [N, C], v [K, C]."""
    found = np.zeros(len(x))
    for first in range(0, len(x), BATCH):
        found[first : first + BATCH] = np.abs(x[first : first + BATCH].astype(np.float64) @ v.T.astype(np.float64)).max(1)
    return found


def lasso(x: np.ndarray, v: np.ndarray, lam: float | np.ndarray, *, tol: float = 1e-4) -> Codes:
    """Solve Eq. 2 for every row of x.

    Parameters
    ----------
    x : array of float32 [N, C]
        PFVs minus beta.
    v : array of float32 [K, C]
        Concept vectors, one per row.
    lam : float or array [N]
        lambda, positive.
    tol : float
        The relative duality gap promised of every solution.

    Returns
    -------
    Codes

    Raises
    ------
    ValueError
        If a value is not finite or lambda is not positive.
    """
    penalty = np.broadcast_to(np.asarray(lam, np.float64), len(x)).copy()
    if not (np.isfinite(x).all() and np.isfinite(v).all() and np.isfinite(penalty).all()):
        raise ValueError("lasso needs finite x, v and lambda")
    # lambda = 0 is meant for x = 0 alone, where lambda_max is 0 too.
    if (penalty < 0).any() or ((penalty == 0) & (x != 0).any(1)).any():
        raise ValueError("lasso needs a positive lambda")
    atoms = np.ascontiguousarray(v, np.float64)
    gram = atoms @ atoms.T if len(atoms) <= 4096 else np.empty((0, 0))
    parts = [
        _batch(x[first : first + BATCH].astype(np.float64), atoms, gram, penalty[first : first + BATCH], tol)
        for first in range(0, len(x), BATCH)
    ]
    if not parts:
        empty = np.empty(0, np.float32)
        return Codes(np.zeros(1, np.int64), empty.astype(np.int32), empty, empty, empty)
    counts = np.concatenate([part[0] for part in parts])
    codes = Codes(
        np.concatenate([[0], np.cumsum(counts)]),
        *(np.concatenate([part[i] for part in parts]) for i in (1, 2, 3, 4)),
    )
    missed = int((codes.gap > tol).sum())
    if missed:
        warnings.warn(f"lasso: {missed} of {len(x)} solutions stay above the duality gap {tol:g}", stacklevel=2)
    return codes


def _batch(x, atoms, gram, lam, tol):
    """Solve one batch; what misses the tolerance is solved again, ever more tightly."""
    u = np.zeros((len(x), len(atoms)))
    todo = np.arange(len(x))
    for inner in (1e-2 * tol, 1e-5 * tol, 1e-16):
        u[todo] = _solve(x[todo], atoms, gram, x[todo] @ atoms.T, lam[todo], inner)
        # The coefficients are certified as they are stored.
        u = u.astype(np.float32).astype(np.float64)
        gap, rel_l2 = certify(x, atoms, u, lam)
        todo = np.flatnonzero(gap > tol)
        if not len(todo):
            break
    row, column = np.nonzero(u)
    return (
        np.bincount(row, minlength=len(x)), column.astype(np.int32), u[row, column].astype(np.float32),
        rel_l2.astype(np.float32), gap.astype(np.float32),
    )  # fmt: skip


def certify(x: np.ndarray, v: np.ndarray, u: np.ndarray, lam: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the relative duality gap and |x - V' u| / |x| of given coefficients.

    Parameters
    ----------
    x, v, u, lam : array of float64 [N, C], [K, C], [N, K], [N]

    Returns
    -------
    gap, rel_l2 : array of float64 [N]
        Both 0 for x = 0.
    """
    r = x - u @ v
    c = r @ v.T
    square = (r * r).sum(1)
    largest = np.abs(c).max(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        s = np.fmin(lam / largest, (x * r).sum(1) / square)
        s = np.where(np.isfinite(s), np.maximum(s, 0), 1.0)
        slack = np.maximum(lam[:, None] - s[:, None] * np.sign(u) * c, 0)
        gap = 0.5 * (1 - s) ** 2 * square + (np.abs(u) * slack).sum(1)
        primal = 0.5 * square + lam * np.abs(u).sum(1)
        size = (x * x).sum(1)
        relative = np.where(primal > 0, gap / primal, 0)
        return relative, np.sqrt(np.where(size > 0, square / size, 0))


@njit(cache=True)
def _solve(x, atoms, gram, q_all, lam_all, tol):
    """Solve each sample by working sets; u [N, K]. `tol` is on the change of the objective, relative to |x|^2."""
    n, k = q_all.shape
    result = np.zeros((n, k))
    working = np.empty(k, np.int64)
    inside = np.zeros(k, np.bool_)
    for i in range(n):
        q, lam = q_all[i], lam_all[i]
        u = result[i]
        scale = np.dot(x[i], x[i])
        size = 0
        c = q.copy()
        for _ in range(100):
            # Newcomers: the worst violators, at most as many as the set has, and ten at the least.
            room = max(10, size)
            violation = np.abs(c) - lam * (1 + 1e-9)
            for j in range(k):
                if inside[j]:
                    violation[j] = -1.0
            added = 0
            if (violation > 0).sum() > room:
                for j in np.argsort(-violation)[:room]:
                    working[size + added] = j
                    added += 1
            else:
                for j in range(k):
                    if violation[j] > 0:
                        working[size + added] = j
                        added += 1
            if added == 0:
                break
            for a in range(size, size + added):
                inside[working[a]] = True
            size += added
            w = working[:size]
            g = np.empty((size, size))
            for a in range(size):
                for b in range(a + 1):
                    value = gram[w[a], w[b]] if len(gram) else np.dot(atoms[w[a]], atoms[w[b]])
                    g[a, b] = value
                    g[b, a] = value
            inner = u[w].copy()
            _descend(g, q[w], lam, inner, tol * scale)
            for a in range(size):
                u[w[a]] = inner[a]
            r = x[i].copy()
            for a in range(size):
                if inner[a] != 0:
                    r -= inner[a] * atoms[w[a]]
            c = np.dot(atoms, r)
        for a in range(size):
            inside[working[a]] = False
    return result


@njit(cache=True)
def _descend(g, q, lam, u, tol):
    """Minimise 1/2 u' g u - q' u + lam |u|_1 in place: coordinate descent, with Newton on the support when it helps."""
    size = len(q)
    grad = q - np.dot(g, u)
    for sweep in range(10000):
        change = 0.0
        for j in range(size):
            if g[j, j] <= 0:
                continue
            old = u[j]
            z = grad[j] + g[j, j] * old
            new = 0.0
            if z > lam:
                new = (z - lam) / g[j, j]
            elif z < -lam:
                new = (z + lam) / g[j, j]
            if new != old:
                delta = new - old
                u[j] = new
                for a in range(size):
                    grad[a] -= delta * g[a, j]
                change = max(change, 0.5 * g[j, j] * delta * delta)
        if change <= tol:
            break
        if sweep % 5 == 4 and _newton(g, q, lam, u):
            grad = q - np.dot(g, u)


@njit(cache=True)
def _newton(g, q, lam, u):
    """Move to the minimum with the signs held, or along the way until a coefficient reaches zero."""
    support = np.flatnonzero(u)
    m = len(support)
    if m == 0:
        return False
    # Cholesky of g_SS; a concept that depends on the others in the support ends the attempt.
    low = np.empty((m, m))
    for a in range(m):
        for b in range(a + 1):
            total = g[support[a], support[b]]
            for c in range(b):
                total -= low[a, c] * low[b, c]
            if a == b:
                if total <= 1e-10 * g[support[a], support[a]]:
                    return False
                low[a, a] = np.sqrt(total)
            else:
                low[a, b] = total / low[b, b]
    y = np.empty(m)
    for a in range(m):
        total = q[support[a]] - lam * np.sign(u[support[a]])
        for b in range(a):
            total -= low[a, b] * y[b]
        y[a] = total / low[a, a]
    for a in range(m - 1, -1, -1):
        total = y[a]
        for b in range(a + 1, m):
            total -= low[b, a] * y[b]
        y[a] = total / low[a, a]
    step, blocked = 1.0, -1
    for a in range(m):
        old = u[support[a]]
        if y[a] * old <= 0:
            reach = old / (old - y[a])
            if reach < step:
                step, blocked = reach, a
    for a in range(m):
        u[support[a]] += step * (y[a] - u[support[a]])
    if blocked >= 0:
        u[support[blocked]] = 0.0
    return True


@dataclass(frozen=True)
class Calibration:
    """A calibrated lambda, and what it reaches: mean non-zeros and mean relative l2 error per PFV."""

    lam: float
    nonzeros: float
    rel_l2: float


def calibrate(x: np.ndarray, v: np.ndarray, nonzeros: float, *, tol: float = 1e-4, passes: int = 14) -> Calibration:
    """Find the one lambda of a layer for which the mean number of non-zeros is `nonzeros`.

    The search is by secants and bisection on log lambda; the number of non-zeros falls with lambda, if not strictly,
    so that the nearest found is returned when the target cannot be met within 1%.

    Parameters
    ----------
    x, v : array of float32 [N, C], [K, C]
        A subsample of centred PFVs, and the concept vectors.
    nonzeros : float
        The target.
    tol : float
        Duality gap.
    passes : int
        Solutions of the subsample that may be tried.
    """
    top = float(lambda_max(x, v).max(initial=0))
    if top <= 0:
        return Calibration(1.0, 0.0, 0.0)
    low, high = np.log(top * 1e-5), np.log(top)
    best: Calibration | None = None
    point = np.log(top * 0.05)
    for _ in range(passes):
        codes = lasso(x, v, float(np.exp(point)), tol=tol)
        found = Calibration(float(np.exp(point)), float(codes.nonzeros().mean()), float(codes.rel_l2.mean()))
        if best is None or abs(found.nonzeros - nonzeros) < abs(best.nonzeros - nonzeros):
            best = found
        if abs(found.nonzeros - nonzeros) <= 0.01 * nonzeros:
            break
        if found.nonzeros > nonzeros:
            low = point
        else:
            high = point
        # Non-zeros fall about as 1 / lambda; where that guess leaves the bracket's inner part, halve it.
        guess = point + np.log(max(found.nonzeros, 1e-3) / nonzeros)
        edge = 0.1 * (high - low)
        point = guess if low + edge < guess < high - edge else 0.5 * (low + high)
    assert best is not None
    return best
