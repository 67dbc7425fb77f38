"""The overview: the run, its layers, classes and notes, and what many classes share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from gigraph.evaluation.orders import title
from gigraph.explorer.chunks import LAYOUT, numbers, rows
from gigraph.explorer.findings import Places, finding, findings
from gigraph.explorer.graph import Graph, Key, frame
from gigraph.explorer.inputs import Inputs
from gigraph.explorer.sheets import Album, Tile
from gigraph.images.listing import PASSED_OVER
from gigraph.images.naming import shown_names
from gigraph.images.tiles import FACE
from gigraph.method.share import range_of
from gigraph.method.targets import class_output
from gigraph.records import tables
from gigraph.reserved import DATASET, FAMILIES
from gigraph.version import __version__

ALIGNED = 0.5
"""Average precision from which a part names a concept that has no label."""
WORDS = {
    "PFV": "pointwise feature vector: all channels of a layer at one position of one image",
    "concept": "a direction among a layer's PFVs; each PFV is a sum of few of them, measured from the layer's origin",
    "family, ×3": "near-parallel concepts, shown as one node; three of them",
    "{gig}": "what a concept does for one of a later layer, or for a class; below 0 it lowers it",
    "nodes of a class": "what raises it most; what lowers it on average is not drawn, and in run.edges('CLASS')",
    "ablation": "by how much the score falls when the concept is deleted and the network run on: exact",
    "support": "in how many images the concept takes part",
    "unexplained": "what a layer's concepts miss of the real score, S(X) - S(X~): the error node",
    "remainder": "what concepts do together that are too weak to be kept one by one",
    "decision kept": "what is left of the images' scores where a layer is replaced by its concepts; 110% counts as 90%",
    "accuracy": "share of the images that the model takes for their own class",
}
"""What the page calls things; ``{gig}`` stands for what it calls attributions."""
DRAWN = (
    "Attribution flows upwards, the wider the edge the more. Unexplained: of what a row does for the one above. Bars: "
    "relevance to the class. "
)
MARKED = (
    "The mark on a bar is where the exact ablation would have it end: in red below 0, faint where it is within two "
    "standard errors of 0."
)
"""What stands below graphs, and below those of classes."""
BOTH = "Shared: the strongest of either first, then by the smaller of their two relevances."
"""What stands below those of two classes."""
KEYS = {
    "← →": "within a layer",
    "↑ ↓": "along the strongest edge",
    "Home End": "first, last of a layer",
    "Enter": "open the concept",
    "P": "pin its paths",
    "M": "its members",
    "F": "maximise the card",
    "Esc": "back",
    "/": "search",
    "?": "this help",
}
"""What the page's keys do (``start.js``)."""


def meta_chunk(
    graph: Graph,
    inputs: Inputs,
    albums: list[Album],
    face: dict[Key, list[Tile]],
    first: Mapping[int, list[Tile]],
    groups: list[str],
    pictured: set[int],
    places: Places,
) -> Any:
    """Return what every view needs, and the overview."""
    images = frame(inputs.images, "images")
    known = images.filter((pl.col("label") >= 0) & pl.col("predicted").is_not_null())
    right = known.with_columns((pl.col("label") == pl.col("predicted")).alias("right"))
    per_class = {
        label: [n, r] for label, n, r in right.group_by("label").agg(pl.len(), pl.col("right").sum()).iter_rows()
    }
    scopes = graph.images
    with_graph = set(graph.kept["scope"].to_list())
    pairs, overlap = _overlaps(graph)
    common = [_common(graph, index, face) for index in range(len(graph.layers))]
    verdict = _verdict(graph, inputs, face)
    layers = _layers(graph, inputs, albums, groups)
    names = graph.classes["class"].to_list()
    shown = [None if new == old else new for new, old in zip(shown_names(names, inputs.names), names, strict=True)]
    return {
        "schema": LAYOUT,
        "title": inputs.title,
        "keys": list(KEYS.items()),
        "drawn": DRAWN,
        "marked": MARKED,
        "two": BOTH,
        "words": [[word.format(gig=title(inputs.attribution)), meaning] for word, meaning in WORDS.items()],
        "method": inputs.method,
        **_words(inputs.output, graph),
        "reading": inputs.reading,
        "gig": title(inputs.attribution),  # what the page calls attributions, by their method
        "lineage": inputs.lineage,
        "evaluation": next(filter(None, map(tables.lineage_of, inputs.evaluation.values())), ""),
        "graph": (tables.lineage_of(inputs.edges) or "")[:16],
        "pictured": int(bool(pictured)),
        "findings": [*([verdict] if verdict else []), *findings(graph, inputs, face, common[-1], places)],
        "top": inputs.top,
        "shared": inputs.shared,
        "images": len(images),
        "accuracy": [int(right["right"].sum() or 0), len(right)],
        "keeps": range_of(one["logit"] for one in layers) or "–",
        "edges": graph.count,
        "fields": ["label", "name", "images", "right", "kept", "attributed", "near", "faces", "pictured", "shown"],
        # Those with a graph come first, wherever classes are listed.
        "classes": sorted(
            (
                [
                    label,
                    name,
                    *per_class.get(label, [0, 0]),
                    int(label in with_graph),
                    scopes.get(label, 0),
                    overlap.get(label),
                    first.get(label, []),
                    int(label in pictured),
                    called,
                ]
                for label, name, called in zip(graph.classes["label"].to_list(), names, shown, strict=True)
            ),
            key=lambda row: row[0] not in with_graph,
        ),
        "layers": layers,
        "labels": _labels(graph, inputs),
        "unit": ["family", "families"] if graph.families else ["concept", "concepts"],
        "aligned": _aligned(graph, inputs) | _aligned_members(graph, inputs),
        "common": common,
        "pairs": pairs,
        "notes": [*inputs.notes, *_left_out(inputs)],
        "made": f"gigraph {__version__} · run {inputs.lineage[:8]} · {_images(scopes.get(DATASET, 0))} attributed",
    }


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"


