"""Concepts of two runs are matched by how they respond, each at most once, and only above chance."""

import itertools

import numpy as np
import pytest

from gigraph.method.matching import assign, level, match, split, standardised


def responses(seed, images=40, positions=9, concepts=6):
    return np.random.default_rng(seed).normal(size=(images, positions, concepts)).astype(np.float32)


def best_by_trying(similarity, least):
    """Return the largest sum of similarities above `least` that an assignment reaches, by trying all."""
    gain = np.maximum(np.nan_to_num(similarity - least), 0)
    gain = gain if gain.shape[0] <= gain.shape[1] else gain.T
    ways = itertools.permutations(range(gain.shape[1]), len(gain))
    return max(sum(gain[i, j] for i, j in enumerate(way)) for way in ways)


@pytest.mark.parametrize(("k", "l"), [(4, 4), (3, 5), (5, 3), (1, 4)])
def test_the_assignment_has_the_largest_sum_above_chance(k, l):  # noqa: E741
    generator = np.random.default_rng(k * 10 + l)
    for _ in range(20):
        similarity = generator.uniform(-1, 1, (k, l))
        rows, columns = assign(similarity, 0.2)
        assert len({*rows}) == len(rows) == len({*columns}) and (similarity[rows, columns] > 0.2).all()
        assert (similarity[rows, columns] - 0.2).sum() == pytest.approx(best_by_trying(similarity, 0.2), abs=1e-5)


def test_what_chance_reaches_takes_no_partner_away():
    # Over all pairs, .9 + .15 is less than .6 + .6; above chance it is more.
    similarity = np.array([[0.9, 0.6], [0.6, 0.15]])
    assert [list(one) for one in assign(similarity, 0.5)] == [[0], [0]]
    assert [list(one) for one in assign(similarity, 0.0)] == [[0, 1], [1, 0]]


def test_concepts_are_found_in_any_order_and_at_any_scale():
    one, order = responses(0), np.random.default_rng(1).permutation(6)
    two = 3 * one[:, :, order] + 2
    found = match(one, two)
    assert {*zip(found.one.tolist(), found.two.tolist(), strict=True)} == {*zip(order.tolist(), range(6), strict=True)}
    assert found.similarity == pytest.approx(np.ones(6)) and not len(found.only_one) and not len(found.only_two)
    assert (found.chance > 0).all() and (found.chance < 0.5).all()


def test_a_concept_that_is_gone_is_only_in_the_other():
    one = responses(2, images=60)
    found = match(one, one[:, :, [5, 3, 1, 0]])
    assert found.only_one.tolist() == [2, 4] and not len(found.only_two)
    assert found.one.tolist() == [0, 1, 3, 5] and found.two.tolist() == [3, 2, 1, 0]
    turned = match(one[:, :, [5, 3, 1, 0]], one)
    assert turned.only_two.tolist() == [2, 4] and not len(turned.only_one)


def test_noise_leaves_a_partner_and_its_correlation():
    one = responses(3, images=100)
    two = one + np.random.default_rng(4).normal(size=one.shape)
    found = match(one, two)
    assert found.one.tolist() == found.two.tolist() == [*range(6)]
    own = [np.corrcoef(one[:, :, k].ravel(), two[:, :, k].ravel())[0, 1] for k in range(6)]
    assert found.similarity == pytest.approx(own, abs=1e-6)


def test_of_twenty_layers_of_unrelated_concepts_one_has_a_match():
    """A concept's level holds for its whole layer; and a pair must be above two, which is rarer still."""
    found = [match(responses(100 + i, 30, 4), responses(500 + i, 30, 4), seed=i) for i in range(60)]
    above = [(one.best_of_one > one.level_of_one).any() for one in found]
    assert sum(above) <= 8, "3 are expected of 60"
    assert sum(len(one.one) for one in found) <= 4


def test_a_layers_level_by_hand():
    """Means 2 and 20, deviations 1 and 10; the largest excess of each order is 1, 0 or 1."""
    best = np.array([[1.0, 30.0], [2.0, 20.0], [3.0, 10.0]])
    assert level(best) == pytest.approx([2 + 1, 20 + 10])
    assert level(np.full((4, 2), 0.5)) == pytest.approx([0.5, 0.5])


