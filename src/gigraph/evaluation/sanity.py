"""How well a measure tells concepts of a trained network from those of one whose weights are shuffled, in numbers.

A measure that rates both alike says nothing of what the network has learned (the randomisation test of Adebayo et al.
2018, of dictionaries arXiv 2602.14111). How well it tells them apart is the probability that it rates the one above the
other, over what it is a mean of: parts, factors, concepts, or images. Layers are no such sample, each is another thing:
where a measure has but one number in each, every layer is compared with itself, and the probability is the share of the
layers in which the trained network is rated above the other. What follows from it: `gigraph.evaluation.verdicts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from gigraph.evaluation.measures import mean
from gigraph.records.paths import NETWORKS

JUDGED: dict[str, dict[str, int]] = {
    "reconstruction": {"rel_l2": -1, "rel_l2_map": -1, "r2_*": 1, "unused_map": -1},
    "sensitivity": {"relevance_agreement_*": 1},
    "classes": {
        "*value_*": 0, "c_deletion_*": -1, "c_insertion_*": 1, "c_difference_*": 1, "mu_fidelity": 1,
        "*_at_concepts": 1,
    },
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
prevalence, stability by chance, the probability at X. Nor is a regression's value better for being larger.
"""
OF_OUTPUTS = ("probability_at_concepts", "insertion_minus_deletion")
"""Measures of the comparison that are read off the output: of a regression, values."""
NETWORK, OUTPUTS = "network", "outputs"
"""Topic and metric of the row that says how many different outputs either network gives."""


def sense(topic: str, metric: str, regression: bool = False) -> int:
    """Return whether more (1) or less (-1) of a metric is better; 0 of what is no measure."""
    if regression and topic == "comparison" and metric in OF_OUTPUTS:
        return 0
    return next((sign for pattern, sign in JUDGED.get(topic, {}).items() if fnmatchcase(metric, pattern)), 0)


def auc(one: Iterable[float], other: Iterable[float]) -> float:
    """Return P(a value of the one > a value of the other), ties half; NaN where one of them has none."""
    a, b = _known(one), np.sort(_known(other))
    if not (len(a) and len(b)):
        return float("nan")
    below = np.searchsorted(b, a, "left") + np.searchsorted(b, a, "right")
    return float(below.mean() / (2 * len(b)))


def paired(one: Sequence[float] | np.ndarray, other: Sequence[float] | np.ndarray) -> tuple[float, int]:
    """Return in which share of the places the one is larger, ties half, and of how many; NaN of none."""
    a, b = np.array([one, other], np.float64)
    known = ~(np.isnan(a) | np.isnan(b))
    a, b = a[known], b[known]
    return float(((a > b) + (a == b) / 2).mean()) if len(a) else float("nan"), len(a)


def _known(values: Iterable[float]) -> np.ndarray:
    found = np.asarray([value for value in values if value is not None], np.float64)
    return found[~np.isnan(found)]


def separation(rows: Iterable[Mapping[str, Any]], regression: bool = False) -> list[dict[str, Any]]:
    """Return how well each measure of the comparison tells a trained network from a shuffled one.

    Parameters
    ----------
    rows : iterable of mapping
        Of the table ``comparison``.
    regression : bool
        Whether the network's outputs are values.

    Returns
    -------
    list of dict
        Rows of the table ``sanity``, one for each method, layer, metric and reading: ``auc``, of ``n`` values of
        either network at least (None where one has none), and the means ``trained`` and ``shuffled``.
    """
    known: dict[tuple[str, ...], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        if row["seed"] == 0:
            at = (row["method"], row["layer"], row["metric"], row["reading"])
            # The run's own number of concepts comes first.
            known.setdefault(at, {}).setdefault(row["network"], row)
    found = []
    for (method, layer, metric, reading), of in known.items():
        if len(of) == len(NETWORKS) and (sign := sense("comparison", metric, regression)):
            names = {"topic": "comparison", "method": method, "layer": layer, "metric": metric, "reading": reading}
            found.append(_row(names, sign, *(of[name]["values"] for name in NETWORKS)))
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
            pair = (one[at], other[at]) if name not in single else (_one(one[at]), _one(other[at]))
            for all_, own in zip(group, pair, strict=True):
                all_.extend(own)
    found = []
    for (name, layer, target), values in groups.items():
        method, metric, order = name
        if sign := sense(topic, metric):
            names = {"topic": topic, "method": method, "layer": layer, "target": target, "order": order}
            found.append(_row({**names, "metric": metric}, sign, *values, alone=name in single))
    return found


def _one(values: Sequence[float]) -> list[float]:
    """Return the one number of a layer; NaN where there is none."""
    return [*values[:1]] or [float("nan")]


def _values(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[tuple[str, ...], str, str], list[float]]:
    """Return the values of each (method, metric and order; layer; target), of all parts."""
    found: dict[tuple[tuple[str, ...], str, str], list[float]] = {}
    for row in rows:
        at = (row["method"], row["metric"], row["order"]), row["layer"], row["target"]
        found.setdefault(at, []).extend(row["values"])
    return found


def _row(
    at: Mapping[str, str], sign: int, trained: Sequence[float], shuffled: Sequence[float], alone: bool = False
) -> dict[str, Any]:
    # That no concept has a rank is the worst rank.
    nan = np.inf if fnmatchcase(at["metric"], "*_rank") else np.nan
    one, other = (
        sign * np.where(np.isnan(of), nan, of) for of in (np.array(trained, float), np.array(shuffled, float))
    )
    value, n = paired(one, other) if alone else (auc(one, other), min(len(_known(one)), len(_known(other))))
    blank = {"topic": "", "method": "", "layer": "", "target": "", "order": "", "metric": "", "reading": ""}
    means = {name: mean(of).value for name, of in zip(NETWORKS, (trained, shuffled), strict=True)}
    numbers = {name: None if np.isnan(number) else number for name, number in {"auc": value, **means}.items()}
    return {**blank, **at, **numbers, "n": n}


def outputs(trained: Iterable[Mapping[str, Any]], shuffled: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the row of the table ``sanity`` that says how many different outputs either network gives.

    An output is the predicted class with its probability, of a regression the value, to three digits.

    Parameters
    ----------
    trained, shuffled : iterables of mapping
        Rows of the table ``predictions``, of all images.
    """
    said = [[(row["predicted"], _digits(row["probability"]), _digits(row["value"])) for row in rows]
            for rows in (trained, shuffled)]  # fmt: skip
    many, few = ([float(len(set(one)))] for one in said)
    row = _row({"topic": NETWORK, "metric": OUTPUTS}, 1, many, few)
    return {**row, "auc": None, "n": min(map(len, said))}


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
