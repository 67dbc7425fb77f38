"""Solving for the coefficients of samples, batch by batch, and choosing lambda."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gigraph.method.compiler import Backend, choose, compiles_cuda
from gigraph.method.lasso.codes import Codes, Sign, chunks, is_signed, joined
from gigraph.method.lasso.rounding import dot_error, longest
from gigraph.threads import spread

MEMORY = 2**31
"""Bytes that the work may take if nobody says otherwise."""
SMALLEST_TOL = 1e-6
"""Coefficients are stored in float32, which no certificate can beat by much."""
MAX_ROUNDS = 100
CUDA_WORTH = 2**18
"""With fewer numbers in V a CPU is done before torch and CUDA are loaded."""


class Kernel(Protocol):
    """What solves the batches of a `Solver`."""

    threaded: bool
    """Whether several threads may solve a batch each."""

    @property
    def batch(self) -> int:
        """Samples that fit the memory and are solved at once."""

    def expect(self, samples: int) -> None:
        """Prepare for so many more samples."""

    def solve(self, x: np.ndarray, lam: np.ndarray, tol: float, max_rounds: int) -> Codes:
        """Solve one batch x [B, C] float32 with lam [B] float64; parameters as of `lasso`."""


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


def lambda_max(x: np.ndarray, v: np.ndarray, sign: Sign = "any") -> np.ndarray:
    """Return the smallest lambda that makes u = 0 [N] float64, for x [N, C], v [K, C].

    It is |V x|_inf, and max(V x, 0) where coefficients are ``nonnegative``.
    """
    signed = is_signed(sign)
    x, v = np.asarray(x, dtype=np.float32), np.asarray(v, dtype=np.float32)
    out = np.zeros(len(x))
    if not len(v):
        return out
    slack = 2 * dot_error(v.shape[1]) * longest(v)
    for part in chunks(len(x), max(1, 2**24 // len(v))):
        rows = x[part].astype(np.float64)
        rough = _strength(x[part] @ v.T, signed)
        # Of the atoms that may be the maximum, given float32's error, the float64 products decide.
        bar = rough.max(axis=1) - slack * np.sqrt(np.einsum("nc,nc->n", rows, rows))
        row, atom = np.nonzero(rough >= bar[:, None])
        exact = np.zeros(len(rows))
        for some in chunks(len(row), max(1, 2**22 // max(1, v.shape[1]))):
            products = np.einsum("nc,nc->n", rows[row[some]], v[atom[some]].astype(np.float64))
            np.maximum.at(exact, row[some], _strength(products, signed))
        out[part] = exact
    return out


def lasso(
    x: np.ndarray,
    v: np.ndarray,
    lam: float | np.ndarray,
    *,
    sign: Sign = "any",
    tol: float = 1e-4,
    max_rounds: int = MAX_ROUNDS,
    backend: Backend = "auto",
    batch: int | None = None,
    device: str | None = None,
    memory: int = MEMORY,
) -> Codes:
    """Solve min_u 1/2 |x - u V|^2 + lambda |u|_1 for each row of x (Eq. 2).

    Parameters
    ----------
    x : float32 array [N, C]
        Centred PFVs.
    v : float32 array [K, C]
        Concept vectors.
    lam : float or array [N]
        Penalty, absolute; positive wherever `lambda_max` is.
    sign : {"any", "nonnegative"}
        Of the coefficients: Eq. 2 lets them have either sign.
    tol : float
        Relative duality gap that every sample will have, at least 1e-6.
    max_rounds : int
        Most working sets tried per sample.
    backend : {"auto", "numba", "torch"}
        ``auto``: torch where there is no numba, or a CUDA device and `CUDA_WORTH` numbers in V; else numba.
    batch : int, optional
        Samples solved at once, with K float32 correlations each; the solution does not depend on it beyond
        rounding. Default: as `memory` allows.
    device : str, optional
        Of the torch backend; default ``cuda`` where there is one, else ``cpu``.
    memory : int
        Bytes that the work may take besides x, V and the result (on a GPU see `gigraph.device.room`). The K x K
        products of the concept vectors are kept if they fit half of it.

    Returns
    -------
    Codes

    Raises
    ------
    ValueError
        For shapes that do not fit, a value that is not finite, a tolerance below 1e-6, or a lambda that is
        negative, not finite, or zero for a sample that some concept vector could improve.

    Warns
    -----
    UserWarning
        If samples miss `tol` after all, with their number and the worst gap. That happens where float32
        coefficients leave no smaller gap: a tolerance near 1e-6, or a lambda below 1e-3 of lambda_max, the
        more so with large coefficients of coherent concept vectors that cancel.
    """
    return Solver(v, sign=sign, backend=backend, device=device, memory=memory).solve(
        x, lam, tol=tol, max_rounds=max_rounds, batch=batch
    )


class Solver:
    """`lasso` on one set of concept vectors, for many calls: their Gram matrix is made once, when it pays.

    Parameters
    ----------
    v, sign, backend, device, memory
        As in `lasso`.
    """

    def __init__(
        self,
        v: np.ndarray,
        *,
        sign: Sign = "any",
        backend: Backend = "auto",
        device: str | None = None,
        memory: int = MEMORY,
    ) -> None:
        self.v, self.sign = np.ascontiguousarray(v, dtype=np.float32), sign
        self._kernel = _load(*choose(backend, device, self.v.size < CUDA_WORTH), self.v, memory, is_signed(sign))

    def solve(
        self,
        x: np.ndarray,
        lam: float | np.ndarray,
        *,
        tol: float = 1e-4,
        max_rounds: int = MAX_ROUNDS,
        batch: int | None = None,
    ) -> Codes:
        """Return the coefficients of x [N, C]; parameters, errors and warnings as of `lasso`."""
        x, _, lams = _checked(x, self.v, lam, tol, self.sign)
        codes = self._in_batches(x, lams, tol, max_rounds, batch)
        missed = codes.gap > tol
        if missed.any():
            warnings.warn(
                f"{missed.sum()} of {len(x)} samples miss the relative duality gap {tol:g} after "
                f"{max_rounds} rounds (worst {codes.gap.max():.2g}); raise the tolerance or lambda",
                stacklevel=3,
            )
        return codes

    def _in_batches(
        self, x: np.ndarray, lam: np.ndarray, tol: float, max_rounds: int = MAX_ROUNDS, batch: int | None = None
    ) -> Codes:
        kernel = self._kernel
        kernel.expect(len(x))

        def solve(part: slice) -> Codes:
            return kernel.solve(x[part], lam[part], tol, max_rounds)

        parts = chunks(len(x), batch or kernel.batch)
        return joined(spread(solve, parts) if kernel.threaded else [solve(part) for part in parts])


def calibrate(
    x: np.ndarray,
    v: np.ndarray,
    nonzeros: float,
    *,
    sign: Sign = "any",
    tol: float = 1e-3,
    accuracy: float = 0.02,
    backend: Backend = "auto",
    device: str | None = None,
    memory: int = MEMORY,
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
    sign, backend, device, memory
        As in `lasso`.

    Returns
    -------
    Calibration
        With what was reached; short of the target if that needs more concepts than lambda = 1e-3 of the
        median lambda_max gives (samples cannot use more atoms than V has rank; of non-negative ones, often fewer).

    Raises
    ------
    ValueError
        If the target is not positive, or no concept vector can improve any sample.

    Notes
    -----
    The count falls as lambda grows, save for small non-monotone stretches of the path; the secant in
    (log lambda, log count) is guarded by bisection, 4 to 8 trials in all.
    """
    if not nonzeros > 0:
        raise ValueError(f"the target of non-zeros must be positive, not {nonzeros}")
    x, v, _ = _checked(x, v, 1.0, tol, sign)
    largest = lambda_max(x, v, sign)
    largest = largest[largest > 0]
    if not largest.size:
        raise ValueError("no sample has a component along any concept vector: there is nothing to calibrate")

    solver = Solver(v, sign=sign, backend=backend, device=device, memory=memory)

    def trial(log_lam: float) -> Calibration:
        codes = solver._in_batches(x, np.full(len(x), math.exp(log_lam)), tol)
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
            # A lambda that is far too small costs more than all other trials together: the steps stay short.
            short = math.log(nonzeros / found.nonzeros) if found.nonzeros > 0 else math.inf
            guess = max(floor, guess - min(math.log(4.0), max(0.1, 0.8 * short)))
        elif high_count == 0 or step % 3 == 2:
            guess = (low + high) / 2
        else:
            share = math.log(nonzeros / low_count) / math.log(high_count / low_count)
            guess = low + min(0.95, max(0.05, share)) * (high - low)
    assert best is not None
    return best


