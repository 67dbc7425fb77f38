"""Many splits at once, on NumPy or CuPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from gigraph.hashing import mix
from gigraph.method.bisecting.tree import DIRECTION_BITS, GRID, LONGEST, SAME, Nodes


def array_module(name: str) -> Any:
    """Return CuPy or NumPy."""
    if name == "cupy":
        import cupy

        return cupy
    return np


def _fold(a: Any) -> Any:
    """Sum a float64 array over its last axis along a fixed binary tree; `a` is overwritten."""
    width = a.shape[-1]
    while width > 1:
        half = (width + 1) // 2
        a[..., : width - half] += a[..., half:width]
        width = half
    return a[..., 0]


def _unit_rows(xp: Any, x: np.ndarray) -> tuple[Any, Any]:
    """Return the rows' directions [n, C] float32 on the grid, and the positions [n] of rows that have one."""
    unit = xp.empty(x.shape, dtype=xp.float32)
    lengths = xp.empty(len(x), dtype=xp.float64)
    for part in _parts(xp, len(x), x.shape[1]):
        wide = xp.asarray(x[part]).astype(xp.float64)
        lengths[part] = xp.sqrt(_fold(wide * wide))
        divisor = xp.where(lengths[part] > 0, lengths[part], 1.0)[:, None]
        unit[part] = xp.rint(wide / divisor * GRID) / GRID
    rows = xp.flatnonzero(lengths > 0)
    return (unit if len(rows) == len(x) else unit[rows]), rows


