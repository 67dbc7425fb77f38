"""The coefficients of vectors on concept vectors: lasso with a certificate (Eqs. 1-2).

Notation: x [C] a centred PFV, V [K, C] concept vectors as rows, u [K] coefficients, r = x - u V the residual,
c = V r the correlations, lambda the penalty, P(u) = 1/2 |r|^2 + lambda |u|_1 the primal of Eq. 2.

Per batch of samples, until each has its certificate:

1. r from the stored (float32) u, summed directly in float64; c for all K atoms by one thin product in
   float32, or, compiled and where the Gram matrix fits, kept up to date by its rows, with an error bound that
   grows with each.
2. Certified: relative duality gap <= tol. Else the working set is the support and the worst violators
   |c_j| > lambda.
3. On the working set: coordinate descent finds the signed support, Newton's method solves it, and a
   coefficient that would change sign is stepped to zero and dropped.

**Certificate.** s r with s = min(1, lambda / |c|_inf, x.r / |r|^2) is dual feasible and

    gap = 1/2 (1 - s)^2 |r|^2 + sum_j |u_j| (lambda - s sign(u_j) c_j),

each term >= 0, bounds P(u) - min P. Atoms whose float32 correlation plus its error bound exceeds lambda are
recomputed in float64, so |c|_inf is never under-estimated; the reported gap is gap / P(u). The textbooks'
primal minus dual cancels, and turns negative in float32.

References: Lee, Battle, Raina & Ng, "Efficient sparse coding algorithms", NIPS 2006 (signed support);
Massias, Gramfort & Salmon, "Celer", ICML 2018 (working sets); Ndiaye et al., "Gap safe screening rules",
JMLR 2017 (gap).
"""

from __future__ import annotations

import ctypes
import math
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gigraph.threads import spread, threads_allowed

try:
    from numba import njit
except ImportError:  # the torch path needs no compiler
    njit = None  # type: ignore[assignment]

Backend = Literal["auto", "numba", "torch"]

