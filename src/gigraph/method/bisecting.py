"""Bisecting spherical k-means (App. B): a layer's concepts and the tree of splits that made them.

Notation: x_i [C] unit row, s_0, s_1 [C] sums of a node's two sides, c = s / |s| centroids, d = c_1 - c_0.

1. Rows are scaled to unit length and rounded to multiples of 2**-24.
2. The largest leaf is split in two by spherical 2-means: row i goes to side 1 iff x_i . d > 0.
3. Until there are K leaves, or no leaf can be split.
4. A concept vector is the mean of its members' centred vectors, not the unit centroid.

Every back end, every order of the rows and every order of summation gives the *same* tree, bit for bit,
because nothing that decides is ever rounded. Rows are multiples of 2**-24 of at most unit length, so a
float64 sum of up to 2**29 rows is exact in any order. d is rounded to 28 significant bits relative to |d|,
so by Cauchy-Schwarz every partial sum of x_i . d fits 53 bits, and float64 dot products are exact in any
order, fused or not. What does round, the lengths of s_0, s_1 and d, is summed along a fixed tree of
element-wise operations (`_fold`), which IEEE 754 makes equal everywhere. float32 is only used with a bound
on its error, and what the bound leaves undecided is redone in float64.

References: Dhillon & Modha, "Concept decompositions for large sparse text data using clustering", Machine
Learning 42, 2001; Steinbach, Karypis & Kumar, "A comparison of document clustering techniques", KDD workshop
on text mining, 2000. The skip bound is Hamerly's, "Making k-means even faster", SDM 2010, for two centres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from gigraph.hashing import mix
from gigraph.threads import spread, threads_allowed

try:
    from numba import njit
except ImportError:  # the NumPy path needs no compiler
    njit = None  # type: ignore[assignment]

GRID = 2.0**24
DIRECTION_BITS = 27
SAME = 1.0 - 1e-6
"""Cosine above which two rows count as one: a node whose rows are all this alike is not split."""
# |x_i| <= 1 + sqrt(C) 2**-25 on the grid; this covers it and the rounding of |delta d| for C < 10**7.
LONGEST = 1.0001

# Leaves that are split at once on several threads.
WAVE = 128
STRIDE = 16

Backend = Literal["auto", "numba", "numpy", "cupy"]


@dataclass(frozen=True)
class SplitTree:
    """The splits, in preorder: a node comes before its side 0, which comes before its side 1.

    A node's random numbers are keyed by its path from the root: it is the same node in a larger tree.

    Attributes
    ----------
    node : int64 array [nodes]
        0 .. nodes - 1.
    parent : int64 array [nodes]
        -1 for the root.
    size : int64 array [nodes]
        Rows in the node.
    concept : int64 array [nodes]
        The leaf's concept, numbered in preorder; -1 for a node that was split.
    labels : int32 array [N]
        Concept of each row; -1 for a row of length zero, which has no direction.
    requested : int
        K as asked for; fewer concepts come out where the rows do not allow more splits.
    dropped : int
        Rows of length zero.
    """

    node: np.ndarray
    parent: np.ndarray
    size: np.ndarray
    concept: np.ndarray
    labels: np.ndarray
    requested: int
    dropped: int

    @property
    def k(self) -> int:
        """Number of concepts that came out."""
        return int((self.concept >= 0).sum())


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
        Which code runs; the result is the same. ``auto``: CuPy with a CUDA device, else numba, else NumPy.

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
    if not np.isfinite(x).all():
        raise ValueError("x holds a value that is not finite")
    chosen = _choose(backend)
    if chosen == "numba":
        nodes, rows, leaf = _bisect_compiled(x, ids, k, seed, max_iter)
    else:
        nodes, rows, leaf = _bisect_waves(_array_module(chosen), x, ids, k, seed, max_iter)
    return nodes.tree(rows, leaf, len(x), k)


def _choose(backend: Backend) -> str:
    if backend not in ("auto", "numba", "numpy", "cupy"):
        raise ValueError(f"backend must be auto, numba, numpy or cupy, not {backend!r}")
    if backend == "numba" and njit is None:
        raise ValueError("backend 'numba' was asked for, but numba is not installed")
    if backend != "auto":
        return backend
    try:
        import cupy

        if cupy.cuda.runtime.getDeviceCount() > 0:
            return "cupy"
    except Exception:  # no CuPy, no driver or no device: CuPy has a different exception for each
        pass
    return "numpy" if njit is None else "numba"


def _array_module(name: str) -> Any:
    if name == "cupy":
        import cupy

        return cupy
    return np


class _Nodes:
    """The split tree as it grows; a node's children are `left` and `left` + 1."""

    def __init__(self, size: int, seed: int, capacity: int = 64) -> None:
        self.count = 1
        self.size = np.full(capacity, size, dtype=np.int64)
        self.key = np.full(capacity, mix(seed), dtype=np.uint64)
        self.left = np.full(capacity, -1, dtype=np.int64)
        self.splittable = np.full(capacity, size > 1)
        self.start = np.zeros(capacity, dtype=np.int64)
        """Where the node's rows begin, for back ends that keep them together."""

    def reserve(self, capacity: int) -> None:
        """Make room for so many nodes."""
        for name in ("size", "key", "left", "splittable", "start"):
            old = getattr(self, name)
            if capacity > len(old):
                setattr(self, name, np.resize(old, max(capacity, 2 * len(old))))

    def split(self, nodes: np.ndarray, first: np.ndarray) -> np.ndarray:
        """Add the children of `nodes` [m], the first of each with `first` rows, or end it at 0; return them, or -1."""
        ended = first == 0
        self.splittable[nodes[ended]] = False
        child = np.full(len(nodes), -1, dtype=np.int64)
        nodes, first = nodes[~ended], first[~ended]
        added = self.count + 2 * np.arange(len(nodes))
        child[~ended] = added
        self.count += 2 * len(nodes)
        self.reserve(self.count)
        self.left[nodes] = added
        for side, size in enumerate((first, self.size[nodes] - first)):
            self.size[added + side] = size
            self.key[added + side] = mix(self.key[nodes], side)
            self.left[added + side] = -1
            self.splittable[added + side] = size > 1
            self.start[added + side] = self.start[nodes] + (first if side else 0)
        return child

    def largest(self, count: int) -> np.ndarray:
        """Return the `count` largest known nodes that were split or may yet be; path hashes decide between equals."""
        known = np.flatnonzero(self.splittable[: self.count])
        if 0 < count < len(known):
            size = self.size[known]
            known = known[size >= np.partition(size, len(known) - count)[len(known) - count]]
        return known[np.lexsort((self.key[known], -self.size[known]))[:count]]

    def unsplit(self, count: int) -> np.ndarray:
        """Return those of the `count` largest nodes that are still to be split."""
        nodes = self.largest(count)
        return nodes[self.left[nodes] < 0]

    def tree(self, rows: np.ndarray, deepest: np.ndarray, total: int, requested: int) -> SplitTree:
        """Keep the `requested` - 1 largest splits; `deepest` [n] is the last node that each row reached."""
        kept = np.zeros(self.count, dtype=bool)
        kept[self.largest(requested - 1)] = True
        left = self.left[: self.count]
        kept &= left >= 0
        # A node is as large as its two sides, so that the kept splits hang together from the root down.
        levels = [np.zeros(min(1, len(rows)), dtype=np.int64)]
        while len(split := levels[-1][kept[levels[-1]]]):
            levels.append(np.concatenate([left[split], left[split] + 1]))
        below = np.ones(self.count, dtype=np.int64)
        for level in reversed(levels):
            split = level[kept[level]]
            below[split] += below[left[split]] + below[left[split] + 1]
        place, parent = np.zeros((2, self.count), dtype=np.int64)
        parent[0] = -1
        for level in levels:
            split = level[kept[level]]
            place[left[split]] = place[split] + 1
            place[left[split] + 1] = place[split] + 1 + below[left[split]]
            parent[left[split]] = parent[left[split] + 1] = place[split]
        reached = np.concatenate(levels)
        reached = reached[np.argsort(place[reached])]
        leaves = reached[~kept[reached]]
        concept_of = np.full(self.count, -1, dtype=np.int32)
        concept_of[leaves] = np.arange(len(leaves))
        concept = concept_of[reached].astype(np.int64)
        surplus = leaves[left[leaves] >= 0]  # splits that are not kept: their rows belong to the node above
        while len(surplus):
            children = np.concatenate([left[surplus], left[surplus] + 1])
            concept_of[children] = np.tile(concept_of[surplus], 2)
            surplus = children[left[children] >= 0]
        labels = np.full(total, -1, dtype=np.int32)
        labels[rows] = concept_of[deepest]
        return SplitTree(
            node=np.arange(len(reached), dtype=np.int64),
            parent=parent[reached],
            size=self.size[reached],
            concept=concept,
            labels=labels,
            requested=requested,
            dropped=total - len(rows),
        )


