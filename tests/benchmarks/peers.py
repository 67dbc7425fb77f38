"""Each kernel and its peers, in turn, on the same data in the same process."""

from __future__ import annotations

import math
import warnings

import numpy as np

from gigraph.method.bisecting import bisect
from gigraph.method.lasso import Sign, calibrate, lasso
from gigraph.method.pursuit import Pursuit
from gigraph.method.vectors import cohesion, concept_vectors, unit

from .data import mixtures
from .measure import Machine, Row, timed


def clustering(machine: Machine, cases: list[tuple[int, int, int]], slow_peer: int) -> list[Row]:
    """Compare with scikit-learn's BisectingKMeans; cases beyond `slow_peer` = N K are run without it."""
    from sklearn.cluster import BisectingKMeans

    rows = []
    bisect(mixtures(200, 8), 10)  # compiles
    for n, channels, k in cases:
        x = mixtures(n, channels)
        x -= x.mean(axis=0)
        case = f"N={n} C={channels} K={k}"

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


def relative_gap(x: np.ndarray, v: np.ndarray, u: np.ndarray, lam: float, positive: bool) -> float:
    """Return the largest duality gap over primal of solutions u [N, K], all in float64."""
    x, v, u = (array.astype(np.float64) for array in (x, v, u))
    r = x - u @ v
    pull = r @ v.T if positive else np.abs(r @ v.T)
    scale = np.minimum(1, lam / np.maximum(pull.max(axis=1), 1e-300))[:, None]
    primal = 0.5 * (r * r).sum(axis=1) + lam * np.abs(u).sum(axis=1)
    dual = 0.5 * (x * x).sum(axis=1) - 0.5 * ((x - scale * r) ** 2).sum(axis=1)
    return float(((primal - dual) / primal).max())