def _parts(xp: Any, rows: int, channels: int) -> list[slice]:
    """Cut rows so that one float64 part stays in the cache on a CPU, and within 128 MiB on a GPU."""
    step = max(1, (2**17 if xp is np else 2**24) // max(1, channels))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def _centroids(xp: Any, sums: Any) -> Any:
    """Scale float64 sums [..., C] to unit length; a zero sum stays zero."""
    lengths = xp.sqrt(_fold(sums * sums))[..., None]
    return sums / xp.where(lengths > 0, lengths, 1.0)


def _directions(xp: Any, c0: Any, c1: Any) -> Any:
    """Return d = c1 - c0 [m, C] float64, rounded so that dot products with grid rows are exact."""
    d = c1 - c0
    _, exponent = xp.frexp(xp.sqrt(_fold(d * d)))
    scale = xp.ldexp(xp.ones(exponent.shape), DIRECTION_BITS - exponent)[:, None]
    return xp.rint(d * scale) / scale


def _dots(xp: Any, x: Any, rows: Any, d: Any, slot: Any) -> Any:
    """Return x[rows] . d[slot], exactly."""
    out = xp.empty(len(rows), dtype=xp.float64)
    for part in _parts(xp, len(rows), x.shape[1]):
        out[part] = (x[rows[part]].astype(xp.float64) * d[slot[part]]).sum(axis=1)
    return out


def _add_rows(xp: Any, sums: Any, index: Any, x: Any, rows: Any, sign: Any) -> None:
    """Add sign * x[rows] to sums[index], exactly, hence in any order."""
    for part in _parts(xp, len(rows), x.shape[1]):
        xp.add.at(sums, index[part], x[rows[part]].astype(xp.float64) * sign[part, None])


def _seed_rows(xp: Any, x: Any, ids: Any, rows: Any, slot: Any, keys: Any) -> tuple[Any, Any, Any]:
    """Choose each slot's two seed rows; return their positions [m], [m], and whether they differ [m]."""
    slots = len(keys)
    hashes = mix(ids[rows], keys[slot])
    order = xp.lexsort(xp.stack([hashes, slot.astype(xp.uint64)]))
    first = xp.searchsorted(slot[order], xp.arange(slots))
    a, b = rows[order[first]], rows[order[first + 1]]
    own = xp.arange(slots)
    alike = _dots(xp, x, b, x[a].astype(xp.float64), own)
    redo = xp.flatnonzero(alike > SAME)
    if len(redo):
        of_redo = xp.full(slots, -1)
        of_redo[redo] = xp.arange(len(redo))
        # In hash order within each slot, so that the stable sort leaves the smallest hash first among equals.
        again = order[of_redo[slot[order]] >= 0]
        among = of_redo[slot[again]]
        cosines = _dots(xp, x, rows[again], x[a[redo]].astype(xp.float64), among)
        least = again[
            xp.lexsort(xp.stack([xp.arange(len(again)).astype(xp.float64), cosines, among.astype(xp.float64)]))
        ]
        b[redo] = rows[least[xp.searchsorted(xp.sort(among), xp.arange(len(redo)))]]
        alike = _dots(xp, x, b, x[a].astype(xp.float64), own)
    return a, b, alike <= SAME


def _split_many(xp: Any, x: Any, ids: Any, rows: Any, slot: Any, keys: Any, max_iter: int) -> tuple[Any, Any]:
    """Split m nodes by spherical 2-means.

    Parameters
    ----------
    rows, slot : int arrays [n]
        The nodes' rows, and which of the m nodes each belongs to.
    keys : uint64 array [m]
        The nodes' path hashes.

    Returns
    -------
    side : bool array [n]
    count : int64 array [2, m]
        Rows on each side; a zero says that the node cannot be split.
    """
    slots = len(keys)
    a, b, running = _seed_rows(xp, x, ids, rows, slot, keys)
    d = _directions(xp, x[a].astype(xp.float64), x[b].astype(xp.float64))
    side = xp.zeros(len(rows), dtype=bool)
    margin = xp.zeros(len(rows), dtype=xp.float64)
    drift = xp.zeros(slots, dtype=xp.float64)
    sums = xp.zeros((2 * slots, x.shape[1]), dtype=xp.float64)
    count = xp.zeros((2, slots), dtype=xp.int64)
    look = xp.flatnonzero(running[slot])
    dots = _dots(xp, x, rows[look], d, slot[look])
    side[look] = dots > 0
    margin[look] = xp.abs(dots)
    _add_rows(xp, sums, slot[look] + slots * side[look], x, rows[look], xp.ones(len(look)))
    for step in range(max_iter):
        if step:
            look = xp.flatnonzero(running[slot] & (margin <= drift[slot]))
            dots = _dots(xp, x, rows[look], d, slot[look])
            margin[look] = xp.abs(dots) + drift[slot[look]]
            moved = look[(dots > 0) != side[look]]
            side[moved] = ~side[moved]
            running &= xp.bincount(slot[moved], minlength=slots) > 0
            for gained in (True, False):
                index = slot[moved] + slots * (side[moved] == gained)
                sign = xp.full(len(moved), 1.0 if gained else -1.0)
                _add_rows(xp, sums, index, x, rows[moved], sign)
        count = xp.bincount(slot + slots * side, minlength=2 * slots).reshape(2, slots)
        running &= (count > 0).all(axis=0)
        if not bool(running.any()):
            break
        c = _centroids(xp, sums)
        new = _directions(xp, c[:slots], c[slots:])
        drift += LONGEST * xp.sqrt(((new - d) ** 2).sum(axis=1))
        d = new
    return side, count


def bisect_waves(
    xp: Any, x: np.ndarray, ids: np.ndarray, k: int, seed: int, max_iter: int
) -> tuple[Nodes, np.ndarray, np.ndarray]:
    """Split every unsplit node among the K - 1 largest known ones, until all of them are split.

    Parameters
    ----------
    xp : module
        NumPy or CuPy.
    x, ids, k, seed, max_iter
        As in `gigraph.method.bisecting.bisect`, in the host's memory; ids are uint64 [N].

    Returns
    -------
    nodes : Nodes
        With at least the K - 1 largest splits.
    rows : int64 array [n]
        The rows that have a direction.
    deepest : int64 array [n]
        The last node that each of them reached.
    """
    unit, rows = _unit_rows(xp, x)
    kept_ids = xp.asarray(ids)[rows]
    nodes = Nodes(len(rows), seed)
    deepest = xp.zeros(len(rows), dtype=xp.int64)
    while len(wave := nodes.unsplit(k - 1)):
        slot_of = np.full(nodes.count, -1)
        slot_of[wave] = np.arange(len(wave))
        slot = xp.asarray(slot_of)[deepest]
        members = xp.flatnonzero(slot >= 0)
        slot = slot[members]
        side, count = _split_many(xp, unit, kept_ids, members, slot, xp.asarray(nodes.key[wave]), max_iter)
        count = count if xp is np else count.get()
        child = xp.asarray(nodes.split(wave, np.where(count.all(axis=0), count[0], 0)))[slot]
        done = child >= 0
        deepest[members[done]] = child[done] + side[done]
    if xp is not np:
        rows, deepest = rows.get(), deepest.get()
    return nodes, rows, deepest
