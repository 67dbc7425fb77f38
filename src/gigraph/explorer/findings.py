"""What a visitor reads first: a cause that lies apart, the most shared concepts, the least explained classes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from gigraph.evaluation.orders import title
from gigraph.explorer.chunks import shares
from gigraph.explorer.graph import TO_OWN_CLASS, Graph, Key
from gigraph.explorer.inputs import Inputs
from gigraph.explorer.maps import decode_map
from gigraph.explorer.sheets import Tile
from gigraph.reserved import ERROR_NODE

APART = 1.5
"""Distance of a concept from the others, over their spread, from which it lies apart."""
OUTER = 0.5
"""Place between the middle of an image (0) and its edge (1) from which on it lies apart: outside the middle half."""
STRONG = 0.05
"""Share of a class's attributions from which a concept is shown although it does not lie apart."""
MOSTLY = 0.5
"""Part of a concept's relevance to all classes that makes it one class's."""
APART_IS = "Strongest cause that lies apart"
PICTURED, LISTED = 3, 4
"""Concepts and classes of a finding."""


class Places:
    """Where each concept lies in images of a class: how far from the others of its layer, how near to the edge."""

    def __init__(self) -> None:
        self._apart: dict[tuple[int, int, int], list[tuple[float, float]]] = defaultdict(list)

    def add(self, row: Mapping[str, Any], chunk: Mapping[str, Any]) -> None:
        """Take an image's graph (`gigraph.explorer.images.image_chunks`) in; those of a mistaken image say nothing."""
        if row["label"] != row["predicted"]:
            return
        for layer, nodes in enumerate(chunk["layers"]):
            maps = {node[0]: chunk["maps"].get(f"{layer}:{node[0]}") for node in nodes}
            there = {node[0]: (node[1], decode_map(where)) for node in nodes if (where := maps[node[0]])}
            for concept, place in apart(there).items():
                self._apart[row["label"], layer, concept].append(place)

    def of(self, label: int, layer: int, concept: int) -> tuple[float, float, int]:
        """Return the means of a concept's places (`apart`) in images of a class, and how many these are."""
        found = self._apart.get((label, layer, concept), [])
        distance, edge = np.mean(found, axis=0).tolist() if found else (float("nan"),) * 2
        return distance, edge, len(found)


def apart(concepts: Mapping[int, tuple[float, np.ndarray]]) -> dict[int, tuple[float, float]]:
    """Return how far each concept of an image lies from the others, over their spread, and how near to the edge.

    Parameters
    ----------
    concepts : mapping of int to (float, array [H, W])
        Each concept's relevance, and its coefficients at the layer's positions, none negative.

    Returns
    -------
    dict
        Distance between the centre of the concept's map and that of the others' relevance, each spread over the image
        in proportion to its own map, over the root mean square distance of this relevance from its centre. Image sides
        are 1, and a position is a square, not a point. And how near to the image's edge the concept's centre is, from 0
        in the middle to 1. Empty in a layer without positions, and without two others.
    """
    maps = {concept: (relevance, where) for concept, (relevance, where) in concepts.items() if where.sum() > 0}
    if len(maps) < 3 or next(iter(maps.values()))[1].size < 4:
        return {}
    relevance = np.array([one for one, _ in maps.values()])
    where = np.stack([one / one.sum() for _, one in maps.values()])
    height, width = where.shape[1:]
    y, x = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    # Of each concept: its centre, and the mean square of its positions, from which those of any sum of them follow.
    moments = np.stack(
        [where.sum(2) @ y, where.sum(1) @ x, where.sum(2) @ y**2 + where.sum(1) @ x**2], axis=1
    )  # fmt: skip
    others = relevance @ moments - relevance[:, None] * moments
    others /= (relevance.sum() - relevance)[:, None]
    square = (1 / height**2 + 1 / width**2) / 12
    spread = np.sqrt(np.maximum(others[:, 2] - (others[:, :2] ** 2).sum(1), 0) + square)
    distance = np.linalg.norm(moments[:, :2] - others[:, :2], axis=1) / spread
    edge = 2 * np.abs(moments[:, :2] - 0.5).max(1)
    return dict(zip(maps, zip(distance.tolist(), edge.tolist(), strict=True), strict=True))


def findings(
    graph: Graph, inputs: Inputs, face: Mapping[Key, list[Tile]], common: list[list[Any]], places: Places
) -> list[dict[str, Any]]:
    """Return what the first screen says of a run.

    Parameters
    ----------
    graph : Graph
        The run's tables.
    inputs : Inputs
        With `attribution`.
    face : mapping
        Tiles of each concept.
    common : list
        The concepts of the last layer that most classes keep: [concept, number of classes, tiles].
    places : Places
        Of the images that have a graph.

    Returns
    -------
    list of dict
        Each with ``title``; ``said``, a list of texts and of links to classes, [label] or [label, ``layer:concept``];
        ``nodes`` [layer, concept, tiles, number, notes...]; ``classes`` [label, share, text]; and ``how``, in words.
    """
    size = f"|{title(inputs.attribution)}|"
    cause, *others = _apart(graph, face, places, size), _shared(graph, common), _unexplained(graph, size)
    found = [cause, *others] if cause and cause["title"] == APART_IS else [*others, cause]  # none is news for the end
    return [one for one in found if one]


