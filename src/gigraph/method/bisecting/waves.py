"""Many splits at once, on NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from gigraph.hashing import mix
from gigraph.method.bisecting.tree import DIRECTION_BITS, GRID, LONGEST, SAME, Nodes, directed


def _fold(a: Any) -> Any:
    """Sum a float64 array over its last axis along a fixed binary tree; `a` is overwritten."""
    width = a.shape[-1]
    while width > 1:
        half = (width + 1) // 2
        a[..., : width - half] += a[..., half:width]
        width = half
    return a[..., 0]


def _unit_rows(x: np.ndarray) -> tuple[Any, Any]:
    """Return the rows' directions [n, C] float32 on the grid, and the positions [n] of rows that have one."""
    unit = np.empty(x.shape, dtype=np.float32)
    lengths = np.empty(len(x), dtype=np.float64)
    for part in _parts(len(x), x.shape[1]):
        wide = x[part].astype(np.float64)
        lengths[part] = np.sqrt(_fold(wide * wide))
        directed(lengths[part])
        divisor = np.where(lengths[part] > 0, lengths[part], 1.0)[:, None]
        unit[part] = np.rint(wide / divisor * GRID) / GRID
    rows = directed(lengths)
    return (unit if len(rows) == len(x) else unit[rows]), rows


def _parts(rows: int, channels: int) -> list[slice]:
    """Cut rows so that one float64 part stays in the cache."""
    step = max(1, 2**17 // max(1, channels))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def _centroids(sums: Any) -> Any:
    """Scale float64 sums [..., C] to unit length; a zero sum stays zero."""
    lengths = np.sqrt(_fold(sums * sums))[..., None]
    return sums / np.where(lengths > 0, lengths, 1.0)


def _directions(c0: Any, c1: Any) -> Any:
    """Return d = c1 - c0 [m, C] float64, rounded so that dot products with grid rows are exact."""
    d = c1 - c0
    _, exponent = np.frexp(np.sqrt(_fold(d * d)))
    scale = np.ldexp(np.ones(exponent.shape), DIRECTION_BITS - exponent)[:, None]
    return np.rint(d * scale) / scale


def _dots(x: Any, rows: Any, d: Any, slot: Any) -> Any:
    """Return x[rows] . d[slot], exactly."""
    out = np.empty(len(rows), dtype=np.float64)
    for part in _parts(len(rows), x.shape[1]):
        out[part] = (x[rows[part]].astype(np.float64) * d[slot[part]]).sum(axis=1)
    return out


def _add_rows(sums: Any, index: Any, x: Any, rows: Any, sign: Any) -> None:
    """Add sign * x[rows] to sums[index], exactly, hence in any order."""
    for part in _parts(len(rows), x.shape[1]):
        np.add.at(sums, index[part], x[rows[part]].astype(np.float64) * sign[part, None])


def _seed_rows(x: Any, ids: Any, rows: Any, slot: Any, keys: Any) -> tuple[Any, Any, Any]:
    """Choose each slot's two seed rows; return their positions [m], [m], and whether they differ [m]."""
    slots = len(keys)
    hashes = mix(ids[rows], keys[slot])
    order = np.lexsort(np.stack([hashes, slot.astype(np.uint64)]))
    first = np.searchsorted(slot[order], np.arange(slots))
    a, b = rows[order[first]], rows[order[first + 1]]
    own = np.arange(slots)
    alike = _dots(x, b, x[a].astype(np.float64), own)
    redo = np.flatnonzero(alike > SAME)
    if len(redo):
        of_redo = np.full(slots, -1)
        of_redo[redo] = np.arange(len(redo))
        # In hash order within each slot, so that the stable sort leaves the smallest hash first among equals.
        again = order[of_redo[slot[order]] >= 0]
        among = of_redo[slot[again]]
        cosines = _dots(x, rows[again], x[a[redo]].astype(np.float64), among)
        least = again[
            np.lexsort(np.stack([np.arange(len(again)).astype(np.float64), cosines, among.astype(np.float64)]))
        ]
        b[redo] = rows[least[np.searchsorted(np.sort(among), np.arange(len(redo)))]]
        alike = _dots(x, b, x[a].astype(np.float64), own)
    return a, b, alike <= SAME


def _split_many(x: Any, ids: Any, rows: Any, slot: Any, keys: Any, max_iter: int) -> tuple[Any, Any]:
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
    a, b, running = _seed_rows(x, ids, rows, slot, keys)
    d = _directions(x[a].astype(np.float64), x[b].astype(np.float64))
    side = np.zeros(len(rows), dtype=bool)
    margin = np.zeros(len(rows), dtype=np.float64)
    drift = np.zeros(slots, dtype=np.float64)
    sums = np.zeros((2 * slots, x.shape[1]), dtype=np.float64)
    count = np.zeros((2, slots), dtype=np.int64)
    look = np.flatnonzero(running[slot])
    dots = _dots(x, rows[look], d, slot[look])
    side[look] = dots > 0
    margin[look] = np.abs(dots)
    _add_rows(sums, slot[look] + slots * side[look], x, rows[look], np.ones(len(look)))
    for step in range(max_iter):
        if step:
            look = np.flatnonzero(running[slot] & (margin <= drift[slot]))
            dots = _dots(x, rows[look], d, slot[look])
            margin[look] = np.abs(dots) + drift[slot[look]]
            moved = look[(dots > 0) != side[look]]
            side[moved] = ~side[moved]
            running &= np.bincount(slot[moved], minlength=slots) > 0
            for gained in (True, False):
                index = slot[moved] + slots * (side[moved] == gained)
                sign = np.full(len(moved), 1.0 if gained else -1.0)
                _add_rows(sums, index, x, rows[moved], sign)
        count = np.bincount(slot + slots * side, minlength=2 * slots).reshape(2, slots)
        running &= (count > 0).all(axis=0)
        if not bool(running.any()):
            break
        c = _centroids(sums)
        new = _directions(c[:slots], c[slots:])
        drift += LONGEST * np.sqrt(((new - d) ** 2).sum(axis=1))
        d = new
    return side, count


def bisect_waves(
    x: np.ndarray, ids: np.ndarray, k: int, seed: int, max_iter: int
) -> tuple[Nodes, np.ndarray, np.ndarray]:
    """Split every unsplit node among the K - 1 largest known ones, until all of them are split.

    Parameters
    ----------
    x, ids, k, seed, max_iter
        As in `gigraph.method.bisecting.bisect`; ids are uint64 [N].

    Returns
    -------
    nodes : Nodes
        With at least the K - 1 largest splits.
    rows : int64 array [n]
        The rows that have a direction.
    deepest : int64 array [n]
        The last node that each of them reached.
    """
    unit, rows = _unit_rows(x)
    kept_ids = ids[rows]
    nodes = Nodes(len(rows), seed)
    deepest = np.zeros(len(rows), dtype=np.int64)
    while len(wave := nodes.unsplit(k - 1)):
        slot_of = np.full(nodes.count, -1)
        slot_of[wave] = np.arange(len(wave))
        slot = slot_of[deepest]
        members = np.flatnonzero(slot >= 0)
        slot = slot[members]
        side, count = _split_many(unit, kept_ids, members, slot, nodes.key[wave], max_iter)
        child = nodes.split(wave, np.where(count.all(axis=0), count[0], 0))[slot]
        done = child >= 0
        deepest[members[done]] = child[done] + side[done]
    return nodes, rows, deepest
