"""Each kernel and its peers, in turn, on the same data in the same process."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gigraph.method.bisecting import bisect
from gigraph.method.lasso import Codes, Sign, calibrate, lasso
from gigraph.method.pursuit import Pursuit
from gigraph.method.vectors import cohesion, concept_vectors, unit

from .data import mixtures
from .demo import NONZEROS, Demo
from .measure import Contender, Machine, Row, contest, timed

GAP = 1e-4
"""Relative duality gap that we certify."""
JUDGED = 500
"""Most samples whose gap is computed of a peer's solutions."""
SAMPLES = 8000


@dataclass(frozen=True)
class Problem:
    """PFVs x [N, C] to be decomposed on concepts v [K, C]: so many non-zeros of a sample in the mean."""

    name: str
    x: np.ndarray
    v: np.ndarray
    nonzeros: float

    @property
    def case(self) -> str:
        """Its name and sizes."""
        return f"{self.name}C={self.v.shape[1]} K={len(self.v)}"


def mixed(n: int, channels: int) -> np.ndarray:
    """Return mixtures of atoms [n, channels] about their mean."""
    x = mixtures(n, channels)
    return x - x.mean(axis=0)


def synthetic(n: int, channels: int, k: int) -> Problem:
    """Return mixtures of atoms and the concepts found of them, with half a percent of the concepts in a sample."""
    x = mixed(max(2 * n, 3 * k), channels)
    tree = bisect(x, k)
    return Problem("", np.ascontiguousarray(x[:: len(x) // n][:n]), concept_vectors(x, tree.labels, tree.k), 0.005 * k)


def real(demo: Demo) -> Iterator[Problem]:
    """Yield the demo's layers with as many concepts as channels, which is its setting, and with eight times those."""
    for layer, positions in demo.whole.items():
        x = positions.reshape(-1, positions.shape[2])
        some = np.random.default_rng(0).permutation(len(x))[:SAMPLES]
        for expansion in (1, 8):
            yield Problem(f"demo {layer} ", x[some], demo.concepts(layer, expansion * x.shape[1]), NONZEROS)


def clustering(machine: Machine, cases: list[tuple[str, np.ndarray, int]], slow_peer: int) -> list[Row]:
    """Compare with scikit-learn's BisectingKMeans on (name, PFVs, K); beyond `slow_peer` = N K are run without it."""
    from sklearn.cluster import BisectingKMeans

    rows = []
    bisect(mixtures(200, 8), 10)  # compiles
    for name, x, k in cases:
        n, channels = x.shape
        case = f"{name}N={n} C={channels} K={k}"

        def quality(labels: np.ndarray, x: np.ndarray = x, k: int = k) -> float:
            return float(np.average(cohesion(x, labels, k), weights=np.bincount(labels, minlength=k)))

        tree, seconds, peak = timed(lambda x=x, k=k: bisect(x, k), 3 if n * channels < 10**8 else 1)
        # Each of log2 K levels reads every row at least twice: once to assign it, once to see that nothing moves.
        least = 2 * math.log2(k) * x.nbytes / machine.bandwidth
        rows.append(Row("clustering", case, "gigraph", seconds, "all", 3, peak, quality(tree.labels), least / seconds))
        if n * k > slow_peer:
            continue
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        peer = BisectingKMeans(k, bisecting_strategy="largest_cluster", max_iter=20, random_state=0)
        fitted, seconds, peak = timed(lambda peer=peer, unit=unit: peer.fit(unit), 1)
        rows.append(Row("clustering", case, "scikit-learn", seconds, "all", 1, peak, quality(fitted.labels_)))
    return rows


def relative_gaps(x: np.ndarray, v: np.ndarray, u: np.ndarray, lam: float, positive: bool) -> np.ndarray:
    """Return the duality gap over primal of each of the solutions u [N, K], all in float64."""
    x, v, u = (array.astype(np.float64) for array in (x, v, u))
    r = x - u @ v
    pull = r @ v.T if positive else np.abs(r @ v.T)
    scale = np.minimum(1, lam / np.maximum(pull.max(axis=1), 1e-300))[:, None]
    primal = 0.5 * (r * r).sum(axis=1) + lam * np.abs(u).sum(axis=1)
    dual = 0.5 * (x * x).sum(axis=1) - 0.5 * ((x - scale * r) ** 2).sum(axis=1)
    return (primal - dual) / primal


def decomposition(machine: Machine, problems: Iterator[Problem], slow_samples: int, sign: Sign = "any") -> list[Row]:
    """Compare with SPAMS, celer and scikit-learn; all but SPAMS solve `slow_samples` samples.

    Times include the Gram matrix of the concepts, spread over all N, for those that use one: gigraph, SPAMS and LARS.
    """
    lasso(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), 0.1, backend="numba", sign=sign)  # compiles
    rows = []
    kernel, positive = ("lasso", False) if sign == "any" else ("non-negative lasso", True)
    for one in problems:
        x, v, n = one.x, one.v, len(one.x)
        lam = calibrate(x[:500], v, one.nonzeros, sign=sign, backend="numba").lam
        codes, some = lasso(x, v, lam, sign=sign, tol=GAP, backend="numba"), x[:slow_samples]
        repeats = 5 if v.size < 10**7 else 1
        contenders = {
            "gigraph": Contender(partial(lasso, x, v, lam, sign=sign, tol=GAP, backend="numba"), n, repeats),
            **_least_angles(machine, x, v, lam, positive, repeats),
            **_one_by_one(some, v, lam, positive, _tolerances(codes, x, lam)),
        }
        gram_seconds = timed(lambda v=v: v @ v.T)[1] / n
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = contest(contenders)
        # All correlations once to choose concepts, and once to certify the result.
        least = 4 * v.shape[1] * len(v) / machine.flops
        for method, outcome in found.items():
            if method == "gigraph":
                gaps, share = codes.gap, least / outcome.seconds
            else:
                u = outcome.result[:, :JUDGED].toarray().T if method.startswith("SPAMS") else outcome.result
                gaps, share = relative_gaps(x[: len(u)], v, u, lam, positive), None
            once = gram_seconds * (method == "scikit-learn lasso_lars")
            seconds, ratio = outcome.seconds + once, outcome.ratio * (1 + once / outcome.seconds)
            rows.append(
                Row(
                    kernel, one.case, method, seconds, "sample", outcome.repeats, outcome.peak,
                    float(gaps.max()), share, ratio, float((gaps > GAP).mean()),
                )
            )  # fmt: skip
    return rows


def _least_angles(
    machine: Machine, x: np.ndarray, v: np.ndarray, lam: float, positive: bool, repeats: int
) -> dict[str, Contender]:
    """Return SPAMS's two: least angles along the path, by the inverse of the support's products or their factor."""
    import spams

    def solve(cholesky: bool) -> Any:
        columns, atoms = np.asfortranarray(x.T), np.asfortranarray(v.T)
        how = {"mode": 2, "pos": positive, "cholesky": cholesky, "numThreads": machine.threads}
        return spams.lasso(columns, D=atoms, lambda1=lam, **how)

    return {
        "SPAMS": Contender(partial(solve, False), len(x), repeats),
        "SPAMS, cholesky": Contender(partial(solve, True), len(x), repeats),
    }


def _one_by_one(
    x: np.ndarray, v: np.ndarray, lam: float, positive: bool, tolerances: np.ndarray
) -> dict[str, Contender]:
    """Return celer and scikit-learn, which solve sample after sample."""
    import celer
    from sklearn import linear_model
    from sklearn.decomposition import sparse_encode

    how = {"alpha": lam / v.shape[1], "fit_intercept": False, "max_iter": 10_000, "positive": positive}

    def fit(kind: Callable[..., Any]) -> np.ndarray:
        design = np.asfortranarray(v.T)
        each = zip(x, tolerances, strict=False)
        return np.stack([kind(**how, tol=float(tol)).fit(design, one).coef_ for one, tol in each])

    gram = v @ v.T

    def lars() -> np.ndarray:
        # It changes the products that it is given.
        how = {"algorithm": "lasso_lars", "alpha": lam, "max_iter": 10_000, "positive": positive}
        return sparse_encode(x, v, gram=gram.copy(), **how)

    return {
        "celer": Contender(partial(fit, celer.Lasso), len(x), 1),
        "scikit-learn lasso_cd": Contender(partial(fit, linear_model.Lasso), len(x), 1),
        "scikit-learn lasso_lars": Contender(lars, len(x), 1),
    }


def _tolerances(codes: Codes, x: np.ndarray, lam: float) -> np.ndarray:
    """Return what makes those that stop at a gap below tol |x|^2 stop at ours, for each sample."""
    norms = np.einsum("nc,nc->n", x, x, dtype=np.float64)
    sums = np.bincount(np.repeat(np.arange(len(x)), codes.nonzeros()), np.abs(codes.values), minlength=len(x))
    return GAP * (0.5 * codes.rel_l2.astype(np.float64) ** 2 + lam * sums / norms)


def pursuit(machine: Machine, problems: Iterator[Problem], slow_samples: int) -> list[Row]:
    """Compare with SPAMS and scikit-learn, which pursues `slow_samples` samples, at equal atoms or equal residual.

    Times include the Gram matrix, spread over all n. SPAMS takes the atom after which the residual is smallest
    (orthogonal least squares) instead of the one that correlates most.
    """
    import spams
    from sklearn.linear_model import orthogonal_mp_gram

    rows = []
    Pursuit(np.eye(4), backend="numba").solve(np.eye(4), 1)  # compiles
    for one in problems:
        x, v = (unit(array).astype(np.float32) for array in (one.x, one.v))
        n, (k, channels) = len(x), v.shape
        columns = np.asfortranarray(x.T), np.asfortranarray(v.T)
        some = x[:slow_samples]
        residual = float(np.median(Pursuit(v, backend="numba").solve(x[:500], 16).rel_l2))
        for atoms in (8, 16, 32, None):
            case = f"{one.case} " + (f"{atoms} atoms" if atoms else f"r={residual:.2f}")
            stop = {"nonzeros": atoms} if atoms else {"residual": residual}

            def quality(u: np.ndarray, x: np.ndarray, v: np.ndarray = v, atoms: int | None = atoms) -> float:
                """Mean relative l2 error of u [N, K] where atoms are equal, mean number of atoms else."""
                if atoms is None:
                    return float((u != 0).sum(axis=1).mean())
                return float(np.linalg.norm(x - u @ v, axis=1).mean())

            def ours(sign: Sign, x=x, v=v, stop=stop) -> Codes:
                return Pursuit(v, backend="numba").solve(x, **stop, sign=sign)

            def spams_omp(columns=columns, atoms: int | None = atoms, residual: float = residual) -> np.ndarray:
                limit = {"L": atoms, "eps": 0.0} if atoms else {"eps": residual**2}
                return spams.omp(*columns, **limit, numThreads=machine.threads)

            gram, once, _ = timed(lambda v=v: v @ v.T, 1)

            def scikit(some=some, v=v, gram=gram, atoms=atoms, residual=residual) -> np.ndarray:
                limit = {"n_nonzero_coefs": atoms} if atoms else {"tol": residual**2}
                return orthogonal_mp_gram(gram, v @ some.T, norms_squared=np.ones(len(some)), **limit)

            contenders = {
                "gigraph": Contender(partial(ours, "any"), n),
                "gigraph, non-negative": Contender(partial(ours, "nonnegative"), n),
                "SPAMS (least squares)": Contender(spams_omp, n),
                "scikit-learn": Contender(scikit, len(some), 1),
            }
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # samples that are done early
                outcomes = contest(contenders)
            for method, outcome in outcomes.items():
                u, share = outcome.result, None
                if method == "gigraph" and atoms:
                    # All correlations once, and once an atom those with a row of the Gram matrix for each so far.
                    used = int(u.nonzeros().max())
                    share = k * (2 * channels + used * (used - 1)) / machine.flops / outcome.seconds
                dense = u.dense(k) if isinstance(u, Codes) else u.T if isinstance(u, np.ndarray) else u.toarray().T
                more = once / n * (method == "scikit-learn")
                ratio = outcome.ratio * (1 + more / outcome.seconds)
                rows.append(
                    Row(
                        "pursuit", case, method, outcome.seconds + more, "sample", outcome.repeats, outcome.peak,
                        quality(dense, x[: len(dense)]), share, ratio,
                    )
                )  # fmt: skip
    return rows