def _left_out(inputs: Inputs) -> list[str]:
    reasons = tables.read(inputs.rejected)["reason"].to_pylist()
    count = sum(not reason.startswith(PASSED_OVER) for reason in reasons)
    return [f"{_images(count)} could not be read and {'was' if count == 1 else 'were'} left out."] * (count > 0)


def _words(setting: str, graph: Graph) -> dict[str, str]:
    """Return what is attributed for classes, what is kept of it, and what is said of an image beside its class."""
    task = next(iter(graph.classes["task"]), "classes")
    if task == "regression":
        return dict.fromkeys(("output", "kept", "said"), "value")
    output = class_output(setting, graph.classes.height, task).replace("_", " ")
    return {"output": output, "kept": "centred logit" if task == "classes" else "logit", "said": "probability"}


def first_faces(graph: Graph, face: dict[Key, list[Tile]]) -> dict[int, list[Tile]]:
    """Return per class the first tile of its strongest concepts in the last layer."""
    last = len(graph.layers) - 1
    mine = graph.kept.filter((pl.col("layer") == graph.layers[last]) & (pl.col("scope") >= 0))
    found: dict[int, list[Tile]] = defaultdict(list)
    for scope, concept in mine.select("scope", "concept").iter_rows():
        if face.get((last, concept)) and len(found[scope]) < FACE:
            found[scope].append(face[last, concept][0])
    return found


def _layers(graph: Graph, inputs: Inputs, albums: list[Album], groups: list[str]) -> list[dict[str, Any]]:
    shape = {row["layer"]: _shape(row) for row in tables.read(inputs.layers, ["layer", "channels", "grid"]).to_pylist()}
    table = frame(inputs.reconstruction, "reconstruction")
    measured = ("rel_l2", "nonzeros", "logit", "agreement", "mean_cosine")
    names = ("error", "nonzeros", "logit", "agreement", "cosine", "twins")
    errors = dict(
        zip(table["layer"], rows(*(numbers(table[key]) for key in measured), table["twins"].to_list()), strict=True)
    )
    nodes = frame(inputs.nodes, "nodes").filter(pl.col("kind") == "concept")
    counts = {
        layer: rest for layer, *rest in nodes.group_by("layer").agg(pl.len(), pl.col("concept").max()).iter_rows()
    }
    return [
        {
            "name": layer,
            **shape.get(layer, {}),
            "concepts": counts.get(layer, [0, -1])[0],
            "last": counts.get(layer, [0, -1])[1],
            "families": len(graph.families[layer].ids) if layer in graph.families else counts.get(layer, [0])[0],
            "kept": len(graph.pictured(layer)),
            **dict(zip(names, errors.get(layer, [None] * len(names)), strict=True)),
            "groups": sorted(int(name.split("/")[2]) for name in groups if name.startswith(f"concepts/{index}/")),
            "sheets": albums[index].sheets,
        }
        for index, layer in enumerate(graph.layers)
    ]


def _shape(row: dict[str, Any]) -> dict[str, Any]:
    """Return a layer's channels and its grid; tokens beside the grid are counted with the width: ``14 + 1``."""
    height, width, others = row["grid"]
    return {"channels": row["channels"], "height": height, "width": f"{width} + {others}" if others else width}


def _labels(graph: Graph, inputs: Inputs) -> dict[str, str]:
    """Return the user's labels under ``layer index:concept``."""
    found = {}
    for key, name in sorted(inputs.labels.items()):
        layer, _, concept = key.rpartition(":")
        if layer in graph.layers and concept.isdecimal():
            found[f"{graph.layers.index(layer)}:{int(concept)}"] = str(name)
    return found


