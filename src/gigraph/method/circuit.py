r"""Circuits: how few nodes of all layers compute a class by themselves, and how faithfully.

Notation
--------
``n``          nodes of all layers, those of the first layer first; a circuit C is a set of them
``m(C)``       what is read off the network that runs on C alone (`gigraph.replacement`), a mean over images
``m(N)``       the same of the network itself, ``m(0)`` of the empty circuit
``f(C)``       faithfulness, (m(C) - m(0)) / (m(N) - m(0))
``C_k``        the first k nodes of an order

The areas are those of MIB (Mueller et al., "MIB: A Mechanistic Interpretability Benchmark", arXiv 2504.13151),
with nodes where it has edges::

    CPR = integral f(C_k) d(k / n)          the integrated circuit performance ratio, the more the better
    CMD = integral |1 - f(C_k)| d(k / n)    the integrated circuit-model distance, the less the better
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Measure = Callable[[np.ndarray], np.ndarray]
"""Circuits, bool [S, n], to m of each, float [S]."""

# ---- orders --------------------------------------------------------------------------------------------------


def joint_order(scores: Sequence[np.ndarray]) -> np.ndarray:
    """Order the nodes of all layers so that the first k cover about the same share of every layer.

    Layers are no alternatives but follow each other, and the sums of their scores need not be of one size. So a node
    stands where its own layer's better ones cover as much of the layer's positive scores as those of other layers do:
    its key is the share that they cover, in [0, 1). Nodes without a positive score come last, by their falling score.

    Parameters
    ----------
    scores : sequence of array [n_l]
        Of the nodes of each layer.

    Returns
    -------
    int64 array [n]
        Positions in the concatenated nodes, the most important first.
    """
    keys = []
    for own in scores:
        own = np.asarray(own, np.float64)
        order = np.argsort(-own, kind="stable")
        positive = np.maximum(own[order], 0)
        total = positive.sum()
        key = (np.cumsum(positive) - positive) / total if total > 0 else np.zeros(len(own))
        last = positive <= 0
        key[last] = 1 + np.arange(last.sum()) / max(1, last.sum())
        found = np.empty(len(own))
        found[order] = key
        keys.append(found)
    return np.argsort(np.concatenate(keys), kind="stable")


def random_order(order: np.ndarray, layer: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return a random order whose first k are as many of each layer as the first k of another, for every k.

    Parameters
    ----------
    order : int array [n]
        The other order.
    layer : int array [n]
        Of each node.
    generator : Generator
    """
    found = np.empty_like(order)
    for one in np.unique(layer):
        places = np.flatnonzero(layer[order] == one)
        found[places] = generator.permutation(order[places])
    return found


