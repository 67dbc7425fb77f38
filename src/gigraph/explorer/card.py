"""The cards of concepts: what each is made of, its nearest patches, the classes it serves, and its neighbours."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from gigraph.explorer.chunks import numbers, shares
from gigraph.explorer.graph import Graph, Key, frame
from gigraph.explorer.inputs import Inputs
from gigraph.explorer.scopes import neighbours
from gigraph.explorer.sheets import Album, Tile
from gigraph.method.families import Families
from gigraph.method.vectors import unit
from gigraph.records import tables
from gigraph.reserved import DATASET

GROUP = 32
"""Concepts per chunk."""
RELEVANT = 12
"""Classes listed on a concept's card."""


def concept_chunks(
    graph: Graph,
    inputs: Inputs,
    albums: list[Album],
    face: Mapping[Key, list[Tile]],
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, Any]:
    """Return the cards of all concepts that a graph or a neighbour list can name, by chunk."""
    dataset = graph.edges.filter(pl.col("scope") == DATASET)
    every = graph.kept.select(pl.lit(DATASET, pl.Int32).alias("scope"), "layer", "concept").unique()
    lists = neighbours(graph, every, dataset)[DATASET]
    named_beside: dict[int, set[int]] = defaultdict(set)
    for card in lists.values():
        for pair in (*card["in"], *card["out"]):
            for beside, concept, *_ in pair:
                named_beside[beside].add(concept)
    chunks: dict[str, Any] = {}
    for index, layer in enumerate(graph.layers):
        album = albums[index]
        stable = _stability(inputs, layer)
        pictured = set(graph.pictured(layer))
        relevance = _class_relevance(graph, layer)
        families = graph.families.get(layer)
        exemplars: dict[tuple[str, int], list[Any]] = defaultdict(list)
        values = numbers(album.exemplars["value"])
        for row, value in zip(album.exemplars.iter_rows(named=True), values, strict=True):
            tile = album.tile(row["sheet"], row["row"], row["column"])
            if row["by"] == "relevance" or row["rank"] < inputs.nearest:
                path = row["path"] + _no_place(row["x"], shapes[layer])
                exemplars[row["by"], row["concept"]].append([tile, value, row["label"], path])
        named = pictured | named_beside[index]
        measured = _measured(inputs, layer)
        sizes = [row["size"] for row in measured]
        if families is not None:
            named |= set(np.flatnonzero(np.isin(families.leader, [*named])).tolist())
        for row in measured:
            concept = row["concept"]
            if concept not in named:
                continue
            card = {
                **{name: row[name] for name in ("size", "images", "cohesion", "low", "twin")},
                "relevance": relevance.get(concept, []), "exemplars": exemplars.get(("response", concept), []),
                "relevant": exemplars.get(("relevance", concept), []),
                "near": lists.get((index, concept)),
                "stable": stable.get(concept),
            }  # fmt: skip
            if families is not None and families.size[concept] > 1:
                faces = {member: face.get((index, member), []) for member in families.members(concept).tolist()}
                card |= _of_family(families, concept, sizes, faces)
            chunks.setdefault(f"concepts/{index}/{concept // GROUP}", {})[str(concept)] = card
    return chunks


def _no_place(x: int, grid: tuple[int, ...]) -> str:
    """Return a remark on a token that is no place in the image, such as a class token; else nothing."""
    height, width, first = grid
    return "" if first <= x < first + height * width else f" (token {x}, of the whole image)"


def _of_family(families: Families, concept: int, sizes: list[int], faces: Mapping[int, list[Tile]]) -> dict[str, Any]:
    """Return what a card holds besides: of a family what its members are, of another member which family it is in.

    ``family``: mean and smallest cosine of two members, and [concept, cosine to the family's direction, PFVs, tiles] of
    each; the tiles of the leader are the family's.
    """
    leader = int(families.leader[concept])
    if leader != concept:
        return {"of": leader}
    members = families.members(leader)
    members = members[np.argsort(-families.cosine[members], kind="stable")]
    listed = [[int(m), *shares([families.cosine[m]]), sizes[m], faces[m]] for m in members.tolist()]
    # Images of several members may be the same ones: how many there are is not in the tables.
    size = sum(one[2] for one in listed)
    own = dict.fromkeys(("cohesion", "twin", "stable", "images")) | {"low": False, "size": size}
    return {**own, "family": [*shares([families.inner[leader], families.least[leader]]), listed]}


