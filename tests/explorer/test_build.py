"""The site's files: what the chunks hold; that they are safe; that a build is whole, repeatable and small."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from PIL import Image

from explorer.fixture import HOSTILE, KEPT, LAYERS, NAMES, write_results
from gigraph.errors import UserError
from gigraph.evaluation.conclusions import conclusions
from gigraph.evaluation.summary import judged
from gigraph.explorer import Inputs, build, evidence
from gigraph.explorer import graph as graph_tables
from gigraph.explorer import images as image_graphs
from gigraph.explorer.card import _no_place
from gigraph.explorer.chunks import numbers, script_json
from gigraph.explorer.graph import Graph
from gigraph.explorer.maps import decode_map, encode_map
from gigraph.explorer.scopes import neighbours
from gigraph.records import tables
from gigraph.reserved import CLASSES, ERROR_NODE, REMAINDER
from gigraph.running.current import shown_evaluation


def chunk(site: Path, name: str):
    """Read a chunk as the page does: a call with two JSON arguments."""
    text = (site / "data" / f"{name.replace('/', '-')}.js").read_text()
    assert text.startswith("gigraph.chunk(") and text.endswith(");\n")
    told, value = json.loads("[" + text[len("gigraph.chunk(") : -len(");\n")] + "]")
    assert told == name
    return value


def test_nothing_in_a_chunk_can_close_or_open_a_script(site: Path):
    for path in (site / "data").iterdir():
        text = path.read_text()
        assert "</" not in text and "<!--" not in text
        assert "\u2028" not in text and "\u2029" not in text


@pytest.mark.parametrize(
    ("coefficients", "shape", "text"),
    [
        ([0, 1, 2, -3], (2, 2), "0i/z0"),
        ([9, 0, 0, 4.5, 7], (2, 2, 1), "00/ir|z"),  # a class token, then a square of patches
        ([1, 7, 0, 0, 3.5, 7, 2], (2, 2, 2), "00/iz|5za"),  # and a register before them, another token behind
        ([1, 4, 2], (1, 3), "9zi"),
        ([0.5], (1, 1), "z"),
        ([-1, 0], (2, 1), "0/0"),
    ],
)
def test_a_map_is_rows_of_digits_up_to_its_largest(coefficients, shape, text):
    assert encode_map(np.array(coefficients), *shape) == text
    there = np.maximum(coefficients, 0)[slice(*(shape[2:] or (0,)), None)][: shape[0] * shape[1]]
    assert decode_map(text) == pytest.approx(
        there.reshape(shape[:2]) / max(there.max(), *coefficients, 1e-9), abs=0.5 / 35
    )


def test_a_token_of_the_whole_image_is_said_to_be_one():
    grid = (2, 2, 1)
    assert [bool(_no_place(x, grid)) for x in range(6)] == [True, False, False, False, False, True]
    assert not any(_no_place(x, (3, 4, 0)) for x in range(4))


def test_script_json_is_read_back_unchanged():
    value = {"</script>": ["<!--", "\u2028\u2029", "a\\b", '"', "é🐝"]}
    assert json.loads(script_json(value)) == value


def test_names_reach_the_page_unchanged(site: Path):
    assert [row[1] for row in chunk(site, "meta")["classes"]] == NAMES
    assert HOSTILE in NAMES


def test_numbers_read_back_as_the_same_float32():
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32) * np.float32(1e-5)
    assert (np.array(numbers(values), np.float32) == values).all()
    assert numbers([np.nan, np.inf, 1.5]) == [None, None, 1.5]


def test_numbers_are_the_shortest_decimals():
    any_bits = np.random.default_rng(1).integers(0, 2**32, 20_000, dtype=np.uint32).view(np.float32)
    values = np.concatenate([any_bits[np.isfinite(any_bits)], np.float32([0, 1e-45, 3.4e38, 16777216, 0.1, -2.5e-7])])
    assert numbers(values) == [float(str(value)) for value in values]


def test_kept_concepts_and_relevances_are_those_of_the_table(site: Path, inputs: Inputs):
    kept = tables.read(inputs.kept).to_pylist()
    for label in range(len(NAMES) - 1):
        layers = chunk(site, f"class/{label}")["layers"]
        for layer, shown in zip(LAYERS, layers, strict=True):
            rows = [row for row in kept if row["scope"] == label and row["layer"] == layer]
            rows.sort(key=lambda row: row["rank"])
            assert [node[0] for node in shown] == [row["concept"] for row in rows]
            assert [np.float32(node[1]) for node in shown] == [np.float32(row["relevance"]) for row in rows]


def test_a_node_has_its_exact_ablation_beside_its_relevance(site: Path, inputs: Inputs):
    edges = tables.read(inputs.edges).to_pylist()
    own = {
        (row["scope"], row["source_layer"], row["source"]): (row["ablation"], row["ablation_se"])
        for row in edges
        if row["target_layer"] == CLASSES and row["target"] == row["scope"]
    }
    nodes = [
        (own[label, layer, node[0]], node[7:])
        for label in range(len(NAMES) - 1)
        for layer, shown in zip(LAYERS, chunk(site, f"class/{label}")["layers"], strict=True)
        for node in shown
    ]
    assert len({given for given, _ in nodes}) > 20
    assert all(np.array_equal(np.float32(given), np.float32(shown), equal_nan=True) for given, shown in nodes)


def test_what_was_explained_on_an_earlier_graph_is_said_to_be_left_out(inputs: Inputs, tmp_path: Path, caplog):
    row = {name: [0] for name in ("image_id", "label", "width", "height", "predicted")}
    row |= {"path": ["mine.jpg"], "class": [""], "probability": [0.5], "value": [None]}
    tables.write(tmp_path / "explained" / "7" / "image.parquet", "images", row, "another graph")
    with caplog.at_level("INFO", logger="gigraph"):
        build(dataclasses.replace(inputs, explained=tmp_path / "explained"), tmp_path / "site")
    assert "note: the explorer leaves out what was explained on an earlier graph (mine.jpg)" in caplog.text
    assert chunk(tmp_path / "site", "explained") == []


def test_edges_are_those_between_kept_concepts(site: Path, inputs: Inputs):
    names = [*LAYERS, CLASSES]
    edges = tables.read(inputs.edges).to_pylist()
    for index, pair in enumerate(chunk(site, "class/1")["pairs"]):
        here = [e for e in edges if e["scope"] == 1 and e["source_layer"] == names[index]]
        here = [e for e in here if e["target_layer"] == names[index + 1]]
        here = [e for e in here if e["target_layer"] != CLASSES or e["target"] == 1]
        found = {(e[0], e[1]): e for e in pair["edges"]}
        assert found.keys() == {(e["source"], e["target"]) for e in here if e["shown"]}
        for e in here:
            into = pair["into"][str(e["target"])]
            total = sum(abs(np.float64(o["mean"])) for o in here if o["target"] == e["target"])
            assert into[0] == sum(o["source"] >= 0 for o in here if o["target"] == e["target"])
            assert into[1] == pytest.approx(total, rel=1e-6)
            if e["source"] == ERROR_NODE:
                assert into[2] == pytest.approx(e["mean"])
            elif e["source"] == REMAINDER:
                assert into[4] == pytest.approx(e["mean"])
            elif e["shown"]:
                mean, se, support, ablation, _, weight, share = found[e["source"], e["target"]][2:]
                assert np.float32(mean) == np.float32(e["mean"]) and np.float32(se) == np.float32(e["se"])
                assert np.float32(ablation) == np.float32(e["ablation"]) and support == e["support"]
                assert weight == pytest.approx(e["weight"], abs=1e-5) and share == pytest.approx(
                    e["mean"] / total, abs=1e-5
                )


def test_neighbour_lists_are_the_strongest_of_each_sign(site: Path, inputs: Inputs):
    names = list(LAYERS)
    edges = [e for e in tables.read(inputs.edges).to_pylist() if e["scope"] == 2 and e["source"] >= 0]
    near = chunk(site, "near/2")
    assert len(near) == KEPT * len(LAYERS)
    for key, lists in near.items():
        layer, concept = map(int, key.split(":"))
        for side, end, other in (("in", "target", "source"), ("out", "source", "target")):
            mine = [e for e in edges if e[f"{end}_layer"] == names[layer] and e[end] == concept]
            mine = [e for e in mine if e["target_layer"] != "classes"]
            for sign, entries in zip((1, -1), lists[side], strict=True):
                wanted = sorted((e for e in mine if sign * e["mean"] > 0), key=lambda e: -abs(e["mean"]))[:8]
                assert [entry[1] for entry in entries] == [e[other] for e in wanted]
                assert all(names[entry[0]] == e[f"{other}_layer"] for entry, e in zip(entries, wanted, strict=True))


def test_tiles_lie_where_the_tables_say(site: Path, inputs: Inputs):
    sheets = chunk(site, "meta")["layers"][0]["sheets"]
    cards = chunk(site, "concepts/0/0")
    rows = tables.read(inputs.exemplars["layer1.0"] / "exemplars.parquet").to_pylist()
    for row in rows:
        listed = cards[str(row["concept"])]["exemplars" if row["by"] == "response" else "relevant"]
        (sheet, y, x), value, label, path = listed[row["rank"]]
        file, columns, height = sheets[sheet]
        assert (y, x, label, path) == (row["row"], row["column"], row["label"], row["path"])
        assert np.float32(value) == np.float32(row["value"]) and x < columns and y < height
        original = inputs.exemplars["layer1.0"] / row["sheet"]
        assert (site / file).read_bytes() == original.read_bytes()


def test_faces_are_the_first_tiles_scaled_down(site: Path, inputs: Inputs):
    sheets = chunk(site, "meta")["layers"][0]["sheets"]
    rows = tables.read(inputs.exemplars["layer1.0"] / "exemplars.parquet").to_pylist()
    for concept, *_, tiles, _, _ in chunk(site, "class/0")["layers"][0]:
        first = [row for row in rows if row["concept"] == concept and row["by"] == "response" and row["rank"] < 4]
        assert len(tiles) == len(first) == 4
        for (sheet, y, x), row in zip(tiles, first, strict=True):
            file, columns, height = sheets[sheet]
            with Image.open(site / file) as page, Image.open(inputs.exemplars["layer1.0"] / row["sheet"]) as full:
                side, tile = page.width // columns, inputs.tile
                assert page.height == height * side
                small = page.convert("RGB").crop((x * side, y * side, (x + 1) * side, (y + 1) * side))
                box = (row["column"] * tile, row["row"] * tile, (row["column"] + 1) * tile, (row["row"] + 1) * tile)
                whole = full.convert("RGB").crop(box).resize((side, side))
                difference = np.asarray(small, float) - np.asarray(whole, float)
                assert np.abs(difference).mean() < 12


def test_flags(site: Path):
    cards = chunk(site, "concepts/2/0")
    assert cards["2"]["size"] == cards["2"]["images"] == 1  # a singleton
    # How many images a family's members are of together, no table says.
    assert {card["images"] is None for card in cards.values() if "family" in card} == {True}
    assert all(card["images"] <= card["size"] for card in cards.values() if "family" not in card)
    assert cards["1"]["twin"][0] == 0 and cards["1"]["twin"][1] > 0.95
    assert any(card["low"] for card in cards.values())
    assert chunk(site, "meta")["aligned"]["3:3"][0][0] == "tag"
    assert chunk(site, "concepts/3/0")["4"]["stable"] == pytest.approx([0.75, 0.8])


def test_a_family_is_one_node_that_says_what_is_in_it(site: Path, inputs: Inputs):
    meta = chunk(site, "meta")
    assert meta["unit"] == ["family", "families"]
    assert [layer["families"] for layer in meta["layers"]] == [16, 24, 37, 45]
    # The node's own detection, and those of members that are no node.
    assert {key: parts[0][1] for key, parts in meta["aligned"].items()} == pytest.approx({"3:3": 0.93, "3:40": 0.95})
    cards = chunk(site, "concepts/2/0") | chunk(site, "concepts/2/1")
    inner, least, members = cards["0"]["family"]
    assert (inner, least) == pytest.approx((0.81, 0.72)) and [m[0] for m in members] == [0, 30, 31]
    assert cards["0"]["size"] == sum(m[2] for m in members) and cards["0"]["twin"] is None
    assert cards["30"]["of"] == cards["31"]["of"] == 0 and "family" not in cards["30"] and "of" not in cards["1"]
    graph, near = chunk(site, "class/0"), chunk(site, "near/0")
    size, *parts = graph["members"]["2:0"]
    assert size == 3 and near["2:0"]["members"] == graph["members"]["2:0"] and "members" not in near["2:1"]
    node = next(one for one in graph["layers"][2] if one[0] == 0)
    assert [part[0] for part in parts] == [0, 30, 31] and parts[0][1] == pytest.approx(node[1] / 2)
    assert sum(part[5] for part in parts) == pytest.approx(node[5], abs=1e-4)
    assert parts[0][4] == pytest.approx(node[4] / 2, abs=1e-5)
    atlas = {row[0]: row for row in chunk(site, "atlas/2")["rows"]}
    assert atlas[0][1] == pytest.approx(2 * atlas[30][1], rel=1e-3) and atlas[30][1] == atlas[31][1] > 0


def test_an_images_families_are_split_into_its_members(site: Path, inputs: Inputs):
    rows = tables.read(inputs.attributions["layer3.1", CLASSES][0]).to_pylist()
    seen = 0
    for path in (site / "data").glob("image-*.js"):
        found = chunk(site, f"image/{path.stem.removeprefix('image-')}")
        image = int(path.stem.removeprefix("image-"))
        for key, (size, *parts) in found["members"].items():
            layer, family = map(int, key.split(":"))
            node = next(one for one in found["layers"][layer] if one[0] == family)
            assert sum(part[1] for part in parts) == pytest.approx(node[1], rel=1e-5) and size >= len(parts) == 2
            assert layer != 2 or any(r["image_id"] == image and parts[1][0] in r["members"] for r in rows)
            seen += 1
    assert seen > 3


def test_without_families_every_concept_is_a_node(inputs: Inputs, tmp_path: Path):
    build(dataclasses.replace(inputs, families={}, members=None), tmp_path / "site")
    meta = chunk(tmp_path / "site", "meta")
    assert meta["unit"] == ["concept", "concepts"] and "3:2" in meta["aligned"]
    assert [layer["families"] for layer in meta["layers"]] == [layer["concepts"] for layer in meta["layers"]]
    assert chunk(tmp_path / "site", "class/0")["members"] == {}


def test_a_branch_is_named_by_the_class_that_most_of_its_concepts_serve(inputs: Inputs, site: Path):
    atlas = chunk(site, "atlas/2")
    first = {row[0]: row[5][:1] for row in atlas["rows"]}
    rows = {row["node"]: row for row in tables.read(inputs.trees["layer3.1"]).to_pylist()}
    children: dict[int | None, list[int]] = {}
    for node, row in rows.items():
        children.setdefault(row["parent"], []).append(node)

    def served(node: int) -> list[int]:
        below = [label for child in children.get(node, []) for label in served(child)]
        return below if rows[node]["concept"] is None else first[rows[node]["concept"]]

    def preorder(node: int) -> list[int]:
        concept, votes = rows[node]["concept"], served(node)
        best = min(votes, key=lambda label: (-votes.count(label), label), default=-1)
        below = [one for child in children.get(node, []) for one in preorder(child)]
        return [-2 - best if concept is None else concept, *below]

    assert atlas["tree"] == preorder(children[None][0]) and len({one for one in atlas["tree"] if one < 0}) > 1


def test_the_words_are_those_of_the_attribution_method(inputs: Inputs, tmp_path: Path):
    build(dataclasses.replace(inputs, attribution="gradient_x_input"), tmp_path)
    words = dict(chunk(tmp_path, "meta")["words"])
    assert chunk(tmp_path, "meta")["gig"] in words and "GIG" not in words and "unexplained" in words


def test_a_cards_classes_come_by_the_share_that_it_shows(site: Path):
    names = [path.stem.replace("-", "/") for path in (site / "data").glob("concepts-*.js")]
    cards = [card for name in names for card in chunk(site, name).values()]
    shares = [[abs(row[7]) for row in card["relevance"]] for card in cards]
    assert sum(len(one) > 1 for one in shares) > 5 and all(one == sorted(one, reverse=True) for one in shares)


def test_accuracy_is_counted(site: Path):
    meta = chunk(site, "meta")
    assert meta["accuracy"] == [39, 40]
    assert [row[2:4] for row in meta["classes"]] == [[8, 7]] + [[8, 8]] * 4 + [[0, 0]]


def test_same_input_same_bytes(inputs: Inputs, site: Path, tmp_path: Path):
    build(inputs, tmp_path / "again")
    digests = [
        {p.relative_to(root): hashlib.sha256(p.read_bytes()).digest() for p in root.rglob("*") if p.is_file()}
        for root in (site, tmp_path / "again")
    ]
    assert digests[0] == digests[1]


def test_the_site_says_which_evaluation_it_shows(inputs: Inputs, site: Path, tmp_path: Path):
    build(dataclasses.replace(inputs, evaluation={}), tmp_path / "none")
    assert [shown_evaluation(folder) for folder in (site, tmp_path / "none", tmp_path)] == ["abc", "", ""]


def test_a_failed_build_leaves_the_old_site(inputs: Inputs, tmp_path: Path):
    out = tmp_path / "site"
    build(inputs, out)
    before = (out / "data" / "meta.js").read_bytes()
    with pytest.raises(UserError, match="no-such"):
        build(dataclasses.replace(inputs, kept=tmp_path / "no-such.parquet"), out)
    assert (out / "data" / "meta.js").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
    build(dataclasses.replace(inputs, title="second"), out)
    assert "second" in (out / "index.html").read_text()


def test_a_folder_that_is_no_site_is_not_replaced(inputs: Inputs, tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"thesis\.tex"):
        build(inputs, tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_a_table_of_another_version_is_refused(inputs: Inputs, tmp_path: Path):
    old = tables.read(inputs.kept).drop_columns(["support"])
    import pyarrow.parquet as pq

    pq.write_table(old, tmp_path / "kept.parquet")
    with pytest.raises(UserError, match="no column support"):
        build(dataclasses.replace(inputs, kept=tmp_path / "kept.parquet"), tmp_path / "site")


def test_a_missing_sheet_is_named(tmp_path: Path):
    inputs = write_results(tmp_path / "results", {"layer1.0": 16})
    next(inputs.exemplars["layer1.0"].glob("sheets/*.webp")).unlink()
    with pytest.raises(UserError, match=r"\.webp"):
        build(inputs, tmp_path / "site")


def test_the_title_is_escaped(inputs: Inputs, tmp_path: Path):
    build(dataclasses.replace(inputs, title=HOSTILE), tmp_path / "site")
    assert HOSTILE not in (tmp_path / "site" / "index.html").read_text()


def app_size(site: Path) -> int:
    return sum(path.stat().st_size for path in [site / "index.html", *(site / "app").iterdir()])


def test_the_app_is_within_its_budget(site: Path):
    assert app_size(site) <= 60_000


def test_the_first_view_is_within_its_budget(site: Path):
    first = ["meta", "class/0"]
    data = sum((site / "data" / f"{name.replace('/', '-')}.js").stat().st_size for name in first)
    assert data < 60_000 and app_size(site) + data < 1_000_000


@pytest.mark.parametrize("leads", [True, False])
def test_the_shortcut_is_found_if_any_concept_that_detects_it_leads(inputs: Inputs, tmp_path: Path, leads: bool):
    """The best detector of a part need not be the concept that the model uses."""
    layer = list(LAYERS)[-1]
    names = dict(zip(*(tables.read(inputs.classes)[key].to_pylist() for key in ("class", "label")), strict=True))
    kept = [
        row for row in tables.read(inputs.kept).to_pylist() if (row["scope"], row["layer"]) == (names["cheetah"], layer)
    ]
    first = min(kept, key=lambda row: row["rank"])["concept"]
    idle = next(concept for concept in range(LAYERS[layer]) if concept not in {row["concept"] for row in kept})
    detectors = [idle, first] if leads else [idle]
    columns = {
        "layer": [layer], "vectors": ["families"], "part": ["tag"], "best": [idle], "average_precision": [0.99],
        "prevalence": [0.01], "detectors": [detectors], "precisions": [[0.99, 0.7][: len(detectors)]],
    }  # fmt: skip
    tables.write(tmp_path / "alignment.parquet", "alignment", columns, "abc")
    build(dataclasses.replace(inputs, alignment=tmp_path / "alignment.parquet"), tmp_path / "site")
    truth = chunk(tmp_path / "site", "meta")["findings"][0]
    assert truth["truth"] and truth["found"] is leads
    assert [node[1] for node in truth["nodes"]] == ([first] if leads else [idle])


def test_an_edge_far_out_is_counted_and_squeezes_no_dots(inputs: Inputs, site: Path, tmp_path: Path):
    rows = tables.read(inputs.edges).to_pylist()
    last = next(row for row in rows if row["shown"] and row["target_layer"] == CLASSES and np.isfinite(row["ablation"]))
    last["mean"] *= 1e6
    edges = tmp_path / "edges.parquet"
    tables.write(edges, "edges", {key: [row[key] for row in rows] for key in rows[0]}, "abc")
    build(dataclasses.replace(inputs, edges=edges), tmp_path / "site")
    before, after = (
        next(part["panels"] for chapter in chunk(root, "evidence") for part in chapter["parts"]
             if part["title"] == "GIG beside exact ablation")
        for root in (site, tmp_path / "site")
    )  # fmt: skip
    changed = [(one, two) for one, two in zip(before, after, strict=True) if one[0] != two[0]]
    ((one, two),) = changed
    assert two[0] == f"{one[0]} (1 further out)"
    assert max(abs(x) for _, dots in two[1] for x, _ in dots) < 1e3


def test_the_site_names_the_attribution_method(inputs: Inputs, site: Path, tmp_path: Path):
    build(dataclasses.replace(inputs, attribution="gradient_x_input"), tmp_path / "site")
    for root, name, other in ((site, "GIG", "gradient × input"), (tmp_path / "site", "gradient × input", "GIG")):
        words = [(chapter["title"], chapter["note"], [(part["title"], part["note"]) for part in chapter["parts"]])
                 for chapter in chunk(root, "evidence")]  # fmt: skip
        assert name in str(words) and other not in str(words)
        assert chunk(root, "meta")["gig"] == name
    assert "GIG" not in (site / "app" / "app.js").read_text()  # it says what it finds there


def test_images_of_several_shards_make_the_same_site(inputs: Inputs, site: Path, tmp_path: Path, monkeypatch):
    def halves(path: Path) -> list[Path]:
        table = pl.DataFrame(pl.from_arrow(tables.read(path)))
        # images of every class in both
        masks = table["image_id"] % 2 == 1, table["image_id"] % 2 == 0
        found = [tmp_path / f"{i}-{path.parent.name}-{path.name}" for i in range(2)]
        for part, mask in zip(found, masks, strict=True):
            pq.write_table(table.filter(mask).to_arrow().cast(pq.read_schema(path)), part)
        return found

    of = {key: halves(paths[0]) for key, paths in inputs.attributions.items()}
    where = {layer: halves(paths[0]) for layer, paths in inputs.coefficients.items()}
    monkeypatch.setattr(image_graphs, "AT_ONCE", 4)
    build(dataclasses.replace(inputs, attributions=of, coefficients=where), tmp_path / "site")
    mine, whole = (
        {path.name: path.read_text() for path in (root / "data").iterdir()} for root in (tmp_path / "site", site)
    )
    assert sum(name.startswith("image-") for name in mine) == 15
    # what sums up all attributions takes a median of them in another order
    assert {name for name in mine.keys() | whole.keys() if mine.get(name) != whole.get(name)} <= {"evidence.js"}


def test_the_site_is_the_same_whether_undrawn_edges_are_held_or_not(inputs: Inputs, site: Path, monkeypatch):
    read = Graph.read(inputs)
    monkeypatch.setattr(graph_tables, "_drawn", lambda edges, pair, near: edges)
    whole = Graph.read(inputs)
    assert len(read.edges) < len(whole.edges) and read.edges.columns == whole.edges.columns
    assert read.count == whole.count == (whole.edges["source"] >= 0).sum()
    everywhere = read.kept.with_columns(scope=pl.lit(-1, pl.Int32))
    for kept in (read.kept.filter(pl.col("scope") >= 0), everywhere):
        assert neighbours(read, kept, read.edges) == neighbours(whole, kept, whole.edges)
    for one, other in ((read.kept, whole.kept), (read.members, whole.members)):
        assert one.equals(other)
    for layer in LAYERS:
        assert read.relevance(layer).equals(whole.relevance(layer))


def test_without_any_picture_there_is_a_site(inputs: Inputs, tmp_path: Path):
    build(dataclasses.replace(inputs, exemplars={}, picture=None), tmp_path / "site")
    assert [row[7] for row in chunk(tmp_path / "site", "meta")["classes"]] == [[]] * len(NAMES)


def test_no_image_needs_a_graph_of_its_own(tmp_path):
    inputs = dataclasses.replace(write_results(tmp_path / "results"), images_per_class=0)
    build(inputs, tmp_path / "site")
    assert not list((tmp_path / "site" / "data").glob("image*"))
    assert chunk(tmp_path / "site", "class/0")["layers"]


def test_what_is_no_number_is_null_on_the_page():
    """Where a network says the same of every image nothing is attributed, and its shares are NaN."""
    nan, inf = float("nan"), float("inf")
    text = script_json({"a": [1.5, nan, [inf, "nan"]], "b": {"c": (-inf, None, 2)}})
    assert json.loads(text) == {"a": [1.5, None, [None, "nan"]], "b": {"c": [None, None, 2]}}


def test_the_comparison_says_what_each_measure_is_and_whether_it_can_be_trusted(site: Path):
    chapters = {chapter["title"]: chapter["parts"] for chapter in chunk(site, "evidence")}
    parts = {part["title"]: part for part in chapters["Which extractor, reading and coder?"]}
    precision = parts["Average precision of each part's best concept"]
    assert precision["note"].startswith("The concept, chosen on half")
    assert "Of bisecting, it rates" in precision["note"] and "probability of 0.90." in precision["note"]
    assert precision["head"][:2] == ["method", "reading"] and precision["rows"][0][:2] == ["bisecting", "cosine"]
    assert precision["rows"][0][2][0] == pytest.approx(0.6)  # of the trained network alone
    (lead,) = parts["Average precision of each part's best concept: lead over random PFVs, paired"]["rows"]
    difference = np.array([0.1, 0.0, 0.2])
    assert lead[0] == "bisecting" and lead[2][0] == pytest.approx(difference.mean())
    assert lead[2][1] == pytest.approx(difference.std(ddof=1) / 3**0.5, rel=1e-3)
    error = parts["Relative l2 error of whole maps"]
    marked = [row[:2] for row in error["rows"]]
    assert marked == [["bisecting", "lasso (alike when shuffled)"], ["random", "lasso"]]  # of random nothing is known
    assert "not run on the shuffled network are not judged" in error["note"]
    compared, reconstruction, classes = (table["rows"] for table in chapters["Which measures can be trusted?"])
    told = {row[0]: row[1] for row in compared}
    assert told == {
        f"{precision['title']}, cosine": "better here",
        "Relative l2 error of whole maps, lasso": "alike when shuffled",
    }
    assert compared[0][2:] == [pytest.approx(0.9)] * len(LAYERS)
    shuffled = ["Relative l2 error of held-out PFVs", "better when shuffled", *[pytest.approx(0.2)] * len(LAYERS)]
    assert reconstruction == [shuffled]
    assert classes == [["C-muFidelity", "not judged", *[None] * len(LAYERS)]]
    notes = {chapter["title"]: chapter["note"] for chapter in chunk(site, "evidence")}
    assert "says the same of every image" in notes["Which measures can be trusted?"]
    assert sum("says the same of every image" in note for note in notes.values()) == 1
    assert "nearer to linear" in notes["Do they carry the decision?"]


def test_a_measure_is_not_marked_by_another_that_begins_so():
    """As the number of tag concepts, which is judged by nothing, by the share that they hold."""
    rows = [{"method": "a", "topic": "truth", "metric": metric, "row": "", "layer": "l", "auc": 0.1, "n": 20}
            for metric in ("tag_concepts_share", "purity")]  # fmt: skip
    told = pl.DataFrame(rows)
    assert not evidence._of(told, "truth", "tag_concepts")
    assert [row["metric"] for row in evidence._of(told, "truth", "tag", begins=True)] == ["tag_concepts_share"]


def test_a_table_on_evidence_names_the_file_that_it_is_of_and_begins_with_what_decides(site: Path, inputs: Inputs):
    parts = [part for section in chunk(site, "evidence") for part in section["parts"]]
    (mine,) = [part for part in parts if part["title"] == "Reconstruction of the attributed images"]
    assert mine["file"].endswith("/evaluation/reconstruction.parquet") and "METHOD" not in str(parts)
    assert all(name in mine["note"] for name in ("logit", "unseen", "rel_l2", "l0_ratio", "twins"))
    assert mine["head"][:2] == ["layer", "images"] and "unseen_logit" in mine["head"][:7]
    assert mine["head"][7:9] == ["rel_l2", "nonzeros"] and mine["head"][-1] == "twins"
    certificates = [name for name in mine["head"] if name in ("stationarity", "gap")]
    assert mine["head"][-1 - len(certificates) : -1] == certificates


def test_evidence_begins_with_what_was_found_by_the_evaluation_or_else_by_the_run(site: Path, inputs: Inputs, tmp_path):
    first, *_ = chunk(site, "evidence")
    frames = {topic: pl.read_parquet(path) for topic, path in inputs.evaluation.items()}
    told = judged(frames["sanity"], "bisecting", "gig", inputs.shortcut)
    sentences = conclusions(frames, told, "bisecting", "gig")
    assert sentences and first == {
        "title": "What was found",
        "note": "\n".join(f"{one.partition('; ')[0].removesuffix('.')}." for one in sentences),
        "parts": [],
    }
    build(dataclasses.replace(inputs, evaluation={}), tmp_path / "site")
    first, second, *_ = chunk(tmp_path / "site", "evidence")
    assert first["title"] == "What was found" and second["title"] == "The evaluation"
    rows = pl.read_parquet(inputs.reconstruction)
    assert f"On {rows['images'].max()} attributed images" in first["note"]
    assert f"on {rows['unseen_images'].max()} images, few, that no concept was found on they keep" in first["note"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [({"size": 0.0, "score": 0.91}, "With no concept at all the network still gives a probability of 0.91 of 0.95, "),
     ({"elsewhere": 0.7}, "It says as much of other classes' images: it is no circuit of this class."),
     ({"elsewhere": 0.5}, "0.50 over 3 of other classes; all the other families without them give 0.08.")],
)  # fmt: skip
def test_a_circuit_that_is_none_of_the_class_is_said_to_be_none(inputs: Inputs, tmp_path: Path, changed, words):
    (path,) = inputs.circuits["circuits"]
    rows = pl.read_parquet(path)
    mine = (pl.col("scope") == 0) & (pl.col("order") == "pruned")
    rows = rows.with_columns(
        pl.when(mine).then(pl.lit(value)).otherwise(pl.col(name)).cast(rows.schema[name]).alias(name)
        for name, value in changed.items()
    )
    rows.write_parquet(tmp_path / "circuits.parquet")
    circuits = {**inputs.circuits, "circuits": [tmp_path / "circuits.parquet"]}
    build(dataclasses.replace(inputs, circuits=circuits), tmp_path / "site")
    assert words in chunk(tmp_path / "site", "class/0")["circuit"]["said"]


def test_what_a_network_rates_says_of_whose_concepts_and_whether_it_is_enough():
    row = {"method": "a", "topic": "edges", "metric": "correlation_all", "row": "", "layer": "all layers"}
    row |= {"auc": 0.25, "n": 4}
    words = evidence._said([row])
    assert words.startswith("Of a, it rates")
    assert words.endswith("in a share of 0.25 of the layers or pairs: too few numbers to judge.")
    assert "too few" in evidence._said([{**row, "row": name} for name in "pqr"])  # each by itself
    assert evidence._said([{**row, "layer": "l", "n": 20}]).endswith("with a probability of 0.25.")
    assert evidence._said([{**row, "auc": None}]).startswith("Not judged: of a,") and not evidence._said([])


def test_a_class_says_what_it_carries_alone(inputs: Inputs, site: Path, tmp_path: Path):
    found = chunk(site, "class/0")["circuit"]
    assert found["said"] == (
        "Run alone, 9 of 122 families (128 concepts) give the class a probability of 0.77 (the network: 0.95) over 3 "
        "of its images, 0.13 over 3 of other classes; all the other families without them give 0.08."
    )
    assert found["series"] == ["GIG", "gradient × input", "random"]
    assert "9 by GIG" in found["how"] and "the mean over the data" in found["how"] and "dropped" in found["how"]
    ((title, curves),) = found["panels"]
    assert title == "Probability by number of families" and [size for size, *_ in curves[0][1]] == [0, 4, 20, 122]
    members = [row for row in tables.read(inputs.circuits["circuit_members"][0]).to_pylist() if row["scope"] == 0]
    rank = {f"{list(LAYERS).index(row['layer'])}:{row['concept']}": row["rank"] for row in members}
    nodes = [f"{i}:{node[0]}" for i, layer in enumerate(chunk(site, "class/0")["layers"]) for node in layer]
    sizes = {"": 1000, "smallest": 9, "0": 0, "4": 4, "20": 20, "122": 122}
    assert [stop[0] for stop in found["stops"]] == list(sizes)
    for (_, words, out), size in zip(found["stops"], sizes.values(), strict=True):
        assert sorted(out) == sorted(key for key in nodes if rank[key] >= size), words
    none = chunk(site, "class/1")["circuit"]
    assert none["said"].startswith("No circuit of the 122 families alone keeps as much") and len(none["stops"]) == 5
    assert "circuit" not in chunk(site, "class/2")
    build(dataclasses.replace(inputs, circuits={}), tmp_path / "older")
    assert "circuit" not in chunk(tmp_path / "older", "class/0")


def test_a_circuit_of_single_concepts_marks_the_families_that_they_are_of(inputs: Inputs, tmp_path: Path):
    rows = tables.read(inputs.circuits["circuit_members"][0]).to_pylist()
    first = next(row for row in rows if (row["scope"], row["layer"], row["concept"]) == (0, "layer3.1", 0))
    rows.append({**first, "concept": 30, "rank": 0, "smallest": True})  # a member of family 0
    path = tmp_path / "members.parquet"
    tables.write(path, "circuit_members", {key: [row[key] for row in rows] for key in rows[0]}, "abc")
    build(dataclasses.replace(inputs, circuits={**inputs.circuits, "circuit_members": [path]}), tmp_path / "site")
    four = next(stop for stop in chunk(tmp_path / "site", "class/0")["circuit"]["stops"] if stop[0] == "4")
    assert "2:0" not in four[2]
