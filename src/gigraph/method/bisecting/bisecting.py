"""Which back end splits, and how many concepts a layer may have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np

from gigraph.method.bisecting.tree import Nodes, SplitTree
from gigraph.method.bisecting.waves import bisect_waves
from gigraph.method.compiler import compiles, compiles_cuda

Backend = Literal["auto", "numba", "numpy", "cupy"]
Split: TypeAlias = Callable[[np.ndarray, np.ndarray, int, int, int], tuple[Nodes, np.ndarray, np.ndarray]]

CUDA_WORTH = 2**22
"""Fewer numbers are clustered on a CPU sooner than CUDA is loaded."""


def capped_concepts(expansion: float, channels: int, rows: int, min_members: int) -> tuple[int, bool]:
    """Return K = `expansion` x `channels`, and whether `min_members` rows a concept forced it lower."""
    wanted = max(1, round(expansion * channels))
    allowed = max(1, rows // max(1, min_members))
    return min(wanted, allowed), allowed < wanted


def bisect(
    x: np.ndarray,
    k: int,
    *,
    seed: int = 0,
    row_ids: np.ndarray | None = None,
    max_iter: int = 20,
    backend: Backend = "auto",
) -> SplitTree:
    """Cluster rows by direction: always split the largest cluster, until there are `k` (App. B).

    Parameters
    ----------
    x : float32 array [N, C]
        Centred vectors; they are scaled to unit length here.
    k : int
        Clusters wanted.
    seed : int
        Keys the choice of the seed rows.
    row_ids : integer array [N], optional
        What each row *is*, distinct; makes the clusters independent of the rows' order (default: position).
    max_iter : int
        Most assignments per split.
    backend : {"auto", "numba", "numpy", "cupy"}
        Which code runs; the result is the same. ``auto``: CuPy with a CUDA device and `CUDA_WORTH` numbers, else
        numba, else NumPy.

    Returns
    -------
    SplitTree
        With fewer than `k` concepts where clusters hold only (nearly) identical rows, cosine > 1 - 1e-6.

    Raises
    ------
    ValueError
        For a value that is not finite, `k` < 1, or row ids that are not distinct.

    Notes
    -----
    Largest first means order (-size, path hash); a parent is larger than its children, so the nodes that are
    split are the K - 1 largest splittable ones of the full tree, and many can be split at once without
    changing the result.
    """
    if x.ndim != 2:
        raise ValueError(f"x must be [N, C], not {x.shape}")
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if max_iter < 1:
        raise ValueError(f"max_iter must be at least 1, not {max_iter}")
    if row_ids is None:
        ids = np.arange(len(x), dtype=np.uint64)
    else:
        ids = np.asarray(row_ids).astype(np.uint64)
        if ids.shape != (len(x),) or len(np.unique(ids)) != len(ids):
            raise ValueError("row_ids must hold one distinct integer per row of x")
    nodes, rows, leaf = _load(_choose(backend, x.size))(x, ids, k, seed, max_iter)
    return nodes.tree(rows, leaf, len(x), k)


def _load(backend: str) -> Split:
    if backend == "numba":
        from gigraph.method.bisecting.compiled import bisect_compiled

        return bisect_compiled
    if backend == "cupy":
        from gigraph.method.bisecting.cuda import bisect_cuda

        return bisect_cuda
    return bisect_waves


def _choose(backend: Backend, numbers: int) -> str:
    if backend not in ("auto", "numba", "numpy", "cupy"):
        raise ValueError(f"backend must be auto, numba, numpy or cupy, not {backend!r}")
    if backend == "numba" and not compiles():
        raise ValueError("backend 'numba' was asked for, but numba is not installed")
    if backend != "auto":
        return backend
    if numbers >= CUDA_WORTH and compiles_cuda():
        return "cupy"
    return "numba" if compiles() else "numpy"
