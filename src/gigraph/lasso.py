"""The coefficients of vectors on concept vectors: lasso with a certificate (Eqs. 1-2).

Notation: x [C] a centred PFV, V [K, C] concept vectors as rows, u [K] coefficients, r = x - u V the residual,
c = V r the correlations, lambda the penalty, P(u) = 1/2 |r|^2 + lambda |u|_1 the primal of Eq. 2.

Per batch of samples, until each has its certificate:

1. r from the stored (float32) u, in float64; c for all K atoms by one thin matrix product in float32.
2. Certified: relative duality gap <= tol. Else the working set is the support and the worst violators |c_j| > lambda.
3. On the working set: coordinate descent finds the signed support, Newton's method solves it, and a coefficient that
   would change sign is stepped to zero and dropped.

**Certificate.** s r with s = min(lambda / |c|_inf, x.r / |r|^2) is dual feasible and

    gap = 1/2 (1 - s)^2 |r|^2 + sum_j |u_j| (lambda - s sign(u_j) c_j),

each term >= 0, bounds P(u) - min P. Atoms whose float32 correlation plus its error bound exceeds lambda are recomputed
in float64, so |c|_inf is never under-estimated; the reported gap is gap / P(u). Textbooks' primal minus dual
cancels, and turns negative in float32.

References: Lee, Battle, Raina & Ng, "Efficient sparse coding algorithms", NIPS 2006 (signed support); Massias,
Gramfort & Salmon, "Celer", ICML 2018 (working sets); Ndiaye et al., "Gap safe screening rules", JMLR 2017 (gap).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

try:
    from numba import njit
except ImportError:  # the torch path needs no compiler
    njit = None  # type: ignore[assignment]

Backend = Literal["auto", "numba", "torch"]

GRAM_BYTES = 2**30
"""Memory that the K x K products of the concept vectors may take; beyond it, blocks are formed as needed."""
FLOAT32_UNIT = 2.0**-24
# Inside a working set the optimality conditions are met to this fraction of lambda.
INNER = 1e-7
SMALLEST_TOL = 1e-6
"""Coefficients are stored in float32, which no certificate can beat by much."""
# A pivot below this fraction of its diagonal is noise: Gram blocks carry float32 rounding.
SINGULAR = 3e-6
FIRST_ATOMS = 10


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
        Duality gap over primal: by at most this share does the objective exceed the optimum.
    rel_l2 : float32 array [N]
        |x - u V| / |x|; 0 where x is zero.
    """

    indptr: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    gap: np.ndarray
    rel_l2: np.ndarray

    def dense(self, k: int) -> np.ndarray:
        """Return U [N, k] float32."""
        u = np.zeros((len(self.gap), k), dtype=np.float32)
        u[np.repeat(np.arange(len(self.gap)), self.nonzeros()), self.indices] = self.values
        return u

    def nonzeros(self) -> np.ndarray:
        """Return the number of concepts each sample uses, int64 [N]."""
        return np.diff(self.indptr)


@dataclass(frozen=True)
class Calibration:
    """A penalty for one layer, and what it gave on the subsample.

    Attributes
    ----------
    lam : float
        Absolute lambda.
    nonzeros, rel_l2 : float
        Mean number of non-zeros and mean relative l2 error reached with it. `nonzeros` stays below the target
        where the dictionary cannot yield as many.
    """

    lam: float
    nonzeros: float
    rel_l2: float


