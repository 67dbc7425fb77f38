"""The graph of each scope, a class or a single image: its concepts, the edges between them, and their neighbours."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from itertools import repeat
from typing import Any

import numpy as np
import polars as pl

from gigraph.explorer.chunks import numbers, shares
from gigraph.explorer.graph import TARGET, Graph, Key, leading
from gigraph.explorer.maps import encode_map
from gigraph.explorer.sheets import Album, Place, Tile
from gigraph.reserved import CLASSES, ERROR_NODE

BLOCK = 64
"""Scopes whose graphs are made at once."""


def scope_chunks(
    graph: Graph,
    kept: pl.DataFrame,
    edges: pl.DataFrame,
    labels: Mapping[int, int],
    face: Mapping[Key, list[Tile]],
    members: pl.DataFrame,
) -> dict[int, Any]:
    """Return the graphs of several scopes, classes or single images.

    Parameters
    ----------
    graph : Graph
        The run's tables.
    kept, edges : DataFrame
        Their rows of these scopes.
    labels : mapping of int to int
        Each scope's class.
    face : mapping
        Tiles of each concept.
    members : DataFrame
        As those of the graph.

    Returns
    -------
    dict
        For each scope ``layers``: per layer its concepts [concept, relevance, se, support, weight, share, tiles,
        ablation, ablation se], the last two only of classes, and ``pairs``: per layer, towards the next one or, from
        the last, towards the class, ``edges`` [source, target, mean, se, support, ablation, ablation se, weight, share]
        between kept concepts, and ``into``: target -> [number of concept edges, sum of |mean| over everything, error
        node's mean, its se, remainder's mean, its se]. And
        ``members``: of the concepts that stand for a family, under ``layer index:concept``, see `members_of`.
    """
    index = {layer: i for i, layer in enumerate(graph.layers)}
    found: dict[int, Any] = {
        scope: {"layers": [[] for _ in index], "pairs": [{"edges": [], "into": {}} for _ in index], "members": {}}
        for scope in labels
    }
    columns = (
        kept["concept"], numbers(kept["relevance"]), numbers(kept["se"]), kept["support"],
        numbers(kept["weight"].fill_null(0)), shares(kept["share"].fill_null(0)),
    )  # fmt: skip
    exact = [numbers(kept[name]) for name in ("ablation", "ablation_se") if name in kept.columns]
    checks = zip(*exact, strict=True) if exact else repeat(())
    whose = zip(kept["scope"], kept["layer"], *columns, strict=True)
    for (scope, layer, concept, *measures), check in zip(whose, checks, strict=False):
        node = [concept, *measures, face.get((index[layer], concept), []), *check]
        found[scope]["layers"][index[layer]].append(node)

    following = {"source_layer": graph.layers, "target_layer": [*graph.layers[1:], CLASSES]}
    ends = {"scope": list(labels), "target_layer": CLASSES, "target": list(labels.values())}
    above = kept.select("scope", pl.col("layer").alias("target_layer"), pl.col("concept").alias("target"))
    above = pl.concat([above, pl.DataFrame(ends, schema=above.schema)])
    pairs = edges.join(pl.DataFrame(following), on=list(following), how="semi").join(above, on=list(ends), how="semi")
    for (scope, source, _, target), summary in _into(pairs).items():
        found[scope]["pairs"][index[source]]["into"][target] = summary
    below = kept.select("scope", pl.col("layer").alias("source_layer"), pl.col("concept").alias("source"))
    drawn = pairs.join(below, on=below.columns, how="semi").sort("target", "source")
    places = (drawn[name] for name in ("scope", "source_layer", "source", "target"))
    for scope, layer, *edge in zip(*places, *_measures(drawn), strict=True):
        found[scope]["pairs"][index[layer]]["edges"].append(edge)
    for scope, concepts in members_of(graph, kept, members).items():
        found[scope]["members"] = {f"{layer}:{concept}": parts for (layer, concept), parts in concepts.items()}
    return found


def members_of(graph: Graph, kept: pl.DataFrame, members: pl.DataFrame) -> dict[int, dict[Key, list[Any]]]:
    """Return the members of each scope's kept families: [concept, mean, se, support, weight, share], largest first.

    The number of members leads each list: some may not be active in the scope's images.
    """
    index = {layer: i for i, layer in enumerate(graph.layers)}
    found: dict[int, dict[Key, list[Any]]] = defaultdict(dict)
    if members.is_empty():
        return found
    for scope, layer, concept in kept.select("scope", "layer", "concept").iter_rows():
        if layer in graph.families and (size := int(graph.families[layer].size[concept])) > 1:
            found[scope][index[layer], concept] = [size]
    columns = (
        members["source"], numbers(members["mean"]), numbers(members["se"]), members["support"],
        shares(members["weight"]), shares(members["share"]),
    )  # fmt: skip
    whose = (members[name] for name in ("scope", "layer", "family"))
    for scope, layer, family, *part in zip(*whose, *columns, strict=True):
        if (index[layer], family) in found.get(scope, {}):
            found[scope][index[layer], family].append(part)
    return found


def _measures(edges: pl.DataFrame) -> list[list[Any]]:
    return [
        numbers(edges["mean"]), numbers(edges["se"]), edges["support"].to_list(), numbers(edges["ablation"]),
        numbers(edges["ablation_se"]), shares(edges["weight"]), shares(edges["share"]),
    ]  # fmt: skip


def _into(edges: pl.DataFrame) -> dict[tuple[Any, ...], list[Any]]:
    """Summarise all edges into each target: (scope, source layer, target layer, target) -> summary."""
    targets = edges.group_by(TARGET, maintain_order=True).agg(pl.first("sources"), pl.first("total"))
    found = {(*key,): [count, float(f"{total:.7g}"), 0, None, 0, None] for *key, count, total in targets.iter_rows()}
    nodes = edges.filter(pl.col("source") < 0)
    ends = (nodes[name] for name in (*TARGET, "source"))
    for *key, source, mean, se in zip(*ends, numbers(nodes["mean"]), numbers(nodes["se"]), strict=True):
        at = 2 if source == ERROR_NODE else 4
        found[*key,][at : at + 2] = [mean, se]
    return found


def near_chunk(
    lists: Mapping[Key, Any], located: Mapping[Key, list[Any]], members: Mapping[Key, list[Any]]
) -> dict[str, Any]:
    """Return neighbours, localisation and members of a class's kept concepts, under ``layer index:concept``."""
    chunk: dict[str, Any] = {}
    for key, entry in lists.items():
        more = {"members": members[key]} if key in members else {}
        chunk[":".join(map(str, key))] = {**entry, "located": located.get(key, []), **more}
    return dict(sorted(chunk.items()))


