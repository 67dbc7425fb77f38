"""Means over images, gathered into the evaluation's long tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gigraph.records import tables
from gigraph.records.schemas import SCHEMAS

GRID = np.linspace(0, 1, 101)
"""Shares of the concepts at which mean curves are stored."""


@dataclass(frozen=True)
class Mean:
    """A mean with its standard error (NaN for fewer than two values)."""

    value: float
    se: float
    n: int


def mean(values: Any) -> Mean:
    """Return the mean of the values that are not NaN, with its standard error."""
    kept = np.atleast_1d(np.asarray(values, np.float64))
    kept = kept[~np.isnan(kept)]
    if not len(kept):
        return Mean(float("nan"), float("nan"), 0)
    se = float(kept.std(ddof=1) / np.sqrt(len(kept))) if len(kept) > 1 else float("nan")
    return Mean(float(kept.mean()), se, len(kept))


def per_image(values: Any, ids: np.ndarray) -> np.ndarray:
    """Return the mean of each image's values, by ascending id: rows of one image are no independent looks."""
    _, which, sizes = np.unique(ids, return_inverse=True, return_counts=True)
    return np.bincount(which, np.asarray(values, np.float64), len(sizes)) / sizes


class Measures:
    """Rows of the tables ``measures`` and ``curves``.

    Parameters
    ----------
    **key : str
        Columns that all rows share, such as method and layer.
    """

    def __init__(self, **key: Any):
        self.key = {"method": "", "layer": "", **key}
        self.rows: dict[str, list[dict[str, Any]]] = {"measures": [], "curves": []}

    def add(self, metric: str, values: Any, n: int | None = None, **names: str) -> Mean:
        """Add the mean of values, one an image, under names (layer, target, order, part), and the values.

        A single number, such as a correlation, says with `n` what it was taken over.
        """
        found = mean(values) if n is None else Mean(float(values), float("nan"), n)
        blank = {"target": "", "order": "", "part": ""}
        row = {**blank, **self.key, **names, "metric": metric, **vars(found)}
        self.rows["measures"].append({**row, "values": np.atleast_1d(np.asarray(values, np.float32)).tolist()})
        return found

    def add_curves(self, values: np.ndarray, **names: str) -> None:
        """Add the mean of curves [N, len(GRID)], one an image, under names (target, order, metric, output, axis)."""
        for x, column in zip(GRID, np.transpose(values), strict=True):
            self.rows["curves"].append({**self.key, **names, "x": float(x), **vars(mean(column))})

    def write(self, kind: str, path: str | Path, lineage: str) -> None:
        """Write the rows of a table: ``curves``, or what else there is, as ``measures`` or ``comparison``."""
        rows = self.rows["curves" if kind == "curves" else "measures"]
        columns = {name: [row[name] for row in rows] for name in SCHEMAS[kind].names}
        tables.write(path, kind, columns, lineage)
