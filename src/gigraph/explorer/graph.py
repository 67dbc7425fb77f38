"""The graph's tables, read once and joined, with the ratios that the page shows beside the raw numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from gigraph.errors import UserError
from gigraph.explorer.inputs import Inputs
from gigraph.method.families import Families
from gigraph.records import tables
from gigraph.records.families import read_families
from gigraph.records.schemas import SCHEMAS
from gigraph.reserved import CLASSES, DATASET

PAIR = ["source_layer", "target_layer"]
TARGET = ["scope", *PAIR, "target"]
"""The columns that name a target within a scope."""
NEIGHBOURS = 8
"""Entries of each neighbour list."""
TO_OWN_CLASS = (pl.col("target_layer") == CLASSES) & (pl.col("target") == pl.col("scope"))
"""Edges to the class over whose images they are averaged."""

Key = tuple[int, int]  # a concept: index of its layer, number


@dataclass(frozen=True)
class Graph:
    """The graph's tables.

    Attributes
    ----------
    layers : list of str
        From input to output.
    classes : DataFrame
        label, class.
    kept : DataFrame
        Sorted by scope, layer and rank, with ``weight``, ``share`` and ``ablation`` of the concept's edge to the class.
    edges : DataFrame
        Those that some view draws: to the class of the scope, between concepts that it keeps, and of each of these the
        strongest neighbours, the error node and the remainder. With ``total``: sum of |mean| into the target within the
        scope over all edges, error node and remainder included, ``sources``: how many concepts are among them, and
        ``share``: mean / total.
    families : mapping of str to Families
        Of each layer that has some with several members; their leaders' ids are those of the nodes.
    members : DataFrame
        What the members of families do for the class of the scope: scope, layer, family, source, mean, se, support,
        and their part of the family's ``weight`` and ``share``.
    count : int
        All edges of concepts, drawn or not.
    images : mapping of int to int
        Images of each scope.
    """

    layers: list[str]
    classes: pl.DataFrame
    kept: pl.DataFrame
    edges: pl.DataFrame
    families: Mapping[str, Families] = field(default_factory=dict)
    members: pl.DataFrame = field(default_factory=pl.DataFrame)
    count: int = 0
    images: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def read(cls, inputs: Inputs) -> Graph:
        """Read the tables.

        Raises
        ------
        UserError
            If a table cannot be read or is of another version.
        """
        kept = frame(inputs.kept, "kept")
        edges, count, images = _read_edges(inputs.edges, kept)
        own = edges.filter(TO_OWN_CLASS).select(
            "scope",
            pl.col("source_layer").alias("layer"),
            pl.col("source").alias("concept"),
            "weight",
            "share",
            "ablation",
            "ablation_se",
        )
        kept = kept.join(own, on=["scope", "layer", "concept"], how="left")
        everyone = SCHEMAS["members"].empty_table() if inputs.members is None else tables.read(inputs.members)
        return cls(
            layers=list(inputs.concepts),
            classes=frame(inputs.classes, "classes").sort("label"),
            kept=kept.sort("scope", "layer", "rank"),
            edges=edges,
            families=merged(inputs.families),
            members=parts_of(pl.DataFrame(pl.from_arrow(everyone)).filter(TO_OWN_CLASS), edges),
            count=count,
            images=images,
        )

    def relevance(self, layer: str) -> pl.DataFrame:
        """Return the edges of a layer's concepts to each class, over the images of that class."""
        return self.edges.filter((pl.col("source_layer") == layer) & TO_OWN_CLASS & (pl.col("source") >= 0))

    def pictured(self, layer: str) -> list[int]:
        """Return the concepts of a layer that are kept for some class or for the dataset."""
        return sorted(self.kept.filter(pl.col("layer") == layer)["concept"].unique().to_list())


def merged(families: Mapping[str, Path]) -> dict[str, Families]:
    """Return the families of the layers that have some with several members, from their tables."""
    found = {layer: read_families(path) for layer, path in families.items()}
    return {layer: one for layer, one in found.items() if one.merged}


def parts_of(members: pl.DataFrame, edges: pl.DataFrame) -> pl.DataFrame:
    """Return members with their part of the ``weight`` and ``share`` of their families' edges, the largest first."""
    whole = edges.select(*TARGET, pl.col("source").alias("family"), pl.col("mean").alias("sum"), "weight", "total")
    part = pl.col("mean").cast(pl.Float64)
    return (
        members.join(whole, on=[*TARGET, "family"])
        .with_columns(
            pl.when(pl.col("sum") != 0).then(pl.col("weight") * (part / pl.col("sum")).abs()).otherwise(0.0).clip(0, 1)
            .alias("weight"),
            pl.when(pl.col("total") > 0).then(part / pl.col("total")).otherwise(0.0).alias("share"),
        )
        .sort(["scope", "source_layer", "family", "mean", "source"], descending=[False, False, False, True, False])
        .select(
            "scope", pl.col("source_layer").alias("layer"), "family", "source", "mean", "se", "support", "weight",
            "share",
        )
    )  # fmt: skip