def _aligned(graph: Graph, inputs: Inputs) -> dict[str, list[list[Any]]]:
    """Return the parts that a node detects, the best detected first: [part, average precision, prevalence]."""
    merged = pl.col("layer").is_in([*graph.families])
    return _parts(graph, inputs, pl.when(merged).then(pl.lit(FAMILIES)).otherwise(pl.lit(inputs.method)))


def _aligned_members(graph: Graph, inputs: Inputs) -> dict[str, list[list[Any]]]:
    """Return the parts that concepts detect which no node is named by."""
    leaders = {
        f"{index}:{family}"
        for index, layer in enumerate(graph.layers)
        if layer in graph.families
        for family in graph.families[layer].ids.tolist()
    }
    single = _parts(graph, inputs, pl.lit(inputs.method))
    return {key: parts for key, parts in single.items() if key not in leaders}


def _parts(graph: Graph, inputs: Inputs, vectors: pl.Expr) -> dict[str, list[list[Any]]]:
    found: dict[str, list[list[Any]]] = defaultdict(list)
    if inputs.alignment is None:
        return found
    table = frame(inputs.alignment, "alignment").filter(pl.col("vectors") == vectors)
    for row, prevalence in zip(table.iter_rows(named=True), numbers(table["prevalence"]), strict=True):
        if row["layer"] in graph.layers:
            layer = graph.layers.index(row["layer"])
            for concept, precision in zip(row["detectors"], numbers(row["precisions"]), strict=True):
                found[f"{layer}:{concept}"].append([row["part"], precision, prevalence])
    return {key: sorted(parts, key=lambda part: (-part[1], part[0])) for key, parts in found.items()}


def _verdict(graph: Graph, inputs: Inputs, face: dict[Key, list[Tile]], leading: int = 3) -> dict[str, Any] | None:
    """Return, as a finding, whether concepts that detect the planted shortcut are among the class's first causes."""
    if inputs.shortcut is None:
        return None
    (label,) = graph.classes.filter(pl.col("class") == inputs.shortcut["class"])["label"].to_list() or [-1]
    if label < 0:
        return None
    kept = {
        (row["layer"], row["concept"]): row for row in graph.kept.filter(pl.col("scope") == label).iter_rows(named=True)
    }
    rows = []
    for key, parts in _aligned(graph, inputs).items():
        index, concept = map(int, key.split(":"))
        for part, precision, _ in parts:
            if part == inputs.shortcut["part"] and precision >= ALIGNED:
                own = kept.get((graph.layers[index], concept), {})
                rows.append((index, concept, precision, own.get("rank"), own.get("share") or 0))
    found = any(rank is not None and rank < leading for *_, rank, _ in rows)
    # Those of the leading ones, or, where there is none, each layer's best.
    best = {layer: max(row[2] for row in rows if row[0] == layer) for layer in {row[0] for row in rows}}
    rows = [row for row in rows if (row[3] is not None and row[3] < leading if found else row[2] == best[row[0]])]
    rows.sort(key=lambda row: (row[0], row[3] or 0))
    size = f"|{title(inputs.attribution)}|"
    nodes = [
        [index, concept, face.get((index, concept), []), "not kept" if rank is None else f"rank {rank + 1}",
         graph.layers[index], f"AP {precision:.2f}" + ("" if rank is None else f", {share:.0%} of {size}")]
        for index, concept, precision, rank, share in rows
    ]  # fmt: skip
    part, planted, elsewhere = (inputs.shortcut[key] for key in ("part", "planted", "elsewhere"))
    said = [
        f"The {part} was planted in {planted:.0%} of the images of ", [label], f" and {elsewhere:.0%} of the others. "
        + ("Concepts that detect it are among their layer's three strongest." if found else
           "No concept that detects it is among the three strongest."),
    ]  # fmt: skip
    about = finding(f"The planted shortcut was {'' if found else 'not '}found", said, "", nodes=nodes)
    return {**about, "truth": True, "found": found}


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
    size = pl.col("relevance").cast(pl.Float64)
    held = (size / size.sum().over(["scope", "layer"])).alias("held")
    for group in kept.with_columns(held).partition_by("layer", "concept", maintain_order=True):
        at = np.array([place[scope] for scope in group["scope"]])
        one = group["held"].to_numpy()
        common[np.ix_(at, at)] += np.minimum.outer(one, one) / max(len(graph.layers), 1)
    np.fill_diagonal(common, 0)
    a, b = np.triu_indices(len(labels), 1)
    order = np.argsort(-common[a, b], kind="stable")[:count]
    pairs = [[labels[a[i]], labels[b[i]], round(float(common[a[i], b[i]]), 4)] for i in order if common[a[i], b[i]] > 0]
    best = common.argmax(1) if len(labels) > 1 else []
    nearest = {labels[i]: [labels[j], round(float(common[i, j]), 4)] for i, j in enumerate(best) if common[i, j] > 0}
    return pairs, nearest
