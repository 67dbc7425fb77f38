"""How concepts are read off PFVs: cosine, projection and whitened filter, against their literal definitions."""

import numpy as np
import pytest

from gigraph.method.families import average_families
from gigraph.method.reading import SHRINKAGE, of_families, reading, spread_of


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    mixing = random.standard_normal((6, 6))
    return (random.standard_normal((500, 6)) @ mixing + 1).astype(np.float32), random.standard_normal((4, 6)).astype(
        np.float32
    )


def test_each_reading_is_what_it_is_called(data):
    x, v = data
    spread = spread_of(x)
    covariance = np.cov(x.T.astype(float))
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.trace(covariance) / 6 * np.eye(6)
    np.testing.assert_allclose(spread.covariance, shrunk, rtol=1e-10)
    for k in range(4):
        for i in (0, 7):
            z = x[i].astype(float)
            length = np.linalg.norm(v[k])
            w = np.linalg.inv(shrunk) @ v[k]
            literal = {
                "cosine": z @ v[k] / length / np.linalg.norm(z),
                "projection": z @ v[k] / length,
                "filter": (z - x.mean(0, dtype=float)) @ w / np.sqrt(w @ shrunk @ w),
            }
            for kind, expected in literal.items():
                found = reading(kind, v, spread)(x)[i, k]
                assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_detectors_take_the_place_of_whitened_vectors(data):
    x, v = data
    spread = spread_of(x)
    own = reading("filter", v, spread, np.linalg.solve(spread.covariance, 3 * v.T.astype(float)).T)
    np.testing.assert_allclose(own(x), reading("filter", v, spread)(x), rtol=1e-4, atol=1e-5)


def test_whitening_makes_the_covariance_the_identity(data):
    spread = spread_of(data[0])
    whitening = spread.whitening()
    np.testing.assert_allclose(whitening @ spread.covariance @ whitening, np.eye(6), atol=1e-9)


def test_maps_keep_their_shape_and_a_zero_pfv_has_no_cosine(data):
    x, v = data
    assert reading("cosine", v)(x.reshape(20, 25, 6)).shape == (20, 25, 4)
    assert not reading("cosine", v)(np.zeros((1, 6), np.float32)).any()


def test_what_cannot_be_read_is_refused(data):
    with pytest.raises(ValueError, match="reading must be one of cosine, projection, filter"):
        reading("dot", data[1])
    with pytest.raises(ValueError, match="needs the spread"):
        reading("filter", data[1])
    for same in (np.ones((5, 3)), np.ones((1, 3))):
        with pytest.raises(ValueError, match="no spread"):
            spread_of(same)


@pytest.mark.parametrize("detected", [True, False])
def test_a_family_is_read_by_its_direction_or_by_the_mean_of_its_detectors(data, detected):
    x, v = data
    v = np.concatenate([v, v[:1] + 0.05 * v[1:2]])  # the last belongs to the first
    families = average_families(v, 0.9)
    leader = int(families.leader[0])
    assert families.leader[4] == leader and families.ids.tolist() == sorted({leader, 1, 2, 3})
    own = reading("projection", v)
    merged = None if detected else reading("projection", families.directions(v))
    found = of_families(own, families, merged)(x)
    expected = own(x)[:, [0, 4]].mean(1) if detected else merged(x)[:, leader]
    np.testing.assert_allclose(found[:, leader], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found[:, 1:4], own(x)[:, 1:4])
