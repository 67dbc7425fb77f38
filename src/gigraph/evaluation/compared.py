"""What the comparison of extractors says, in tables: means over seeds, leads over random PFVs, what each measure is.

A row is a mean over parts, concepts or images, with its standard error. A lead is the mean of the differences, each
part or image of one extractor against the same of another: what makes a part easy for both does not count. Concepts
have no fellows in another extractor's: their lead is the difference of the means.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gigraph.evaluation.measures import mean
from gigraph.records.paths import NETWORKS

MEASURES = {
    "average_precision": (
        "Average precision of each part's best concept",
        "The concept, chosen on half of the scenes, ranks the positions of the others: 1 where all those of the part "
        "come first. By coefficients: it is their maps that rank.",
    ),
    "iou": (
        "IoU of each part's best coefficient map",
        "Overlap of part and map above the best threshold on positive coefficients, chosen on the other half.",
    ),
    "purity": (
        "Purity of the nearest patches",
        "Share of a concept's 10 nearest patches that show its commonest part.",
    ),
    "selectivity_of_factors": (
        "Selectivity for each factor, of its best concept",
        "Scenes are drawn again with one factor changed: the probability that a change of the factor moves its concept "
        "more than a change of anything else does (after TAPAScore); .5 is none.",
    ),
    "selectivity": (
        "Selectivity of all concepts, each for its own factor",
        "The same of every concept, whatever its factor is.",
    ),
    "stability_of_maps": (
        "Stability under other seeds, by maps",
        "Correlation of each concept's map with the best of those that another seed finds; the responses of the "
        "extractor's own detectors, where it has some, else projections.",
    ),
    "insertion_minus_deletion": (
        "C-Insertion minus C-Deletion",
        "How much sooner the class comes when concepts are inserted by their relevance than it stays when they are "
        "deleted.",
    ),
    "probability_at_concepts": (
        "Probability of the class at X~",
        "What the network says of what the concepts make of the layer.",
    ),
    "rel_l2": ("Relative l2 error of whole maps", "What the concepts miss of the layer's vectors; less is better."),
    "nonzeros": ("Non-zero coefficients", "Concepts that a position takes; coders are set to as many where they can."),
}
"""Metric -> its title, and in a sentence what it says."""
FEW = (40, 80)
"""Numbers of concepts besides the run's own: the best of very many is partly luck."""
OF_CONCEPTS = frozenset({"purity", "selectivity", "stability_of_maps"})
"""Means over concepts, which cannot be paired."""
FLOOR = "random"
"""The extractor whose concepts are no more than PFVs drawn at random."""

Row = dict[str, Any]


def over_seeds(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Return rows of the table ``comparison`` with the seeds averaged, value by value where all have as many."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    keys = ("method", "layer", "network", "concepts", "reading", "metric")
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    found = []
    for key, many in groups.items():
        values = [np.array(row["values"], np.float64) for row in many]
        same = len({len(one) for one in values}) == 1
        averaged = np.mean(values, axis=0) if same else values[0]
        summed = mean(averaged)
        value = summed.value if same else float(np.mean([row["value"] for row in many]))
        found.append({**dict(zip(keys, key, strict=True)), "value": value, "se": summed.se, "n": summed.n,
                      "values": averaged})  # fmt: skip
    return found


def own_size(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of the run's own number of concepts: that of the rows which are measured only there."""
    known = {_place(row): row["concepts"] for row in rows if row["metric"] == "rel_l2"}
    return [row for row in rows if known.get(_place(row)) == row["concepts"]]


def _place(row: Row) -> tuple[str, ...]:
    return row["method"], row["layer"], row["network"]


def trained(rows: Iterable[Row]) -> list[Row]:
    """Return the rows of the trained network."""
    return [row for row in rows if row["network"] == NETWORKS[0]]


def leads(rows: Sequence[Row], floor: str = FLOOR) -> list[Row]:
    """Return the lead of every extractor over `floor`, paired by what the means are over, but for `OF_CONCEPTS`."""
    key = ("layer", "network", "concepts", "reading", "metric")
    base = {tuple(row[name] for name in key): row for row in rows if row["method"] == floor}
    found = []
    for row in rows:
        other = base.get(tuple(row[name] for name in key))
        if other is None or row["method"] == floor:
            continue
        if row["metric"] in OF_CONCEPTS:
            value, se = row["value"] - other["value"], float(np.hypot(row["se"], other["se"]))
            found.append({**row, "value": value, "se": se})
        elif len(other["values"]) == len(row["values"]):
            lead = mean(row["values"] - other["values"])
            found.append({**row, "value": lead.value, "se": lead.se, "n": lead.n})
    return found
