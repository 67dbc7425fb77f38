"""The tree of splits, and the constants that make it the same on every back end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gigraph.hashing import mix

GRID = 2.0**24
"""Rows are multiples of 1 / GRID."""
DIRECTION_BITS = 27
SAME = 1.0 - 1e-6
"""Cosine above which two rows count as one: a node whose rows are all this alike is not split."""
# |x_i| <= 1 + sqrt(C) 2**-25 on the grid; this covers it and the rounding of |delta d| for C < 10**7.
LONGEST = 1.0001


def directed(lengths: np.ndarray) -> np.ndarray:
    """Return the positions of rows that have a direction; a length is finite exactly if its row is."""
    if not np.isfinite(lengths).all():
        raise ValueError("x holds a value that is not finite")
    return np.flatnonzero(lengths > 0)


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


class Nodes:
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
        if count >= len(known):
            return known
        size = self.size[known]
        bar = np.partition(size, len(known) - count)[len(known) - count] if count else np.inf
        equal, above = known[size == bar], known[size > bar]
        return np.concatenate([above, equal[np.argsort(self.key[equal])][: count - len(above)]])

    def unsplit(self, count: int) -> np.ndarray:
        """Return those of the `count` largest nodes that are still to be split, the largest first."""
        nodes = self.largest(count)
        nodes = nodes[self.left[nodes] < 0]
        return nodes[np.lexsort((self.key[nodes], -self.size[nodes]))]

    def deepest(self, order: np.ndarray) -> np.ndarray:
        """Return the last node that each row reached, where the rows of a node are neighbours in `order`."""
        found = np.zeros(len(order), dtype=np.int64)
        leaves = np.flatnonzero(self.left[: self.count] < 0)
        leaves = leaves[np.argsort(self.start[leaves], kind="stable")]
        found[order] = np.repeat(leaves, self.size[leaves])
        return found

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
