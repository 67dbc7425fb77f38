import numpy as np

from gigraph.method.stability import best_match


def test_a_set_matches_itself_whatever_its_order_and_lengths():
    random = np.random.default_rng(0)
    v = random.normal(size=(30, 8)).astype(np.float32)
    other = v[random.permutation(30)] * random.uniform(0.1, 5, (30, 1)).astype(np.float32)
    np.testing.assert_allclose(best_match(v, other, rows=7), 1, rtol=1e-5)


def test_by_hand():
    v = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0]], np.float32)
    others = np.array([[3.0, 4.0], [5.0, 0.0]], np.float32)
    np.testing.assert_allclose(best_match(v, others), [1.0, 0.8, -0.6], rtol=1e-6)


def test_more_candidates_never_match_worse():
    random = np.random.default_rng(1)
    v, others = random.normal(size=(10, 5)), random.normal(size=(20, 5))
    assert (best_match(v, others) >= best_match(v, others[:10])).all()
