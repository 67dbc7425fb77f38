"""Single images in the data set's concepts (Fig. 3, left): an image is a scope of its own, with one image in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gigraph.errors import UserError, one_line
from gigraph.explorer.chunks import numbers
from gigraph.explorer.graph import Graph, parts_of, with_shares
from gigraph.explorer.inputs import Inputs
from gigraph.explorer.maps import encode_map
from gigraph.explorer.scopes import BLOCK, scope_chunks
from gigraph.explorer.sheets import Place
from gigraph.images.tiles import coefficient_map
from gigraph.method.families import Families
from gigraph.records import tables
from gigraph.reserved import CLASSES, ERROR_NODE, REMAINDER

KEPT = 8
"""Concepts of each layer in an image's graph."""
AT_ONCE = 500
"""Images whose edges are in memory at once."""


def shown_images(inputs: Inputs) -> pl.DataFrame:
    """Return image_id, path, label, predicted, probability, value of the images that get a graph, by label."""
    columns = ["image_id", "path", "label", "predicted", "probability", "value"]
    images = pl.DataFrame(pl.from_arrow(tables.read(inputs.images, columns)))
    if inputs.selection is None or not inputs.attributions:
        return images.head(0)
    chosen = pl.DataFrame(pl.from_arrow(tables.read(inputs.selection, ["image_id", "label"])))
    images = images.drop("label").join(chosen, on="image_id").filter(pl.col("predicted").is_not_null())
    place = pl.int_range(pl.len()).over("label")  # a group's head(0) would be a row of nulls
    return images.sort("label", "image_id").filter(place < inputs.images_per_class)


