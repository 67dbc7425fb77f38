"""What a class's circuits say: how much of it some of its nodes carry alone, by their number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from gigraph.evaluation.orders import title
from gigraph.explorer.chunks import shares
from gigraph.explorer.graph import Graph, Key, frame
from gigraph.explorer.inputs import Inputs

SMALLEST = "smallest"
"""The stop of the smallest circuit that was found."""
ALIKE = 0.8
"""Of what a circuit says of its class's images, what it must not say of others' to be the class's."""
RANDOM = "random"
"""What random orders are called in the tables."""
KINDS = ("circuits", "circuit_curves", "circuit_members")


def circuits_by_class(graph: Graph, inputs: Inputs) -> dict[int, Any]:
    """Return the circuits of each class; nothing where the run has none.

    Parameters
    ----------
    graph : Graph
        The run's tables.
    inputs : Inputs
        With the tables of circuits.

    Returns
    -------
    dict
        For each class ``said`` and ``how``, what it carries, in words; ``series`` and ``panels``, its curves as those
        of the evaluation (`gigraph.explorer.evidence`); and ``stops`` of the slider: [size in the address, words, the
        kept nodes that are not in it].
    """
    if not all(inputs.circuits.get(kind) for kind in KINDS):
        return {}
    found, curves, members = (pl.concat([frame(path, kind) for path in inputs.circuits[kind]]) for kind in KINDS)
    own, lines, nodes = (one.partition_by("scope", as_dict=True) for one in (found, curves, members))
    index, kept = {layer: i for i, layer in enumerate(graph.layers)}, graph.kept.partition_by("scope", as_dict=True)
    chunks = {}
    for (scope,) in sorted(own):
        shown = kept.get((scope,), graph.kept.head(0)).select("layer", "concept")
        keys = [(index[layer], concept) for layer, concept in shown.iter_rows()]
        chunks[int(scope)] = _chunk(graph, own[scope,], lines[scope,], nodes[scope,], keys)
    return chunks


def _chunk(
    graph: Graph, found: pl.DataFrame, curves: pl.DataFrame, members: pl.DataFrame, keys: list[Key]
) -> dict[str, Any]:
    rows = {row["order"]: row for row in found.iter_rows(named=True) if row["order"] != "layer"}
    real, pruned = rows.pop("network"), rows.pop("pruned")
    own = next(iter(rows))
    read = "value" if graph.classes["task"][0] == "regression" else "probability"
    unit = "families" if real["nodes"] < real["concepts"] else "concepts"
    points = {order: curves.filter(pl.col("order") == order) for order in rows}
    entered = _entered(graph, members)
    stops = [["", "off", []]]
    if pruned["size"] is not None:
        out = [f"{i}:{c}" for i, c in keys if not entered[i, c][1]]
        stops.append([SMALLEST, f"smallest, {pruned['size']:.0f}: {pruned['score']:.2f}", out])
    for size, score in points[own].select("size", "score").iter_rows():
        out = [f"{i}:{c}" for i, c in keys if entered[i, c][0] >= size]
        stops.append([f"{size:.0f}", f"{size:.0f}: {score:.2f}", out])
    lines = [
        [i, [shares(point) for point in some.select("size", "score", "score_se").iter_rows()]]
        for i, some in enumerate(points.values())
    ]
    return {
        "said": _said(real, pruned, unit, read),
        "how": _how(real, rows, points[own]["score"].to_list(), unit),
        "series": [title(order) for order in rows],
        "panels": [[f"{read.capitalize()} by number of {unit}", lines]],
        "stops": stops,
    }


def _entered(graph: Graph, members: pl.DataFrame) -> dict[Key, tuple[int, bool]]:
    """Return the size before which each node enters, and whether it is in the smallest circuit: any member of it."""
    index = {layer: i for i, layer in enumerate(graph.layers)}
    found: dict[Key, tuple[int, bool]] = {}
    for layer, concept, rank, smallest in members.select("layer", "concept", "rank", "smallest").iter_rows():
        family = graph.families.get(layer)
        key = index[layer], concept if family is None else int(family.leader[concept])
        before = found.get(key, (rank, False))
        found[key] = min(before[0], rank), before[1] or smallest
    return found


Row = dict[str, Any]


def _said(real: Row, pruned: Row, unit: str, read: str) -> str:
    """Return in words how much of a class some of its nodes carry when they run alone."""
    if pruned["size"] is None:
        return f"No circuit of the {real['nodes']} {unit} alone keeps as much of the {read} as was asked for."
    if pruned["size"] < 1:
        return (
            f"With no concept at all the network still gives a {read} of {pruned['score']:.2f} of {real['score']:.2f}, "
            "so that circuits say nothing of this class."
        )
    more = f" ({pruned['concepts']:.0f} concepts)" if pruned["concepts"] != pruned["size"] else ""
    given = "" if read == "value" else " the class"
    score, other = pruned["score"], pruned["elsewhere"]
    elsewhere = f", {other:.2f} over {pruned['others']} of other classes" if other is not None else ""
    alike = other is not None and other >= ALIKE * score
    of_all = " It says as much of other classes' images: it is no circuit of this class." if alike else ""
    return (
        f"Run alone, {pruned['size']:.0f} of {real['nodes']} {unit}{more} give{given} a {read} of {score:.2f} "
        f"(the network: {real['score']:.2f}) over {real['images']} of its images{elsewhere}; all the other {unit} "
        f"without them give {pruned['rest_score']:.2f}.{of_all}"
    )


def _how(real: Row, rows: Mapping[str, Row], curve: list[float], unit: str) -> str:
    """Return in words how that was measured, and what else it is to be compared with."""
    sizes = [f"{row['size']:.0f} by {title(order)}" for order, row in rows.items() if row["size"] is not None]
    never = [title(order) for order, row in rows.items() if row["size"] is None and order != RANDOM]
    more = f"; by {' and '.join(never)} no size that was tried keeps it" if never else ""
    more += "; random orders do not always keep it" if rows.get(RANDOM, {"size": 0})["size"] is None else ""
    first = (
        f"In the order of relevance alone a circuit that keeps as much takes {', '.join(sizes)}{more}. "
        if sizes
        else ""
    )
    fill = "the mean over the data" if real["deleted"] == "mean" else "zero"
    return (
        f"{first}One layer after the other is replaced by its {unit}: with all it is {curve[-1]:.2f}, with none "
        f"{curve[0]:.2f}, and {real['score']:.2f} as the network is. What is deleted is at {fill}; what the concepts "
        f"leave out of an image is {real['errors']}."
    )
