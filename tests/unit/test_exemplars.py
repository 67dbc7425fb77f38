"""Which PFVs picture a concept, how their tiles are laid out, and where a class's concepts are in its images."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from gigraph import exemplars as module
from gigraph.attributors.gig import attribute
from gigraph.attributors.path import ConceptPath
from gigraph.exemplars import (
    PER_SHEET,
    Coded,
    Sample,
    by_response,
    enlarged,
    exemplars,
    localisation,
    matters_in,
    most_relevant,
    nearest,
    relevance_to_own_class,
    tiles,
)
from gigraph.images.preprocessing import Preprocessing
from gigraph.method.gig import Batch, Decomposition, class_score
from gigraph.method.reading import reading, spread_of
from gigraph.records.schemas import SCHEMAS


def test_the_nearest_are_of_different_images_and_the_first_of_equals_comes_first():
    cosines = np.array([0.1, 0.9, 0.8, 0.9, 0.5, 0.7])
    images = np.array([1, 2, 2, 3, 1, 4])
    assert nearest(cosines, images, 3).tolist() == [1, 3, 5]
    assert nearest(cosines, images, 9).tolist() == [1, 3, 5, 4]
    assert nearest(cosines[:0], images[:0], 3).tolist() == []


def a_sample(folder, n=6, channels=3):
    """PFVs of three images, two of each."""
    pfvs = np.random.default_rng(0).normal(size=(n, channels)).astype(np.float32)
    images = {i: {"path": f"{i}.png", "label": i % 2} for i in range(3)}
    where = np.arange(n, dtype=np.int32)
    return Sample(pfvs, np.repeat(np.arange(3), 2), where // 4, where % 4, images, folder)


def test_sheets_hold_so_many_concepts_and_the_columns_say_where_each_tile_is(monkeypatch, tmp_path):
    asked = []

    def cut(subject, layer, sample, rows, side, method):
        asked.extend(rows.tolist())
        return {row: (row, [0, 0, 1, row]) for row in rows.tolist()}

    monkeypatch.setattr(module, "tiles", cut)
    sample = a_sample(tmp_path)
    vectors = np.random.default_rng(1).normal(size=(2 * PER_SHEET, 3)).astype(np.float32)
    concepts = list(range(3, PER_SHEET + 5))
    pictured = [
        by_response("concepts", vectors, concepts, reading("cosine", vectors), sample, 2),
        by_response("members", -vectors, [0, 9], reading("cosine", -vectors), sample, 1),
    ]
    columns, pages = exemplars(None, "a", sample, pictured, side=8, method="srd")
    assert len(asked) == len(set(asked)) <= 6  # a PFV that is near to several directions is cut once
    assert list(pages) == ["sheets/concepts-000.webp", "sheets/concepts-001.webp", "sheets/members-000.webp"]
    assert [len(page) for page in pages.values()] == [PER_SHEET, 2, 2]
    assert list(columns) == SCHEMAS["exemplars"].names
    assert columns["concept"] == [*np.repeat(concepts, 2).tolist(), 0, 9]
    cosine = sample.pfvs @ vectors.T / np.linalg.norm(sample.pfvs, axis=1)[:, None] / np.linalg.norm(vectors, axis=1)
    for e in range(len(columns["concept"])):
        row = pages[columns["sheet"][e]][columns["row"][e]][columns["column"][e]]
        sign = -1 if columns["sheet"][e].startswith("sheets/members") else 1
        assert columns["cosine"][e] == pytest.approx(sign * cosine[row, columns["concept"][e]], abs=1e-6)
        assert (columns["image_id"][e], columns["y"][e], columns["x"][e]) == (row // 2, row // 4, row % 4)
        assert columns["path"][e] == f"{row // 2}.png" and columns["label"][e] == row // 2 % 2
        assert columns["box"][e] == [0, 0, 1, row] and columns["rank"][e] == columns["column"][e]
    assert set(columns["by"]) == {"response"}
    np.testing.assert_allclose(columns["value"], columns["cosine"], atol=1e-6)
    best = np.array(columns["cosine"][: 2 * len(concepts)]).reshape(-1, 2)
    assert (best[:, 0] >= best[:, 1]).all() and np.allclose(best[:, 0], cosine[:, concepts].max(0), atol=1e-6)


def test_without_concepts_there_are_neither_exemplars_nor_sheets(tmp_path):
    subject = SimpleNamespace(images=lambda *_: iter(()), images_at_once=4, layers={"a": SimpleNamespace(width=4)})
    ones = np.ones((2, 3), np.float32)
    pictured = [by_response("concepts", ones, [], reading("cosine", ones), a_sample(tmp_path), 2)]
    columns, pages = exemplars(subject, "a", a_sample(tmp_path), pictured, side=8, method="srd")
    assert pages == {} and {len(column) for column in columns.values()} == {0}


def test_an_image_is_read_and_run_once_for_all_its_tiles_and_a_box_is_in_pixels_of_the_file(monkeypatch, tmp_path):
    """The network sees the middle half of a picture twice as wide as high, at half its size."""
    for i in range(3):
        Image.fromarray(np.full((64, 128, 3), 60 * i, np.uint8)).save(tmp_path / f"{i}.png")
    asked, given = [], []

    def fields(network, layer, batch, positions, method):
        asked.append(positions.tolist())
        found = torch.zeros(*positions.shape, 32, 32)
        found[:, 0, 20:28, 4:12] = found[:, 1:, 4:12, 20:28] = 1
        return found

    def images(folder, ids, paths):
        given.append((ids, paths))
        return iter([(slice(0, 2), [0] * 2), (slice(2, 3), [0])])

    monkeypatch.setattr(module, "receptive_fields", fields)
    subject = SimpleNamespace(
        layers={"a": SimpleNamespace(width=4)}, images_at_once=2, device=torch.device("cpu"), network=None,
        preprocessing=Preprocessing(resize=32, crop=32), images=images,
    )  # fmt: skip
    cut = tiles(subject, "a", a_sample(tmp_path), np.array([0, 2, 4, 5]), 16, "srd")
    assert given == [([0, 1, 2], ["0.png", "1.png", "2.png"])]
    assert asked == [[[0], [2]], [[4, 5]]]  # y width + x
    assert list(cut) == [0, 2, 4, 5] and {tile.size for tile, _ in cut.values()} == {(16, 16)}
    assert [round(np.asarray(tile).mean() / 60) for tile, _ in cut.values()] == [0, 1, 2, 2]
    for row in (0, 2, 4):
        left, top, right, bottom = cut[row][1]
        assert 32 <= left <= 40 and right - left == bottom - top and top <= 40 and bottom >= 56 and right <= 96
    assert cut[5][1][0] > 56 and cut[5][1][1] <= 8


def test_images_with_fewer_tiles_fill_a_batch_with_none(monkeypatch, tmp_path):
    for i in range(3):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / f"{i}.png")
    asked = []

    def fields(network, layer, batch, positions, method):
        asked.append(positions.tolist())
        return torch.ones(*positions.shape, 8, 8)

    monkeypatch.setattr(module, "receptive_fields", fields)
    subject = SimpleNamespace(
        layers={"a": SimpleNamespace(width=4)}, images_at_once=3, device=torch.device("cpu"), network=None,
        preprocessing=Preprocessing(), images=lambda folder, ids, paths: iter([(slice(0, 2), [0] * 2)]),
    )  # fmt: skip
    assert set(tiles(subject, "a", a_sample(tmp_path), np.array([0, 1, 4]), 16, "srd")) == {0, 1, 4}
    assert asked == [[[4, -1], [0, 1]]]


def test_concepts_are_located_where_they_matter_most_for_the_class():
    rows = [
        {"image_id": i, "label": label, "target": target, "sources": [4, 7], "values": values}
        for i, label, target, values in (
            (10, 0, 0, [0.5, 0.1]), (10, 0, 1, [9.0, 9.0]), (11, 0, 0, [0.9, 0.2]), (12, 1, 1, [0.3, 0.4]),
        )
    ]  # fmt: skip
    relevance = relevance_to_own_class(rows)
    assert relevance[0, 4] == [(0.5, 10), (0.9, 11)] and relevance[1, 7] == [(0.4, 12)]
    kept = [{"scope": scope, "concept": concept, "rank": rank} for scope, concept, rank in (
        (1, 7, 0), (0, 7, 1), (0, 4, 0), (-1, 4, 0), (1, 5, 1),
    )]  # fmt: skip
    # Two positions an image; concept 4 in the first of each, 7 in both of the last.
    coded = Coded(
        np.array([10, 11, 12]), np.array([0, 1, 1, 2, 2, 4, 5]), np.array([4, 4, 4, 7, 7]), np.arange(1.0, 6.0), 2
    )
    assert coded.map(12, 7).tolist() == [4, 5] and coded.map(11, 7).tolist() == [0, 0]
    found = localisation(kept, relevance, coded, {10: "a", 11: "b", 12: "c"}, 1)
    assert list(zip(found["scope"], found["concept"], found["image_id"], found["path"], strict=True)) == [
        (0, 4, 11, "b"), (0, 7, 11, "b"), (1, 7, 12, "c"),
    ]  # fmt: skip
    assert found["relevance"] == [0.9, 0.2, 0.4] and found["coefficient"] == [2, 0, 5]
    assert [one.tolist() for one in found["map"]] == [[2, 0], [0, 0], [4, 5]]


@pytest.mark.parametrize("kind", ["projection", "filter"])
def test_other_readings_rank_otherwise(tmp_path, kind):
    sample = a_sample(tmp_path, n=60)
    sample = replace(sample, image_id=np.arange(60))
    vectors = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    read = reading(kind, vectors, spread_of(sample.pfvs))
    found = by_response("concepts", vectors, [1, 3], read, sample, 5)
    for concept in (1, 3):
        response = read(sample.pfvs)[:, concept]
        np.testing.assert_array_equal(found.rows[concept], np.argsort(-response, kind="stable")[:5])
        np.testing.assert_allclose(found.values[concept], np.sort(response)[::-1][:5], rtol=1e-5)


def test_maps_of_relevance_add_up_to_the_attribution_and_are_the_literal_integral():
    """Eq. 5 before its sum over positions: u_pq v_q . D_p, D by the same midpoints."""
    torch.manual_seed(0)
    positions, channels, concepts, steps = 5, 4, 6, 8
    weights = torch.randn(positions * channels, 3)
    segment = lambda x: x.flatten(1).relu() @ weights  # noqa: E731
    u = torch.rand(positions, 3) * (torch.rand(positions, 3) < 0.7)
    image = Decomposition(torch.tensor([0, 2, 5]), u)
    vectors, start = torch.randn(concepts, channels), torch.randn(channels)
    path = ConceptPath(
        segment=segment, score=class_score("logit"), vectors=vectors, start=start, room=Batch(64),
        steps=steps, max_steps=steps, tolerance=0.0, precision="float32",
    )  # fmt: skip
    pair = SimpleNamespace(path=path)
    ((active, maps),) = module.relevance_maps(pair, [image], [1], steps)
    literal = np.zeros((positions, 3))
    for s in range(steps):
        x = (start + (s + 0.5) / steps * (u @ vectors[active])).requires_grad_()
        segment(x[None])[0, 1].backward()
        for p in range(positions):
            for q, concept in enumerate(active.tolist()):
                literal[p, q] += float(u[p, q] * (vectors[concept] @ x.grad[p])) / steps
    np.testing.assert_allclose(maps, literal, rtol=1e-4, atol=1e-5)
    (whole,) = attribute(path, [image], torch.tensor([[1]]))
    np.testing.assert_allclose(maps.sum(0), whole.values[0].numpy(), rtol=1e-4, atol=1e-5)
    ((_, at_x),) = module.relevance_maps(pair, [image], [1], 0)
    assert not np.allclose(at_x, maps)
    # Of several images at once, whatever has room, as of each alone.
    others = [Decomposition(torch.tensor([1, 3]), torch.rand(positions, 2)), image]
    alone = [next(module.relevance_maps(pair, [one], [to], steps))[1] for one, to in zip(others, (2, 0), strict=True)]
    for points in (3, 8, 17, 64):
        some = SimpleNamespace(path=replace(path, room=Batch(points)))
        found = [maps for _, maps in module.relevance_maps(some, [image, *others], [1, 2, 0], steps)]
        for one, expected in zip(found, [maps, *alone], strict=True):
            np.testing.assert_allclose(one, expected, rtol=1e-5, atol=1e-6)


def test_maps_of_responses_take_the_place_of_coefficients():
    kept = [{"scope": 0, "concept": 4, "rank": 0}]
    coded = Coded(np.array([7]), np.array([0, 1, 2]), np.array([4, 4]), np.array([0.5, 2.0]), 2)
    of = {(0, 4): [(0.3, 7)]}
    plain = localisation(kept, of, coded, {7: "a.png"}, 1)
    other = localisation(kept, of, coded, {7: "a.png"}, 1, lambda image, concept: np.array([image, concept]))
    np.testing.assert_array_equal(plain["map"][0], [0.5, 2.0])
    np.testing.assert_array_equal(other["map"][0], [7, 4])
    assert plain["coefficient"] == other["coefficient"] == [2.0]


def test_a_family_is_pictured_where_its_members_together_matter_most_once_an_image():
    relevance = {
        (0, 3): [(0.5, 10), (-1.0, 11), (0.9, 12)],
        (1, 3): [(0.1, 13)],
        (0, 4): [(2.0, 10)],
        (0, 5): [(9.0, 11)],
    }
    wanted = matters_in(relevance, [3, 4], 1)
    assert wanted == {12: {3}, 13: {3}, 10: {4}}
    assert matters_in(relevance, [3], 3) == {12: {3}, 10: {3}, 13: {3}}
    ones = np.array([[1.0, 0.0, 5.0], [0.6, 0.6, 0.0]])  # two positions; members of family 3, and one of family 4
    maps = [(12, np.array([3, 3, 4]), ones), (13, np.array([3, 3, 4]), 2 * ones), (10, np.array([4, 3, 3]), ones)]
    found = most_relevant(maps, wanted, 1)
    assert found == {3: [(2.4, 13, 1)], 4: [(1.0, 10, 0)]}
    assert most_relevant(maps[:2], wanted, 5)[3] == [(2.4, 13, 1), (1.2, 12, 1)]


def test_a_pfv_that_was_drawn_is_not_taken_a_second_time(tmp_path):
    sample, asked = a_sample(tmp_path), []  # of images 0, 0, 1, 1, 2, 2 at positions 0 to 5

    def pfvs(spots):
        asked.extend(spots)
        return np.full((len(spots), 3), 9, np.float32)

    larger, row_of = enlarged(sample, {(1, 3), (2, 0), (7, 6)}, 4, pfvs, {7: {"path": "7.png"}})
    assert asked == [(2, 0), (7, 6)]
    assert [row_of[spot] for spot in ((1, 3), (2, 0), (7, 6))] == [3, 6, 7]
    np.testing.assert_array_equal(larger.pfvs[:6], sample.pfvs)
    assert (larger.pfvs[6:] == 9).all() and larger.image_id[6:].tolist() == [2, 7]
    assert larger.y[6:].tolist() == [0, 1] and larger.x[6:].tolist() == [0, 2]
    assert larger.images[7] == {"path": "7.png"} and larger.images[0] == sample.images[0]