def decomposition(
    machine: Machine, cases: list[tuple[int, int, int]], slow_samples: int, sign: Sign = "any"
) -> list[Row]:
    """Compare with SPAMS, celer and scikit-learn; all but SPAMS solve `slow_samples` samples.

    Times include the Gram matrix of the concepts, spread over all n, for those that use one: gigraph and SPAMS do.
    """
    import celer
    import spams
    from sklearn import linear_model
    from sklearn.decomposition import sparse_encode

    rows = []
    kernel, positive = ("lasso", False) if sign == "any" else ("non-negative lasso", True)
    for n, channels, k in cases:
        x = mixtures(max(2 * n, 3 * k), channels)
        x -= x.mean(axis=0)
        tree = bisect(x, k)
        v = concept_vectors(x, tree.labels, tree.k)
        x = np.ascontiguousarray(x[:: len(x) // n][:n])
        lam = calibrate(x[:500], v, 0.005 * k, sign=sign).lam
        case = f"C={channels} K={k}"
        codes, seconds, peak = timed(lambda x=x, v=v, lam=lam: lasso(x, v, lam, sign=sign, tol=1e-4))
        # All correlations once to choose concepts, and once to certify the result.
        least = 4 * channels * k / machine.flops
        rows.append(
            Row(kernel, case, "gigraph", seconds / n, "sample", 3, peak, float(codes.gap.max()), least * n / seconds)
        )
        some = x[:slow_samples]
        # These two stop at a gap below tol |x|^2: the share of |x|^2 that makes it ours.
        norms = np.einsum("nc,nc->n", x, x)
        sums = np.bincount(np.repeat(np.arange(n), codes.nonzeros()), np.abs(codes.values), minlength=n)
        tol = 1e-4 * float(np.median(0.5 * codes.rel_l2**2 + lam * sums / norms))
        one_by_one = {
            "alpha": lam / channels,
            "fit_intercept": False,
            "tol": tol,
            "max_iter": 10_000,
            "positive": positive,
        }

        def spams_lasso(x: np.ndarray = x, v: np.ndarray = v, lam: float = lam) -> np.ndarray:
            columns = np.asfortranarray(x.T), np.asfortranarray(v.T)
            u = spams.lasso(columns[0], D=columns[1], lambda1=lam, mode=2, pos=positive, numThreads=machine.threads)
            return u[:, :slow_samples].toarray().T

        def each(model, some: np.ndarray = some, v: np.ndarray = v) -> np.ndarray:
            design = np.asfortranarray(v.T)
            return np.stack([model.fit(design, one).coef_.copy() for one in some])

        gram, seconds, _ = timed(lambda v=v: v @ v.T)

        def lars(some: np.ndarray = some, v: np.ndarray = v, lam: float = lam, gram: np.ndarray = gram) -> np.ndarray:
            return sparse_encode(
                some, v, gram=gram.copy(), algorithm="lasso_lars", alpha=lam, max_iter=10_000, positive=positive
            )

        methods = {
            "SPAMS": (spams_lasso, n),
            "celer": (lambda each=each, o=one_by_one: each(celer.Lasso(**o)), len(some)),
            "scikit-learn lasso_cd": (lambda each=each, o=one_by_one: each(linear_model.Lasso(**o)), len(some)),
            "scikit-learn lasso_lars": (lars, len(some)),
        }
        once = {"scikit-learn lasso_lars": seconds / n}
        for method, (solve, samples) in methods.items():
            count = 3 if method == "SPAMS" and channels * k < 10**7 else 1
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                u, seconds, peak = timed(solve, count)
            gap = relative_gap(some, v, u, lam, positive)
            rows.append(Row(kernel, case, method, seconds / samples + once.get(method, 0), "sample", count, peak, gap))
    return rows


def pursuit(machine: Machine, cases: list[tuple[int, int, int]], slow_samples: int) -> list[Row]:
    """Compare with SPAMS and scikit-learn, which pursues `slow_samples` samples, at equal atoms or equal residual.

    Times include the Gram matrix, spread over all n. SPAMS takes the atom after which the residual is smallest
    (orthogonal least squares) instead of the one that correlates most.
    """
    import spams
    from sklearn.linear_model import orthogonal_mp_gram

    rows = []
    Pursuit(np.eye(4), backend="numba").solve(np.eye(4), 1)  # compiles
    for n, channels, k in cases:
        x = mixtures(max(2 * n, 3 * k), channels)
        x -= x.mean(axis=0)
        tree = bisect(x, k)
        v = unit(concept_vectors(x, tree.labels, tree.k)).astype(np.float32)
        x = unit(np.ascontiguousarray(x[:: len(x) // n][:n])).astype(np.float32)
        columns = np.asfortranarray(x.T), np.asfortranarray(v.T)
        some = x[:slow_samples]
        residual = float(np.median(Pursuit(v, backend="numba").solve(x[:500], 16).rel_l2))
        for atoms in (8, 16, 32, None):
            case = f"C={channels} K={k} " + (f"{atoms} atoms" if atoms else f"r={residual:.2f}")
            stop = {"nonzeros": atoms} if atoms else {"residual": residual}

            def quality(u: np.ndarray, x: np.ndarray, v: np.ndarray = v, atoms: int | None = atoms) -> float:
                """Mean relative l2 error of u [N, K] where atoms are equal, mean number of atoms else."""
                if atoms is None:
                    return float((u != 0).sum(axis=1).mean())
                return float(np.linalg.norm(x - u @ v, axis=1).mean())

            for method, sign in (("gigraph", "any"), ("gigraph, non-negative", "nonnegative")):
                codes, seconds, peak = timed(
                    lambda x=x, v=v, stop=stop, sign=sign: Pursuit(v, backend="numba").solve(x, **stop, sign=sign)
                )
                used = int(codes.nonzeros().max())
                # All correlations once, and once an atom those with a row of the Gram matrix for each atom so far.
                least = k * (2 * channels + used * (used - 1)) / machine.flops
                share = None if sign == "nonnegative" or not atoms else least * n / seconds
                found = quality(codes.dense(k), x)
                rows.append(Row("pursuit", case, method, seconds / n, "sample", 3, peak, found, share))

            def spams_omp(columns=columns, atoms: int | None = atoms, residual: float = residual) -> np.ndarray:
                limit = {"L": atoms, "eps": 0.0} if atoms else {"eps": residual**2}
                return spams.omp(*columns, **limit, numThreads=machine.threads)

            u, seconds, peak = timed(spams_omp)
            found = quality(u.toarray().T, x)
            rows.append(Row("pursuit", case, "SPAMS (least squares)", seconds / n, "sample", 3, peak, found))

            gram, once, _ = timed(lambda v=v: v @ v.T, 1)

            def scikit(some=some, v=v, gram=gram, atoms=atoms, residual=residual) -> np.ndarray:
                limit = {"n_nonzero_coefs": atoms} if atoms else {"tol": residual**2}
                return orthogonal_mp_gram(gram, v @ some.T, norms_squared=np.ones(len(some)), **limit)

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # samples that are done early
                u, seconds, peak = timed(scikit, 1)
            each = seconds / len(some) + once / n
            rows.append(Row("pursuit", case, "scikit-learn", each, "sample", 1, peak, quality(u.T, some)))
    return rows