def lambda_max(x: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return |V x|_inf [N] float64, the smallest lambda for which u = 0 solves Eq. 2.

    The float32 products' error bound is added, so that a sample with this lambda is certified to be zero.
    """
    x, v = np.asarray(x, dtype=np.float32), np.asarray(v, dtype=np.float32)
    out = np.zeros(len(x))
    if not len(v):
        return out
    longest = np.sqrt(np.einsum("kc,kc->k", v, v, dtype=np.float64).max())
    for part in _parts(len(x), max(1, 2**24 // len(v))):
        length = np.sqrt(np.einsum("nc,nc->n", x[part], x[part], dtype=np.float64))
        top = np.abs(x[part] @ v.T).max(axis=1).astype(np.float64)
        out[part] = top + _dot_error(v.shape[1]) * longest * length
    return out


def lasso(
    x: np.ndarray,
    v: np.ndarray,
    lam: float | np.ndarray,
    *,
    tol: float = 1e-4,
    max_rounds: int = 100,
    backend: Backend = "auto",
    batch: int | None = None,
    device: str | None = None,
) -> Codes:
    """Solve min_u 1/2 |x - u V|^2 + lambda |u|_1 for each row of x (Eq. 2), u of either sign.

    Parameters
    ----------
    x : float32 array [N, C]
        Centred PFVs.
    v : float32 array [K, C]
        Concept vectors.
    lam : float or array [N]
        Penalty, absolute; positive wherever V x is not zero.
    tol : float
        Relative duality gap that every sample will have, at least 1e-6.
    max_rounds : int
        Most working sets tried per sample.
    backend : {"auto", "numba", "torch"}
        ``auto``: torch where there is a CUDA device or no numba, else numba.
    batch : int, optional
        Samples in memory at once, with K float32 correlations each; the solution does not depend on it beyond
        rounding. Default: 64 MiB of correlations.
    device : str, optional
        Of the torch backend; default ``cuda`` where there is one, else ``cpu``.

    Returns
    -------
    Codes

    Raises
    ------
    ValueError
        For shapes that do not fit, a value that is not finite, a tolerance below 1e-6, or a lambda that is negative,
        not finite, or zero for a sample that some concept vector could improve.

    Warns
    -----
    UserWarning
        If samples miss `tol` after all, with their number and the worst gap. A lambda below about 1e-3 of lambda_max
        can bring this about: the residual then drowns in the rounding of float32 coefficients.
    """
    x, v, lams = _checked(x, v, lam, tol)
    chosen, place = _choose(backend, device)
    if batch is None:
        batch = max(16, min(4096, 2**24 // max(1, len(v))))
    parts = []
    solver = _Compiled(v, len(x)) if chosen == "numba" else _Torch(v, place)
    for part in _parts(len(x), batch):
        parts.append(solver.solve(x[part], lams[part], tol, max_rounds))
    codes = _joined(parts)
    missed = codes.gap > tol
    if missed.any():
        warnings.warn(
            f"{missed.sum()} of {len(x)} samples miss the relative duality gap {tol:g} after {max_rounds} rounds; "
            f"the worst has {codes.gap.max():.2g}. A larger lambda or tolerance would be met",
            stacklevel=2,
        )
    return codes


def calibrate(
    x: np.ndarray,
    v: np.ndarray,
    nonzeros: float,
    *,
    tol: float = 1e-3,
    accuracy: float = 0.02,
    backend: Backend = "auto",
    device: str | None = None,
) -> Calibration:
    """Find the absolute lambda with which samples use `nonzeros` concepts on average.

    Parameters
    ----------
    x : float32 array [N, C]
        A subsample of the layer's centred PFVs.
    v : float32 array [K, C]
        Concept vectors.
    nonzeros : float
        Target of the mean number of non-zeros, positive.
    tol : float
        Relative duality gap of the trial solutions.
    accuracy : float
        Stop within this share of the target.
    backend, device
        As in `lasso`.

    Returns
    -------
    Calibration
        With what was reached; short of the target if that needs more concepts than lambda = 1e-3 of the median
        lambda_max gives (samples cannot use more atoms than V has rank).

    Raises
    ------
    ValueError
        If the target is not positive, or every sample is zero or orthogonal to V.

    Notes
    -----
    The count falls as lambda grows, save for small non-monotone stretches of the path; the secant in
    (log lambda, log count) is guarded by bisection, 4 to 8 trials in all.
    """
    if not nonzeros > 0:
        raise ValueError(f"the target of non-zeros must be positive, not {nonzeros}")
    largest = lambda_max(x, v)
    largest = largest[np.asarray(x).any(axis=1)]
    if not largest.size or largest.max() <= 0:
        raise ValueError("no sample has a component along any concept vector: there is nothing to calibrate")

    def trial(log_lam: float) -> Calibration:
        codes = lasso(x, v, math.exp(log_lam), tol=tol, backend=backend, device=device)
        return Calibration(math.exp(log_lam), float(codes.nonzeros().mean()), float(codes.rel_l2.mean()))

    # `high` gives too few non-zeros, `low` too many; counts are compared as logarithms.
    high, high_count = math.log(largest.max()), 0.0
    floor = math.log(np.median(largest)) + math.log(1e-3)
    low, low_count = floor, math.inf
    best: Calibration | None = None
    guess = math.log(np.median(largest)) + math.log(0.3)
    for step in range(24):
        found = trial(guess)
        if best is None or abs(found.nonzeros - nonzeros) < abs(best.nonzeros - nonzeros):
            best = found
        if abs(found.nonzeros - nonzeros) <= accuracy * nonzeros or (guess == floor and found.nonzeros < nonzeros):
            break
        if found.nonzeros < nonzeros:
            high, high_count = guess, found.nonzeros
        else:
            low, low_count = guess, found.nonzeros
        if high - low < 1e-4:
            break
        if math.isinf(low_count):
            guess = max(floor, guess - math.log(4.0))
        elif high_count == 0 or step % 3 == 2:
            guess = (low + high) / 2
        else:
            share = math.log(nonzeros / low_count) / math.log(high_count / low_count)
            guess = low + min(0.95, max(0.05, share)) * (high - low)
    assert best is not None
    return best


def _checked(
    x: np.ndarray, v: np.ndarray, lam: float | np.ndarray, tol: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x = np.ascontiguousarray(x, dtype=np.float32)
    v = np.ascontiguousarray(v, dtype=np.float32)
    if x.ndim != 2 or v.ndim != 2 or x.shape[1] != v.shape[1]:
        raise ValueError(f"x must be [N, C] and v [K, C], not {x.shape} and {v.shape}")
    if not tol >= SMALLEST_TOL:
        raise ValueError(f"tol must be at least {SMALLEST_TOL:g}, not {tol}: coefficients are float32")
    for name, array in (("x", x), ("v", v)):
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds a value that is not finite")
    lams = np.broadcast_to(np.asarray(lam, dtype=np.float64), (len(x),)).copy()
    if not (np.isfinite(lams).all() and (lams >= 0).all()):
        raise ValueError("lambda must be finite and not negative")
    for i in np.flatnonzero(lams == 0):
        if (v.astype(np.float64) @ x[i].astype(np.float64)).any():
            raise ValueError(f"lambda is zero for sample {i}, which is not orthogonal to the concept vectors")
    return x, v, lams


def _choose(backend: Backend, device: str | None) -> tuple[str, str]:
    if backend not in ("auto", "numba", "torch"):
        raise ValueError(f"backend must be auto, numba or torch, not {backend!r}")
    if backend == "numba" and njit is None:
        raise ValueError("backend 'numba' was asked for, but numba is not installed")
    if backend == "numba":
        return "numba", "cpu"
    import torch

    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if backend == "torch" or njit is None or place != "cpu":
        return "torch", place
    return "numba", "cpu"


def _parts(rows: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def _dot_error(channels: int) -> float:
    """Bound the error of a float32 dot product in any order, over |a| |b| (Higham 2002, Sec. 3.1)."""
    return 1.01 * (channels + 2) * FLOAT32_UNIT


def _compressed(work: np.ndarray, u: np.ndarray, gap: np.ndarray, rel_l2: np.ndarray) -> Codes:
    """Compress padded working sets [B, width]; padding has u = 0."""
    row, column = np.nonzero(u)
    atom = work[row, column]
    order = np.lexsort((atom, row))
    indptr = np.zeros(len(u) + 1, dtype=np.int64)
    np.cumsum(np.bincount(row, minlength=len(u)), out=indptr[1:])
    return Codes(
        indptr=indptr,
        indices=atom[order].astype(np.int32),
        values=u[row, column][order].astype(np.float32),
        gap=gap.astype(np.float32),
        rel_l2=rel_l2.astype(np.float32),
    )


def _joined(parts: list[Codes]) -> Codes:
    if not parts:
        return _compressed(np.zeros((0, 1), np.int32), np.zeros((0, 1)), np.zeros(0), np.zeros(0))
    offsets = np.cumsum([0] + [part.indptr[-1] for part in parts])
    return Codes(
        indptr=np.concatenate(
            [[0], *(part.indptr[1:] + offset for part, offset in zip(parts, offsets, strict=False))]
        ).astype(np.int64),
        indices=np.concatenate([part.indices for part in parts]),
        values=np.concatenate([part.values for part in parts]),
        gap=np.concatenate([part.gap for part in parts]),
        rel_l2=np.concatenate([part.rel_l2 for part in parts]),
    )


class _Compiled:
    """Working sets sample by sample, compiled; the matrix products are NumPy's and use its threads."""

    def __init__(self, v: np.ndarray, samples: int) -> None:
        self.v = v
        self.longest = float(np.sqrt(np.einsum("kc,kc->k", v, v, dtype=np.float64).max(initial=0.0)))
        # Few samples look at few pairs of atoms: the whole Gram matrix would cost more than it saves.
        worth_it = len(v) ** 2 * 4 <= GRAM_BYTES and samples * 64 >= len(v)
        self.gram = v @ v.T if worth_it else np.zeros((0, 0), dtype=np.float32)

    def solve(self, x: np.ndarray, lam: np.ndarray, tol: float, max_rounds: int) -> Codes:
        """Solve one batch x [B, C] with lam [B]."""
        samples = len(x)
        size = np.zeros(samples, dtype=np.int64)
        work = np.zeros((samples, 4 * FIRST_ATOMS), dtype=np.int32)
        u = np.zeros(work.shape, dtype=np.float32)
        r = np.empty(x.shape)
        gap, rel_l2 = np.zeros(samples), np.zeros(samples)
        active = np.arange(samples)
        for step in range(max_rounds + 1):
            _residuals(x, self.v, work, u, size, active, r)
            c = r[active].astype(np.float32) @ self.v.T
            last = step == max_rounds
            need = _advance(
                x, self.v, self.gram, c, r, lam, work, u, size, active, gap, rel_l2, tol, self.longest, step, last
            )
            active = active[need > 0]
            if last or not len(active):
                break
            wanted = int(need.max())
            if wanted > work.shape[1]:
                grow = ((0, 0), (0, wanted - work.shape[1]))
                work, u = np.pad(work, grow), np.pad(u, grow)
            c = c[need > 0]
            _improve(self.v, self.gram, c, r, lam, work, u, size, active, step)
        u[np.arange(u.shape[1]) >= size[:, None]] = 0
        return _compressed(work, u, gap, rel_l2)