def with_shares(edges: pl.DataFrame, target: list[str] = TARGET) -> pl.DataFrame:
    """Add ``total``, the sum of |mean| into the same target in the scope, ``sources``, and ``share``, mean / total."""
    mean = pl.col("mean").cast(pl.Float64)
    edges = edges.with_columns(
        mean.abs().sum().over(target).alias("total"), (pl.col("source") >= 0).sum().over(target).alias("sources")
    )
    return edges.with_columns(pl.when(pl.col("total") > 0).then(mean / pl.col("total")).otherwise(0.0).alias("share"))


def leading(edges: pl.DataFrame, end: list[str]) -> pl.DataFrame:
    """Return the strongest edges of concepts at each end (columns), of either sign, the strongest first."""
    return (
        edges.filter((pl.col("source") >= 0) & (pl.col("mean") != 0))
        .with_columns(pl.col("mean").abs().alias("size"), (pl.col("mean") > 0).alias("positive"))
        .sort(["size", "source", "target"], descending=[True, False, False])
        .filter(pl.int_range(pl.len()).over([*end, "positive"]) < NEIGHBOURS)
    )


def _read_edges(path: Path, kept: pl.DataFrame) -> tuple[pl.DataFrame, int, dict[int, int]]:
    """Return the edges that views draw, the number of all edges of concepts, and the images of each scope.

    One layer pair at a time, since all edges of many classes are more than should be in memory.
    """
    near = kept.filter(pl.col("scope") >= 0).select("scope", "layer", "concept")
    everywhere = kept.select(pl.lit(DATASET, pl.Int32).alias("scope"), "layer", "concept").unique()
    near = pl.concat([near, everywhere])
    parts, count = [], 0
    images: dict[int, int] = {}
    for pair, table in tables.read_groups(path, PAIR):
        edges = with_shares(_checked(path, "edges", table, PAIR), ["scope", "target"])
        count += int((edges["source"] >= 0).sum())
        images |= dict(edges.group_by("scope").agg(pl.col("images").max()).iter_rows())
        names = [pl.lit(name).alias(column) for column, name in zip(PAIR, pair, strict=True)]
        parts.append(_drawn(edges, pair, near).select(*names, pl.all()))
    if not parts:
        return with_shares(frame(path, "edges")), 0, {}
    return pl.concat(parts), count, images


def _drawn(edges: pl.DataFrame, pair: tuple[str, ...], near: pl.DataFrame) -> pl.DataFrame:
    """Return the edges of one layer pair that views draw; `near` are the kept concepts of each scope."""
    source, target = (near.filter(pl.col("layer") == layer).select("scope", "concept") for layer in pair)
    edges = edges.with_row_index("row")
    if pair[1] == CLASSES:
        chosen = [edges.filter((pl.col("target") == pl.col("scope")) | pl.col("shown"))]
    else:
        into, out = (
            edges.join(kept, left_on=["scope", end], right_on=["scope", "concept"], how="semi")
            for end, kept in (("target", target), ("source", source))
        )
        between = into.join(source, left_on=["scope", "source"], right_on=["scope", "concept"], how="semi")
        chosen = [
            edges.filter("shown"),
            between.filter(pl.col("scope") >= 0),
            into.filter((pl.col("source") < 0) | (pl.int_range(pl.len()).over("scope", "target") == 0)),
            leading(into, ["scope", "target"]),
            leading(out, ["scope", "source"]),
        ]
    wanted = np.zeros(len(edges), bool)
    for some in chosen:
        wanted[some["row"].to_numpy()] = True
    return edges.filter(pl.Series(wanted)).drop("row")


def frame(path: object, kind: str) -> pl.DataFrame:
    """Read a table as a polars frame and check its columns.

    Raises
    ------
    UserError
        If a column is missing.
    """
    return _checked(path, kind, tables.read(path))  # type: ignore[arg-type]


def _checked(path: object, kind: str, table: pa.Table, without: Sequence[str] = ()) -> pl.DataFrame:
    wanted = [name for name in SCHEMAS[kind].names if name not in without]
    if missing := [name for name in wanted if name not in table.column_names]:
        raise UserError(
            f"explorer: {path} has no column {missing[0]}; it is of another version, delete it and run again"
        )
    return pl.DataFrame(pl.from_arrow(table.select(wanted)))