def finding(title: str, said: list[Any], how: str, **more: list[Any]) -> dict[str, Any]:
    """Return a finding as the page takes it."""
    return {"title": title, "said": said, "nodes": [], "classes": [], **more, "how": how}


def _apart(graph: Graph, face: Mapping[Key, list[Tile]], places: Places, size: str) -> dict[str, Any] | None:
    index = {layer: i for i, layer in enumerate(graph.layers)}
    towards = graph.edges.filter(TO_OWN_CLASS & (pl.col("source") >= 0) & (pl.col("mean") > 0))
    held = pl.col("mean").cast(pl.Float64)
    mostly = towards.select(
        "scope",
        pl.col("source_layer").alias("layer"),
        pl.col("source").alias("concept"),
        (held / held.sum().over("source_layer", "source")).alias("held"),
    )
    kept = graph.kept.filter((pl.col("scope") >= 0) & (pl.col("share") > 0)).join(
        mostly, on=["scope", "layer", "concept"]
    )
    rows = []
    for label, layer, concept, share, part in kept.select("scope", "layer", "concept", "share", "held").iter_rows():
        distance, edge, images = places.of(label, index[layer], concept)
        if images:
            rows.append((share, part, distance, edge, images, label, layer, concept))
    how = (
        f"In each image: the distance of the concept's centre from that of its layer's other concepts, weighted by "
        f"relevance, over their spread. Of those with {MOSTLY:.0%} of their relevance in one class, the strongest from "
        f"{APART} on and outside the middle half of the image"
    )
    own = sorted((row for row in rows if row[1] >= MOSTLY), key=lambda row: (-row[0], *row[5:]))
    far = [row for row in own if row[2] >= APART and row[3] >= OUTER]
    if not far:
        own = sorted((row for row in own if row[0] >= STRONG), key=lambda row: -row[2])
        how += f"; there is none, so the farthest with {STRONG:.0%} of {size} to the class"
    if not (far or own):  # or no image has a graph, or no layer positions
        return None
    share, part, distance, _, images, label, layer, concept = (far or own)[0]
    seen = "1 image" if images == 1 else f"{images} images"
    said: list[Any] = [
        f"{share:.0%} of {size} to ",
        [label, f"{layer}:{concept}"],
        f" comes from one concept of {layer}; {'all' if part > 0.995 else f'{part:.0%}'} of its relevance to classes "
        f"is to this one. It lies {distance:.1f} times the spread of the class's other concepts away from them"
        + (f", outside the middle of the image ({seen}). Is that the object?" if far else f" ({seen})."),
    ]
    node = [index[layer], concept, face.get((index[layer], concept), []), f"{share:.0%}"]
    heading = APART_IS if far else "No strong cause lies apart"
    return finding(heading, said, how + ".", nodes=[node])


def _shared(graph: Graph, common: list[list[Any]]) -> dict[str, Any] | None:
    total, last = graph.kept.filter(pl.col("scope") >= 0)["scope"].n_unique(), len(graph.layers) - 1
    several = [one for one in common if one[1] > 1][:PICTURED]
    if not several:
        return None
    said = [f"{several[0][1]} of {total} classes rest on the first of these concepts of {graph.layers[last]}."]
    how = "By how many classes have it among the concepts kept for them; of the layer next to the decision."
    nodes = [[last, concept, tiles, f"{classes}/{total}"] for concept, classes, tiles in several]
    return finding("Most shared", said, how, nodes=nodes)


def _unexplained(graph: Graph, size: str) -> dict[str, Any] | None:
    errors = graph.edges.filter(TO_OWN_CLASS & (pl.col("source") == ERROR_NODE))
    each = errors.select("scope", "source_layer", pl.col("share").abs())
    worst = each.sort("share", "source_layer", descending=[True, False]).group_by("scope", maintain_order=True).first()
    mean = each.group_by("scope").agg(pl.col("share").mean().alias("mean"))
    found = mean.join(worst, on="scope").sort("mean", "scope", descending=[True, False]).head(LISTED)
    if found.is_empty() or found["mean"][0] <= 0:
        return None
    rows = [
        [label, *shares([mean]), f"{mean:.0%}; {layer} {share:.0%}"]
        for label, mean, layer, share in found.select("scope", "mean", "source_layer", "share").iter_rows()
    ]
    how = (
        f"Share of {size} into the class that is the error node's: mean over layers, and the layer where it is largest."
    )
    return finding("Least explained", ["What the concepts leave out weighs most in these classes."], how, classes=rows)
