"""Circuits of a class or an image: curves over circuit size by several orders, and the smallest circuit found.

What a circuit says is read off the network that runs on it alone (`gigraph.replacement`); orders, areas and the search
are `gigraph.method.circuit`.

What is measured, m, is the mean over the class's images of its score, its probability, and beside it of the margin to
the runner-up. A circuit keeps m(C) / m(N) of the network's. Where deleted concepts are 0 a handful of nodes may say the
class of whatever they are shown (none of the first layer need be among them, and then nothing of the image is). So what
is found is also read on images of *other* classes, and means over the data are the better fill: they say no class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gigraph.method.circuit import (
    Pruned,
    areas,
    bisect,
    bracket,
    curve_sizes,
    faithfulness,
    firsts,
    prune,
    random_order,
)
from gigraph.method.families import Families
from gigraph.method.graph import mean_and_error
from gigraph.method.tasks import probabilities
from gigraph.replacement import Replacement, Seen

RANDOM = "random"
"""Name of the random orders."""


@dataclass(frozen=True)
class Nodes:
    """What circuits are made of: the nodes of all layers, those of the first layer first.

    Attributes
    ----------
    leaders : sequence of int array [K]
        Of each layer the node of each concept: its family's leader, or itself.
    """

    leaders: Sequence[np.ndarray]

    @classmethod
    def of(cls, families: Sequence[Families]) -> Nodes:
        """Return the nodes of a graph with these families."""
        return cls([one.leader for one in families])

    @cached_property
    def ids(self) -> list[np.ndarray]:
        """Of each layer its nodes, ascending."""
        return [np.unique(one) for one in self.leaders]

    @cached_property
    def layer(self) -> np.ndarray:
        """Of each node its layer's place, int64 [n]."""
        return np.repeat(np.arange(len(self.ids)), [len(one) for one in self.ids])

    @cached_property
    def node(self) -> np.ndarray:
        """Of each node its id, int64 [n]."""
        return np.concatenate(self.ids)

    @cached_property
    def size(self) -> np.ndarray:
        """Of each node the concepts that it stands for, int64 [n]."""
        return np.concatenate([np.bincount(one)[ids] for ids, one in zip(self.ids, self.leaders, strict=True)])

    def __len__(self) -> int:
        return len(self.layer)

    def masks(self, chosen: np.ndarray) -> list[np.ndarray]:
        """Return the concepts [S, K] of each layer that are in circuits, bool [S, n]."""
        return [
            chosen[:, self.layer == i][:, np.searchsorted(ids, leader)]
            for i, (ids, leader) in enumerate(zip(self.ids, self.leaders, strict=True))
        ]

    def concepts(self, chosen: np.ndarray) -> np.ndarray:
        """Return how many concepts circuits, bool [S, n], hold, int64 [S]."""
        return chosen @ self.size

    def gathered(self, scores: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return of each layer the scores of its nodes [n_l], the sums of their concepts' [K]."""
        return [
            np.bincount(leader, weights=values)[ids]
            for values, leader, ids in zip(scores, self.leaders, self.ids, strict=True)
        ]


def readings(logits: Tensor, label: int, task: str = "classes") -> tuple[np.ndarray, np.ndarray]:
    """Return a class's score and its margin.

    Parameters
    ----------
    logits : Tensor [..., classes]
    label : int
    task : str
        How logits are read (`gigraph.method.tasks`).

    Returns
    -------
    score : float64 array [...]
        Its probability; of a regression how far the value lies on its side of the reference.
    margin : float64 array [...]
        Its logit minus the runner-up's, the largest of the others; of labels, binary and regression its own logit.
    """
    flat = logits.flatten(0, -2).double()
    own = flat[:, label]
    score = own if task == "regression" else probabilities(flat, task)[:, label]
    margin = own
    if task == "classes":
        others = flat.clone()
        others[:, label] = -torch.inf
        margin = own - others.max(1).values
    shape = logits.shape[:-1]
    return score.reshape(shape).cpu().numpy(), margin.reshape(shape).cpu().numpy()


@dataclass(frozen=True)
class Search:
    """How circuits are looked for.

    Attributes
    ----------
    share : float
        Of the network's score, what the smallest circuit must keep.
    points : int
        Most sizes at which curves are read.
    passes : int
        Most circuits that the greedy search measures.
    random : int
        Random orders; their curve is the mean, their smallest circuit of the mean size.
    """

    share: float = 0.8
    points: int = 10
    passes: int = 48
    random: int = 1


class Said(NamedTuple):
    """What circuits of one size say; means over images, and over orders where there are several.

    Attributes
    ----------
    size, concepts : float
        Nodes, and concepts that they stand for.
    score, score_se, margin, margin_se : float
        Of the class's images (`readings`), with standard errors, NaN of one image.
    elsewhere : float
        The class's score over the other images; NaN where they were not looked at.
    """

    size: float
    concepts: float
    score: float
    score_se: float
    margin: float
    margin_se: float
    elsewhere: float = float("nan")


@dataclass(frozen=True)
class Curve:
    """An order's circuits.

    Attributes
    ----------
    points : list of Said
        By size, from the empty circuit to that of all nodes.
    faithfulness : float64 array [points]
        By the score.
    areas, margin_areas : (float, float)
        CPR and CMD, by the score and by the margin.
    smallest, rest : Said, optional
        The smallest circuit along the order that keeps the wanted share; and all nodes but its (completeness). None
        where none does.
    """

    points: list[Said]
    faithfulness: np.ndarray
    areas: tuple[float, float]
    margin_areas: tuple[float, float]
    smallest: Said | None
    rest: Said | None


@dataclass(frozen=True)
class Found:
    """The circuits of a class or an image.

    Attributes
    ----------
    real : Said
        What the network itself says.
    layers : list of Said
        Where one layer alone is replaced, by all its concepts; of each layer.
    curves : dict of str to Curve
        By the order.
    order : int64 array [n]
        The first order: nodes, the most important first.
    pruned : Pruned, optional
        What the greedy search made of the first order's smallest circuit; None where there is none.
    smallest, rest : Said, optional
        What that says, and all nodes but its.
    measured : int
        Circuits that were measured, all together.
    """

    real: Said
    layers: list[Said]
    curves: dict[str, Curve]
    order: np.ndarray
    pruned: Pruned | None
    smallest: Said | None
    rest: Said | None
    measured: int


Values = tuple[np.ndarray, np.ndarray]
"""Scores and margins [S, N] of circuits and images."""


class Circuits:
    """The circuits of one class over some images, or of one image.

    Parameters
    ----------
    replacement : Replacement
    seen : Seen
        The images.
    label : int
        The class.
    nodes : Nodes
        Of the replacement's layers.
    others : Seen, optional
        Images of other classes.
    """

    def __init__(self, replacement: Replacement, seen: Seen, label: int, nodes: Nodes, others: Seen | None = None):
        self.replacement, self.seen, self.label, self.nodes = replacement, seen, label, nodes
        self.others = others if others is not None and len(others) else None
        self.task = replacement.subject.network.task
        self.measured = 0

    def read(self, chosen: np.ndarray, seen: Seen | None = None) -> Values:
        """Return score and margin of circuits, bool [S, n], for each image."""
        self.measured += len(chosen)
        return self._of(self.replacement.logits(self.seen if seen is None else seen, self.nodes.masks(chosen)))

    def say(self, *chosen: np.ndarray) -> Said:
        """Return what a circuit, bool [n], says, the mean of several; of the other images, too."""
        many = np.array(chosen)
        found = _said([self.read(many)], many.sum(1), self.nodes.concepts(many))
        if self.others is None:
            return found
        return found._replace(elsewhere=float(self.read(many, self.others)[0].mean()))

    def kept(self, chosen: np.ndarray) -> np.ndarray:
        """Return the share of the network's score that circuits, bool [S, n], keep [S]."""
        return self._kept(self.read(chosen)[0].mean(1))

    @cached_property
    def real(self) -> Said:
        """What the network says."""
        whole = np.ones((1, len(self.nodes)), bool)
        found = _said([self._of(self.seen.logits[None])], whole.sum(1), self.nodes.concepts(whole))
        if self.others is None:
            return found
        return found._replace(elsewhere=float(self._of(self.others.logits[None])[0].mean()))

    @cached_property
    def _ends(self) -> Values:
        """Of the empty circuit and of that of all nodes."""
        return self.read(np.repeat([[False], [True]], len(self.nodes), 1))

    def layer(self, i: int) -> Said:
        """Return what is said where one layer alone is replaced, by all its concepts."""
        logits = self.replacement.alone(self.seen, i, np.ones((1, self.replacement.vocabularies[i].k), bool))
        own = self.nodes.layer[None] == i
        return _said([self._of(logits)], own.sum(1), self.nodes.concepts(own))

    def find(self, orders: Mapping[str, np.ndarray], search: Search, generator: np.random.Generator) -> Found:
        """Measure circuits along some orders, and look for the smallest.

        Parameters
        ----------
        orders : mapping of str to int array [n]
            By name. The greedy search starts from the smallest circuit along the first one, and random orders hold as
            many nodes of each layer as it does.
        search : Search
        generator : Generator
            Of the random orders.
        """
        before, curves = self.measured, {}
        first = next(iter(orders.values()))
        start: np.ndarray | None = None
        for name, order in orders.items():
            curves[name], (found,) = self._along([order], search)
            start = found if order is first else start
        if search.random:
            drawn = [random_order(first, self.nodes.layer, generator) for _ in range(search.random)]
            curves[RANDOM], _ = self._along(drawn, search)
        pruned = smallest = rest = None
        if start is not None:
            # From the last layer down: circuits that differ only in later layers share what was coded before these.
            order = np.lexsort((np.argsort(first), self.nodes.layer))
            pruned = prune(self.kept, start, order, search.share, search.passes)
            smallest, rest = self.say(pruned.kept), self.say(~pruned.kept)
        layers = [self.layer(i) for i in range(len(self.nodes.ids))]
        return Found(self.real, layers, curves, first, pruned, smallest, rest, self.measured - before)

    def _along(self, orders: list[np.ndarray], search: Search) -> tuple[Curve, list[np.ndarray | None]]:
        """Return the mean curve of some orders, and of each the smallest circuit along it, bool [n], or None."""
        sizes = curve_sizes(len(self.nodes), search.points)
        found, smallest = [], []
        for order in orders:
            between = self.read(firsts(order, sizes[1:-1]))
            whole = [np.concatenate([end[:1], some, end[1:]]) for end, some in zip(self._ends, between, strict=True)]
            found.append((whole[0], whole[1]))
            gap = bracket(sizes, self._kept(whole[0].mean(1)), search.share)
            size = None if gap is None else bisect(self.kept, order, *gap, search.share)
            smallest.append(None if size is None else firsts(order, [size])[0])
        concepts = np.mean([self.nodes.concepts(firsts(order, sizes)) for order in orders], 0)
        points = [
            _said([(score[i : i + 1], margin[i : i + 1]) for score, margin in found], sizes[i], concepts[i])
            for i in range(len(sizes))
        ]
        f = faithfulness(np.array([one.score for one in points]), self.real.score)
        by_margin = faithfulness(np.array([one.margin for one in points]), self.real.margin)
        some = [one for one in smallest if one is not None]
        both = (self.say(*some), self.say(*(~one for one in some))) if len(some) == len(orders) else (None, None)
        return Curve(points, f, areas(sizes, f), areas(sizes, by_margin), *both), smallest

    def _kept(self, score: np.ndarray) -> np.ndarray:
        """Return the kept share of mean scores [S]; none where the network has no more than the empty circuit.

        A probability is measured from 0. A value has no zero of its own, and is measured from the empty circuit's.
        """
        zero = float(self._ends[0][0].mean()) if self.task == "regression" else 0.0
        span = self.real.score - zero
        return (score - zero) / span if span > 0 else np.zeros(len(score))

    def _of(self, logits: Tensor) -> Values:
        return readings(logits, self.label, self.task)


def _said(found: Sequence[Values], size: np.ndarray, concepts: np.ndarray) -> Said:
    """Return the mean of what circuits say, from scores and margins [S, N]; errors are over images."""
    score, margin = (np.mean(np.concatenate([one[i] for one in found]), 0) for i in (0, 1))
    return Said(float(np.mean(size)), float(np.mean(concepts)), *mean_and_error(score), *mean_and_error(margin))
