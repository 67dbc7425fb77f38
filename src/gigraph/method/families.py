"""Families: concepts that point the same way, which the graph shows as one node.

One cause may be split into several near-parallel concepts, of which a sparse code takes now one, now another; none of
them can be read alone. A family can, and nothing is lost: attributions are linear in the sources, so that a family's is
the exact sum of its members', and its score as a target is a fixed combination of theirs.

Notation: K concepts of C channels; v_j a concept's vector, a_j = v_j / |v_j|; m = sum_j a_j / |sum_j a_j| the direction
of a family, over its members j. A family is named by its *leader*, the member nearest to m (the smallest id of equals).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gigraph.errors import UserError
from gigraph.method.vectors import unit

LARGEST = 32_768
"""Most concepts that are linked with each other: scipy holds their distances twice, 8 n^2 bytes in all (8.6 GB)."""
SLACK = 1e-6
"""Of a cosine of float32 vectors, so that equal ones are equal at a threshold of 1."""
BLOCK = 128
"""Rows of the cosines of all concepts that are looked at together."""


@dataclass(frozen=True)
class Families:
    """Which concepts belong together; arrays [K].

    Attributes
    ----------
    leader : int64 array
        The family of each concept: the id of its leader.
    cosine : float32 array
        Of the concept to its family's direction, <a_j, m>.
    weight : float32 array
        How much of its family a coefficient 1 of the concept is, <v_j, m> over that of the leader. So the family's
        map sum_j u_j <v_j, m> is in the unit of the leader's coefficients, and a family of one has its concept's map.
    inner, least : float32 array
        Of the concept's family: mean and smallest cosine of two members; 1 for a family of one.
    """

    leader: np.ndarray
    cosine: np.ndarray
    weight: np.ndarray
    inner: np.ndarray
    least: np.ndarray

    @classmethod
    def alone(cls, k: int) -> Families:
        """Return k families of one."""
        one = np.ones(k, np.float32)
        return cls(np.arange(k), one, one, one, one)

    @cached_property
    def ids(self) -> np.ndarray:
        """The leaders, ascending, int64 [families]."""
        return np.unique(self.leader)

    @cached_property
    def size(self) -> np.ndarray:
        """Members of each concept's family, int64 [K]."""
        return np.bincount(self.leader, minlength=len(self.leader))[self.leader]

    @property
    def merged(self) -> bool:
        """Whether any family has more than one member."""
        return len(self.ids) < len(self.leader)

    def members(self, family: int) -> np.ndarray:
        """Return the members of a family, ascending, int64 [members]; none if the id leads none."""
        return np.flatnonzero(self.leader == family)

    def directions(self, vectors: np.ndarray) -> np.ndarray:
        """Return concept vectors [K, C] with the family's direction m in the row of each leader of several."""
        found = np.array(vectors)
        for members in _groups(self.leader):
            found[self.leader[members[0]]] = _direction(vectors[members])
        return found

    def collect(self, concepts: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the families of coefficients [N], and what each adds to its family's map [N]."""
        return self.leader[concepts], values * self.weight[concepts]

    def maps(self, u: np.ndarray) -> np.ndarray:
        """Return the families' maps of coefficients [N, K], as `collect` adds them up, [N, families]."""
        order = np.argsort(self.leader, kind="stable")
        first = np.searchsorted(self.leader[order], self.ids)
        return np.add.reduceat((u * self.weight)[:, order], first, axis=1)


def average_families(vectors: np.ndarray, cosine: float) -> Families:
    """Merge concepts by average linkage of their cosines, cut at a cosine (Sokal and Michener 1958).

    Two clusters are merged as long as the mean cosine of their members is at least the threshold, the nearest first. So
    is the mean over all pairs of a family. Concepts that no chain of cosines above the threshold connects are never
    merged; each connected component is linked by itself, which changes nothing and bounds the memory.

    Parameters
    ----------
    vectors : array [K, C]
        Concept vectors; one that is zero stays by itself.
    cosine : float
        The threshold, in (0, 1].

    Raises
    ------
    UserError
        If a component is too large to be linked.
    """
    units = unit(np.asarray(vectors, np.float64))
    component = _components(units, cosine)
    label = np.arange(len(units))
    for members in _groups(component):
        label[members] = members[_linked(units[members], cosine)]
    return _described(vectors, label)


def tree_families(
    vectors: np.ndarray, cosine: float, node: np.ndarray, parent: np.ndarray, concept: np.ndarray
) -> Families:
    """Merge the concepts of the largest subtrees whose members' mean pairwise cosine is at least a threshold.

    Parameters
    ----------
    vectors, cosine
        As in `average_families`.
    node, parent, concept : int arrays [nodes]
        The split tree: ids, the parents' (-1 for a root), and the concept of a leaf (-1 for a split).
    """
    units = unit(np.asarray(vectors, np.float64))
    children = defaultdict(list)
    for one, above in zip(node.tolist(), parent.tolist(), strict=True):
        children[above].append(one)
    of = dict(zip(node.tolist(), concept.tolist(), strict=True))
    spans: dict[int, tuple[int, int]] = {}
    order: list[int] = []  # of the concepts that are leaves, so that those of a subtree follow each other
    stack = [(root, -1) for root in reversed(children[-1])]
    while stack:
        here, first = stack.pop()
        if first >= 0:
            spans[here] = first, len(order)
            continue
        stack.append((here, len(order)))
        stack += [(child, -1) for child in reversed(children[here])]
        if of[here] >= 0 and units[of[here]].any():
            order.append(of[here])
    sums = np.concatenate([np.zeros((1, units.shape[1])), np.cumsum(units[order], 0)])
    label = np.arange(len(units))
    queue = list(children[-1])
    while queue:
        here = queue.pop()
        first, end = spans[here]
        n, total = end - first, sums[end] - sums[first]
        if n > 1 and total @ total - n >= (cosine - SLACK) * n * (n - 1):
            label[order[first:end]] = order[first]
        else:
            queue += children[here]
    return _described(vectors, label)


def _groups(label: np.ndarray) -> list[np.ndarray]:
    """Return the indices, ascending, of each label that several have."""
    order = np.argsort(label, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(label[order])) + 1)
    return [part for part in parts if len(part) > 1]


