"""The graph's tables, read once and joined, with the ratios that the page shows beside the raw numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from gigraph.errors import UserError
from gigraph.explorer.inputs import Inputs
from gigraph.method.families import Families
from gigraph.records import tables
from gigraph.records.families import read_families
from gigraph.records.schemas import SCHEMAS
from gigraph.reserved import CLASSES

TARGET = ["scope", "source_layer", "target_layer", "target"]
"""The columns that name a target within a scope."""
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
        Sorted by scope, layer and rank, with the ``weight`` and ``share`` of the concept's edge to the class.
    edges : DataFrame
        With ``total``: sum of |mean| into the target within the scope, error node and remainder included, and
        ``share``: mean / total.
    families : mapping of str to Families
        Of each layer that has some with several members; their leaders' ids are those of the nodes.
    members : DataFrame
        What the members of families do for the class of the scope: scope, layer, family, source, mean, se, support,
        and their part of the family's ``weight`` and ``share``.
    """

    layers: list[str]
    classes: pl.DataFrame
    kept: pl.DataFrame
    edges: pl.DataFrame
    families: Mapping[str, Families] = field(default_factory=dict)
    members: pl.DataFrame = field(default_factory=pl.DataFrame)

    @classmethod
    def read(cls, inputs: Inputs) -> Graph:
        """Read the tables.

        Raises
        ------
        UserError
            If a table cannot be read or is of another version.
        """
        edges = with_shares(frame(inputs.edges, "edges"))
        own = edges.filter(TO_OWN_CLASS).select(
            "scope",
            pl.col("source_layer").alias("layer"),
            pl.col("source").alias("concept"),
            "weight",
            "share",
        )
        kept = frame(inputs.kept, "kept").join(own, on=["scope", "layer", "concept"], how="left")
        everyone = SCHEMAS["members"].empty_table() if inputs.members is None else tables.read(inputs.members)
        return cls(
            layers=list(inputs.concepts),
            classes=frame(inputs.classes, "classes").sort("label"),
            kept=kept.sort("scope", "layer", "rank"),
            edges=edges,
            families=merged(inputs.families),
            members=parts_of(pl.DataFrame(pl.from_arrow(everyone)).filter(TO_OWN_CLASS), edges),
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


def with_shares(edges: pl.DataFrame) -> pl.DataFrame:
    """Add ``total``, the sum of |mean| into the same target within the scope, and ``share``, mean / total."""
    mean = pl.col("mean").cast(pl.Float64)
    edges = edges.with_columns(mean.abs().sum().over(TARGET).alias("total"))
    return edges.with_columns(pl.when(pl.col("total") > 0).then(mean / pl.col("total")).otherwise(0.0).alias("share"))


def frame(path: object, kind: str) -> pl.DataFrame:
    """Read a table as a polars frame and check its columns.

    Raises
    ------
    UserError
        If a column is missing.
    """
    table = tables.read(path)  # type: ignore[arg-type]
    missing = [name for name in SCHEMAS[kind].names if name not in table.column_names]
    if missing:
        raise UserError(
            f"explorer: {path} has no column {missing[0]}; it is of another version, delete it and run again"
        )
    return pl.DataFrame(pl.from_arrow(table.select(SCHEMAS[kind].names)))
