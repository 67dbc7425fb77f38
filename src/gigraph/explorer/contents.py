"""What each chunk holds.

Layers are indices from input to output; a concept is addressed as ``layer index:concept``. Means, errors and
relevances are the tables' float32 numbers, not rounded; shares of a target are rounded to five decimals.

=================  =====================================================================================
``meta``           the run, its layers, classes and notes, and what the overview shows
``class/C``        the kept concepts of class label C and the edges between them
``near/C``         neighbours and localisation of those concepts on the images of the class
``concepts/L/G``   the cards of concepts 32 G ... 32 G + 31 of layer L, with neighbours over the whole dataset
``atlas/L``        every concept of layer L, and its split tree
``images/C``       the images of class C that have a graph: [id, picture, path, predicted, probability]
``image/I``        the graph of image I (`gigraph.explorer.images`)
``explained``      images explained later, listed as in ``images/C``
``evidence``       the evaluation (`gigraph.explorer.evidence`)
``faces``          tiles of each concept; for `gigraph explain`, the page does not read it
=================  =====================================================================================
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gigraph.evaluation.orders import title
from gigraph.explorer.chunks import numbers, rows, shares
from gigraph.explorer.graph import TARGET, Graph, frame
from gigraph.explorer.images import Place, encode_map
from gigraph.explorer.inputs import Inputs
from gigraph.explorer.sheets import Album, Tile
from gigraph.images.tiles import FACE
from gigraph.records import tables
from gigraph.reserved import CLASSES, DATASET, ERROR_NODE

NEIGHBOURS = 8
"""Entries of each neighbour list."""
GROUP = 32
"""Concepts per chunk."""
RELEVANT = 12
"""Classes listed on a concept's card."""
ALIGNED = 0.5
"""Average precision from which a part names a concept that has no label."""

Key = tuple[int, int]  # layer index, concept


# --- graphs -------------------------------------------------------------------------------------------------


