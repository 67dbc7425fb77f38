import numpy as np

from gigraph.hashing import mix
from gigraph.method.heldout import balanced, held_out, tried


def test_an_image_is_held_out_or_not_whatever_else_there_is():
    ids = np.random.default_rng(0).integers(0, 2**62, 4000)
    whole = held_out(ids, 7, 0.1)
    assert 0.08 < whole.mean() < 0.12
    np.testing.assert_array_equal(held_out(ids[::3], 7, 0.1), whole[::3])
    assert held_out(ids, 7, 0.2)[whole].all()
    assert not held_out(ids, 7, 0.0).any()


def test_non_zeros_are_tried_on_images_that_are_not_those_preferred_for_attribution():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 2**62, 2000)
    some = tried(ids, 3, 0.1, 48)
    assert len(some) == 48 and not held_out(ids[some], 3, 0.1).any()
    attributed = np.argsort(mix(3, ids), kind="stable")[:200]  # as workflow/scripts/selection.py takes them
    assert len(np.intersect1d(some, attributed)) < 15  # 4.8 by chance
    order = rng.permutation(len(ids))
    assert set(ids[order][tried(ids[order], 3, 0.1, 48)]) == set(ids[some])


def test_classes_take_turns():
    labels = np.array([0] * 50 + [1] * 5 + [2] * 1)
    ids = np.arange(len(labels)) * 77
    chosen = balanced(ids, labels, 8, 0)
    assert len(set(chosen.tolist())) == 8
    assert np.bincount(labels[chosen]).tolist() == [4, 3, 1]
    assert set(labels[chosen[:3]]) == {0, 1, 2}
    order = np.random.default_rng(1).permutation(len(ids))
    np.testing.assert_array_equal(ids[order][balanced(ids[order], labels[order], 8, 0)], ids[chosen])
