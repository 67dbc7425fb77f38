"""Each kernel and its peers, in turn, on the same data in the same process."""

from __future__ import annotations

import math
import warnings

import numpy as np

from gigraph.bisecting import bisect, cohesion, concept_vectors
from gigraph.lasso import calibrate, lasso

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
        peer = BisectingKMeans(k, bisecting_strategy="largest_cluster", random_state=0)
        fitted, seconds, peak = timed(lambda peer=peer, unit=unit: peer.fit(unit), 1)
        rows.append(Row("clustering", case, "scikit-learn", seconds, "all", 1, peak, quality(fitted.labels_)))
    return rows


def relative_gap(x: np.ndarray, v: np.ndarray, u: np.ndarray, lam: float) -> float:
    """Return the largest duality gap over primal of solutions u [N, K], all in float64."""
    x, v, u = (array.astype(np.float64) for array in (x, v, u))
    r = x - u @ v
    scale = np.minimum(1, lam / np.maximum(np.abs(r @ v.T).max(axis=1), 1e-300))[:, None]
    primal = 0.5 * (r * r).sum(axis=1) + lam * np.abs(u).sum(axis=1)
    dual = 0.5 * (x * x).sum(axis=1) - 0.5 * ((x - scale * r) ** 2).sum(axis=1)
    return float(((primal - dual) / primal).max())


def decomposition(machine: Machine, cases: list[tuple[int, int, int]], slow_samples: int) -> list[Row]:
    """Compare with SPAMS, celer and scikit-learn; the slow ones solve `slow_samples` samples."""
    import spams
    from celer import Lasso
    from sklearn.decomposition import sparse_encode

    rows = []
    for n, channels, k in cases:
        x = mixtures(max(2 * n, 3 * k), channels)
        x -= x.mean(axis=0)
        tree = bisect(x, k)
        v = concept_vectors(x, tree.labels, tree.k)
        x = np.ascontiguousarray(x[:: len(x) // n][:n])
        lam = calibrate(x[:500], v, 0.005 * k).lam
        case = f"C={channels} K={k}"
        codes, seconds, peak = timed(lambda x=x, v=v, lam=lam: lasso(x, v, lam, tol=1e-4))
        # All correlations once to choose concepts, and once to certify the result.
        least = 4 * channels * k / machine.flops
        rows.append(
            Row("lasso", case, "gigraph", seconds / n, "sample", 3, peak, float(codes.gap.max()), least * n / seconds)
        )
        few, some = x[: max(slow_samples, n // 4)], x[:slow_samples]

        def spams_lasso(few: np.ndarray = few, v: np.ndarray = v, lam: float = lam) -> np.ndarray:
            return (
                spams.lasso(
                    np.asfortranarray(few.T), D=np.asfortranarray(v.T), lambda1=lam, mode=2, numThreads=machine.threads
                )
                .toarray()
                .T
            )

        def celer_lasso(some: np.ndarray = some, v: np.ndarray = v, lam: float = lam) -> np.ndarray:
            design = np.asfortranarray(v.T)
            model = Lasso(alpha=lam / v.shape[1], fit_intercept=False, tol=1e-4)
            return np.stack([model.fit(design, one).coef_ for one in some])

        def encode(method: str, some: np.ndarray = some, v: np.ndarray = v, lam: float = lam) -> np.ndarray:
            return sparse_encode(some, v, algorithm=method, alpha=lam, max_iter=10_000)

        methods = {
            "SPAMS": (spams_lasso, few),
            "celer": (celer_lasso, some),
            "scikit-learn lasso_cd": (lambda encode=encode: encode("lasso_cd"), some),
            "scikit-learn lasso_lars": (lambda encode=encode: encode("lasso_lars"), some),
        }
        for method, (solve, samples) in methods.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                u, seconds, peak = timed(solve, 3 if method == "SPAMS" else 1)
            gap = relative_gap(samples[:slow_samples], v, u[:slow_samples], lam)
            count = 3 if method == "SPAMS" else 1
            rows.append(Row("lasso", case, method, seconds / len(samples), "sample", count, peak, gap))
    return rows