# ---- many splits at once, on NumPy or CuPy arrays ----


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


def _bisect_waves(
    xp: Any, x: np.ndarray, ids: np.ndarray, k: int, seed: int, max_iter: int
) -> tuple[_Nodes, np.ndarray, np.ndarray]:
    """Split every unsplit node among the K - 1 largest known ones, until all of them are split."""
    unit, rows = _unit_rows(xp, x)
    kept_ids = xp.asarray(ids)[rows]
    nodes = _Nodes(len(rows), seed)
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


# ---- compiled: one split after the other, or a few at once ----


def _split_part(data: tuple[Any, ...], where: tuple[Any, ...], first: np.ndarray, part: np.ndarray) -> None:
    _split_some(*(*data, *where, part, first))


def _bisect_compiled(
    x: np.ndarray, ids: np.ndarray, k: int, seed: int, max_iter: int
) -> tuple[_Nodes, np.ndarray, np.ndarray]:
    """Split the largest leaf; a leaf's rows lie together in memory, so small leaves stay in the cache.

    On several threads the largest few leaves are split at once, until the K - 1 largest nodes are split.
    """
    given = np.ascontiguousarray(x, dtype=np.float32).view()
    given.flags.writeable = False  # one type, whatever the caller's: kernels are compiled by type
    unit, lengths = _unit_rows_compiled(given)
    rows = np.flatnonzero(lengths > 0)
    if len(rows) < len(x):
        unit = unit[rows]
    order = np.arange(len(rows))
    keys = mix(ids[rows])
    side = np.zeros(len(rows), dtype=np.bool_)
    margin = np.zeros(len(rows), dtype=np.float64)
    nodes = _Nodes(len(rows), seed)
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
    deepest = np.zeros(len(rows), dtype=np.int64)
    leaves = np.flatnonzero(nodes.left[: nodes.count] < 0)
    leaves = leaves[np.argsort(nodes.start[leaves], kind="stable")]
    deepest[order] = np.repeat(leaves, nodes.size[leaves])
    return nodes, rows, deepest


