"""Whether a measure can tell concepts of a trained network from those of one whose weights are shuffled.

A measure that rates both alike says nothing of what the network has learned. How well it tells them apart is the
probability that it rates the one above the other, over what it is a mean of: parts, concepts, or images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from gigraph.records.paths import NETWORKS

LOWER = frozenset({"rel_l2"})
"""Measures of which less is better."""
SET = frozenset({"nonzeros"})
"""What is no measure, but set."""
TELLS = 0.7
"""Probability from which a measure is said to tell the networks apart."""


def auc(one: Iterable[float], other: Iterable[float]) -> float:
    """Return P(a value of the one > a value of the other), ties half; NaN where one of them has none."""
    a, b = (np.asarray([v for v in many if v is not None], np.float64) for many in (one, other))
    a, b = a[~np.isnan(a)], np.sort(b[~np.isnan(b)])
    if not (len(a) and len(b)):
        return float("nan")
    below = np.searchsorted(b, a, "left") + np.searchsorted(b, a, "right")
    return float(below.mean() / (2 * len(b)))


def separation(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return how well each measure tells a trained network from a shuffled one.

    Parameters
    ----------
    rows : iterable of mapping
        Of the table ``comparison``.

    Returns
    -------
    list of dict
        A row for each method, layer, metric and reading: ``auc``, whether it ``tells`` them apart, and the means
        ``trained`` and ``shuffled``.
    """
    known: dict[tuple[str, ...], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        if row["seed"] == 0 and row["metric"] not in SET:
            at = (row["method"], row["layer"], row["metric"], row["reading"])
            # The run's own number of concepts comes first.
            known.setdefault(at, {}).setdefault(row["network"], row)
    found = []
    for (method, layer, metric, reading), of in known.items():
        if len(of) < len(NETWORKS):
            continue
        trained, shuffled = (of[name] for name in NETWORKS)
        value = auc(trained["values"], shuffled["values"])
        if np.isnan(value):
            continue
        value = 1 - value if metric in LOWER else value
        found.append(
            {"method": method, "layer": layer, "metric": metric, "reading": reading, "auc": value,
             "tells": bool(value >= TELLS), "trained": trained["value"], "shuffled": shuffled["value"]}
        )  # fmt: skip
    return found