def image_chunks(
    graph: Graph,
    images: pl.DataFrame,
    attributions: Mapping[tuple[str, str], Sequence[Path]],
    coefficients: Mapping[str, Sequence[Path]],
    shapes: Mapping[str, tuple[int, ...]],
    faces: Mapping[tuple[int, int], Any],
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield each image's row and the chunk that holds its graph.

    Parameters
    ----------
    graph : Graph
        The run's layers.
    images : DataFrame
        As `shown_images` returns.
    attributions, coefficients : mapping
        Tables of the layer pairs and layers, one path per shard.
    shapes : mapping
        Grid of each layer.
    faces : mapping
        Tiles of each concept.

    Yields
    ------
    row, chunk : dict
        The chunk is as `scope_chunks` returns, its class the predicted one, with ``maps``: concept -> where it is.
    """
    if images.is_empty():
        return
    for shard in range(max(map(len, attributions.values()), default=0)):
        own = slice(shard, shard + 1)
        pairs = {pair: paths[own] for pair, paths in attributions.items()}
        layers = {layer: paths[own] for layer, paths in coefficients.items()}
        ids = [tables.numpy(tables.read(path, ["image_id"]), "image_id") for (path,) in pairs.values()]
        here = images.filter(pl.col("image_id").is_in(np.unique(np.concatenate(ids)).tolist()))
        for some in here.iter_slices(AT_ONCE):
            yield from _chunks(graph, some, pairs, layers, shapes, faces)


def _chunks(
    graph: Graph,
    images: pl.DataFrame,
    attributions: Mapping[tuple[str, str], Sequence[Path]],
    coefficients: Mapping[str, Sequence[Path]],
    shapes: Mapping[str, tuple[int, ...]],
    faces: Mapping[tuple[int, int], Any],
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    every, members = _edges(graph, images, attributions)
    chosen = _kept(graph, every, images)
    where = {
        layer: _maps(paths, chosen.filter(pl.col("layer") == layer), shapes[layer], graph.families.get(layer))
        for layer, paths in coefficients.items()
    }
    for some in images.filter(pl.col("image_id").is_in(chosen["scope"].unique().to_list())).iter_slices(BLOCK):
        ids = some["image_id"].to_list()
        edges, kept, parts = (
            t if t.is_empty() else t.filter(pl.col("scope").is_in(ids)) for t in (every, chosen, members)
        )
        chunks = scope_chunks(graph, kept, edges, dict(some.select("image_id", "predicted").iter_rows()), faces, parts)
        maps: dict[int, dict[str, str]] = defaultdict(dict)
        for image, layer, concept in kept.select("scope", "layer", "concept").iter_rows():
            if (image, concept) in where.get(layer, {}):
                name = f"{graph.layers.index(layer)}:{concept}"
                maps[image][name] = where[layer][image, concept]
        for row in some.iter_rows(named=True):
            yield row, {**chunks[row["image_id"]], "maps": maps[row["image_id"]]}


def _edges(
    graph: Graph, images: pl.DataFrame, attributions: Mapping[tuple[str, str], Sequence[Path]]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the attributions of single images as edges, the image's id as scope; of classes the predicted one.

    And what the members of families do for the predicted class.
    """
    ids = images["image_id"].to_list()
    predicted = images.select("image_id", "predicted")
    parts, members = [], []
    for (source, target), paths in attributions.items():
        if target != CLASSES and graph.layers.index(target) != graph.layers.index(source) + 1:
            continue
        columns = ["image_id", "target", "sources", "values", "remainder", "error", "members", "member_values"]
        rows = pl.concat([_read(path, columns, ids) for path in paths]).join(predicted, on="image_id")
        if target == CLASSES:
            rows = rows.filter(pl.col("target") == pl.col("predicted"))
            if source in graph.families:
                members.append(_members(rows, source, graph.families[source]))
        ends = ["image_id", "target"]
        concepts = rows.select(*ends, pl.col("sources").alias("source"), pl.col("values").alias("mean"))
        some = [concepts.explode("source", "mean").drop_nulls("source").cast({"source": pl.Int32, "mean": pl.Float32})]
        for name, node in (("error", ERROR_NODE), ("remainder", REMAINDER)):
            extra = rows.select(*ends, pl.lit(node, pl.Int32).alias("source"), pl.col(name).alias("mean"))
            some.append(extra.cast({"mean": pl.Float32}))
        pair = pl.concat(some)
        largest = pl.col("mean").filter(pl.col("source") >= 0).abs().max().over("image_id")
        parts.append(
            pair.select(
                pl.col("image_id").alias("scope"),
                pl.lit(source).alias("source_layer"),
                "source",
                pl.lit(target).alias("target_layer"),
                "target",
                "mean",
                pl.lit(None, pl.Float32).alias("se"),
                pl.lit(1).alias("support"),
                (pl.col("mean").abs() / largest).fill_nan(0).clip(0, 1).fill_null(0).alias("weight"),
                pl.lit(None, pl.Float32).alias("ablation"),
                pl.lit(None, pl.Float32).alias("ablation_se"),
            )
        )
    if not parts:
        return pl.DataFrame(), pl.DataFrame()
    edges = with_shares(pl.concat(parts))
    return edges, parts_of(pl.concat(members), edges) if members else pl.DataFrame()


def _members(rows: pl.DataFrame, layer: str, families: Families) -> pl.DataFrame:
    """Return what the members of families do in single images, as rows of the table ``members``."""
    own = rows.select(
        pl.col("image_id").alias("scope"), pl.lit(layer).alias("source_layer"), pl.lit(CLASSES).alias("target_layer"),
        "target", pl.col("members").alias("source"), pl.col("member_values").alias("mean"),
    )  # fmt: skip
    own = own.explode("source", "mean").drop_nulls("source").cast({"source": pl.Int32, "mean": pl.Float32})
    return own.with_columns(
        pl.Series("family", families.leader[own["source"].to_numpy()]).cast(pl.Int32),
        pl.lit(None, pl.Float32).alias("se"),
        pl.lit(1).alias("support"),
    )


def _kept(graph: Graph, edges: pl.DataFrame, images: pl.DataFrame) -> pl.DataFrame:
    """Return the concepts of each layer most relevant to each image's prediction; above the first only targets."""
    evaluated = edges.filter(pl.col("target_layer") != CLASSES).select("scope", "target_layer", "target").unique()
    own = edges.filter((pl.col("target_layer") == CLASSES) & (pl.col("source") >= 0) & (pl.col("mean") > 0))
    left, right = ["scope", "source_layer", "source"], ["scope", "target_layer", "target"]
    first = own.filter(pl.col("source_layer") == graph.layers[0])
    own = (
        pl.concat([first, own.join(evaluated, left_on=left, right_on=right, how="semi")])
        if len(graph.layers) > 1
        else first
    )
    return (
        own.sort(["scope", "mean", "source"], descending=[False, True, False])
        .group_by("scope", "source_layer", maintain_order=True)
        .head(KEPT)
        .select(
            "scope",
            pl.col("source_layer").alias("layer"),
            pl.col("source").alias("concept"),
            pl.col("mean").alias("relevance"),
            "se",
            "support",
            "weight",
            "share",
        )
    )


def _maps(
    paths: Sequence[Path], kept: pl.DataFrame, shape: tuple[int, ...], families: Families | None
) -> dict[tuple[int, int], str]:
    """Return where the kept concepts of one layer are, or its families, by (image, concept)."""
    wanted: dict[int, list[int]] = {}
    for image, concept in kept.select("scope", "concept").iter_rows():
        wanted.setdefault(image, []).append(concept)
    found = {}
    for path in paths:
        table = _read(path, ["image_id", "concepts", "values"], list(wanted)).to_arrow()
        indptr, active = tables.csr(table, "concepts")
        values = tables.csr(table, "values")[1]
        if families is not None:
            active, values = families.collect(active, values)
        ids, first, count = np.unique(tables.numpy(table, "image_id"), return_index=True, return_counts=True)
        for image, start, rows in zip(ids.tolist(), first.tolist(), count.tolist(), strict=True):  # one after the other
            pointer = indptr[start : start + rows + 1]
            inside = slice(pointer[0], pointer[-1])
            for concept in wanted[image]:
                where = coefficient_map(pointer - pointer[0], active[inside], values[inside], concept)
                found[image, concept] = encode_map(where, *shape)
    return found


def _read(path: Path, columns: list[str], ids: list[int]) -> pl.DataFrame:
    try:
        return pl.scan_parquet(path, glob=False).select(columns).filter(pl.col("image_id").is_in(ids)).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(f"cannot read {path}: {one_line(error)}; delete the file and run again") from None


def entry_of(row: Mapping[str, Any], place: Place | None, name: str = "") -> list[Any]:
    """Return how the page lists an image: [id, picture, path, predicted, probability or value]."""
    said = row["value"] if row["probability"] is None else row["probability"]
    return [name or str(row["image_id"]), place, row["path"], row["predicted"], numbers([said])[0]]
