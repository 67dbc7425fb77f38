"""Concepts of two runs are matched by how they respond, each at most once, and only above chance."""

import itertools

import numpy as np
import pytest

from gigraph.method.matching import assign, match, standardised


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


def test_one_of_twenty_unrelated_concepts_is_matched_at_most():
    matched = sum(len(match(responses(100 + i, 30, 4), responses(500 + i, 30, 4), seed=i).one) for i in range(60))
    assert matched <= 30, "of 360: 18 are expected if no pair had to be above the other's level, too"


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