def firsts(order: np.ndarray, sizes: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the circuits C_k for some k, bool [S, n]."""
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place < np.asarray(sizes, np.int64)[:, None]


def curve_sizes(n: int, points: int) -> np.ndarray:
    """Return at which sizes a curve is read: at most `points`, from 0 to n, denser where circuits are small."""
    return np.unique(np.round(n * (np.arange(points) / max(1, points - 1)) ** 1.5).astype(np.int64))


# ---- measures ------------------------------------------------------------------------------------------------


def faithfulness(m: np.ndarray, whole: float) -> np.ndarray:
    """Return f of a curve's circuits.

    Parameters
    ----------
    m : float array [S]
        Of circuits by size, the empty one first.
    whole : float
        m(N).

    Returns
    -------
    float64 array [S]
        NaN where the network has no more than the empty circuit.
    """
    m = np.asarray(m, np.float64)
    span = whole - m[0]
    return (m - m[0]) / span if span > 0 else np.full(len(m), np.nan)


def areas(sizes: np.ndarray, f: np.ndarray) -> tuple[float, float]:
    """Return CPR and CMD of a curve by trapezoids.

    Parameters
    ----------
    sizes : int array [S]
        Ascending, from 0 to n.
    f : float array [S]
        Faithfulness of the circuits of these sizes.
    """
    x = np.asarray(sizes, np.float64) / sizes[-1]
    return float(np.trapezoid(f, x)), float(np.trapezoid(np.abs(1 - f), x))


# ---- search --------------------------------------------------------------------------------------------------


def bracket(sizes: np.ndarray, m: np.ndarray, wanted: float) -> tuple[int, int] | None:
    """Return neighbouring sizes of a curve between which `wanted` is first reached; None where it never is.

    The two are one where the first size, 0, reaches it.
    """
    reached = np.flatnonzero(np.asarray(m) >= wanted)
    if not len(reached):
        return None
    at = int(reached[0])
    return int(sizes[max(0, at - 1)]), int(sizes[at])


def bisect(measure: Measure, order: np.ndarray, low: int, high: int, wanted: float) -> int:
    """Return a size k in (low, high] with m(C_k) >= wanted > m(C_{k-1}), if so at `high` and not at `low`.

    Where m does not grow with k there may be others. At most log2(high - low) + 1 circuits are measured, one at a
    time; none where the two are one.
    """
    while high - low > 1:
        middle = (low + high) // 2
        if measure(firsts(order, [middle]))[0] >= wanted:
            high = middle
        else:
            low = middle
    return high


@dataclass(frozen=True)
class Pruned:
    """What a greedy search found.

    Attributes
    ----------
    kept : bool array [n]
        A circuit that reaches what was wanted.
    tried : int
        Circuits that were measured.
    minimal : bool
        Whether no single node of it can be deleted without falling below.
    """

    kept: np.ndarray
    tried: int
    minimal: bool


def prune(measure: Measure, kept: np.ndarray, order: np.ndarray, wanted: float, budget: int) -> Pruned:
    """Delete nodes from a circuit, the least important first, as long as it reaches what is wanted.

    Blocks of nodes are deleted where that does no harm: first of half the circuit, then of half that size, at last
    single ones, until a whole round of these deletes nothing. What is found is a circuit that reaches `wanted`, and no
    smallest one: finding that would take all subsets. It is minimal in that no single node can go, if the budget
    lasts for the last round. Rounds of blocks measure at most 2 |C| circuits together, and each round of single nodes
    at most |C|.

    Parameters
    ----------
    measure : callable
        m of circuits.
    kept : bool array [n]
        A circuit with m >= wanted.
    order : int array [n]
        The most important node first.
    wanted : float
        What a circuit must reach.
    budget : int
        Most circuits that are measured.
    """
    kept, tried = np.array(kept, bool), 0
    size = max(1, int(kept.sum()) // 2)
    while tried < budget and kept.any():
        nodes, deleted = order[kept[order]][::-1], 0
        for first in range(0, len(nodes), size):
            if tried == budget:
                return Pruned(kept, tried, False)
            block = nodes[first : first + size]
            without = kept.copy()
            without[block] = False
            tried += 1
            if measure(without[None])[0] >= wanted:
                kept, deleted = without, deleted + len(block)
        if size == 1 and not deleted:
            return Pruned(kept, tried, True)
        size = max(1, size // 2)
    return Pruned(kept, tried, not kept.any())


# ---- of the graph itself -------------------------------------------------------------------------------------

Into = Mapping[int, tuple[Mapping[int, float], float, float]]
"""Of each target: its sources' attributions, the error node's, and the remainder's."""


def graph_scores(pairs: Sequence[Into], target: int) -> tuple[float, float, float]:
    """Return the replacement and the completeness score of a class's graph, and how much of it they look at.

    After circuit-tracer (Ameisen et al., "Circuit Tracing: Revealing Computational Graphs in Language Models", 2025),
    for a graph of layers. The influence of the class is 1. The influence of a target is dealt to all that flows into
    it in proportion to |attribution|: to concepts of the layer below, to its error node, and to its remainder (concepts
    below that were not kept one by one). The replacement score is the part that comes down to the first layer's
    concepts without ever passing an error node, of all that comes there or ends in error nodes. The completeness score
    is the mean over targets, weighted by their influence, of the part of their inputs that are no error node. Influence
    that reaches a concept into which nothing was attributed ends there and counts in neither.

    Parameters
    ----------
    pairs : sequence of mapping
        What flows into targets, from the class (the first mapping has the targets ``target``) down to the first layer.
    target : int
        The class.

    Returns
    -------
    replacement, completeness : float
        In [0, 1]; NaN where nothing flows.
    followed : float
        The influence that came to an end in the first layer or in error nodes.
    """
    influence, errors, inputs, weights = {target: 1.0}, 0.0, 0.0, 0.0
    for into in pairs:
        below: dict[int, float] = {}
        for node, share in influence.items():
            if node not in into:
                continue
            sources, error, remainder = into[node]
            total = sum(map(abs, sources.values())) + abs(error) + abs(remainder)
            if not total:
                continue
            errors += share * abs(error) / total
            inputs += share * (1 - abs(error) / total)
            weights += share
            for source, value in sources.items():
                below[source] = below.get(source, 0.0) + share * abs(value) / total
        influence = below
    arrived = sum(influence.values())
    followed = arrived + errors
    return (
        arrived / followed if followed else float("nan"),
        inputs / weights if weights else float("nan"),
        followed,
    )
