"""The evidence: every evaluation table of the run, drawn by its columns, so that a new table needs no new code.

A table with the columns *x*, *metric* and *value* is curves, one with *metric* and *value* a table of measures (rows by
layer, columns by method); tables of one row per concept or edge are summed up. `gigraph.tables` holds their schemas.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gigraph import tables
from gigraph.config import CLASSES
from gigraph.errors import UserError
from gigraph.explorer.chunks import numbers, shares
from gigraph.explorer.graph import Graph
from gigraph.explorer.inputs import Inputs

POINTS = 600
"""Edges drawn per panel."""
STEPS = 60
"""Points drawn per curve."""
FACETS = ("metric", "output", "axis", "target", "order", "part")
"""Columns that tell the curves and measures of one table apart, besides method and layer."""


def evidence(graph: Graph, inputs: Inputs) -> list[dict[str, Any]]:
    """Return the parts of the evidence view, each with its title, a note and the file it comes from.

    Parameters
    ----------
    graph : Graph
        The run's graph.
    inputs : Inputs
        With `evaluation` and `attributions`.

    Returns
    -------
    list of dict
        ``title``, ``note``, ``file``, and ``kinds``: dicts whose ``kind`` is ``lines`` (``series``, ``panels``
        [title, [[series, [[x, value, se], ...]], ...]]), ``points`` (``panels`` [title, [[x, y], ...]]) or
        ``table`` (``head``, ``rows``; a cell [value, se] is a number with its standard error). Without them,
        ``empty`` says why.
    """
    long = _tables(inputs.evaluation)
    curves = [frame for _, frame in long if {"x", "metric", "value", "layer"} <= set(frame.columns)]
    measures = [f for _, f in long if {"metric", "value", "layer"} <= set(f.columns) and "x" not in f.columns]
    parts = [*_curves(curves)] or [
        {
            "title": "Insertion and deletion",
            "note": "Concepts are inserted or deleted in the order of their relevance.",
            "file": "evaluation/layers/LAYER.curves.parquet",
            "empty": "This run has no insertion and deletion curves; `uv run snakemake evaluation` computes them; then "
            "`uv run snakemake --forcerun explorer`.",
        }
    ]
    parts += _measures(measures)
    parts += [_ablation(graph), *_completeness(inputs)]
    for name, frame in long:
        if set(frame.columns).isdisjoint({"metric", "sheet", "vector"}) and len(frame) <= 5000:
            parts.append(_plain(name, frame))
    return parts


def _tables(evaluation: Sequence[tuple[str, Path]]) -> list[tuple[str, pl.DataFrame]]:
    """Return every evaluation table as (file, frame); files of one name under ``layers/`` are put together."""
    found: dict[str, list[pl.DataFrame]] = {}
    for method, folder in evaluation:
        for path in sorted(folder.rglob("*.parquet")) if folder.is_dir() else []:
            try:
                frame = pl.DataFrame(pl.from_arrow(tables.read(path)))
            except UserError:  # of another run: what does not belong to this graph is not shown
                continue
            if "method" not in frame.columns and method:
                frame = frame.with_columns(pl.lit(method).alias("method"))
            name = path.name
            if path.parent != folder:
                name = f"{path.parent.name}/LAYER.{path.name.split('.')[-2]}.parquet"
            found.setdefault(name, []).append(frame)
    return [(name, pl.concat(frames, how="diagonal_relaxed")) for name, frames in sorted(found.items())]


def _facets(frame: pl.DataFrame) -> list[str]:
    return [name for name in FACETS if name in frame.columns]


def _words(*parts: Any) -> str:
    return ", ".join(str(part).replace("_", " ") for part in parts if part not in ("", None))


def _curves(frames: list[pl.DataFrame]) -> Iterator[dict[str, Any]]:
    if not frames:
        return
    frame = pl.concat(frames, how="diagonal_relaxed")
    facets = [name for name in _facets(frame) if name != "order"]
    for key, part in frame.partition_by(facets, as_dict=True, maintain_order=True).items():
        orders = [name for name in ("method", "order") if name in part.columns]
        series: list[str] = []
        panels = []
        for (layer,), mine in part.partition_by("layer", as_dict=True, maintain_order=True).items():
            drawn = []
            for names, line in mine.partition_by(orders, as_dict=True, maintain_order=True).items():
                name = _words(*names)
                if name not in series:
                    series.append(name)
                line = line.sort("x")
                line = line[np.unique(np.linspace(0, len(line) - 1, STEPS).round().astype(int)).tolist()]
                se = line["se"] if "se" in line.columns else [None] * len(line)
                points = zip(shares(line["x"]), numbers(line["value"]), numbers(se), strict=True)
                drawn.append([series.index(name), [list(p) for p in points if p[1] is not None]])
            panels.append([layer, drawn])
        yield {
            "title": _words(*key).capitalize(),
            "note": "Mean over held-out images, with its standard error; x is the share of the concepts.",
            "file": "METHOD/evaluation/layers/LAYER.curves.parquet",
            "kinds": [{"kind": "lines", "series": series, "panels": panels}],
        }


def _measures(frames: list[pl.DataFrame]) -> Iterator[dict[str, Any]]:
    if not frames:
        return
    frame = pl.concat(frames, how="diagonal_relaxed")
    for (metric,), part in frame.partition_by("metric", as_dict=True, maintain_order=True).items():
        extra = [n for n in _facets(part) if n != "metric" and part[n].n_unique() > 1]
        methods = part["method"].unique(maintain_order=True).to_list()
        rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        se = part["se"] if "se" in part.columns else [None] * len(part)
        for row, value, error in zip(part.iter_rows(named=True), numbers(part["value"]), numbers(se), strict=True):
            rows.setdefault((row["layer"], *(row[n] for n in extra)), {})[row["method"]] = [value, error]
        yield {
            "title": _words(metric).capitalize(),
            "note": "",
            "file": "METHOD/evaluation",
            "kinds": [
                {
                    "kind": "table",
                    "head": ["layer", *extra, *methods],
                    "rows": [[*key, *(cells.get(method) for method in methods)] for key, cells in rows.items()],
                }
            ],
        }


def _plain(name: str, frame: pl.DataFrame) -> dict[str, Any]:
    if "method" in frame.columns and frame["method"].n_unique() == 1:
        frame = frame.drop("method")
    frame = frame.select(pl.exclude(pl.List, pl.Array))
    columns = [numbers(column) if column.dtype.is_float() else column.to_list() for column in frame.iter_columns()]
    return {
        "title": _words(Path(name).stem).capitalize(),
        "note": "",
        "file": f"METHOD/evaluation/{name}",
        "kinds": [{"kind": "table", "head": frame.columns, "rows": [list(row) for row in zip(*columns, strict=True)]}],
    }


def _ablation(graph: Graph) -> dict[str, Any]:
    """Compare the shown edges with the exact ablation, pair by pair."""
    checked = graph.edges.filter(pl.col("shown") & pl.col("ablation").is_not_null() & pl.col("ablation").is_not_nan())
    panels, rows = [], []
    pairs = checked.partition_by("source_layer", "target_layer", as_dict=True, maintain_order=True)
    for (source, target), part in pairs.items():
        gig, ablation = part["mean"].to_numpy().astype(float), part["ablation"].to_numpy().astype(float)
        agree = float(np.mean(np.sign(gig) == np.sign(ablation)))
        varied = len(part) > 2 and gig.std() > 0 and ablation.std() > 0
        r = float(np.corrcoef(gig, ablation)[0, 1]) if varied else None
        title = f"{source} → {target}"
        rows.append([title, len(part), *shares([agree]), None if r is None else round(r, 4)])
        step = max(1, len(part) // POINTS)
        panels.append([title, [list(p) for p in zip(numbers(gig[::step]), numbers(ablation[::step]), strict=True)]])
    found: dict[str, Any] = {
        "title": "GIG beside exact ablation",
        "note": "Each dot is a shown edge of one class: across, its mean GIG; up, the drop of the target when the "
        "source is deleted. On the dotted line both agree; orange dots disagree in sign.",
        "file": "METHOD/graph/edges.parquet",
    }
    if rows:
        table = {"kind": "table", "head": ["pair", "edges", "same sign", "correlation"], "rows": rows}
        found["kinds"] = [{"kind": "points", "panels": panels}, table]
    else:
        found["empty"] = "No edge was ablated."
    return found


def _completeness(inputs: Inputs) -> Iterator[dict[str, Any]]:
    """Sum up how far attributions miss S(X~) - S(baseline)."""
    rows = []
    for (source, target), paths in inputs.attributions.items():
        columns = ["completeness_error", "total_absolute", "steps", "error", "at_x", "at_baseline"]
        parts = [tables.read(path, columns) for path in paths]
        error, total, steps = (
            np.concatenate([tables.numpy(part, name) for part in parts]).astype(float) for name in columns[:3]
        )
        if not len(error):
            continue
        ratio = np.abs(error) / np.maximum(total, 1e-30)
        name = "classes" if target == CLASSES else target
        rows.append(
            [f"{source} → {name}", len(ratio)]
            + [float(f"{v:.4g}") for v in (np.median(ratio), np.quantile(ratio, 0.9), ratio.max(), steps.mean())]
        )
    if rows:
        head = ["pair", "images × targets", "median", "90%", "largest", "steps, mean"]
        yield {
            "title": "Completeness",
            "note": "|sum of GIG − (S(X̃) − S(baseline))| over the sum of |GIG|; zero for an exact path integral.",
            "file": "METHOD/attributions",
            "kinds": [{"kind": "table", "head": head, "rows": rows}],
        }
