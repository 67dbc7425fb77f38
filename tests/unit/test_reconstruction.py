import numpy as np
import pytest

from gigraph.method.reconstruction import explained, l0_ratio, relative_l2


def test_relative_error_by_hand():
    x = np.array([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]])
    near = np.array([[3.0, 0.0], [1.0, 1.0], [0.5, 0.0]])
    np.testing.assert_allclose(relative_l2(x, near), [0.8, 0.0, 0.5])


def test_l0_ratio_by_hand():
    np.testing.assert_allclose(l0_ratio(np.array([0, 2, 8]), 8), [1.0, 0.75, 0.0])


def test_one_term_by_hand():
    # (3, 4) projects on the axes with 3 and 4: the better one keeps 16 of 25; (1, 0) lies on one.
    assert explained(np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[7.0, 0.0], [0.0, -2.0]]), 1) == pytest.approx(
        17 / 26
    )


def test_terms_are_independent_of_length_and_nested():
    random = np.random.default_rng(0)
    x, v = random.normal(size=(20, 6)), random.normal(size=(9, 6))
    shares = [explained(x, v, terms) for terms in (1, 2, 4, 6)]
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1)
    assert explained(x, v * random.uniform(0.1, 9, (9, 1)), 3) == pytest.approx(explained(x, v, 3))


def test_two_terms_against_every_pair_for_orthogonal_concepts():
    random = np.random.default_rng(1)
    v = np.linalg.qr(random.normal(size=(5, 5)))[0][:4]
    x = random.normal(size=(7, 5))
    best = np.sort((x @ v.T) ** 2, axis=1)[:, -2:].sum() / (x**2).sum()
    assert explained(x, v, 2) == pytest.approx(best)
