"""The atlas: every concept of a layer by importance and spread, and the tree of splits that made them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from gigraph.explorer.chunks import numbers
from gigraph.explorer.graph import Graph
from gigraph.explorer.inputs import Inputs
from gigraph.records import tables


def atlas_chunk(graph: Graph, inputs: Inputs, layer: str) -> Any:
    """Return every concept of a layer.

    Returns
    -------
    dict
        ``rows``: [concept, importance, spread, members, cohesion, labels of the up to three classes it raises
        most], each concept by itself, whatever its family. Importance is its mean relevance to each image's own class
        over all attributed images, spread the exponential of the entropy of its |relevance| over classes. ``tree``:
        the split tree in preorder, concepts as leaves, and for splits -2 - the class that most of its concepts raise
        most, or -1 if they raise none; or null.
    """
    own = graph.relevance(layer).select("source", "scope", pl.col("mean").cast(pl.Float64), "images")
    if layer in graph.families:
        families = graph.families[layer]
        several = families.ids[families.size[families.ids] > 1]
        parts = graph.members.filter(pl.col("layer") == layer)
        parts = parts.join(own.select("scope", "images").unique(), on="scope").select(
            "source", "scope", pl.col("mean").cast(pl.Float64), "images"
        )
        own = pl.concat([own.filter(pl.col("source").is_in(several.tolist()).not_()), parts])
    total = sum(images for scope, images in graph.images.items() if scope >= 0)
    size = (pl.col("mean").abs() * pl.col("images")).alias("size")
    held = pl.col("size") / pl.col("size").sum()
    measured = (
        own.with_columns(size)
        .sort("mean", "scope", descending=[True, False])
        .group_by("source")
        .agg(
            ((pl.col("mean") * pl.col("images")).sum() / max(total, 1)).alias("importance"),
            (-(held * (held + 1e-300).log()).sum()).exp().alias("spread"),
            pl.col("scope").filter(pl.col("mean") > 0).head(3).alias("classes"),
        )
    )
    found = {row[0]: row[1:] for row in measured.iter_rows()}
    listed = []
    table = tables.read(inputs.concepts[layer], ["concept", "size", "cohesion"])
    cohesion = numbers(tables.numpy(table, "cohesion"))
    for concept, members, one in zip(table["concept"].to_pylist(), table["size"].to_pylist(), cohesion, strict=True):
        importance, spread, classes = found.get(concept, (0.0, 0.0, []))
        short = None if one is None else round(one, 4)
        listed.append([concept, float(f"{importance:.5g}"), round(spread, 3), members, short, classes])
    return {"rows": listed, "tree": _preorder(inputs.trees.get(layer), {row[0]: row[5][:1] for row in listed})}


def _preorder(path: Path | None, raised: Mapping[int, Sequence[int]]) -> list[int] | None:
    """Return a split tree in preorder: concepts as leaves, -2 - class or -1 for splits."""
    if path is None or not path.is_file():
        return None
    table = tables.read(path, ["node", "parent", "concept"]).to_pylist()
    children: dict[int | None, list[int]] = defaultdict(list)
    for row in table:
        children[row["parent"]].append(row["node"])
    concept = {row["node"]: row["concept"] for row in table}
    order, stack = [], children[None][::-1]
    while stack:
        order.append(stack.pop())
        stack += children[order[-1]][::-1]
    votes: dict[int | None, Counter[int]] = {}
    for node in reversed(order):  # children before their parents
        below = (votes[child] for child in children[node])
        votes[node] = Counter(raised.get(concept[node], ())) if concept[node] is not None else sum(below, Counter())
    first = {node: min(own, key=lambda label: (-own[label], label), default=-1) for node, own in votes.items()}
    named = [concept[node] if concept[node] is not None else -2 - first[node] for node in order]
    return named if len(order) > 1 else None
