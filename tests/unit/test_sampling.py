"""PFV sampling: frequencies, keyed streams, and the fallback."""

import numpy as np
from scipy.stats import chisquare

from gigraph.method.sampling import draw_positions


def draw(contribution, count=1, seed=0, layer="a", ids=None):
    contribution = np.asarray(contribution, np.float32)
    ids = np.arange(len(contribution)) if ids is None else ids
    return draw_positions(contribution, count, seed=seed, image_ids=ids, layer=layer)


def test_a_position_is_drawn_in_proportion_to_its_positive_contribution():
    r = np.array([4.0, -3.0, 1.0, 0.0, 2.0, 3.0])
    position, fallback = draw(np.tile(r, (20000, 1)))
    counts = np.bincount(position[:, 0], minlength=6)
    assert counts[1] == counts[3] == 0 and not fallback.any()
    positive = r > 0
    assert chisquare(counts[positive], 20000 * r[positive] / r[positive].sum()).pvalue > 1e-4


def test_the_second_draw_is_in_proportion_among_the_rest():
    r = np.array([1.0, 2.0, 3.0])
    position, _ = draw(np.tile(r, (30000, 1)), count=2)
    expected = np.array([[0 if i == j else r[i] / 6 * r[j] / (6 - r[i]) for j in range(3)] for i in range(3)])
    counts = np.zeros((3, 3))
    np.add.at(counts, (position[:, 0], position[:, 1]), 1)
    off = ~np.eye(3, dtype=bool)
    assert (counts[~off] == 0).all()
    assert chisquare(counts[off], 30000 * expected[off]).pvalue > 1e-4


def test_without_positive_contribution_the_draw_is_uniform_and_flagged():
    position, fallback = draw(np.full((20000, 5), -1.0))
    assert fallback.all()
    assert chisquare(np.bincount(position[:, 0], minlength=5)).pvalue > 1e-4


def test_when_positive_positions_run_out_the_rest_is_flagged():
    position, fallback = draw([[0, 5, -1, 0]], count=3)
    assert position[0, 0] == 1 and fallback[0].tolist() == [False, True, True]
    assert len(set(position[0])) == 3


def test_the_stream_depends_on_seed_image_and_layer_only():
    r = np.random.default_rng(0).random((8, 50))
    ids = np.arange(100, 108)
    whole, _ = draw(r, 3, ids=ids)
    parts = np.concatenate([draw(r[i : i + 1], 3, ids=ids[i : i + 1])[0] for i in range(8)])
    assert (whole == parts).all()
    order = np.random.default_rng(1).permutation(8)
    assert (draw(r[order], 3, ids=ids[order])[0] == whole[order]).all()
    for other in ({"seed": 1}, {"layer": "b"}):
        assert (draw(r, 3, ids=ids, **other)[0] != whole).any()


def test_fewer_draws_are_the_first_of_more():
    r = np.random.default_rng(0).random((4, 20))
    assert (draw(r, 5)[0][:, :2] == draw(r, 2)[0]).all()
    assert draw(r, 99)[0].shape == (4, 20)
