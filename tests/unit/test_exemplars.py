"""Which PFVs picture a concept, how their tiles are laid out, and where a class's concepts are in its images."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from gigraph import exemplars as module
from gigraph.exemplars import PER_SHEET, Coded, Sample, exemplars, localisation, nearest, relevance_to_own_class, tiles
from gigraph.images.preprocessing import Preprocessing
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
    monkeypatch.setattr(module, "tiles", lambda *given: (given[3].tolist(), [[0, 0, 1, 1]] * len(given[3])))
    sample = a_sample(tmp_path)
    vectors = np.random.default_rng(1).normal(size=(2 * PER_SHEET, 3)).astype(np.float32)
    concepts = list(range(3, PER_SHEET + 5))
    columns, pages = exemplars(None, "a", sample, vectors, concepts, count=2, side=8, method="srd")
    assert list(pages) == ["sheets/concepts-000.webp", "sheets/concepts-001.webp"]
    assert [len(page) for page in pages.values()] == [PER_SHEET, 2]
    assert set(columns) == set(SCHEMAS["exemplars"].names)
    assert columns["concept"].tolist() == np.repeat(concepts, 2).tolist()
    cosine = sample.pfvs @ vectors.T / np.linalg.norm(sample.pfvs, axis=1)[:, None] / np.linalg.norm(vectors, axis=1)
    for e in range(len(columns["concept"])):
        row = pages[columns["sheet"][e]][columns["row"][e]][columns["column"][e]]
        assert columns["cosine"][e] == pytest.approx(cosine[row, columns["concept"][e]], abs=1e-6)
        assert (columns["image_id"][e], columns["y"][e], columns["x"][e]) == (row // 2, row // 4, row % 4)
        assert columns["path"][e] == f"{row // 2}.png" and columns["label"][e] == row // 2 % 2
    best = np.array(columns["cosine"]).reshape(-1, 2)
    assert (best[:, 0] >= best[:, 1]).all() and np.allclose(best[:, 0], cosine[:, concepts].max(0), atol=1e-6)


def test_without_concepts_there_are_neither_exemplars_nor_sheets(tmp_path):
    subject = SimpleNamespace(images=lambda *_: iter(()), images_at_once=4, layers={"a": SimpleNamespace(width=4)})
    columns, pages = exemplars(
        subject, "a", a_sample(tmp_path), np.ones((2, 3), np.float32), [], count=2, side=8, method="srd"
    )
    assert pages == {} and {len(column) for column in columns.values()} == {0}


def test_a_box_is_in_pixels_of_the_file(monkeypatch, tmp_path):
    """The network sees the middle half of a picture twice as wide as high, at half its size."""
    for i in range(3):
        Image.fromarray(np.full((64, 128, 3), 60 * i, np.uint8)).save(tmp_path / f"{i}.png")
    asked = []

    def fields(network, layer, batch, positions, method):
        asked.append(positions.tolist())
        found = torch.zeros(len(batch), 32, 32)
        found[:, 20:28, 4:12] = 1
        return found

    monkeypatch.setattr(module, "receptive_fields", fields)
    seen = Preprocessing(resize=32, crop=32)
    subject = SimpleNamespace(
        layers={"a": SimpleNamespace(width=4)}, images_at_once=2, device=torch.device("cpu"), network=None,
        preprocessing=seen, images=lambda folder, ids, paths: iter([(slice(0, 2), [0] * 2), (slice(2, 3), [0])]),
    )  # fmt: skip
    cut, boxes = tiles(subject, "a", a_sample(tmp_path), np.array([5, 2, 0]), 16, "srd")
    assert asked == [[5, 2], [0]]  # y width + x
    assert [tile.size for tile in cut] == [(16, 16)] * 3
    assert [round(np.asarray(tile).mean() / 60) for tile in cut] == [2, 1, 0]
    left, top, right, bottom = boxes[0]
    assert 32 <= left <= 40 and right - left == bottom - top and top <= 40 and bottom >= 56 and right <= 96


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
