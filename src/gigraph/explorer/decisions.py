"""How much of the decisions about each class's images the layers keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gigraph.explorer.chunks import shares
from gigraph.records import tables
from gigraph.records.decisions import kept_of


def kept_by_class(
    decisions: Mapping[str, Sequence[Path]], layers: Sequence[str]
) -> dict[int, list[list[float | None]]]:
    """Return what each layer keeps of the decisions about each class's images; nothing without tables.

    Of a layer: the part of the centred logit (of a regression: of the value), that of the predictions, and the
    probability at X~, X and the baseline.
    """
    if not all(layer in decisions for layer in layers):
        return {}
    found: dict[int, list[list[float | None]]] = {}
    for layer in layers:
        table = tables.read(decisions[layer])
        labels = tables.numpy(table, "label")
        for label in np.unique(labels).tolist():
            kept = kept_of(table.filter(labels == label))
            probability = kept.probability_at_concepts, kept.probability, kept.probability_at_baseline
            found.setdefault(label, []).append(shares([kept.logit, kept.agreement, *probability]))
    return found