if njit is not None:
    # Only sums that are exact in any order, or bounded, may be reordered.
    _ANY_ORDER = {"reassoc", "contract"}

    @njit(cache=True, nogil=True)
    def _fold_compiled(a: np.ndarray) -> float:
        """Sum as `_fold` does; `a` is overwritten."""
        width = a.size
        while width > 1:
            half = (width + 1) // 2
            for i in range(width - half):
                a[i] += a[half + i]
            width = half
        return a[0]

    @njit(cache=True, nogil=True)
    def _unit_rows_compiled(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Do as `_unit_rows`, without dropping rows of length 0."""
        unit = np.empty(x.shape, dtype=np.float32)
        lengths = np.empty(x.shape[0])
        squares = np.empty(x.shape[1])
        for i in range(x.shape[0]):
            for c in range(x.shape[1]):
                value = np.float64(x[i, c])
                squares[c] = value * value
            lengths[i] = math.sqrt(_fold_compiled(squares))
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
    def _centroid_compiled(s: np.ndarray, scratch: np.ndarray, out: np.ndarray) -> None:
        for c in range(s.size):
            scratch[c] = s[c] * s[c]
        length = math.sqrt(_fold_compiled(scratch))
        if length == 0:
            length = 1.0
        for c in range(s.size):
            out[c] = s[c] / length

    @njit(cache=True, nogil=True)
    def _direction_compiled(c0: np.ndarray, c1: np.ndarray, scratch: np.ndarray, d: np.ndarray) -> tuple[float, float]:
        """Write d as `_directions` does; return bounds on how far it moved, and on its length."""
        for c in range(d.size):
            difference = c1[c] - c0[c]
            scratch[c] = difference * difference
        length = math.sqrt(_fold_compiled(scratch))
        scale = math.ldexp(1.0, DIRECTION_BITS - math.frexp(length)[1])
        for c in range(d.size):
            value = np.rint((c1[c] - c0[c]) * scale) / scale
            scratch[c] = (value - d[c]) * (value - d[c])
            d[c] = value
        return LONGEST * math.sqrt(_fold_compiled(scratch)), LONGEST * length

    @njit(cache=True, nogil=True)
    def _round_of_mix(state: np.uint64, word: np.uint64) -> np.uint64:
        state = (state ^ word) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))

    @njit(cache=True, nogil=True)
    def _split_compiled(
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
            moved_by, length = _direction_compiled(c0, c1, scratch, d)
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
            _centroid_compiled(s0, scratch, c0)
            _centroid_compiled(s1, scratch, c1)

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
            first[p] = _split_compiled(x, order, keys, lo, hi, key[nodes[p]], max_iter, side, margin)

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
            first = _split_compiled(x, order, keys, lo, lo + size[node], key[node], max_iter, side, margin)
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