GRAM_BYTES = 2**30
"""Most memory that the K x K products of the concept vectors may take; beyond it, blocks are formed as needed."""
MEMORY = 2**31
FLOAT32_UNIT = 2.0**-24
# Inside a working set the optimality conditions are met to this fraction of lambda.
INNER = 1e-7
SMALLEST_TOL = 1e-6
"""Coefficients are stored in float32, which no certificate can beat by much."""
# A pivot below this fraction of its diagonal is noise: Gram blocks carry float32 rounding.
SINGULAR = 3e-6
FIRST_ATOMS = 10
# Fewest atoms among which working sets are grown before all K are looked at again, and how close to lambda.
CANDIDATES = 128
NEAR = 0.5
MAX_INNER = 50
# The Gram matrix is made once there is a sample for each so many atoms.
WORTH = 12
# Working sets after which correlations that the Gram matrix kept up to date are computed afresh.
GRAM_ROUNDS = 8
SWEEPS = 3
MAX_ROUNDS = 100


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
    """Return |V x|_inf [N] float64 for x [N, C], v [K, C]: the smallest lambda that makes u = 0."""
    x, v = np.asarray(x, dtype=np.float32), np.asarray(v, dtype=np.float32)
    out = np.zeros(len(x))
    if not len(v):
        return out
    slack = 2 * _dot_error(v.shape[1]) * _longest(v)
    for part in _parts(len(x), max(1, 2**24 // len(v))):
        rows = x[part].astype(np.float64)
        rough = np.abs(x[part] @ v.T)
        # Of the atoms that may be the maximum, given float32's error, the float64 products decide.
        bar = rough.max(axis=1) - slack * np.sqrt(np.einsum("nc,nc->n", rows, rows))
        row, atom = np.nonzero(rough >= bar[:, None])
        exact = np.zeros(len(rows))
        for some in _parts(len(row), max(1, 2**22 // max(1, v.shape[1]))):
            products = np.abs(np.einsum("nc,nc->n", rows[row[some]], v[atom[some]].astype(np.float64)))
            np.maximum.at(exact, row[some], products)
        out[part] = exact
    return out


def lasso(
    x: np.ndarray,
    v: np.ndarray,
    lam: float | np.ndarray,
    *,
    tol: float = 1e-4,
    max_rounds: int = MAX_ROUNDS,
    backend: Backend = "auto",
    batch: int | None = None,
    device: str | None = None,
    memory: int = MEMORY,
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
        Samples solved at once, with K float32 correlations each; the solution does not depend on it beyond
        rounding. Default: as `memory` allows.
    device : str, optional
        Of the torch backend; default ``cuda`` where there is one, else ``cpu``.
    memory : int
        Bytes that the work may take besides x, V and the result. The K x K products of the concept vectors are
        kept if they fit half of it.

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
    return Solver(v, backend=backend, device=device, memory=memory).solve(
        x, lam, tol=tol, max_rounds=max_rounds, batch=batch
    )


class Solver:
    """`lasso` on one set of concept vectors, for many calls: their Gram matrix is made once, when it pays.

    Parameters
    ----------
    v, backend, device, memory
        As in `lasso`.
    """

    def __init__(
        self, v: np.ndarray, *, backend: Backend = "auto", device: str | None = None, memory: int = MEMORY
    ) -> None:
        self.v = np.ascontiguousarray(v, dtype=np.float32)
        chosen, place = _choose(backend, device)
        self._kernel = _Compiled(self.v, memory) if chosen == "numba" else _Torch(self.v, place, memory)

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
        x, _, lams = _checked(x, self.v, lam, tol)
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
        parts = _parts(len(x), batch or kernel.batch)
        solve = lambda part: kernel.solve(x[part], lam[part], tol, max_rounds)  # noqa: E731
        return _joined(spread(solve, parts) if isinstance(kernel, _Compiled) else [solve(part) for part in parts])


def calibrate(
    x: np.ndarray,
    v: np.ndarray,
    nonzeros: float,
    *,
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
    backend, device, memory
        As in `lasso`.

    Returns
    -------
    Calibration
        With what was reached; short of the target if that needs more concepts than lambda = 1e-3 of the
        median lambda_max gives (samples cannot use more atoms than V has rank).

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
    x, v, _ = _checked(x, v, 1.0, tol)
    largest = lambda_max(x, v)
    largest = largest[x.any(axis=1)]
    if not largest.size or largest.max() <= 0:
        raise ValueError("no sample has a component along any concept vector: there is nothing to calibrate")

    solver = Solver(v, backend=backend, device=device, memory=memory)

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
    free = np.flatnonzero((lams == 0) & x.any(axis=1))
    if len(free) and (needs := free[lambda_max(x[free], v) > 0]).size:
        raise ValueError(f"lambda is zero for sample {needs[0]}, which is not orthogonal to the concept vectors")
    return x, v, lams


def _choose(backend: Backend, device: str | None) -> tuple[str, str]:
    if backend not in ("auto", "numba", "torch"):
        raise ValueError(f"backend must be auto, numba or torch, not {backend!r}")
    if backend == "numba" and njit is None:
        raise ValueError("backend 'numba' was asked for, but numba is not installed")
    compiled = njit is not None and device in (None, "cpu")
    if backend == "numba" or (backend == "auto" and compiled and not _cuda_driver()):
        return "numba", "cpu"
    import torch

    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if backend == "torch" or njit is None or place != "cpu":
        return "torch", place
    return "numba", "cpu"


def _cuda_driver() -> bool:
    """Say whether there is a CUDA driver, without the seconds that importing torch takes."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _parts(rows: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def _read_only(a: np.ndarray) -> np.ndarray:
    """Return a view of this type, whatever the caller's may be: a kernel is compiled for each type anew."""
    view = a.view()
    view.flags.writeable = False
    return view


def _longest(v: np.ndarray) -> float:
    return float(np.sqrt(np.einsum("kc,kc->k", v, v, dtype=np.float64).max(initial=0.0)))


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
    """Working sets sample by sample, compiled; batches are spread over threads."""

    def __init__(self, v: np.ndarray, memory: int) -> None:
        self.v, self.memory = _read_only(v), memory
        self.longest = _longest(v)
        self.gram = _read_only(np.zeros((0, 0), dtype=np.float32))
        self.expected = 0

    def expect(self, samples: int) -> None:
        """Prepare for so many more samples; once there are enough, the products of atoms save more than they cost."""
        self.expected += samples
        fits = len(self.v) ** 2 * 4 <= min(GRAM_BYTES, self.memory // 2)
        if fits and not self.gram.size and self.expected * WORTH >= len(self.v):
            self.gram = _read_only(self.v @ self.v.T)

    @property
    def batch(self) -> int:
        """So few samples that their correlations stay in the caches, so many that the product runs at full speed."""
        left = max(0, self.memory - self.gram.nbytes) // threads_allowed()
        return max(16, min(512, left // (4 * len(self.v) + 40 * self.v.shape[1] + 1)))

    def solve(self, x: np.ndarray, lam: np.ndarray, tol: float, max_rounds: int) -> Codes:
        """Solve one batch x [B, C] with lam [B]."""
        samples = len(x)
        width = min(len(self.v), self.v.shape[1] + FIRST_ATOMS)
        work, u = np.zeros((samples, width), dtype=np.int32), np.zeros((samples, width), dtype=np.float32)
        size, tried = np.zeros(samples, dtype=np.int64), np.zeros(samples, dtype=np.int64)
        gap, rel_l2 = np.zeros(samples), np.zeros(samples)
        active = np.arange(samples)
        r = x.astype(np.float64)
        correlations = np.empty((samples, len(self.v)), dtype=np.float32)
        while len(active):
            c = np.matmul(r.astype(np.float32), self.v.T, out=correlations[: len(active)])
            state = (work, u, size, tried, active, gap, rel_l2)
            done = _advance(_read_only(x), self.v, self.gram, c, r, lam, *state, tol, self.longest, max_rounds)
            active, r = active[~done], r[~done]
        used = max(1, int(size.max(initial=0)))
        return _compressed(work[:, :used], np.where(np.arange(used) < size[:, None], u[:, :used], 0), gap, rel_l2)


class _Torch:
    """Working sets batched over samples, for CUDA; samples are grouped by the size of their support."""

    def __init__(self, v: np.ndarray, place: str, memory: int) -> None:
        import torch

        self.torch = torch
        self.device = torch.device(place)
        # Working sets are padded with a zero atom, number K, that nothing can select.
        padded = np.concatenate([v, np.zeros((1, v.shape[1]), dtype=np.float32)])
        self.v = torch.from_numpy(padded).to(self.device)
        self.wide = self.v.double()
        self.longest = _longest(v)
        if self.device.type == "cuda":
            memory = min(memory, int(0.8 * torch.cuda.mem_get_info(self.device)[0]))
        # c, its copies and masks; the residuals in float64 and their copies.
        self.batch = max(16, min(8192, memory // (4 * (4 * len(v) + 12 * v.shape[1]) + 1)))
        self.block = max(1, min(2**25, memory // 64))

    def expect(self, samples: int) -> None:
        """Nothing to prepare: working sets' products are formed as they are needed."""

    def solve(self, x: np.ndarray, lam: np.ndarray, tol: float, max_rounds: int) -> Codes:
        """Solve one batch x [B, C] with lam [B]."""
        torch = self.torch
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")  # TF32 would break the error bound
        try:
            with torch.no_grad():
                return self._solve(
                    torch.from_numpy(x).to(self.device).double(),
                    torch.from_numpy(lam).to(self.device),
                    tol,
                    max_rounds,
                )
        finally:
            torch.set_float32_matmul_precision(precision)

    def _solve(self, x: Any, lam: Any, tol: float, max_rounds: int) -> Codes:
        torch = self.torch
        atoms = len(self.v) - 1
        work = torch.full((len(x), 1), atoms, device=self.device)
        u = torch.zeros((len(x), 1), device=self.device)
        gap = torch.zeros(len(x), dtype=torch.float64, device=self.device)
        rel_l2 = torch.zeros_like(gap)
        active = torch.arange(len(x), device=self.device)
        for step in range(max_rounds + 1):
            last = step == max_rounds
            r = self._residuals(x[active], work[active], u[active])
            c = r.float() @ self.v.T
            relative, error = self._gaps(x[active], r, c, lam[active], work[active], u[active], tol, last)
            gap[active], rel_l2[active] = relative, error
            on = torch.nonzero(relative > tol).flatten()
            if last or not len(on):
                break
            active, r, c = active[on], r[on], c[on].abs_()
            support = (u[active] != 0).sum(1)
            c.scatter_(1, work[active], 0.0)  # what is in the support already
            c[c <= lam[active, None]] = 0.0
            bucket = torch.ceil(torch.log2(support.clamp(min=1).double())).long()
            for size in bucket.unique().tolist():
                group = torch.nonzero(bucket == size).flatten()
                old = int(support[group].max())
                room = min(max(FIRST_ATOMS, old), atoms)
                for part in _parts(len(group), max(1, self.block // ((old + room) * self.v.shape[1]))):
                    some = group[part]
                    rows = active[some]
                    strength, new = c[some].topk(room, dim=1)
                    new[strength == 0] = atoms
                    chosen = torch.cat([work[rows, :old], new], dim=1)
                    start = torch.cat([u[rows, :old].double(), torch.zeros(strength.shape).to(gap)], dim=1)
                    found = self._improved(chosen, start, r[some], lam[rows])
                    # The support comes first; what follows is padding.
                    order = torch.argsort((found == 0).byte(), dim=1, stable=True)
                    width = max(1, int((found != 0).sum(1).max()))
                    found = found.gather(1, order)[:, :width]
                    chosen = chosen.gather(1, order)[:, :width].masked_fill(found == 0, atoms)
                    if width > work.shape[1]:
                        grow = (0, width - work.shape[1])
                        work = torch.nn.functional.pad(work, grow, value=atoms)
                        u = torch.nn.functional.pad(u, grow)
                    work[rows], u[rows] = atoms, 0.0
                    work[rows, :width], u[rows, :width] = chosen, found
        return _compressed(*(t.cpu().numpy() for t in (work, u, gap, rel_l2)))

    def _residuals(self, x: Any, work: Any, u: Any) -> Any:
        """Return r = x - u V [n, C] float64, summed directly."""
        r = x.clone()
        for part in _parts(len(x), max(1, self.block // (work.shape[1] * self.v.shape[1]))):
            r[part] -= self.torch.bmm(u[part, None].double(), self.wide[work[part]])[:, 0]
        return r

    def _gaps(self, x: Any, r: Any, c: Any, lam: Any, work: Any, u: Any, tol: float, last: bool) -> tuple[Any, Any]:
        """Return each sample's relative gap, infinite where not worth certifying yet, and relative error."""
        torch = self.torch
        xx, xr, rr = (x * x).sum(1), (x * r).sum(1), (r * r).sum(1)
        primal = 0.5 * rr + lam * u.double().abs().sum(1)

        def gaps(top: Any, on_support: Any, n: Any) -> Any:
            s = torch.where(top <= lam[n], 1.0, lam[n] / top)
            s = torch.where(rr[n] > 0, torch.minimum(s, xr[n] / rr[n]).clamp(min=0), s)
            coefficients = u[n].double()
            terms = coefficients.abs() * lam[n, None] - s[:, None] * coefficients * on_support
            return 0.5 * (1 - s) ** 2 * rr[n] + terms.clamp(min=0).sum(1)

        everyone = torch.arange(len(x), device=self.device)
        rough = gaps(c.abs().amax(1).double(), c.gather(1, work).double(), everyone)
        close = everyone if last else torch.nonzero(rough <= tol * primal).flatten()
        channels = self.v.shape[1]
        length = rr[close].sqrt() * self.longest
        near = c[close].abs() + (_dot_error(channels) * length)[:, None] > lam[close, None]
        top = lam[close].clone()
        row, atom = torch.nonzero(near, as_tuple=True)
        for part in _parts(len(row), max(1, self.block // channels)):
            exact = (self.wide[atom[part]] * r[close[row[part]]]).sum(1).abs()
            top.scatter_reduce_(0, row[part], exact + channels * 2.0**-52 * length[row[part]], "amax")
        on_support = torch.empty((len(close), work.shape[1]), dtype=torch.float64, device=self.device)
        for part in _parts(len(close), max(1, self.block // (work.shape[1] * channels))):
            n = close[part]
            on_support[part] = torch.bmm(self.wide[work[n]], r[n, :, None])[:, :, 0]
        relative = torch.full_like(primal, math.inf)
        bound = gaps(top, on_support, close)
        relative[close] = torch.where(primal[close] > 0, bound / primal[close], 0.0)
        return relative, torch.where(xx > 0, (rr / xx).sqrt(), 0.0)

    def _improved(self, chosen: Any, u: Any, r: Any, lam: Any) -> Any:
        """Solve the lasso on the working sets `chosen` [n, w], from u [n, w]; return u rounded to float32."""
        torch = self.torch
        atoms = self.wide[chosen]  # [n, w, C]
        gram = torch.bmm(atoms, atoms.transpose(1, 2))
        g = torch.bmm(atoms, r[:, :, None])[:, :, 0]
        out = u.clone()
        left = torch.arange(len(u), device=self.device)
        for _ in range(200):
            self._sweeps(gram, g, u, lam)
            self._newton(gram, g, u, lam)
            violation = torch.where(u != 0, (g - lam[:, None] * u.sign()).abs(), g.abs() - lam[:, None])
            out[left] = u
            on = torch.nonzero(violation.amax(1) > INNER * lam).flatten()
            if not len(on):
                break
            gram, g, u, lam, left = gram[on], g[on], u[on], lam[on], left[on]
        return out.float()

    def _sweeps(self, gram: Any, g: Any, u: Any, lam: Any) -> None:
        """Minimise over one coefficient after the other; g = V_W r is kept."""
        torch = self.torch
        for _ in range(SWEEPS):
            for j in range(u.shape[1]):
                curvature = gram[:, j, j]
                z = u[:, j] * curvature + g[:, j]
                new = torch.where(curvature > 0, z.sign() * (z.abs() - lam).clamp(min=0) / curvature, 0.0)
                g -= gram[:, j] * (new - u[:, j])[:, None]
                u[:, j] = new

    def _newton(self, gram: Any, g: Any, u: Any, lam: Any) -> None:
        """Solve on the signed supports; a coefficient that would change sign is stepped to zero and dropped.

        Dependent atoms make the step long along the dependence, so that it too ends at the first zero.
        """
        torch = self.torch
        diagonal = torch.diagonal(gram, dim1=1, dim2=2)
        for _ in range(u.shape[1]):
            on = u != 0
            system = gram * (on[:, :, None] & on[:, None, :])
            torch.diagonal(system, dim1=1, dim2=2).copy_(torch.where(on, diagonal * (1 + 1e-11), 1.0))
            factor, failed = torch.linalg.cholesky_ex(system)
            pull = torch.where(on, g - lam[:, None] * u.sign(), 0.0)
            step = torch.cholesky_solve(pull[:, :, None], factor)[:, :, 0]
            step = torch.where((failed == 0)[:, None], step, 0.0)
            reach = torch.where(step * u < 0, -u / step, math.inf)
            length = reach.amin(1).clamp(max=1.0)
            crossed = reach <= length[:, None]
            move = step * length[:, None]
            u += move
            u[crossed] = 0.0
            g -= torch.bmm(gram, move[:, :, None])[:, :, 0]
            if not bool(crossed.any()):
                return


if njit is not None:
    _ANY_ORDER = {"reassoc", "contract"}

    @njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
    def _dot(a: np.ndarray, b: np.ndarray) -> float:
        total = 0.0
        for i in range(a.size):
            total += np.float64(a[i]) * np.float64(b[i])
        return total

    @njit(cache=True, nogil=True, fastmath=True)
    def _largest(values: np.ndarray) -> float:
        """Return max |values|, 0 for none; all are finite."""
        top = values.dtype.type(0)
        for j in range(values.size):
            top = max(top, abs(values[j]))
        return top

    @njit(cache=True, nogil=True)
    def _count(values: np.ndarray, bar: float) -> int:
        """Return how many |values| reach the bar."""
        count = 0
        for j in range(values.size):
            count += abs(values[j]) >= bar
        return count

    @njit(cache=True, nogil=True)
    def _certificate(
        v: np.ndarray,
        r: np.ndarray,
        c: np.ndarray,
        error: float,
        lam: float,
        u: np.ndarray,
        exact: np.ndarray,
        place: np.ndarray,
        rr: float,
        xr: float,
        longest: float,
    ) -> float:
        """Return an upper bound on the duality gap; `exact` holds c on the support, at `place` [K]."""
        rounding = v.shape[1] * 2.0**-52 * longest * math.sqrt(rr)
        top = lam
        for j in range(c.size):
            if abs(np.float64(c[j])) >= lam - error:
                value = exact[place[j]] if place[j] >= 0 else _dot(v[j], r)
                top = max(top, abs(value) + rounding)
        s = 1.0 if top <= lam else lam / top
        if rr > 0:
            s = max(0.0, min(s, xr / rr))
        gap = 0.5 * (1 - s) * (1 - s) * rr
        for p in range(u.size):
            gap += max(0.0, abs(u[p]) * lam - s * u[p] * exact[p])
        return gap

    @njit(cache=True, nogil=True)
    def _sweep(gram: np.ndarray, g: np.ndarray, u: np.ndarray, lam: float) -> None:
        """Minimise over one coefficient after the other; g = V_W r is kept."""
        w = u.size
        for j in range(w):
            curvature = gram[j, j]
            if curvature <= 0:
                continue
            z = u[j] * curvature + g[j]
            if z > lam:
                new = (z - lam) / curvature
            elif z < -lam:
                new = (z + lam) / curvature
            else:
                new = 0.0
            change = new - u[j]
            if change != 0:
                u[j] = new
                for i in range(w):
                    g[i] -= gram[j, i] * change

    @njit(cache=True, nogil=True)
    def _move(
        gram: np.ndarray, g: np.ndarray, u: np.ndarray, support: np.ndarray, step: np.ndarray, length: float
    ) -> None:
        for p in range(step.size):
            j = support[p]
            change = step[p] * length
            u[j] += change
            for i in range(u.size):
                g[i] -= gram[j, i] * change

    @njit(cache=True, nogil=True)
    def _by_size(u: np.ndarray, support: np.ndarray) -> int:
        """Write the places where u is not zero, the largest first; return how many."""
        n = 0
        for j in range(u.size):
            if u[j] != 0:
                p = n
                while p > 0 and abs(u[support[p - 1]]) < abs(u[j]):
                    support[p] = support[p - 1]
                    p -= 1
                support[p] = j
                n += 1
        return n

    @njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
    def _factorise(gram: np.ndarray, support: np.ndarray, n: int, first: int, factor: np.ndarray) -> int:
        """Write the Cholesky factor's rows from `first` on; return the row that depends on those before, or n."""
        for p in range(first, n):
            j = support[p]
            pivot = gram[j, j]
            for q in range(p):
                total = gram[j, support[q]]
                for m in range(q):
                    total -= factor[p, m] * factor[q, m]
                total /= factor[q, q]
                factor[p, q] = total
                pivot -= total * total
            if pivot <= SINGULAR * gram[j, j]:
                return p
            factor[p, p] = math.sqrt(pivot)
        return n

    @njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
    def _substitute(factor: np.ndarray, step: np.ndarray) -> None:
        """Solve L L^T step = step in place."""
        for p in range(step.size):
            total = step[p]
            for m in range(p):
                total -= factor[p, m] * step[m]
            step[p] = total / factor[p, p]
        for p in range(step.size - 1, -1, -1):
            step[p] /= factor[p, p]
            for m in range(p):
                step[m] -= factor[p, m] * step[p]

    @njit(cache=True, nogil=True)
    def _newton(gram: np.ndarray, g: np.ndarray, u: np.ndarray, lam: float) -> None:
        """Solve for the coefficients that are not zero, keeping signs; one that would change becomes zero.

        Where the support's atoms are dependent, the objective is linear along the dependence: it is followed
        downhill to the first zero. Small coefficients come last in the factor, since they are the first to go:
        the rows before them stay.
        """
        support = np.empty(u.size, dtype=np.int64)
        n = _by_size(u, support)
        factor = np.empty((n, n))
        step = np.empty(n)
        valid = 0
        while True:
            count = _factorise(gram, support, n, valid, factor)
            dependent = count < n
            for p in range(count):
                j = support[p]
                step[p] = gram[j, support[count]] if dependent else g[j] - math.copysign(lam, u[j])
            _substitute(factor, step[:count])
            longest = 1.0
            valid = count
            if dependent:
                slope = -g[support[count]] + math.copysign(lam, u[support[count]])
                for p in range(count):
                    slope += step[p] * (g[support[p]] - math.copysign(lam, u[support[p]]))
                sign = -1.0 if slope > 0 else 1.0
                for p in range(count):
                    step[p] *= -sign
                step[count] = sign
                count += 1
                longest = np.inf
            first, reach = -1, longest
            for p in range(count):
                j = support[p]
                if step[p] * u[j] < 0 and -u[j] / step[p] <= reach:
                    first, reach = p, -u[j] / step[p]
            if first < 0 and dependent:
                return
            _move(gram, g, u, support, step[:count], reach)
            if first < 0:
                return
            u[support[first]] = 0.0
            for p in range(first, n - 1):
                support[p] = support[p + 1]
            n -= 1
            valid = min(valid, first)

    @njit(cache=True, nogil=True)
    def _solve_block(gram: np.ndarray, g: np.ndarray, u: np.ndarray, lam: float) -> None:
        """Solve the lasso on a working set: gram [w, w]; g [w] = V_W r and u [w] are updated in place."""
        for _ in range(200):
            for _ in range(SWEEPS):
                _sweep(gram, g, u, lam)
            _newton(gram, g, u, lam)
            worst = 0.0
            for j in range(u.size):
                if u[j] != 0:
                    worst = max(worst, abs(g[j] - math.copysign(lam, u[j])))
                elif gram[j, j] > 0:
                    worst = max(worst, abs(g[j]) - lam)
            if worst <= INNER * lam:
                return

    @njit(cache=True, nogil=True)
    def _strongest(magnitude: np.ndarray, floor: float, room: int, found: np.ndarray, values: np.ndarray) -> int:
        """Write at most `room` places, about those of largest magnitude > floor; return how many.

        `found` and `values` are scratch, longer by one than `magnitude`. Of the places above the floor, the interval
        of the bar is halved until between half of and all the room is taken.
        """
        n = 0
        for j in range(magnitude.size):
            found[n], values[n] = j, magnitude[j]
            n += magnitude[j] > floor
        if n <= room:
            return n
        low, bar = np.float64(floor), np.float64(_largest(values[:n]))
        for _ in range(16):
            middle = magnitude.dtype.type(0.5 * (low + bar))
            count = 0
            for q in range(n):
                count += values[q] >= middle
            if count > room:
                low = np.float64(middle)
            else:
                bar = np.float64(middle)
                if 2 * count > room:
                    break
        taken = 0
        for q in range(n):
            if values[q] >= bar and taken < room:  # of equal ones, more than fit may reach it
                found[taken] = found[q]
                taken += 1
        return taken

    @njit(cache=True, nogil=True)
    def _residual(x: np.ndarray, v: np.ndarray, work: np.ndarray, u: np.ndarray, r: np.ndarray) -> None:
        """Write r = x - u V [C] float64, summed directly."""
        for ch in range(x.size):
            r[ch] = x[ch]
        for p in range(work.size):
            value = np.float64(u[p])
            atom = v[work[p]]
            for ch in range(x.size):
                r[ch] -= value * atom[ch]

    @njit(cache=True, nogil=True)
    def _advance(
        x: np.ndarray,
        v: np.ndarray,
        gram: np.ndarray,
        c: np.ndarray,
        r: np.ndarray,
        lam: np.ndarray,
        work: np.ndarray,
        u: np.ndarray,
        size: np.ndarray,
        tried: np.ndarray,
        active: np.ndarray,
        gap: np.ndarray,
        rel_l2: np.ndarray,
        tol: float,
        longest: float,
        max_rounds: int,
    ) -> np.ndarray:
        """Improve each active sample until it is certified or needs fresh correlations; return which are done [n].

        c [n, K] are the correlations of r [n, C]. With the Gram matrix at hand they are kept up to date by its rows,
        and their error bound with them; without it one working set is all that they are good for.
        """
        done = np.zeros(active.size, dtype=np.bool_)
        place = np.full(v.shape[0], -1, dtype=np.int32)
        magnitude = np.empty(v.shape[0], dtype=np.float32)
        wild, values = np.empty(v.shape[0] + 1, dtype=np.int64), np.empty(v.shape[0] + 1, dtype=np.float32)
        exact = np.empty(work.shape[1])
        for n in range(active.size):
            i = active[n]
            penalty = lam[i]
            xx = _dot(x[i], x[i])
            rr = _dot(r[n], r[n])
            # Whatever c is a sum of, in absolute value, and how many terms it has: these bound its rounding errors.
            mass, terms = math.sqrt(rr), v.shape[1]
            for step in range(GRAM_ROUNDS):
                error = 1.01 * (terms + 5) * FLOAT32_UNIT * longest * mass
                xr = _dot(x[i], r[n])
                # The same formula in float32 says whether the certificate is worth its while.
                top = np.float64(_largest(c[n]))
                s = 1.0 if top <= penalty else penalty / top
                rough = 0.5 * (1 - s) * (1 - s) * rr
                primal = 0.5 * rr
                for p in range(size[i]):
                    exact[p] = _dot(v[work[i, p]], r[n])
                    primal += abs(u[i, p]) * penalty
                    rough += abs(u[i, p]) * penalty - s * u[i, p] * exact[p]
                last = tried[i] == max_rounds
                if last or rough <= tol * primal:
                    if step > 0 and _count(c[n], penalty - error) * 8 > v.shape[0]:
                        break  # fresh correlations cost less than so many exact ones
                    for p in range(size[i]):
                        place[work[i, p]] = p
                    bound = _certificate(v, r[n], c[n], error, penalty, u[i, : size[i]], exact, place, rr, xr, longest)
                    for p in range(size[i]):
                        place[work[i, p]] = -1
                    gap[i] = bound / primal if primal > 0 else 0.0
                    rel_l2[i] = math.sqrt(rr / xx) if xx > 0 else 0.0
                    done[n] = last or gap[i] <= tol
                    if done[n]:
                        break

                # Candidates: the support, and the atoms that correlate most with the residual.
                for j in range(magnitude.size):
                    magnitude[j] = abs(c[n, j])
                for p in range(size[i]):
                    magnitude[work[i, p]] = 0
                if gram.size:
                    more = _strongest(magnitude, NEAR * penalty, max(CANDIDATES, size[i], len(v) // 32), wild, values)
                else:
                    more = _strongest(magnitude, penalty, max(FIRST_ATOMS, size[i]), wild, values)
                m = size[i] + more
                atoms = np.empty(m, dtype=np.int64)
                g, found = np.empty(m), np.zeros(m)
                for p in range(size[i]):
                    atoms[p] = work[i, p]
                    g[p], found[p] = exact[p], u[i, p]
                for p in range(more):
                    atoms[size[i] + p] = wild[p]
                    g[size[i] + p] = c[n, wild[p]]
                if gram.size:
                    _grow(gram, atoms, g, found, size[i], penalty)
                else:
                    block = np.empty((m, m))
                    for p in range(m):
                        for q in range(p + 1):
                            block[p, q] = _dot(v[atoms[p]], v[atoms[q]])
                            block[q, p] = block[p, q]
                    _solve_block(block, g, found, penalty)

                tried[i] += 1
                kept = 0
                for p in range(m):
                    value = np.float32(found[p]) if kept < work.shape[1] else np.float32(0)
                    before = u[i, p] if p < size[i] else np.float32(0)
                    change = np.float32(value - before)
                    if gram.size and change != 0:
                        _subtract(c[n], gram[atoms[p]], change)
                        mass += longest * abs(np.float64(value) - np.float64(before))
                        terms += 1
                    # An earlier place of u has been read already: kept <= p.
                    if value != 0:
                        work[i, kept] = atoms[p]
                        u[i, kept] = value
                        kept += 1
                size[i] = kept
                _residual(x[i], v, work[i, :kept], u[i, :kept], r[n])
                if not gram.size:
                    break
                rr = _dot(r[n], r[n])
        return done

    @njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
    def _subtract(c: np.ndarray, row: np.ndarray, change: np.float32) -> None:
        for j in range(c.size):
            c[j] -= change * row[j]

    @njit(cache=True, nogil=True)
    def _grow(gram: np.ndarray, atoms: np.ndarray, g: np.ndarray, u: np.ndarray, size: int, lam: float) -> None:
        """Solve the lasso on the candidates `atoms` [m] by growing working sets; the first `size` are the support.

        g [m], the correlations with the residual, and u [m] are updated in place.
        """
        m = atoms.size
        chosen, wild, values = np.empty(m, dtype=np.int64), np.empty(m + 1, dtype=np.int64), np.empty(m + 1)
        block_u, block_g = np.empty(m), np.empty(m)
        known = np.zeros(m, dtype=np.bool_)
        rows = np.empty((m, m), dtype=np.float32)
        magnitude = np.empty(m)
        w = size
        for p in range(size):
            chosen[p] = p
        for step in range(MAX_INNER):
            for q in range(m):
                magnitude[q] = abs(g[q])
            for p in range(w):
                magnitude[chosen[p]] = 0
            taken = _strongest(magnitude, lam * (1 + INNER), max(FIRST_ATOMS, w), wild, values)
            if taken == 0 and step > 0:
                return
            for p in range(taken):
                chosen[w + p] = wild[p]
            w += taken
            block = np.empty((w, w))
            for p in range(w):
                j = chosen[p]
                if not known[j]:
                    known[j] = True
                    row = gram[atoms[j]]
                    for q in range(m):
                        rows[j, q] = row[atoms[q]]
                for q in range(p + 1):
                    block[p, q] = rows[j, chosen[q]]
                    block[q, p] = block[p, q]
                block_u[p], block_g[p] = u[j], g[j]
            _solve_block(block, block_g[:w], block_u[:w], lam)
            kept = 0
            for p in range(w):
                j = chosen[p]
                change = block_u[p] - u[j]
                if change != 0:
                    u[j] = block_u[p]
                    for q in range(m):
                        g[q] -= change * rows[j, q]
                if u[j] != 0:
                    chosen[kept] = j
                    kept += 1
            w = kept