def localised(
    graph: Graph, albums: list[Album], shapes: Mapping[str, tuple[int, ...]], places: Mapping[int, Place]
) -> dict[int, dict[Key, list[Any]]]:
    """Return where concepts are in images of each class: [picture, path, coefficient, GIG to the class, map]."""
    found: dict[int, dict[Key, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for index, layer in enumerate(graph.layers):
        table = albums[index].localisation
        columns = numbers(table["coefficient"]), numbers(table["relevance"])
        for row, coefficient, relevance in zip(table.iter_rows(named=True), *columns, strict=True):
            where = encode_map(np.array(row["map"]), *shapes[layer])
            found[row["scope"]][index, row["concept"]].append(
                [places.get(row["image_id"]), row["path"], coefficient, relevance, where]
            )
    return found


def neighbours(graph: Graph, kept: pl.DataFrame, edges: pl.DataFrame) -> dict[int, dict[Key, Any]]:
    """Return the strongest neighbours of concepts within each scope.

    Parameters
    ----------
    graph : Graph
        The run's tables.
    kept : DataFrame
        The concepts of each scope (columns scope, layer, concept).
    edges : DataFrame
        Edges of these scopes.

    Returns
    -------
    dict
        Of each scope, for each of its concepts ``in`` and ``out``, each a pair of lists (positive, negative) of [layer
        index, concept, mean, se, support, ablation, ablation se, weight, share], strongest first, and ``into``:
        layer index of the sources -> summary (see `scope_chunks`).
    """
    index = {layer: i for i, layer in enumerate(graph.layers)}
    concepts = kept.select("scope", "layer", "concept").unique()
    found: dict[int, dict[Key, Any]] = defaultdict(dict)
    for scope, layer, concept in concepts.iter_rows():
        found[scope][index[layer], concept] = {"in": [[], []], "out": [[], []], "into": {}}
    between = edges.filter(pl.col("target_layer") != CLASSES)
    for side, end, other in (("in", "target", "source"), ("out", "source", "target")):
        ends = ["scope", f"{end}_layer", end]
        here = between.join(concepts, left_on=ends, right_on=concepts.columns, how="semi")
        if side == "in":
            for (scope, source_layer, target_layer, concept), summary in _into(here).items():
                found[scope][index[target_layer], concept]["into"][index[source_layer]] = summary
        strongest = leading(here, ends)
        whose = (strongest[name] for name in (*ends, f"{other}_layer", other))
        for scope, layer, concept, other_layer, *entry in zip(*whose, *_measures(strongest), strict=True):
            found[scope][index[layer], concept][side][0 if entry[1] > 0 else 1].append([index[other_layer], *entry])
    return found