def class_chunks(
    graph: Graph, kept: pl.DataFrame, edges: pl.DataFrame, labels: Mapping[int, int], face: Mapping[Key, list[Tile]]
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

    Returns
    -------
    dict
        For each scope ``layers``: per layer its concepts [concept, relevance, se, support, weight, share, tiles], and
        ``pairs``: per layer, towards the next one or, from the last, towards the class, ``edges`` [source, target,
        mean, se, support, ablation, ablation se, weight, share] between kept concepts, and ``into``: target -> [number
        of concept edges, sum of |mean| over everything, error node's mean, its se, remainder's mean, its se].
    """
    index = {layer: i for i, layer in enumerate(graph.layers)}
    found: dict[int, Any] = {
        scope: {"layers": [[] for _ in index], "pairs": [{"edges": [], "into": {}} for _ in index]} for scope in labels
    }
    columns = (
        kept["concept"], numbers(kept["relevance"]), numbers(kept["se"]), kept["support"],
        numbers(kept["weight"].fill_null(0)), shares(kept["share"].fill_null(0)),
    )  # fmt: skip
    for scope, layer, concept, *measures in zip(kept["scope"], kept["layer"], *columns, strict=True):
        node = [concept, *measures, face.get((index[layer], concept), [])]
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
    return found


def _measures(edges: pl.DataFrame) -> list[list[Any]]:
    return [
        numbers(edges["mean"]), numbers(edges["se"]), edges["support"].to_list(), numbers(edges["ablation"]),
        numbers(edges["ablation_se"]), shares(edges["weight"]), shares(edges["share"]),
    ]  # fmt: skip


def _into(edges: pl.DataFrame) -> dict[tuple[Any, ...], list[Any]]:
    """Summarise all edges into each target: (scope, source layer, target layer, target) -> summary."""
    targets = edges.group_by(TARGET, maintain_order=True).agg((pl.col("source") >= 0).sum(), pl.first("total"))
    found = {(*key,): [count, float(f"{total:.7g}"), 0, 0, 0, 0] for *key, count, total in targets.iter_rows()}
    nodes = edges.filter(pl.col("source") < 0)
    ends = (nodes[name] for name in (*TARGET, "source"))
    for *key, source, mean, se in zip(*ends, numbers(nodes["mean"]), numbers(nodes["se"]), strict=True):
        at = 2 if source == ERROR_NODE else 4
        found[*key,][at : at + 2] = [mean, se]
    return found


def near_chunk(
    graph: Graph,
    kept: pl.DataFrame,
    edges: pl.DataFrame,
    located: Mapping[Key, list[Any]],
) -> Any:
    """Return neighbours and localisation of a class's kept concepts, under ``layer index:concept``."""
    chunk: dict[str, Any] = {}
    lists = neighbours(graph, kept, edges)
    for (index, concept), entry in lists.items():
        chunk[f"{index}:{concept}"] = {**entry, "located": located.get((index, concept), [])}
    return dict(sorted(chunk.items()))


def localised(
    graph: Graph, albums: list[Album], shapes: Mapping[str, tuple[int, int]], places: Mapping[int, Place]
) -> dict[int, dict[Key, list[Any]]]:
    """Return where concepts are in images of each class: [picture, path, coefficient, relevance to the class, map]."""
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


def neighbours(graph: Graph, kept: pl.DataFrame, edges: pl.DataFrame) -> dict[Key, Any]:
    """Return the strongest neighbours of concepts within one scope.

    Parameters
    ----------
    graph : Graph
        The run's tables.
    kept : DataFrame
        The concepts (columns layer, concept).
    edges : DataFrame
        Edges of one scope.

    Returns
    -------
    dict
        For each concept ``in`` and ``out``, each a pair of lists (positive, negative) of [layer index,
        concept, mean, se, support, ablation, ablation se, weight, share], strongest first, and ``into``:
        layer index of the sources -> summary (see `class_chunks`).
    """
    index = {layer: i for i, layer in enumerate(graph.layers)}
    concepts = kept.select("layer", "concept").unique()
    found: dict[Key, Any] = {
        (index[layer], concept): {"in": [[], []], "out": [[], []], "into": {}}
        for layer, concept in concepts.iter_rows()
    }
    between = edges.filter(pl.col("target_layer") != CLASSES)
    for side, end, other in (("in", "target", "source"), ("out", "source", "target")):
        here = between.join(concepts, left_on=[f"{end}_layer", end], right_on=["layer", "concept"], how="semi")
        if side == "in":
            for (_, source_layer, target_layer, concept), summary in _into(here).items():
                found[index[target_layer], concept]["into"][index[source_layer]] = summary
        strongest = (
            here.filter((pl.col("source") >= 0) & (pl.col("mean") != 0))
            .with_columns(pl.col("mean").abs().alias("size"), (pl.col("mean") > 0).alias("positive"))
            .sort(["size", "source", "target"], descending=[True, False, False])
            .with_columns(pl.int_range(pl.len()).over([f"{end}_layer", end, "positive"]).alias("place"))
            .filter(pl.col("place") < NEIGHBOURS)
        )
        for layer, concept, other_layer, *entry in zip(
            strongest[f"{end}_layer"], strongest[end], strongest[f"{other}_layer"],
            strongest[other].to_list(),
            *_measures(strongest), strict=True,
        ):  # fmt: skip
            found[index[layer], concept][side][0 if entry[1] > 0 else 1].append([index[other_layer], *entry])
    return found


# --- concepts -----------------------------------------------------------------------------------------------


def concept_chunks(graph: Graph, inputs: Inputs, albums: list[Album]) -> dict[str, Any]:
    """Return the cards of all concepts that a graph or a neighbour list can name, by chunk."""
    dataset = graph.edges.filter(pl.col("scope") == DATASET)
    lists = neighbours(graph, graph.kept, dataset)
    chunks: dict[str, Any] = {}
    for index, layer in enumerate(graph.layers):
        album = albums[index]
        stable = _stability(inputs, layer)
        pictured = set(graph.pictured(layer))
        relevance = _class_relevance(graph, layer)
        exemplars: dict[int, list[Any]] = defaultdict(list)
        cosine = numbers(album.exemplars["cosine"])
        for row, similarity in zip(album.exemplars.iter_rows(named=True), cosine, strict=True):
            tile = album.tile(row["sheet"], row["row"], row["column"])
            if row["rank"] < inputs.nearest:
                exemplars[row["concept"]].append([tile, similarity, row["label"], row["path"]])
        named = pictured | {
            entry[1]
            for card in lists.values()
            for pair in (*card["in"], *card["out"])
            for entry in pair
            if entry[0] == index
        }
        for row in _measured(inputs, layer):
            concept = row["concept"]
            if concept not in named:
                continue
            card = {
                "size": row["size"], "cohesion": row["cohesion"], "low": row["low"], "twin": row["twin"],
                "relevance": relevance.get(concept, []), "exemplars": exemplars.get(concept, []),
                "near": lists.get((index, concept)),
                "stable": stable.get(concept),
            }  # fmt: skip
            chunks.setdefault(f"concepts/{index}/{concept // GROUP}", {})[str(concept)] = card
    return chunks


def _stability(inputs: Inputs, layer: str) -> dict[int, list[float | None]]:
    """Return [stability, stability by chance] of each concept, where the evaluation measured it."""
    if inputs.stability is None:
        return {}
    mine = frame(inputs.stability, "stability").filter(pl.col("layer") == layer)
    values = mine["concept"], numbers(mine["stability"]), numbers(mine["chance"])
    return {concept: [found, chance or 0] for concept, found, chance in zip(*values, strict=True) if found is not None}


def _class_relevance(graph: Graph, layer: str) -> dict[int, list[Any]]:
    """Return per concept its classes, strongest first: [label, mean, se, support, weight, share]."""
    own = graph.edges.filter(
        (pl.col("source_layer") == layer)
        & (pl.col("target_layer") == CLASSES)
        & (pl.col("scope") == pl.col("target"))
        & (pl.col("source") >= 0)
    ).sort([pl.col("mean").abs(), "scope"], descending=[True, False])
    found: dict[int, list[Any]] = defaultdict(list)
    columns = (
        own["scope"],
        numbers(own["mean"]),
        numbers(own["se"]),
        own["support"],
        numbers(own["weight"]),
        shares(own["share"]),
    )
    for concept, *entry in zip(own["source"], *columns, strict=True):
        if len(found[concept]) < RELEVANT:
            found[concept].append(entry)
    return found


def _measured(inputs: Inputs, layer: str) -> list[dict[str, Any]]:
    """Return size, cohesion and nearest other concept of each concept of a layer."""
    table = tables.read(inputs.concepts[layer])
    concept, size = tables.numpy(table, "concept"), tables.numpy(table, "size")
    cohesion = tables.numpy(table, "cohesion").astype(np.float32)
    several = cohesion[(size > 1) & np.isfinite(cohesion)]
    low = np.quantile(several, 0.1) if len(several) else -np.inf
    twins: list[list[Any] | None] = [None] * len(concept)
    if "vector" in table.column_names and len(concept) > 1:
        twins = _twins(concept, tables.numpy(table, "vector"))
    return [
        {"concept": int(c), "size": int(s), "cohesion": h, "low": bool(s > 1 and f < low), "twin": t}
        for c, s, h, f, t in zip(concept, size, numbers(cohesion), cohesion, twins, strict=True)
    ]


def _twins(concept: np.ndarray, vectors: np.ndarray, block: int = 1024) -> list[list[Any] | None]:
    """Return for each vector [C] the concept of largest cosine other than itself, and that cosine."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    found: list[list[Any] | None] = []
    for start in range(0, len(unit), block):
        cosine = unit[start : start + block] @ unit.T
        cosine[np.arange(len(cosine)), start + np.arange(len(cosine))] = -2
        best = cosine.argmax(1)
        found += [[int(concept[b]), round(float(cosine[i, b]), 4)] for i, b in enumerate(best)]
    return found


# --- the overview -------------------------------------------------------------------------------------------


def meta_chunk(
    graph: Graph,
    inputs: Inputs,
    albums: list[Album],
    face: dict[Key, list[Tile]],
    first: Mapping[int, list[Tile]],
    groups: list[str],
    pictured: set[int],
) -> Any:
    """Return what every view needs, and the overview."""
    from gigraph.explorer.chunks import SCHEMA
    from gigraph.version import __version__

    images = frame(inputs.images, "images")
    known = images.filter((pl.col("label") >= 0) & pl.col("predicted").is_not_null())
    right = known.with_columns((pl.col("label") == pl.col("predicted")).alias("right"))
    per_class = {
        label: [n, r] for label, n, r in right.group_by("label").agg(pl.len(), pl.col("right").sum()).iter_rows()
    }
    scopes = dict(graph.edges.group_by("scope").agg(pl.col("images").max()).iter_rows())
    with_graph = set(graph.kept["scope"].to_list())
    pairs, overlap = _overlaps(graph)
    return {
        "schema": SCHEMA,
        "version": __version__,
        "title": inputs.title,
        "method": inputs.method,
        "attribution": title(inputs.attribution),
        "lineage": inputs.lineage,
        "evaluation": next(filter(None, map(tables.lineage_of, inputs.evaluation.values())), ""),
        "graph": (tables.lineage_of(inputs.edges) or "")[:16],
        "pictured": int(bool(pictured)),
        "truth": _verdict(graph, inputs, face),
        "top": inputs.top,
        "shared": inputs.shared,
        "images": len(images),
        "attributed": scopes.get(DATASET, 0),
        "accuracy": [int(right["right"].sum() or 0), len(right)],
        "rejected": len(tables.read(inputs.rejected)),
        "edges": graph.edges.filter(pl.col("source") >= 0).height,
        "classes": [
            [
                label,
                name,
                *per_class.get(label, [0, 0]),
                int(label in with_graph),
                scopes.get(label, 0),
                overlap.get(label),
                first.get(label, []),
                int(label in pictured),
            ]
            for label, name in graph.classes.iter_rows()
        ],
        "layers": _layers(graph, inputs, albums, groups),
        "labels": _labels(graph, inputs),
        "aligned": _aligned(graph, inputs),
        "common": [_common(graph, index, face) for index in range(len(graph.layers))],
        "pairs": pairs,
        "notes": list(inputs.notes),
    }


def first_faces(graph: Graph, face: dict[Key, list[Tile]]) -> dict[int, list[Tile]]:
    """Return per class the first tile of its strongest concepts in the last layer."""
    last = len(graph.layers) - 1
    mine = graph.kept.filter((pl.col("layer") == graph.layers[last]) & (pl.col("scope") >= 0))
    found: dict[int, list[Tile]] = defaultdict(list)
    for scope, concept in mine.select("scope", "concept").iter_rows():
        if len(found[scope]) < FACE and face.get((last, concept)):
            found[scope].append(face[last, concept][0])
    return found


def _layers(graph: Graph, inputs: Inputs, albums: list[Album], groups: list[str]) -> list[dict[str, Any]]:
    shape = {
        row["layer"]: row for row in tables.read(inputs.layers, ["layer", "channels", "height", "width"]).to_pylist()
    }
    fidelity = frame(inputs.fidelity, "fidelity")
    errors = dict(
        zip(fidelity["layer"], rows(*(numbers(fidelity[key]) for key in ("rel_l2", "nonzeros"))), strict=True)
    )
    nodes = frame(inputs.nodes, "nodes").filter(pl.col("kind") == "concept")
    counts = {
        layer: rest for layer, *rest in nodes.group_by("layer").agg(pl.len(), pl.col("concept").max()).iter_rows()
    }
    return [
        {
            "name": layer,
            **{key: shape.get(layer, {}).get(key) for key in ("channels", "height", "width")},
            "concepts": counts.get(layer, [0, -1])[0],
            "last": counts.get(layer, [0, -1])[1],
            "kept": len(graph.pictured(layer)),
            "error": errors.get(layer, [None, None])[0],
            "nonzeros": errors.get(layer, [None, None])[1],
            "groups": sorted(int(name.split("/")[2]) for name in groups if name.startswith(f"concepts/{index}/")),
            "sheets": albums[index].sheets,
        }
        for index, layer in enumerate(graph.layers)
    ]


def _labels(graph: Graph, inputs: Inputs) -> dict[str, str]:
    """Return the user's labels under ``layer index:concept``."""
    found = {}
    for key, name in sorted(inputs.labels.items()):
        layer, _, concept = key.rpartition(":")
        if layer in graph.layers and concept.isdecimal():
            found[f"{graph.layers.index(layer)}:{int(concept)}"] = str(name)
    return found


def _aligned(graph: Graph, inputs: Inputs) -> dict[str, list[list[Any]]]:
    """Return the parts that a concept detects, the best detected first: [part, average precision, prevalence]."""
    found: dict[str, list[list[Any]]] = defaultdict(list)
    if inputs.alignment is None:
        return found
    table = frame(inputs.alignment, "alignment").filter(pl.col("vectors") == inputs.method)
    for row, prevalence in zip(table.iter_rows(named=True), numbers(table["prevalence"]), strict=True):
        if row["layer"] in graph.layers:
            layer = graph.layers.index(row["layer"])
            for concept, precision in zip(row["detectors"], numbers(row["precisions"]), strict=True):
                found[f"{layer}:{concept}"].append([row["part"], precision, prevalence])
    return {key: sorted(parts, key=lambda part: (-part[1], part[0])) for key, parts in found.items()}


def _verdict(graph: Graph, inputs: Inputs, face: dict[Key, list[Tile]], leading: int = 3) -> dict[str, Any] | None:
    """Return whether concepts that detect the planted shortcut are among the class's first `leading` causes."""
    if inputs.shortcut is None:
        return None
    (label,) = graph.classes.filter(pl.col("class") == inputs.shortcut["class"])["label"].to_list() or [-1]
    kept = {
        (row["layer"], row["concept"]): row for row in graph.kept.filter(pl.col("scope") == label).iter_rows(named=True)
    }
    rows = []
    for key, parts in _aligned(graph, inputs).items():
        index, concept = map(int, key.split(":"))
        for part, precision, _ in parts:
            if part == inputs.shortcut["part"] and precision >= ALIGNED:
                own = kept.get((graph.layers[index], concept), {})
                tiles = face.get((index, concept), [])
                rows.append([index, concept, precision, own.get("rank"), *shares([own.get("share") or 0]), tiles])
    found = any(row[3] is not None and row[3] < leading for row in rows)
    # Those of the leading ones, or, where there is none, each layer's best.
    best = {layer: max(row[2] for row in rows if row[0] == layer) for layer in {row[0] for row in rows}}
    rows = [row for row in rows if (row[3] is not None and row[3] < leading if found else row[2] == best[row[0]])]
    return (
        {**inputs.shortcut, "label": label, "found": found, "rows": sorted(rows, key=lambda row: (row[0], row[3] or 0))}
        if label >= 0
        else None
    )


# --- the atlas ----------------------------------------------------------------------------------------------


def atlas_chunk(graph: Graph, inputs: Inputs, layer: str) -> Any:
    """Return every concept of a layer.

    Returns
    -------
    dict
        ``rows``: [concept, importance, spread, members, cohesion, labels of the up to three classes it raises
        most]. Importance is its mean relevance to each image's own class over all attributed images, spread the
        exponential of the entropy of its |relevance| over classes. ``tree``: the split tree in preorder, concepts
        as leaves and -1 for splits, or null.
    """
    own = graph.edges.filter(
        (pl.col("source_layer") == layer)
        & (pl.col("target_layer") == CLASSES)
        & (pl.col("scope") == pl.col("target"))
        & (pl.col("source") >= 0)
    ).select("source", "scope", pl.col("mean").cast(pl.Float64), "images")
    total = sum(graph.edges.filter(pl.col("scope") >= 0).group_by("scope").agg(pl.col("images").max())["images"])
    size = (pl.col("mean").abs() * pl.col("images")).alias("size")
    part = pl.col("size") / pl.col("size").sum()
    measured = (
        own.with_columns(size)
        .sort("mean", "scope", descending=[True, False])
        .group_by("source")
        .agg(
            ((pl.col("mean") * pl.col("images")).sum() / max(total, 1)).alias("importance"),
            (-(part * (part + 1e-300).log()).sum()).exp().alias("spread"),
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
    return {"rows": listed, "tree": _preorder(inputs.trees.get(layer))}


def _preorder(path: Path | None) -> list[int] | None:
    """Return a split tree in preorder: concepts as leaves, -1 for splits."""
    if path is None or not path.is_file():
        return None
    table = tables.read(path, ["node", "parent", "concept"]).to_pylist()
    children: dict[int | None, list[int]] = defaultdict(list)
    for row in table:
        children[row["parent"]].append(row["node"])
    concept = {row["node"]: row["concept"] for row in table}
    order, stack = [], children[None][::-1]
    while stack:
        node = stack.pop()
        order.append(-1 if concept[node] is None else concept[node])
        stack += children[node][::-1]
    return order if len(order) > 1 else None


def _common(graph: Graph, index: int, face: dict[Key, list[Tile]], count: int = 8) -> list[list[Any]]:
    """Return a layer's concepts that most classes keep: [concept, number of classes, tiles]."""
    kept = graph.kept.filter((pl.col("layer") == graph.layers[index]) & (pl.col("scope") >= 0))
    found = kept.group_by("concept").agg(pl.len().alias("classes"), pl.col("share").sum().alias("relevance"))
    found = found.sort(["classes", "relevance", "concept"], descending=[True, True, False]).head(count)
    return [[c, n, face.get((index, c), [])] for c, n in found.select("concept", "classes").iter_rows()]


def _overlaps(graph: Graph, count: int = 12) -> tuple[list[list[Any]], dict[int, list[Any]]]:
    """Return the pairs of classes that share most: [a, b, share], and for each class its nearest [b, share].

    The share is that of the kept relevance that both classes have in common, averaged over layers.
    """
    kept = graph.kept.filter(pl.col("scope") >= 0)
    labels = sorted(kept["scope"].unique().to_list())
    place = {label: i for i, label in enumerate(labels)}
    common = np.zeros((len(labels), len(labels)))
    part = pl.col("relevance").cast(pl.Float64) / pl.col("relevance").cast(pl.Float64).sum().over(["scope", "layer"])
    for group in kept.with_columns(part.alias("part")).partition_by("layer", "concept", maintain_order=True):
        at = np.array([place[scope] for scope in group["scope"]])
        one = group["part"].to_numpy()
        common[np.ix_(at, at)] += np.minimum.outer(one, one) / max(len(graph.layers), 1)
    np.fill_diagonal(common, 0)
    a, b = np.triu_indices(len(labels), 1)
    order = np.argsort(-common[a, b], kind="stable")[:count]
    pairs = [[labels[a[i]], labels[b[i]], round(float(common[a[i], b[i]]), 4)] for i in order if common[a[i], b[i]] > 0]
    best = common.argmax(1) if len(labels) > 1 else []
    nearest = {labels[i]: [labels[j], round(float(common[i, j]), 4)] for i, j in enumerate(best) if common[i, j] > 0}
    return pairs, nearest
