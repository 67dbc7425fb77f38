"""One split after the other, or a few at once on several threads: compiled.

Imported where numba is there, and only when it is to run.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numba import njit

from gigraph.hashing import mix
from gigraph.method.bisecting.tree import Nodes, directed
from gigraph.threads import spread, threads_allowed

# The tree's, once more: numba compiles globals in, and only a change of this very file renews its cache on disk, so
# that an edit elsewhere would go unnoticed.
GRID = 2.0**24
DIRECTION_BITS = 27
SAME = 1.0 - 1e-6
LONGEST = 1.0001

# Leaves that are split at once on several threads.
WAVE = 128
STRIDE = 16
# Only sums that are exact in any order, or bounded, may be reordered.
_ANY_ORDER = {"reassoc", "contract"}


def _split_part(data: tuple[Any, ...], where: tuple[Any, ...], first: np.ndarray, part: np.ndarray) -> None:
    _split_some(*(*data, *where, part, first))


def bisect_compiled(
    x: np.ndarray, ids: np.ndarray, k: int, seed: int, max_iter: int
) -> tuple[Nodes, np.ndarray, np.ndarray]:
    """Split the largest leaf; a leaf's rows lie together in memory, so small leaves stay in the cache.

    On several threads the largest few leaves are split at once, until the K - 1 largest nodes are split.
    Parameters and results are those of `gigraph.method.bisecting.waves.bisect_waves`.
    """
    given = np.ascontiguousarray(x, dtype=np.float32).view()
    given.flags.writeable = False  # one type, whatever the caller's: kernels are compiled by type
    unit, lengths = _unit_rows(given)
    rows = directed(lengths)
    if len(rows) < len(x):
        unit = unit[rows]
    order = np.arange(len(rows))
    keys = mix(ids[rows])
    side = np.zeros(len(rows), dtype=np.bool_)
    margin = np.zeros(len(rows), dtype=np.float64)
    nodes = Nodes(len(rows), seed)
    data = (unit, order, keys, side, margin, max_iter)
    if threads_allowed() == 1:
        nodes.reserve(2 * min(k, max(1, len(rows))))
        tree = (nodes.size, nodes.key, nodes.left, nodes.splittable, nodes.start)
        nodes.count = _split_largest_first(*data, *tree, k)
    else:
        while len(wave := nodes.unsplit(k - 1)):
            wave = wave[:WAVE]  # what is split in vain is less than one wave
            first = np.zeros(len(wave), dtype=np.int64)
            where = (nodes.size, nodes.key, nodes.start, wave)
            parts = [np.arange(begin, len(wave), STRIDE) for begin in range(min(len(wave), STRIDE))]
            spread(partial(_split_part, data, where, first), parts)
            nodes.split(wave, first)
    return nodes, rows, nodes.deepest(order)


@njit(cache=True, nogil=True)
def _fold(a: np.ndarray) -> float:
    """Sum as `waves._fold` does; `a` is overwritten."""
    width = a.size
    while width > 1:
        half = (width + 1) // 2
        for i in range(width - half):
            a[i] += a[half + i]
        width = half
    return a[0]


@njit(cache=True, nogil=True)
def _unit_rows(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Do as `waves._unit_rows`, without dropping rows of length 0."""
    unit = np.empty(x.shape, dtype=np.float32)
    lengths = np.empty(x.shape[0])
    squares = np.empty(x.shape[1])
    for i in range(x.shape[0]):
        for c in range(x.shape[1]):
            value = np.float64(x[i, c])
            squares[c] = value * value
        lengths[i] = math.sqrt(_fold(squares))
        divisor = lengths[i] if lengths[i] > 0 else 1.0
        for c in range(x.shape[1]):
            unit[i, c] = np.rint(np.float64(x[i, c]) / divisor * GRID) / GRID
    return unit, lengths


@njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def _dot_float32(x: np.ndarray, d: np.ndarray) -> np.float32:
    total = np.float32(0.0)
    for c in range(x.size):
        total += x[c] * d[c]
    return total


@njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def _dot_exact(x: np.ndarray, d: np.ndarray) -> float:
    total = 0.0
    for c in range(x.size):
        total += np.float64(x[c]) * np.float64(d[c])
    return total


@njit(cache=True, nogil=True)
def _centroid(s: np.ndarray, scratch: np.ndarray, out: np.ndarray) -> None:
    for c in range(s.size):
        scratch[c] = s[c] * s[c]
    length = math.sqrt(_fold(scratch))
    if length == 0:
        length = 1.0
    for c in range(s.size):
        out[c] = s[c] / length


@njit(cache=True, nogil=True)
def _direction(c0: np.ndarray, c1: np.ndarray, scratch: np.ndarray, d: np.ndarray) -> tuple[float, float]:
    """Write d as `waves._directions` does; return bounds on how far it moved, and on its length."""
    for c in range(d.size):
        difference = c1[c] - c0[c]
        scratch[c] = difference * difference
    length = math.sqrt(_fold(scratch))
    scale = math.ldexp(1.0, DIRECTION_BITS - math.frexp(length)[1])
    for c in range(d.size):
        value = np.rint((c1[c] - c0[c]) * scale) / scale
        scratch[c] = (value - d[c]) * (value - d[c])
        d[c] = value
    return LONGEST * math.sqrt(_fold(scratch)), LONGEST * length


@njit(cache=True, nogil=True)
def _round_of_mix(state: np.uint64, word: np.uint64) -> np.uint64:
    state = (state ^ word) + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


@njit(cache=True, nogil=True)
def _split(
    x: np.ndarray,
    order: np.ndarray,
    keys: np.ndarray,
    lo: int,
    hi: int,
    node_key: np.uint64,
    max_iter: int,
    side: np.ndarray,
    margin: np.ndarray,
) -> int:
    """Split rows lo .. hi - 1 in place, side 0 first; return the number on side 0, or 0 for no split."""
    channels = x.shape[1]
    a, b = -1, -1
    hash_a, hash_b = np.uint64(0), np.uint64(0)
    for i in range(lo, hi):
        h = _round_of_mix(keys[i], node_key)
        if a < 0 or h < hash_a:
            b, hash_b = a, hash_a
            a, hash_a = i, h
        elif b < 0 or h < hash_b:
            b, hash_b = i, h
    if _dot_exact(x[b], x[a]) > SAME:
        least = 2.0
        for i in range(lo, hi):
            cosine = _dot_exact(x[i], x[a])
            h = _round_of_mix(keys[i], node_key)
            if cosine < least or (cosine == least and h < hash_b):
                least, b, hash_b = cosine, i, h
        if least > SAME:
            return 0

    s0, s1 = np.zeros(channels), np.zeros(channels)
    c0, c1 = x[a].astype(np.float64), x[b].astype(np.float64)
    d, scratch = np.zeros(channels), np.empty(channels)
    coarse = np.empty(channels, dtype=np.float32)
    on_side_1 = 0
    drift = 0.0
    for step in range(max_iter):
        moved_by, length = _direction(c0, c1, scratch, d)
        if step:
            drift += moved_by
        for c in range(channels):
            coarse[c] = d[c]
        # Higham's any-order bound on a float32 dot product, and the rounding of d to float32.
        error = (channels + 4) * 2.0**-24 * 1.001 * length + 1e-30
        moved = 0
        for i in range(lo, hi):
            if step and margin[i] > drift:
                continue
            dot = float(_dot_float32(x[i], coarse))
            if abs(dot) <= error:
                dot = _dot_exact(x[i], d)
                margin[i] = abs(dot) + drift
            else:
                margin[i] = abs(dot) - error + drift
            to = dot > 0
            if step == 0:
                side[i] = to
                moved += 1
                on_side_1 += int(to)
                target = s1 if to else s0
                for c in range(channels):
                    target[c] += x[i, c]
            elif to != side[i]:
                side[i] = to
                moved += 1
                if to:
                    on_side_1 += 1
                    for c in range(channels):
                        s0[c] -= x[i, c]
                        s1[c] += x[i, c]
                else:
                    on_side_1 -= 1
                    for c in range(channels):
                        s0[c] += x[i, c]
                        s1[c] -= x[i, c]
        if on_side_1 == 0 or on_side_1 == hi - lo:
            return 0
        if moved == 0 or step == max_iter - 1:
            break
        _centroid(s0, scratch, c0)
        _centroid(s1, scratch, c1)

    # Sums are exact in any order, so rows may be swapped rather than moved stably.
    i, j = lo, hi - 1
    while i < j:
        if not side[i]:
            i += 1
        elif side[j]:
            j -= 1
        else:
            for c in range(channels):
                x[i, c], x[j, c] = x[j, c], x[i, c]
            order[i], order[j] = order[j], order[i]
            keys[i], keys[j] = keys[j], keys[i]
            side[i], side[j] = False, True
    return hi - lo - on_side_1


