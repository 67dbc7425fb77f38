"""How much of the decisions about each class's images the layers keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gigraph.explorer.chunks import shares
from gigraph.records import tables
from gigraph.records.decisions import kept_of


def kept_by_class(decisions: Mapping[str, Sequence[Path]], layers: Sequence[str]) -> dict[int, list[float | None]]:
    """Return for each class the part of its images' centred logits that each layer keeps; nothing without tables."""
    if not all(layer in decisions for layer in layers):
        return {}
    found: dict[int, list[float | None]] = {}
    for layer in layers:
        table = tables.read(decisions[layer])
        labels = tables.numpy(table, "label")
        for label in np.unique(labels).tolist():
            found.setdefault(label, []).extend(shares([kept_of(table.filter(labels == label)).logit]))
    return found
