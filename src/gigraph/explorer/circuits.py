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
        For each class ``said``, what it carries in words; ``series`` and ``panels``, its curves as the evaluation's
        (`gigraph.explorer.evidence`); and ``stops`` of the slider: [size in the address, words, the kept nodes that are
        not in it].
    """
    if not all(inputs.circuits.get(kind) for kind in KINDS):
        return {}
    found, curves, members = (pl.concat([frame(path, kind) for path in inputs.circuits[kind]]) for kind in KINDS)
    parts = [one.partition_by("scope", as_dict=True) for one in (found, curves, members)]
    kept = graph.kept.partition_by("scope", as_dict=True)
    return {
        scope: _chunk(graph, *(part[scope,] for part in parts), _keys(graph, kept.get((scope,), graph.kept.head(0))))
        for scope in sorted(found["scope"].unique().to_list())
    }


def _keys(graph: Graph, kept: pl.DataFrame) -> list[Key]:
    index = {layer: i for i, layer in enumerate(graph.layers)}
    return [(index[layer], concept) for layer, concept in kept.select("layer", "concept").iter_rows()]


def _chunk(
    graph: Graph, found: pl.DataFrame, curves: pl.DataFrame, members: pl.DataFrame, keys: list[Key]
) -> dict[str, Any]:
    rows = {row["order"]: row for row in found.iter_rows(named=True) if row["order"] != "layer"}
    real, pruned = rows.pop("network"), rows.pop("pruned")
    own = next(iter(rows))
    score = "value" if graph.classes["task"][0] == "regression" else "probability"
    unit = "families" if real["nodes"] < real["concepts"] else "concepts"
    points = {order: curves.filter(pl.col("order") == order) for order in rows}
    entered = _entered(graph, members)
    stops = [["", "off", []]]
    if pruned["size"] is not None:
        out = [f"{i}:{c}" for i, c in keys if not entered[i, c][1]]
        stops.append([SMALLEST, f"{pruned['size']:.0f} (smallest): {pruned['score']:.2f}", out])
    for size, score in points[own].select("size", "score").iter_rows():
        out = [f"{i}:{c}" for i, c in keys if entered[i, c][0] >= size]
        stops.append([f"{size:.0f}", f"{size:.0f}: {score:.2f}", out])
    lines = [
        [i, [shares(point) for point in some.select("size", "score", "score_se").iter_rows()]]
        for i, some in enumerate(points.values())
    ]
    return {
        "said": _said(real, pruned, rows, points[own]["score"].to_list(), unit, score),
        "series": [title(order) for order in rows],
        "panels": [[f"{score.capitalize()} by number of {unit}", lines]],
        "stops": stops,
    }


def _entered(graph: Graph, members: pl.DataFrame) -> dict[Key, tuple[int, bool]]:
    """Return the size before which each node enters, and whether it is in the smallest circuit: any member of it."""
    index, found = {layer: i for i, layer in enumerate(graph.layers)}, {}
    for layer, concept, rank, smallest in members.select("layer", "concept", "rank", "smallest").iter_rows():
        family = graph.families.get(layer)
        key = index[layer], concept if family is None else int(family.leader[concept])
        before = found.get(key, (rank, False))
        found[key] = min(before[0], rank), before[1] or smallest
    return found


Row = dict[str, Any]


def _said(real: Row, pruned: Row, rows: Mapping[str, Row], own: list[float], unit: str, score: str) -> str:
    """Return in words what a class carries when it runs alone."""
    first = (
        f"Run on {unit} alone, one layer after the other, the network has a {score} of {own[-1]:.2f} with all "
        f"{real['nodes']}, {own[0]:.2f} with none, {real['score']:.2f} as it is ({_plural(real['images'], 'image')})."
    )
    fill = "their mean over the data" if real["deleted"] == "mean" else "zero"
    errors = "dropped" if real["errors"] == "dropped" else "kept"
    method = f"Deleted ones are at {fill}; what the concepts leave out is {errors}."
    if pruned["size"] is None:
        return f"{first} No circuit of them keeps as much as was asked for. {method}"
    more = f" ({pruned['concepts']:.0f} concepts)" if pruned["concepts"] != pruned["size"] else ""
    others = [f"{row['size']:.0f} by {title(order)}" for order, row in rows.items() if row["size"] is not None]
    elsewhere = "" if pruned["elsewhere"] is None else (
        f", and {pruned['elsewhere']:.2f} on images of other classes ({real['elsewhere']:.2f})"
    )  # fmt: skip
    return (
        f"These {pruned['size']:.0f} of {real['nodes']} {unit}{more} alone give {pruned['score']:.2f} of "
        f"{real['score']:.2f}{elsewhere}; all others without them {pruned['rest_score']:.2f}. The first that do so: "
        f"{', '.join(others)}. {first} {method}"
    )


def _plural(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