@njit(cache=True, nogil=True)
def _split_some(
    x: np.ndarray,
    order: np.ndarray,
    keys: np.ndarray,
    side: np.ndarray,
    margin: np.ndarray,
    max_iter: int,
    size: np.ndarray,
    key: np.ndarray,
    start: np.ndarray,
    nodes: np.ndarray,
    part: np.ndarray,
    first: np.ndarray,
) -> None:
    """Split `nodes[part]`, writing the sizes of their first sides into `first[part]`."""
    for p in part:
        lo = start[nodes[p]]
        hi = lo + size[nodes[p]]
        first[p] = _split(x, order, keys, lo, hi, key[nodes[p]], max_iter, side, margin)


@njit(cache=True, nogil=True)
def _ranks_before(size: np.ndarray, key: np.ndarray, a: int, b: int) -> bool:
    return size[a] > size[b] or (size[a] == size[b] and key[a] < key[b])


@njit(cache=True, nogil=True)
def _split_largest_first(
    x: np.ndarray,
    order: np.ndarray,
    keys: np.ndarray,
    side: np.ndarray,
    margin: np.ndarray,
    max_iter: int,
    size: np.ndarray,
    key: np.ndarray,
    left: np.ndarray,
    splittable: np.ndarray,
    start: np.ndarray,
    k: int,
) -> int:
    """Split the largest leaf until there are `k`; the tree's arrays are filled in. Return the number of nodes."""
    heap = np.empty(size.size, dtype=np.int64)
    waiting = 0
    if splittable[0]:
        heap[0] = 0
        waiting = 1
    count, leaves = 1, 1
    while waiting > 0 and leaves < k:
        node = heap[0]
        waiting -= 1
        last, hole = heap[waiting], 0
        while 2 * hole + 1 < waiting:  # sift the last one down from the top
            child = 2 * hole + 1
            if child + 1 < waiting and _ranks_before(size, key, heap[child + 1], heap[child]):
                child += 1
            if not _ranks_before(size, key, heap[child], last):
                break
            heap[hole] = heap[child]
            hole = child
        heap[hole] = last
        lo = start[node]
        first = _split(x, order, keys, lo, lo + size[node], key[node], max_iter, side, margin)
        if first == 0:
            splittable[node] = False
            continue
        left[node] = count
        leaves += 1
        for which in range(2):
            part = count + which
            size[part] = size[node] - first if which else first
            start[part] = lo + first if which else lo
            key[part] = _round_of_mix(_round_of_mix(np.uint64(0), key[node]), np.uint64(which))
            left[part] = -1
            splittable[part] = size[part] > 1
            if splittable[part]:
                hole = waiting
                waiting += 1
                while hole > 0 and _ranks_before(size, key, part, heap[(hole - 1) // 2]):
                    heap[hole] = heap[(hole - 1) // 2]
                    hole = (hole - 1) // 2
                heap[hole] = part
        count += 2
    return count
