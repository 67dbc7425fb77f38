"""Bisecting spherical k-means: PFVs to concepts [App. B].

1. Rows become unit vectors v' = (v - beta) / |v - beta|; rows equal to beta have no direction and are dropped.
2. The node with the most rows (then with the smallest row id) is split in two by spherical 2-means: rows go to the
   centroid with the larger cosine, and a centroid is the normalised sum of its rows.
3. This repeats until there are K leaves, or no node can be split.
4. The concept vector is the mean of a leaf's centred PFVs, not its centroid.

**Same rows, same partition.** A node's seeds are its two rows with the smallest hash of (seed, row id, node id), and
a node's id is a hash of its path; sums are taken in float64, and a row within 1e-9 of the boundary goes to side 0.
So the order of the rows, the order of the splits and the back end do not matter.

**Waves.** Since a split depends on its node alone, the sequential algorithm splits exactly the K - 1 largest nodes of
the full split tree. Splitting, again and again, every unsplit node among the K - 1 largest *known* ones until all of
those are split reaches the same set, many nodes at a time: the form for GPUs.

Reference: Dhillon & Modha, "Concept decompositions for large sparse text data using clustering", 2001; Steinbach,
Karypis & Kumar, "A comparison of document clustering techniques", 2000.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gigraph.hashing import mix

Backend = Literal["auto", "sequential", "waves", "cupy"]
IDENTICAL = 1 - 1e-6
"""Rows of a larger cosine count as one direction."""
BOUNDARY = 1e-9
"""A row joins side 1 only if it is nearer to it by more than this."""


@dataclass(frozen=True)
class SplitTree:
    """The concept hierarchy: arrays over its nodes in preorder, and the partition of the rows.

    Attributes
    ----------
    node, parent : array of int64 [M]
        Index of each node, and of its parent (-1 for the root).
    size : array of int64 [M]
        Rows below each node.
    concept : array of int64 [M]
        The leaf's concept, counted in preorder; -1 for inner nodes.
    labels : array of int64 [N]
        Concept of each row; -1 for rows without a direction.
    requested : int
        K. Fewer leaves come out where rows coincide.
    dropped : int
        Rows without a direction.
    """

    node: np.ndarray
    parent: np.ndarray
    size: np.ndarray
    concept: np.ndarray
    labels: np.ndarray
    requested: int
    dropped: int


@dataclass
class _Node:
    key: int
    rows: Any
    smallest: int
    children: tuple[_Node, _Node] | None = None
    closed: bool = False

    @property
    def rank(self) -> tuple[int, int]:
        return -len(self.rows), self.smallest


def bisect(
    x: np.ndarray, k: int, *, seed: int = 0, row_ids: np.ndarray | None = None, max_iter: int = 20,
    backend: Backend = "auto",
) -> SplitTree:
    """Cluster centred PFVs.

    Parameters
    ----------
    x : array of float32 [N, C]
        PFVs minus beta.
    k : int
        Number of concepts asked for.
    seed : int
        Of the seed rows.
    row_ids : array of int [N], optional
        Identity of each row; 0 to N - 1 if not given.
    max_iter : int
        Iterations of one 2-means split.
    backend : {"auto", "sequential", "waves", "cupy"}
        One split at a time or many, on the CPU, or many on the GPU; all give the same tree. ``auto`` takes the GPU
        where there is one, else ``sequential``.

    Returns
    -------
    SplitTree

    Raises
    ------
    ValueError
        If `x` is not finite or k < 1.
    """
    if k < 1 or not np.isfinite(x).all():
        raise ValueError("bisect needs k >= 1 and finite rows")
    ids = np.arange(len(x)) if row_ids is None else np.asarray(row_ids)
    # Sorted by id, ties of size are broken by the same row whatever the order of the input.
    order = np.argsort(ids, kind="stable")
    norms = np.linalg.norm(x.astype(np.float64), axis=1)
    rows = order[norms[order] > 0]
    dropped = len(x) - len(rows)
    labels = np.full(len(x), -1, np.int64)
    if not len(rows):
        empty = np.empty(0, np.int64)
        return SplitTree(empty, empty, empty, empty, labels, k, dropped)
    unit = (x[rows] / norms[rows, None]).astype(np.float32)
    xp, backend = _arrays(backend)
    split = _Splitter(xp, unit, ids[rows], seed, max_iter)
    root = _Node(1, xp.arange(len(rows)), 0)
    (_sequential if backend == "sequential" else _waves)(root, k, split)
    leaves = _preorder(root)
    concept = 0
    found: dict[str, list[int]] = {name: [] for name in ("parent", "size", "concept")}
    for parent, node in leaves:
        found["parent"].append(parent)
        found["size"].append(len(node.rows))
        found["concept"].append(-1 if node.children else concept)
        if not node.children:
            labels[rows[_host(node.rows)]] = concept
            concept += 1
    columns = {name: np.array(values, np.int64) for name, values in found.items()}
    return SplitTree(np.arange(len(leaves)), **columns, labels=labels, requested=k, dropped=dropped)


def _arrays(backend: Backend) -> tuple[Any, str]:
    if backend in ("auto", "cupy"):
        try:
            import cupy

            if cupy.cuda.runtime.getDeviceCount():
                return cupy, "waves"
        except Exception:
            # CuPy without a driver raises one of several exceptions; only an explicit wish for it is an error.
            if backend == "cupy":
                raise
    return np, "waves" if backend == "waves" else "sequential"


def _host(array: Any) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else array.get()


def _sequential(root: _Node, k: int, split: _Splitter) -> None:
    """Split the largest node, one at a time, until there are k leaves."""
    heap = [(root.rank, root)]
    leaves = 1
    while heap and leaves < k:
        node = heapq.heappop(heap)[1]
        if len(node.rows) > 1 and split.one(node):
            leaves += 1
            for child in node.children or ():
                heapq.heappush(heap, (child.rank, child))


def _waves(root: _Node, k: int, split: _Splitter) -> None:
    """Split all unsplit nodes among the k - 1 largest known ones, until those are all split.

    A node that cannot be split does not count: the sequential algorithm passes over it without gaining a leaf.
    """
    known = [root]
    while True:
        candidates = [node for node in known if not node.closed and len(node.rows) > 1]
        top = heapq.nsmallest(k - 1, candidates, key=lambda node: node.rank)
        wave = [node for node in top if node.children is None]
        if not wave:
            break
        split.many(wave)
        known += [child for node in wave for child in node.children or ()]
    # Nodes split in an early wave that larger ones pushed out of the k - 1 largest are joined again.
    kept = {id(node) for node in top}
    for node in known:
        if id(node) not in kept:
            node.children = None


def _preorder(root: _Node) -> list[tuple[int, _Node]]:
    """Return (index of the parent, node) in preorder."""
    found: list[tuple[int, _Node]] = []
    stack = [(-1, root)]
    while stack:
        parent, node = stack.pop()
        index = len(found)
        found.append((parent, node))
        if node.children:
            stack += [(index, node.children[1]), (index, node.children[0])]
    return found


class _Splitter:
    """Spherical 2-means of nodes, one at a time or many together."""

    def __init__(self, xp: Any, unit: np.ndarray, ids: np.ndarray, seed: int, max_iter: int):
        self.xp, self.max_iter, self.seed = xp, max_iter, seed
        self.x = xp.asarray(unit)
        self.ids = xp.asarray(ids)

    def one(self, node: _Node) -> bool:
        """Split a node; return False, and close it, if it cannot be split."""
        x = self.x[node.rows].astype(np.float64)
        order = np.lexsort((node.rows, mix(self.seed, self.ids[node.rows], node.key)))
        first, second = x[order[0]], x[order[1]]
        if first @ second > IDENTICAL:
            cosines = x @ first
            far = int(cosines.argmin())
            if cosines[far] > IDENTICAL:
                node.closed = True
                return False
            second = x[far]
        side = None
        for _ in range(self.max_iter):
            new = x @ (second - first) > BOUNDARY
            if side is not None and (new == side).all():
                break
            side = new
            if side.all() or not side.any():
                break
            first, second = (_unit(x[part].sum(0)) for part in (~side, side))
        return self._close(node, side)

    def many(self, nodes: list[_Node]) -> None:
        """Split many nodes at once, by operations over all of their rows."""
        xp = self.xp
        m = len(nodes)
        sizes = np.array([len(node.rows) for node in nodes])
        starts = np.concatenate([[0], np.cumsum(sizes)])
        rows = xp.concatenate([node.rows for node in nodes])
        of = xp.asarray(np.repeat(np.arange(m), sizes))
        x = self.x[rows].astype(np.float64)
        keys = xp.asarray(np.array([node.key for node in nodes], np.uint64))
        order = xp.lexsort(xp.stack([rows.astype(np.uint64), mix(self.seed, self.ids[rows], keys[of]), of.astype(np.uint64)]))
        begin = xp.asarray(starts[:-1])
        first, second = x[order[begin]], x[order[begin + 1]]
        cosines = (x * first[of]).sum(1)
        # The first row of the least cosine, as argmin takes it.
        far = xp.lexsort(xp.stack([xp.arange(len(rows)).astype(np.float64), cosines, of.astype(np.float64)]))[begin]
        same = (first * second).sum(1) > IDENTICAL
        second = xp.where(same[:, None], x[far], second)
        closed = same & (cosines[far] > IDENTICAL)
        side = xp.zeros(len(rows), bool)
        moving = xp.ones(m, bool)
        for iteration in range(self.max_iter):
            new = (x * (second - first)[of]).sum(1) > BOUNDARY
            new = xp.where(moving[of], new, side)
            changed = self._segments((new != side).astype(np.float64)[:, None], starts)[:, 0] > 0
            side = new
            ones = self._segments(side.astype(np.float64)[:, None], starts)[:, 0]
            mixed = (ones > 0) & (ones < xp.asarray(sizes))
            moving = moving & mixed & (changed if iteration else True)
            if not bool(moving.any()):
                break
            high = self._segments(x * side[:, None], starts)
            low = self._segments(x * ~side[:, None], starts)
            first = xp.where(moving[:, None], _unit(low), first)
            second = xp.where(moving[:, None], _unit(high), second)
        closed = _host(closed)
        for index, node in enumerate(nodes):
            if closed[index]:
                node.closed = True
            else:
                self._close(node, side[starts[index] : starts[index + 1]])

    def _segments(self, values: Any, starts: np.ndarray) -> Any:
        """Sum rows between the starts, in a fixed order [M, C]."""
        if self.xp is np:
            return np.add.reduceat(values, starts[:-1], axis=0)
        total = self.xp.concatenate([self.xp.zeros((1, values.shape[1])), values.cumsum(0)])
        bounds = self.xp.asarray(starts)
        return total[bounds[1:]] - total[bounds[:-1]]

    def _close(self, node: _Node, side: Any) -> bool:
        if side is None or bool(side.all()) or not bool(side.any()):
            node.closed = True
            return False
        parts = node.rows[~side], node.rows[side]
        node.children = tuple(  # type: ignore[assignment]
            _Node(int(mix(node.key, index)), part, int(part[0])) for index, part in enumerate(parts)
        )
        return True


def _unit(sums: Any) -> Any:
    """Return sums over their norms, along the last axis; a zero sum stays zero."""
    norm = (sums * sums).sum(-1, keepdims=True) ** 0.5
    return sums / (norm + (norm == 0))


def concept_vectors(
    x: np.ndarray, labels: np.ndarray, k: int, scale: Literal["mean", "unit"] = "mean"
) -> np.ndarray:
    """Return the mean of each concept's centred PFVs, or its direction: float32 [k, C] [App. B].

    Parameters
    ----------
    x : array of float32 [N, C]
        PFVs minus beta.
    labels : array of int [N]
        Concept of each row; negative rows are left out.
    k : int
        Number of concepts, none of them empty.
    scale : {"mean", "unit"}
        Length of the result.
    """
    sums, counts = _sums(x.astype(np.float64), labels, k)
    return (sums / counts[:, None] if scale == "mean" else _unit(sums)).astype(np.float32)


def cohesion(x: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Return the mean cosine of each concept's rows to its centroid [k]; see `concept_vectors`."""
    unit = _unit(x.astype(np.float64))
    sums, counts = _sums(unit, labels, k)
    # The mean cosine to the normalised sum is the sum's length over the count.
    return np.linalg.norm(sums, axis=1) / counts


def _sums(x: np.ndarray, labels: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(labels, kind="stable")
    order = order[labels[order] >= 0]
    counts = np.bincount(labels[order], minlength=k)
    return np.add.reduceat(x[order], np.concatenate([[0], np.cumsum(counts)[:-1]]), axis=0), counts


def capped_concepts(expansion: float, channels: int, rows: int, min_members: int) -> tuple[int, bool]:
    """Return K = expansion x C, or rows / min_members where that is less, and whether the cap was taken."""
    wanted, limit = max(1, round(expansion * channels)), max(1, rows // min_members)
    return min(wanted, limit), wanted > limit
