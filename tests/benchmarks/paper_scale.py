"""The paper's largest layer on this machine: N = 50,000, C = 2,048, K = 16,384, clustered and decomposed in full.

Run: uv run python -m tests.benchmarks.paper_scale [N C K]
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np

from gigraph.method.bisecting import bisect
from gigraph.method.lasso import calibrate, lasso
from gigraph.method.vectors import concept_vectors

from .data import mixtures


def main(n: int = 50_000, channels: int = 2048, k: int = 16_384, nonzeros: float = 80) -> None:
    """Print the time and the peak memory of each stage."""
    began = time.perf_counter()

    def done(what: str) -> None:
        nonlocal began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{what}: {time.perf_counter() - began:.1f} s, peak so far {peak:.1f} GiB", flush=True)
        began = time.perf_counter()

    bisect(mixtures(200, 8), 10)  # compiles
    x = mixtures(n, channels)
    x -= x.mean(axis=0)
    done(f"data [{n}, {channels}]")
    tree = bisect(x, k)
    done(f"clustering into {tree.k}")
    v = concept_vectors(x, tree.labels, tree.k)
    found = calibrate(x[:: max(1, n // 500)][:500], v, nonzeros)
    done(f"calibration to {found.nonzeros:.1f} non-zeros")
    codes = lasso(x, v, found.lam, tol=1e-4)
    done(f"lasso of all {n} samples")
    print(
        f"non-zeros mean {codes.nonzeros().mean():.1f}, largest {codes.nonzeros().max()}; relative l2 "
        f"{codes.rel_l2.mean():.3f}; relative duality gap: largest {codes.gap.max():.1e}; "
        f"above 1e-4: {np.sum(codes.gap > 1e-4)}"
    )


if __name__ == "__main__":
    main(*(int(value) for value in sys.argv[1:]))
