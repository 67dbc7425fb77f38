"""A copy of a finished run that differs from it in what a test says."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

UNREAD = ("pfvs", "coefficients", "uniform", "benchmarks", "logs", "manifest", "predictions", "decisions", "evaluation")
"""What a difference does not look at."""


def altered(
    run: Path,
    out: Path,
    order: dict[str, list[int]] | None = None,
    change: Callable[[str, str, pl.DataFrame], pl.DataFrame] = lambda source, target, table: table,
    method: str = "bisecting",
) -> Path:
    """Copy a results folder.

    Parameters
    ----------
    run, out : Path
        From where to where.
    order : dict
        Of a layer, the old ids of its concepts in their new order; those left out are gone. A family goes on under the
        new id of its leader, or of its first member that is left.
    change : callable
        From (source, target, table of attributions) to the table's new rows, by the old ids.
    """
    shutil.copytree(run, out, ignore=lambda _, names: [name for name in names if name in UNREAD])
    new = {layer: {old: i for i, old in enumerate(olds)} for layer, olds in (order or {}).items()}

    def rewrite(path: Path, of: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        table = pq.read_table(path)
        changed = of(pl.DataFrame(pl.from_arrow(table))).to_arrow().cast(table.schema)
        pq.write_table(pa.Table.from_arrays(changed.columns, schema=table.schema), path)

    for layer, olds in (order or {}).items():
        folder, ids = out / method / "concepts", new[layer]
        families = pl.read_parquet(folder / f"{layer}.families.parquet")
        leads = dict(families.select("concept", "family").iter_rows())
        first = {family: family for family in leads.values() if family in ids}
        for old in sorted(olds):
            first.setdefault(leads[old], old)
        leader = {old: ids[first[leads[old]]] for old in olds}
        count = {one: list(leader.values()).count(one) for one in leader.values()}
        for name in ("parquet", "encoder.parquet"):
            path = folder / f"{layer}.{name}"
            if len(pl.read_parquet(path)):
                rewrite(path, lambda t, olds=olds: t[olds].with_columns(concept=pl.Series(np.arange(len(olds)))))
        rewrite(
            folder / f"{layer}.families.parquet",
            lambda t, olds=olds, leader=leader, count=count: t[olds].with_columns(
                concept=pl.Series(np.arange(len(olds))),
                family=pl.Series([leader[old] for old in olds]),
                members=pl.Series([count[leader[old]] for old in olds]),
            ),
        )
        exemplars = out / method / "exemplars" / layer / "exemplars.parquet"
        rewrite(
            exemplars,
            lambda t, ids=ids: t.filter(pl.col("concept").is_in([*ids])).with_columns(
                pl.col("concept").replace_strict(ids)
            ),
        )
        new[layer] = {family: ids[old] for family, old in first.items()}
    for folder in (out / method / "attributions").iterdir():
        source, target = folder.name.split("--")
        for path in folder.iterdir():
            rewrite(path, lambda t, s=source, e=target: _renamed(change(s, e, t), new.get(s), new.get(e)))
    return out


def _renamed(table: pl.DataFrame, sources: dict[int, int] | None, targets: dict[int, int] | None) -> pl.DataFrame:
    """Return attributions with new ids; what is gone has none."""
    if sources is not None:
        rows = [
            [(sources[s], v) for s, v in zip(*both, strict=True) if s in sources]
            for both in zip(table["sources"].to_list(), table["values"].to_list(), strict=True)
        ]
        table = table.with_columns(
            sources=pl.Series([[s for s, _ in row] for row in rows], dtype=pl.List(pl.Int32)),
            values=pl.Series([[v for _, v in row] for row in rows], dtype=pl.List(pl.Float32)),
        )
    if targets is not None:
        table = table.filter(pl.col("target").is_in([*targets]))
        table = table.with_columns(pl.col("target").replace_strict(targets, return_dtype=pl.Int32))
    return table
