import numpy as np
import pytest

from gigraph.evaluation.titles import of_truth
from gigraph.worlds import registry
from gigraph.worlds.truth import by_kind, intersection_over_union, off_diagonal, part_shares, purity


def test_iou_of_a_perfect_an_opposite_and_a_silent_concept():
    mask = np.array([0, 1, 1, 0, 0, 1], bool)
    perfect = np.where(mask, 2.0, -1.0)
    assert intersection_over_union(perfect, mask, perfect, mask) == 1
    assert intersection_over_union(-perfect, mask, -perfect, mask) == 0
    assert intersection_over_union(np.zeros(6), mask, np.zeros(6), mask) == 0
    assert np.isnan(intersection_over_union(perfect, mask, perfect, np.zeros(6, bool)))


def test_iou_takes_the_threshold_of_the_first_set():
    mask = np.array([1, 1, 0, 0], bool)
    # At 5 the first set is perfect; of the second, one of two positives reaches it, and one negative.
    found = intersection_over_union(np.array([9.0, 5.0, 1.0, 0.0]), mask, np.array([7.0, 3.0, 6.0, 0.0]), mask)
    assert found == pytest.approx(1 / 3)


def test_purity_by_hand():
    # Two scenes of two positions in two channels; the first channel shows part 0 in one scene only.
    pfvs = np.array([[[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, 3.0]]])
    shown = np.array([[[1, 0], [0, 1]], [[0, 0], [0, 1]]], bool)
    np.testing.assert_allclose(purity(pfvs, shown, np.eye(2), nearest=2), [0.5, 1.0])


def test_values_of_a_part_add_up():
    parts = ("stripes", "tag", "scales", "horns")
    kinds = {"skin": ("stripes", "spots", "scales"), "headgear": ("ears", "horns"), "limbs": ("legs",)}
    found = by_kind(np.array([1.0, 10.0, 100.0, 1000.0]), parts, kinds)
    assert found["skin"] == 101 and found["headgear"] == 1000 and found["limbs"] == 0


@pytest.mark.parametrize(
    ("name", "twins", "strangers"),
    [("menagerie", ("leopard", "cheetah"), ("leopard", "dragon")), ("traffic", ("patrol", "taxi"), ("taxi", "barge"))],
)
def test_twins_share_all_parts(name, twins, strangers):
    world = registry.get(name)
    shared = world.shared()
    assert shared[tuple(map(world.number, twins))] == 3 and (np.diag(shared) == 3).all()
    assert shared[tuple(map(world.number, strangers))] == 0


def test_the_shortcut_gives_its_measures_their_names():
    words = of_truth({"part": "rainbow", "class": "taxi"})
    assert words["rainbow_rank"].startswith("Rank of the first rainbow concept toward taxi")
    assert not any("tag" in text.split() or "{" in text for text in (*words, *words.values()))


def test_what_lies_above_the_diagonal_is_made_symmetric():
    np.testing.assert_array_equal(off_diagonal(np.array([[0, 1, 2], [3, 0, 5], [4, 7, 0]])), [2.0, 3.0, 6.0])


def test_shares_of_coefficients_by_hand():
    u = np.array([[2.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
    shown = np.array([[1, 1], [0, 1], [0, 0]], bool)
    np.testing.assert_allclose(part_shares(u, shown), [[0.5, 0.75], [0.0, 0.0]])
