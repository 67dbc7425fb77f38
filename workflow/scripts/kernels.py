"""Compile the kernels of clustering and coding, so that the jobs that run them side by side find them compiled.

A job that comes before this one is done compiles them itself; no result depends on it.
"""

import time
from argparse import Namespace

import numpy as np

from gigraph.method.bisecting import bisect
from gigraph.method.compiler import compiles
from gigraph.method.lasso import lasso
from gigraph.method.pursuit import Pursuit
from gigraph.records import tables
from gigraph.reporting import log
from gigraph.running.runtime import run


def main(args: Namespace) -> None:
    rows = np.eye(4, dtype=np.float32)
    known = {
        "clustering": lambda: bisect(rows, 2, backend="numba"),
        "lasso": lambda: lasso(rows, rows, 0.5, backend="numba"),
        "pursuit": lambda: pursue(rows),
    }
    kernels = {name: known[name] for name in args.settings["kernels"]}
    if not compiles():
        log.info("numba is not installed: there is nothing to compile")
        kernels = {}
    for name, kernel in kernels.items():  # in the order in which the workflow needs them
        began = time.monotonic()
        kernel()
        log.info("%s: %.1f s", name, time.monotonic() - began)
    tables.write(args.kernels, "kernels", {"kernel": list(kernels)}, args.lineage)


def pursue(rows: np.ndarray) -> None:
    solver = Pursuit(rows, backend="numba")
    solver.refit(rows, solver.solve(rows, 1))


if __name__ == "__main__":
    run(main, "kernels")
