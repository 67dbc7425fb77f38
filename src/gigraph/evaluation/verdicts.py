"""What the table ``sanity`` says of a measure, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from gigraph.evaluation.sanity import NETWORK, OUTPUTS

TELLS = 0.7
"""Probability from which a measure is said to rate the trained network higher; the shuffled one from 1 less it."""
FEW = 10
"""Values of either network, of all layers, below which nothing is said: so few differ by chance."""
BETTER, ALIKE, WORSE = "better here", "alike when shuffled", "better when shuffled"
MIXED = "differs by layer"
UNJUDGED = "not judged"

OF_OUTPUTS = {"classes": ("c_*_probability_*", "c_*_accuracy_*", "*_at_concepts"),
              "comparison": ("insertion_minus_deletion", "probability_at_concepts")}  # fmt: skip
OF_ATTRIBUTION = {"classes": ("mu_fidelity",), "edges": ("*correlation_*", "same_sign_*")}
REMARKS = (
    (
        OF_OUTPUTS,
        "Measures of probability and accuracy tell whether the network is right (without labels: sure), as the "
        "shuffled one is not, whatever the concepts; only a comparison with random PFVs says whether these are good.",
    ),
    (
        OF_ATTRIBUTION,
        "C-muFidelity and edges' agreement with their ablation check the attribution, not what is learned, and should "
        "be high for any network; where they are better when shuffled, that network is nearer to linear.",
    ),
)
"""Measures whose verdict means something else than that of the others, and what."""


def verdict(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return what rows of the table ``sanity``, of one measure, say of it.

    Returns
    -------
    str
        `BETTER`, `ALIKE` or `WORSE`, as most of the layers (or pairs) say, else `MIXED`; `UNJUDGED` where there is no
        ``auc``, or of fewer than `FEW` values in all.
    """
    known = [row for row in rows if row["auc"] is not None]
    if sum(row["n"] for row in known) < FEW:
        return UNJUDGED
    said = Counter(_word(row["auc"]) for row in known)
    ((word, count),) = said.most_common(1)
    return word if 2 * count > said.total() else MIXED


def _word(auc: float) -> str:
    return BETTER if auc >= TELLS else WORSE if auc <= 1 - TELLS else ALIKE


def mark(topic: str, metric: str, rows: Iterable[Mapping[str, Any]]) -> str:
    """Return what a measure's title is marked with: any verdict but that it is better here, or not judged.

    What checks the attribution is not marked: it is no measure of what is learned.
    """
    said = verdict(rows)
    return "" if said in (BETTER, UNJUDGED) or _among(OF_ATTRIBUTION, topic, metric) else f" ({said})"


def _among(known: Mapping[str, tuple[str, ...]], topic: str, metric: str) -> bool:
    return any(fnmatchcase(metric, pattern) for pattern in known.get(topic, ()))


def remarks(topic: str, metrics: Iterable[str]) -> str:
    """Return what is to be known of the verdicts of a topic's metrics."""
    there = list(metrics)
    return " ".join(words for known, words in REMARKS if any(_among(known, topic, metric) for metric in there))


def constant(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return a sentence where the shuffled network says the same of every image, by the table ``sanity``."""
    if any(row["topic"] == NETWORK and row["metric"] == OUTPUTS and row["shuffled"] == 1 for row in rows):
        return (
            "The shuffled network says the same of every image, so that nothing its concepts do shows in its output: "
            "what is measured by that has no number there and is not judged."
        )
    return ""


# ---- the comparison of extractors ----------------------------------------------------------------------------

Known = dict[tuple[str, str, str], list[Mapping[str, Any]]]


def of_comparison(sanity: Iterable[Mapping[str, Any]]) -> Known:
    """Return the rows of the table ``sanity`` of each (method, metric, reading) of the comparison, one a layer."""
    found: Known = {}
    for row in sanity:
        if row["topic"] == "comparison":
            found.setdefault((row["method"], row["metric"], row["reading"]), []).append(row)
    return found


def marked(known: Known, row: Mapping[str, Any]) -> str:
    """Return a row's reading, marked by what `of_comparison` found of it: not at all where it was not looked at."""
    return row["reading"] + mark("comparison", row["metric"], known.get(_key(row), ()))


def unseen(known: Known, rows: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether only some of a measure's rows were looked at on the shuffled network."""
    return len({_key(row) in known for row in rows}) > 1


def _key(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["method"], row["metric"], row["reading"]
