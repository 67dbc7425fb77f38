"""Whether a measure can tell concepts of a trained network from those of one whose weights are shuffled.

A measure that rates both alike says nothing of what the network has learned (the randomisation test of Adebayo et al.
2018, of dictionaries arXiv 2602.14111). How well it tells them apart is the probability that it rates the one above the
other, over what it is a mean of: parts, concepts, or images; over layers where it has but one number in each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from gigraph.records.paths import NETWORKS

JUDGED: dict[str, dict[str, int]] = {
    "reconstruction": {"rel_l2": -1, "rel_l2_map": -1, "r2_*": 1, "unused_map": -1},
    "sensitivity": {"relevance_agreement_*": 1},
    "classes": {"c_deletion_*": -1, "c_insertion_*": 1, "c_difference_*": 1, "mu_fidelity": 1, "*_at_concepts": 1},
    "interlayer": {"deletion_*": -1, "insertion_*": 1, "difference_*": 1, "*_gain_*": 1},
    "stability": {"stability": 1, "stability_over_*": 1},
    "edges": {"*correlation_*": 1, "same_sign_*": 1, "share_concepts": 1, "share_*": -1},
    "comparison": {"rel_l2": -1, "nonzeros": 0, "*": 1},
    "truth": {
        "purity": 1, "average_precision*": 1, "iou*": 1, "redraw_rank_correlation": 1, "profile_likeness_*": 1,
        "*_rank": -1, "*_share": 1,
    },
}  # fmt: skip
"""Of each topic the measures, by patterns of which the first that fits counts; is more (1) or less (-1) better?

What is not among them is set, counts, or is a fact of the images or the network: numbers of concepts and non-zeros,
prevalence, stability by chance, the probability at X.
"""
TELLS = 0.7
"""Probability from which a measure is said to tell the networks apart."""


def sense(topic: str, metric: str) -> int:
    """Return whether more (1) or less (-1) of a metric is better; 0 of what is no measure."""
    return next((sign for pattern, sign in JUDGED.get(topic, {}).items() if fnmatchcase(metric, pattern)), 0)


def auc(one: Iterable[float], other: Iterable[float]) -> float:
    """Return P(a value of the one > a value of the other), ties half; NaN where one of them has none."""
    a, b = (np.asarray([v for v in many if v is not None], np.float64) for many in (one, other))
    a, b = a[~np.isnan(a)], np.sort(b[~np.isnan(b)])
    if not (len(a) and len(b)):
        return float("nan")
    below = np.searchsorted(b, a, "left") + np.searchsorted(b, a, "right")
    return float(below.mean() / (2 * len(b)))


def separation(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return how well each measure of the comparison tells a trained network from a shuffled one.

    Parameters
    ----------
    rows : iterable of mapping
        Of the table ``comparison``.

    Returns
    -------
    list of dict
        Rows of the table ``sanity``, one for each method, layer, metric and reading: ``auc``, whether it ``tells`` them
        apart, and the means ``trained`` and ``shuffled``.
    """
    known: dict[tuple[str, ...], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        if row["seed"] == 0:
            at = (row["method"], row["layer"], row["metric"], row["reading"])
            # The run's own number of concepts comes first.
            known.setdefault(at, {}).setdefault(row["network"], row)
    found = []
    for (method, layer, metric, reading), of in known.items():
        if len(of) == len(NETWORKS):
            names = {"method": method, "layer": layer, "metric": metric, "reading": reading}
            found += _told("comparison", names, *(of[name]["values"] for name in NETWORKS))
    return found


def separation_of(
    topic: str, trained: Iterable[Mapping[str, Any]], shuffled: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return how well each measure of another topic tells a trained network from a shuffled one.

    Parameters
    ----------
    topic : str
    trained, shuffled : iterables of mapping
        Rows of the topic's table, of either network. Those without a fellow are passed over.

    Returns
    -------
    list of dict
        Rows of the table ``sanity``, one for each method, layer, target, order and metric, over all parts. Of a metric
        that has one number in each layer there is one row for all layers, with ``layer`` and ``target`` empty.
    """
    one, other = (_values(rows) for rows in (trained, shuffled))
    single = {at[0] for at in one} - {at[0] for at, values in one.items() if len(values) > 1}
    groups: dict[tuple[tuple[str, ...], str, str], tuple[list[float], list[float]]] = {}
    for at in one:
        if at in other:
            name, layer, target = at
            group = groups.setdefault((name, "", "") if name in single else (name, layer, target), ([], []))
            group[0].extend(one[at])
            group[1].extend(other[at])
    found = []
    for ((method, metric, order), layer, target), values in groups.items():
        names = {"method": method, "layer": layer, "target": target, "order": order, "metric": metric}
        found += _told(topic, names, *values)
    return found


def _values(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[tuple[str, ...], str, str], list[float]]:
    """Return the values of each (method, metric and order; layer; target), of all parts."""
    found: dict[tuple[tuple[str, ...], str, str], list[float]] = {}
    for row in rows:
        at = (row["method"], row["metric"], row["order"]), row["layer"], row["target"]
        found.setdefault(at, []).extend(row["values"])
    return found


def _told(
    topic: str, at: Mapping[str, str], trained: Iterable[float], shuffled: Iterable[float]
) -> list[dict[str, Any]]:
    sign, value = sense(topic, at["metric"]), auc(trained, shuffled)
    if not sign or np.isnan(value):
        return []
    value = 1 - value if sign < 0 else value
    blank = {"topic": topic, "target": "", "order": "", "reading": ""}
    means = {name: float(np.nanmean(list(of))) for name, of in zip(NETWORKS, (trained, shuffled), strict=True)}
    return [{**blank, **at, "auc": value, "tells": bool(value >= TELLS), **means}]