def _stability(inputs: Inputs, layer: str) -> dict[int, list[float | None]]:
    """Return [stability, stability by chance] of each concept, where the evaluation measured it."""
    if inputs.stability is None:
        return {}
    mine = frame(inputs.stability, "stability").filter(pl.col("layer") == layer)
    values = mine["concept"], numbers(mine["stability"]), numbers(mine["chance"])
    return {concept: [found, chance or 0] for concept, found, chance in zip(*values, strict=True) if found is not None}


def _class_relevance(graph: Graph, layer: str) -> dict[int, list[Any]]:
    """Return per concept its classes, those first of which it is the largest share, with the numbers of the edge to it.

    These are [label, mean, se, support, ablation, ablation se, weight, share].
    """
    columns = ["scope", "source", "mean", "se", "support", "ablation", "ablation_se", "weight", "share"]
    own = graph.relevance(layer).select(columns)
    if layer in graph.families:
        parts = graph.members.filter((pl.col("layer") == layer) & (pl.col("source") != pl.col("family")))
        unchecked = [pl.lit(None, pl.Float32).alias(name) for name in ("ablation", "ablation_se")]
        own = pl.concat([own, parts.with_columns(unchecked).select(columns)], how="vertical_relaxed")
    size = pl.col("share").abs().fill_nan(0).fill_null(0)
    own = own.sort([size, pl.col("scope")], descending=[True, False])
    found: dict[int, list[Any]] = defaultdict(list)
    entries = (
        own["scope"],
        numbers(own["mean"]),
        numbers(own["se"]),
        own["support"],
        numbers(own["ablation"]),
        numbers(own["ablation_se"]),
        numbers(own["weight"]),
        shares(own["share"]),
    )
    for concept, *entry in zip(own["source"], *entries, strict=True):
        if len(found[concept]) < RELEVANT:
            found[concept].append(entry)
    return found


def _measured(inputs: Inputs, layer: str) -> list[dict[str, Any]]:
    """Return size, number of images, cohesion and nearest other concept of each concept of a layer."""
    table = tables.read(inputs.concepts[layer])
    concept, size = tables.numpy(table, "concept"), tables.numpy(table, "size")
    cohesion = tables.numpy(table, "cohesion").astype(np.float32)
    several = cohesion[(size > 1) & np.isfinite(cohesion)]
    low = np.quantile(several, 0.1) if len(several) else -np.inf
    twins: list[list[Any] | None] = [None] * len(concept)
    if "vector" in table.column_names and len(concept) > 1:
        twins = _twins(concept, tables.numpy(table, "vector"))
    return [
        {"concept": int(c), "size": int(s), "images": n, "cohesion": h, "low": bool(s > 1 and f < low), "twin": t}
        for c, s, n, h, f, t in zip(
            concept, size, table["images"].to_pylist(), numbers(cohesion), cohesion, twins, strict=True
        )
    ]


def _twins(concept: np.ndarray, vectors: np.ndarray, block: int = 1024) -> list[list[Any] | None]:
    """Return for each vector [C] the concept of largest cosine other than itself, and that cosine."""
    towards = unit(vectors)
    found: list[list[Any] | None] = []
    for start in range(0, len(towards), block):
        cosine = towards[start : start + block] @ towards.T
        cosine[np.arange(len(cosine)), start + np.arange(len(cosine))] = -2
        best = cosine.argmax(1)
        found += [[int(concept[b]), round(float(cosine[i, b]), 4)] for i, b in enumerate(best)]
    return found
