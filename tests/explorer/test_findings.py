"""What the first screen says was found."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from explorer.fixture import LAYERS
from gigraph.explorer import Inputs, build
from gigraph.explorer.chunks import read_chunk
from gigraph.explorer.findings import APART, Places, apart, findings
from gigraph.explorer.graph import Graph
from gigraph.explorer.maps import encode_map
from gigraph.records import tables
from gigraph.reserved import CLASSES, ERROR_NODE

LAST = len(LAYERS) - 1


def spot(y: int, x: int, side: int = 6) -> np.ndarray:
    where = np.zeros((side, side))
    where[y, x] = 1
    return where


def test_apart_is_a_distance_over_a_spread():
    rng = np.random.default_rng(3)
    concepts = {q: (float(rng.uniform(0.1, 1)), rng.uniform(size=(3, 5))) for q in (4, 9, 2, 7)}
    found = apart(concepts)
    assert found.keys() == concepts.keys()
    for one, (_, own) in concepts.items():
        points = {q: [] for q in ("own", "rest")}
        for q, (relevance, where) in concepts.items():
            for (y, x), size in np.ndenumerate(where):
                weight = size / where.sum() * (1 if q == one else relevance)
                points["own" if q == one else "rest"].append([weight, (y + 0.5) / 3, (x + 0.5) / 5])
        own, rest = (np.array(points[key]) for key in ("own", "rest"))
        centre, other = ((p[:, :1] * p[:, 1:]).sum(0) / p[:, 0].sum() for p in (own, rest))
        variance = (rest[:, 0] * ((rest[:, 1:] - other) ** 2).sum(1)).sum() / rest[:, 0].sum()
        square = (1 / 9 + 1 / 25) / 12  # a position is a square of its own spread
        distance = np.hypot(*(centre - other)) / np.sqrt(variance + square)
        assert found[one] == pytest.approx((distance, 2 * max(abs(centre - 0.5))))


def test_apart_needs_positions_and_two_others():
    assert apart({0: (1.0, spot(0, 0)), 1: (1.0, spot(5, 5))}) == {}
    assert apart({q: (1.0, np.ones((1, 1))) for q in range(4)}) == {}
    there = {0: (1.0, spot(0, 0)), 1: (1.0, spot(5, 5)), 2: (1.0, spot(5, 4)), 3: (1.0, np.zeros((6, 6)))}
    assert apart(there).keys() == {0, 1, 2}  # what is nowhere lies nowhere


def seen(places: Places, label: int, predicted: int, where: dict[int, tuple[float, np.ndarray]]) -> None:
    """Let an image show concepts of the last layer."""
    layers = [[] for _ in LAYERS]
    layers[LAST] = [[concept, relevance] for concept, (relevance, _) in where.items()]
    maps = {f"{LAST}:{concept}": encode_map(spot.ravel(), 6, 6) for concept, (_, spot) in where.items()}
    places.add({"label": label, "predicted": predicted}, {"layers": layers, "maps": maps})


def test_the_strongest_cause_that_lies_apart_is_found(inputs: Inputs):
    graph = Graph.read(inputs)
    mine = graph.kept.filter((pl.col("scope") == 1) & (pl.col("layer") == graph.layers[LAST])).sort("rank")
    towards = graph.relevance(graph.layers[LAST]).filter(pl.col("mean") > 0)
    part = {
        concept: float(rows.filter(pl.col("scope") == 1)["mean"].sum() / rows["mean"].sum())
        for (concept,), rows in towards.group_by("source")
    }
    own = [concept for concept in mine["concept"].to_list() if part[concept] >= 0.5]
    shared = [concept for concept in mine["concept"].to_list() if part[concept] < 0.5]
    assert len(own) >= 2 and shared
    body = {concept: (0.2, spot(4, x)) for x, concept in enumerate((90, 91, 92), 2)}
    places = Places()
    for _ in range(2):
        seen(places, 1, 1, {**body, own[1]: (0.3, spot(0, 5))})
    seen(
        places, 1, 1, {**body, own[0]: (0.9, spot(4, 3)), shared[0]: (0.9, spot(0, 0))}
    )  # on the body; of many classes
    seen(places, 1, 0, {**body, own[0]: (0.9, spot(0, 0))})  # taken for another class
    first = findings(graph, inputs, {}, [], places)[0]
    assert first["title"] == "Strongest cause that lies apart"
    assert first["nodes"][0][:2] == [LAST, own[1]] and first["said"][1] == [1, f"{graph.layers[LAST]}:{own[1]}"]
    share = mine.filter(pl.col("concept") == own[1])["share"][0]
    assert first["said"][0] == f"{share:.0%} of |GIG| to " and "(2 images)" in first["said"][2]
    assert places.of(1, LAST, own[1])[0] >= APART > places.of(1, LAST, own[0])[0]
    places = Places()
    seen(
        places, 1, 1, {90: (0.2, spot(5, 0)), 91: (0.2, spot(4, 0)), own[0]: (0.9, spot(3, 3))}
    )  # apart, in the middle
    assert places.of(1, LAST, own[0])[0] >= APART
    assert findings(graph, inputs, {}, [], places)[-1]["title"] == "No strong cause lies apart"
    places = Places()
    seen(places, 1, 1, {**body, own[0]: (0.9, spot(4, 3)), shared[0]: (0.9, spot(0, 0))})
    assert findings(graph, inputs, {}, [], places)[-1]["nodes"][0][1] == own[0]


def test_where_nothing_lies_apart_the_farthest_is_shown_last(inputs: Inputs):
    graph, places = Graph.read(inputs), Places()
    first = graph.kept.filter((pl.col("scope") == 0) & (pl.col("layer") == graph.layers[LAST])).sort("rank")["concept"][
        0
    ]
    seen(places, 0, 0, {first: (0.5, spot(3, 3)), 90: (0.2, spot(3, 2)), 91: (0.2, spot(3, 4)), 92: (0.2, spot(4, 3))})
    *others, found = findings(graph, inputs, {}, [], places)
    assert others and found["title"] == "No strong cause lies apart" and found["nodes"][0][:2] == [LAST, first]
    assert found["said"][2].endswith("(1 image).") and "there is none" in found["how"]


def test_the_most_shared_and_the_least_explained_are_the_tables(inputs: Inputs, site: Path):
    meta = read_chunk(site / "data", "meta")
    found = {one["title"]: one for one in meta["findings"]}
    kept = [
        row for row in tables.read(inputs.kept).to_pylist() if row["scope"] >= 0 and row["layer"] == list(LAYERS)[-1]
    ]
    count = {row["concept"]: sum(other["concept"] == row["concept"] for other in kept) for row in kept}
    nodes = found["Most shared"]["nodes"]
    assert [node[3] for node in nodes] == [f"{count[node[1]]}/5" for node in nodes]
    assert [count[node[1]] for node in nodes] == sorted(count.values(), reverse=True)[:3]
    assert [node[1] for node in nodes] == [row[0] for row in meta["common"][-1][:3]]  # of equals the most relevant
    edges = tables.read(inputs.edges).to_pylist()
    error: dict[int, list[float]] = {}
    for label in range(5):
        for layer in LAYERS:
            into = [e for e in edges if (e["scope"], e["source_layer"], e["target_layer"], e["target"])
                    == (label, layer, CLASSES, label)]  # fmt: skip
            part = sum(abs(e["mean"]) for e in into if e["source"] == ERROR_NODE)
            error.setdefault(label, []).append(part / sum(abs(e["mean"]) for e in into))
    worst = sorted(error, key=lambda label: -np.mean(error[label]))[:4]
    rows = found["Least explained"]["classes"]
    assert [row[0] for row in rows] == worst
    assert [row[1] for row in rows] == [pytest.approx(np.mean(error[label]), abs=1e-4) for label in worst]
    layer = list(LAYERS)[int(np.argmax(error[worst[0]]))]
    assert rows[0][2] == f"{np.mean(error[worst[0]]):.0%}; {layer} {max(error[worst[0]]):.0%}"


def test_without_graphs_of_images_nothing_is_said_of_places(inputs: Inputs, tmp_path: Path):
    build(dataclasses.replace(inputs, images_per_class=0, shortcut=None), tmp_path / "site")
    found = read_chunk(tmp_path / "site" / "data", "meta")["findings"]
    assert [one["title"] for one in found] == ["Most shared", "Least explained"]
