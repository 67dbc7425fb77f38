"""Tiles: the square that holds the iERF, what is lit and what is dimmed, and token maps."""

import numpy as np
from PIL import Image

from gigraph.images.tiles import CONTEXT, dim, exemplar_tile, field_weights, sheet, spread_box


def test_the_box_holds_the_share_of_the_mass_and_lies_in_the_image():
    rng = np.random.default_rng(0)
    for _ in range(20):
        field = np.zeros((40, 30))
        y, x = rng.integers(0, 40), rng.integers(0, 30)
        field[max(0, y - 4) : y + 5, max(0, x - 4) : x + 5] = rng.random()
        left, top, right, bottom = spread_box(field, share=0.9, least=6)
        assert 0 <= left < right <= 30 and 0 <= top < bottom <= 40 and right - left == bottom - top
        assert field[top:bottom, left:right].sum() >= 0.75 * field.sum()


def test_the_box_is_what_sorting_the_pixels_by_their_distance_gives():
    rng = np.random.default_rng(1)
    for _ in range(30):
        height, width = rng.integers(20, 60, 2)
        field = rng.random((height, width)) ** rng.integers(1, 12)
        rows, columns = np.mgrid[:height, :width]
        cy, cx = (field * rows).sum() / field.sum(), (field * columns).sum() / field.sum()
        distance = np.maximum(np.abs(rows - cy), np.abs(columns - cx)).ravel()
        order = np.argsort(distance, kind="stable")
        half = distance[order][np.searchsorted(np.cumsum(field.ravel()[order]), 0.6 * field.sum())] + 0.5
        left, top, right, bottom = spread_box(field, share=0.6, least=2)
        assert right - left == bottom - top == min(round(2 * half), height, width)
        assert left == np.clip(round(cx + 0.5 - (right - left) / 2), 0, width - right + left)
        assert top == np.clip(round(cy + 0.5 - (bottom - top) / 2), 0, height - bottom + top)


def test_an_empty_field_shows_the_whole_image():
    assert spread_box(np.zeros((5, 7))) == (0, 0, 7, 5)
    assert not field_weights(np.zeros((5, 7)), 1).any()


def test_what_is_outside_the_field_is_dimmed_and_what_is_inside_is_not():
    image = Image.new("RGB", (32, 32), (200, 100, 50))
    weights = np.zeros((32, 32))
    weights[8:24, 8:24] = 1
    lit = np.asarray(dim(image, weights)).astype(int)
    assert lit[16, 16].tolist() == [200, 100, 50]
    assert lit[0, 0].max() <= CONTEXT * 200


def test_a_tile_is_cut_around_the_pfvs_own_pixels():
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[40:56, 8:24] = (255, 255, 255)
    relevance = np.zeros((64, 64))
    relevance[44:52, 12:20] = 1
    tile, (left, top, right, bottom) = exemplar_tile(Image.fromarray(pixels), relevance, 48)
    assert tile.size == (48, 48)
    assert left <= 12 and right >= 20 and top <= 44 and bottom >= 52 and right - left < 64
    assert np.asarray(tile).mean() > pixels.mean()


def test_a_sheet_leaves_missing_tiles_black():
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    page = np.asarray(sheet([[red], [red, red]], 2, 4))
    assert page.shape == (8, 8, 3) and not page[:4, 4:].any() and (page[4:, :, 0] == 255).all()