def _components(units: np.ndarray, cosine: float) -> np.ndarray:
    """Return the connected component of each vector where two are connected at a cosine, int64 [K]."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    k = len(units)
    label = np.arange(k)
    for first in range(0, k, BLOCK):
        row, column = np.nonzero(units[first : first + BLOCK] @ units[first:].T >= cosine - 2 * SLACK)
        edges = coo_array((np.ones(len(row), bool), (label[first + row], label[first + column])), shape=(k, k))
        label = connected_components(edges, directed=False)[1][label]
    return label


def _linked(units: np.ndarray, cosine: float) -> np.ndarray:
    """Return the first vector of each one's cluster by average linkage, int64 [n]."""
    from scipy.cluster.hierarchy import fcluster, linkage

    n = len(units)
    if n > LARGEST:
        raise UserError(
            f"families: {n} concepts are connected by cosines above {cosine:g}, and average linkage takes at most "
            f"{LARGEST}; raise families.cosine, or set families.linkage: tree, or families.cosine: null"
        )
    distance, at = np.empty(n * (n - 1) // 2), 0
    for first in range(0, n, BLOCK):
        block = units[first : first + BLOCK] @ units[first:].T
        for i, row in enumerate(block):
            own = distance[at : at + n - first - i - 1]
            np.subtract(1, row[i + 1 :], out=own)
            at += len(own)
    np.maximum(distance, 0, out=distance)
    cluster = fcluster(linkage(distance, "average"), 1 - cosine + SLACK, "distance")
    _, first_of, of = np.unique(cluster, return_index=True, return_inverse=True)
    return first_of[of]


def _direction(vectors: np.ndarray) -> np.ndarray:
    """Return the mean of the unit vectors of some concepts [n, C] at length 1, float64 [C]."""
    return unit(unit(np.asarray(vectors, np.float64)).sum(0))


def _described(vectors: np.ndarray, label: np.ndarray) -> Families:
    """Return the families of a partition, label [K]."""
    found = Families.alone(len(label))
    leader = found.leader.copy()
    cosine, weight, inner, least = (np.ones(len(label), np.float32) for _ in range(4))
    for members in _groups(label):
        own = np.asarray(vectors[members], np.float64)
        units, n = unit(own), len(members)
        total = units.sum(0)
        cosine[members] = near = (units @ unit(total)).astype(np.float32)
        first = int(near.argmax())  # of equals, which rounding must not tell apart, the smallest id
        leader[members] = members[first]
        reach = np.linalg.norm(own, axis=1) * near
        weight[members] = reach / reach[first]
        inner[members] = (total @ total - n) / (n * (n - 1))
        least[members] = _least_cosine(units)
    return Families(leader, cosine, weight, inner, least)


def _least_cosine(units: np.ndarray) -> float:
    """Return the smallest cosine of two of the vectors."""
    return min(float((units[first : first + BLOCK] @ units.T).min()) for first in range(0, len(units), BLOCK))