def test_half_of_a_concept_is_split_and_not_new():
    """The other run has in one what this one has in two, which do not go together."""
    halves = np.zeros((80, 9, 2), np.float32)
    halves[::4, 2, 0], halves[1::4, 6, 1] = 1, 0.8
    new = responses(5, 80, concepts=1)
    two = np.concatenate([halves.sum(2, keepdims=True), 0.3 * responses(6, 80, concepts=1)], 2)
    found = match(np.concatenate([new, halves], 2), two)
    assert (found.one.tolist(), found.two.tolist()) == ([1], [0])
    assert found.split_of_one.tolist() == [-1, -1, 0] and found.only_one.tolist() == [0]
    turned = match(two, np.concatenate([new, halves], 2))
    assert turned.split_of_two.tolist() == [-1, -1, 0] and turned.only_two.tolist() == [0]


def test_what_is_split_is_above_chance():
    similarity, own = np.array([[0.9], [0.3]]), np.eye(2)
    pair = np.array([0]), np.array([0])
    assert split(similarity, np.array([[0.2], [0.25]]), pair, own).tolist() == [-1, 0]
    assert split(similarity, np.array([[0.2], [0.35]]), pair, own).tolist() == [-1, -1]
    assert split(similarity, np.zeros((2, 1)), (pair[0][:0], pair[1][:0]), own).tolist() == [-1, -1], "no pairs"


def test_what_goes_along_with_another_is_new_all_the_same():
    """It is like the other's partner above chance, and not more so than it is like the other."""
    known = np.maximum(responses(7, 80, concepts=1), 0)
    along = 0.5 * known + 0.5 * np.maximum(responses(8, 80, concepts=1), 0)
    two = known + 0.2 * responses(9, 80, concepts=1)
    found = match(np.concatenate([known, along], 2), two)
    assert found.one.tolist() == [0] and found.best_of_one[1] > found.level_of_one[1]
    assert found.only_one.tolist() == [1] and found.split_of_one.tolist() == [-1, -1]


def test_a_concept_that_is_everywhere_takes_nothing_from_one_that_is_rare():
    """The one's chance is high, since it is always at the same place; the other's is its own."""
    rare = np.zeros((40, 9, 1))
    rare[::5, 3] = 1
    border = np.array([1, 1, 1, 1, 0, 1, 1, 1, 1.0])[None, :, None] + 0.2 * responses(1, concepts=1)
    noise = 0.2 * responses(2, concepts=1)
    found = match(np.concatenate([rare, border], 2), np.concatenate([border[::-1], rare + noise], 2))
    assert (found.one.tolist(), found.two.tolist()) == ([0], [1])
    assert (
        found.level_of_one[1]
        > found.similarity[0]
        > found.chance[0]
        == max(found.level_of_one[0], found.level_of_two[1])
    )


def test_what_lies_always_at_the_same_place_is_no_match():
    """Both respond at the border in every image, and to nothing in common besides."""
    border = np.array([1, 1, 1, 1, 0, 1, 1, 1, 1.0])[None, :, None]
    one, two = (0.5 * responses(i, concepts=1) + border for i in (7, 8))
    found = match(one, two)
    assert found.best_of_one[0] > 0.3 and not len(found.one), "the correlation of the border alone"


def test_constant_responses_have_no_correlation():
    one = responses(9).astype(np.float64)
    one[:, :, 2] = 0.1
    assert one.reshape(-1, 6).mean(0)[2] != 0.1, "rounding"
    found = match(one, one)
    assert np.isnan(found.best_of_one[2]) and found.only_one.tolist() == found.only_two.tolist() == [2]
    assert not standardised(one)[:, :, 2].any()


def test_twins_keep_their_places():
    one = responses(10)
    one[:, :, 4] = one[:, :, 1]
    found = match(one, one)
    assert found.one.tolist() == found.two.tolist() == [*range(6)]
    above = np.array([[1, 1 + 1e-9], [1 + 1e-9, 1]])
    assert [one.tolist() for one in assign(above, 0.3)] == [[0, 1], [0, 1]], "rounding does not part them"


def test_a_run_without_concepts_has_nothing_in_common():
    found = match(responses(0), responses(0)[:, :, :0])
    assert not len(found.one) and found.only_one.tolist() == [*range(6)]


def test_other_images_are_refused():
    with pytest.raises(ValueError, match="not of the same"):
        match(responses(0), responses(0, images=39))
    with pytest.raises(ValueError, match="two images or more"):
        match(responses(0, images=1), responses(0, images=1))
