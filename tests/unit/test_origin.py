"""Where an origin lies in the data."""

import numpy as np
import pytest

from gigraph.method.origin import place, twins


@pytest.fixture
def x():
    rng = np.random.default_rng(0)
    return (rng.standard_normal((60, 5)) * [1, 2, 3, 1, 0.1] + [4, 0, -7, 1, 2]).astype(np.float32)


def test_the_mean_is_in_the_middle(x):
    found = place(x, x.astype(np.float64).mean(0))
    assert found.distance == pytest.approx(0, abs=1e-6) and found.within
    # Around the mean the vectors cancel.
    assert abs(found.mean_cosine) < 0.2


def test_the_distance_is_in_units_of_the_spread(x):
    """Scaled, turned and moved with the data it stays what it is."""
    rng = np.random.default_rng(1)
    beta = x.mean(0) + 3
    turn = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    one, other = place(x, beta), place(7 * x @ turn + 100, 7 * beta @ turn + 100)
    spread = np.sqrt(((x - x.mean(0)) ** 2).sum(1).mean())
    assert one.distance == pytest.approx(np.linalg.norm(beta - x.mean(0)) / spread, rel=1e-5)
    assert other.distance == pytest.approx(one.distance, rel=1e-3)
    assert other.mean_cosine == pytest.approx(one.mean_cosine, rel=1e-3)


def test_the_mean_cosine_is_that_of_all_pairs(x):
    beta = x.mean(0) + np.array([0, 5, 0, 0, 0])
    rest = x - beta
    unit = rest / np.linalg.norm(rest, axis=1, keepdims=True)
    pairs = [unit[i] @ unit[j] for i in range(len(x)) for j in range(i)]
    assert place(x, beta).mean_cosine == pytest.approx(np.mean(pairs), abs=1e-6)


def test_from_far_away_all_vectors_point_the_same_way(x):
    found = place(x, x.mean(0) + 1000)
    assert found.mean_cosine > 0.999 and not found.within


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_vectors_that_are_all_the_same(beta):
    found = place(np.zeros((4, 3)), np.full(3, beta))
    assert found.distance == (0 if beta == 0 else np.inf) and found.within == (beta == 0)
    assert found.mean_cosine == pytest.approx(0 if beta == 0 else 1)


def test_twins_are_counted_once_each():
    v = np.eye(6, 8, dtype=np.float32)
    assert twins(v) == 0
    v[3] = 5 * v[0] + 0.1 * v[5]  # of any length
    v[4] = -v[1]  # an opposite is none
    assert twins(v) == 2
    v[2] = 0.3 * v[0]
    assert twins(v) == 3 and twins(v, cosine=0.9999) == 2
    assert twins(np.zeros((3, 4))) == 0