def _checked(
    x: np.ndarray, v: np.ndarray, lam: float | np.ndarray, tol: float, sign: Sign
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
    free = np.flatnonzero((lams == 0) & x.any(axis=1))
    if len(free) and (needs := free[lambda_max(x[free], v, sign) > 0]).size:
        raise ValueError(f"lambda is zero for sample {needs[0]}, which some concept vector improves")
    # Where u = 0 is the solution at lambda = 0, it is at any, and one beyond all correlations certifies it.
    lams[lams == 0] = max(1.0, longest(v) * np.sqrt(np.einsum("nc,nc->n", x, x, dtype=np.float64)).max(initial=0))
    return x, v, lams


def _strength(products: np.ndarray, signed: bool) -> np.ndarray:
    """Return how far correlations pull a coefficient from zero."""
    return np.abs(products) if signed else np.maximum(products, 0)


def _load(backend: str, place: str, v: np.ndarray, memory: int, signed: bool) -> Kernel:
    if backend == "numba":
        from gigraph.method.lasso.compiled import Compiled

        return Compiled(v, memory, signed)
    if place.startswith("cuda") and compiles_cuda():
        from gigraph.method.lasso.cuda import Cuda

        return Cuda(v, place, memory, signed)
    from gigraph.method.lasso.batched import Batched

    return Batched(v, place, memory, signed)
