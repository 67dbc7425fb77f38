"""Differences of two runs: their errors are the textbook's, and what is kept of many is wrong as rarely as is said."""

import numpy as np
import pytest
from scipy import stats

from gigraph.method.contrast import (
    at_least,
    between_trainings,
    disagreement,
    false_discovery,
    paired,
    welch,
    widened,
)


def test_a_paired_difference_by_hand():
    one, two = np.array([[1.0], [2.0], [3.0]]), np.array([[2.0], [4.0], [3.0]])
    found = paired(one, two)  # differences 1, 2, 0: mean 1, deviation 1
    assert found.one[0] == 2 and found.two[0] == 3 and found.difference[0] == 1
    assert found.se[0] == pytest.approx(1 / np.sqrt(3)) and found.df[0] == 2
    # Of two degrees of freedom P(|T| > t) = 1 - t / sqrt(2 + t^2), at t = sqrt(3).
    assert found.p[0] == pytest.approx(1 - np.sqrt(3) / np.sqrt(5))


def test_a_difference_of_other_images_by_hand():
    one, two = np.array([[0.0], [2.0]]), np.array([[3.0], [3.0], [6.0]])
    found = welch(one, two)  # variances 2 and 3, over 2 and 3 images: 1 and 1
    assert found.difference[0] == 3 and found.se[0] == pytest.approx(np.sqrt(2))
    assert found.df[0] == pytest.approx(4 / (1 / 1 + 1 / 2))


def test_both_tests_are_scipys():
    generator = np.random.default_rng(0)
    one, two, other = (generator.normal(size=(n, 5)) * [1, 2, 3, 4, 5] for n in (12, 12, 7))
    assert paired(one, two).p == pytest.approx(stats.ttest_rel(two, one).pvalue)
    against = stats.ttest_ind(other, one, equal_var=False)
    assert welch(one, other).p == pytest.approx(against.pvalue) and welch(one, other).df == pytest.approx(against.df)


def test_equal_effects_do_not_differ_and_equal_changes_do():
    one = np.array([[0.1, 0.2], [0.7, 0.1], [0.4, 0.6]])
    same = paired(one, one)
    assert not same.difference.any() and not same.se.any() and (same.p == 1).all()
    moved = paired(np.zeros((3, 1)), np.full((3, 1), 0.25))
    assert moved.p[0] == 0 and moved.se[0] == 0
    assert welch(np.ones((2, 1)), np.ones((3, 1))).p[0] == 1


def test_one_image_has_no_error():
    for found in (paired(np.ones((1, 1)), np.zeros((1, 1))), welch(np.ones((1, 1)), np.zeros((4, 1)))):
        assert found.difference[0] == -1 and np.isnan([found.se[0], found.df[0], found.p[0]]).all()


def test_sides_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="same images"):
        paired(np.ones((2, 1)), np.ones((3, 1)))
    with pytest.raises(ValueError, match="cannot be compared"):
        welch(np.ones((2, 1)), np.ones((0, 1)))


def test_models_that_are_right_on_other_images_by_hand():
    one = np.array([True] * 5 + [False] + [True] * 4)
    two = np.array([False] * 5 + [True] + [True] * 4)
    assert disagreement(one, two) == pytest.approx(2 * (1 + 6) / 64)  # of six, at most one
    assert disagreement(one, one) == 1


def literal_benjamini_hochberg(p, rate):
    """Return which are kept: all up to the largest i with p_(i) <= i rate / m."""
    order, m = np.argsort(p), len(p)
    last = max((i for i in range(1, m + 1) if p[order[i - 1]] <= i * rate / m), default=0)
    return {*order[:last].tolist()}


def test_the_rate_is_benjamini_hochbergs():
    generator = np.random.default_rng(1)
    for _ in range(30):
        p = generator.uniform(size=20) ** 3
        q = false_discovery(p)
        assert q == pytest.approx(stats.false_discovery_control(p))
        for rate in (0.05, 0.2):
            assert {*np.flatnonzero(q <= rate).tolist()} == literal_benjamini_hochberg(p, rate)


def test_what_was_not_tested_does_not_count():
    p = np.array([0.01, np.nan, 0.04, np.nan])
    assert false_discovery(p)[[0, 2]] == pytest.approx([0.02, 0.04]) and np.isnan(false_discovery(p)[[1, 3]]).all()
    assert not len(false_discovery(np.array([])))
    assert not at_least(*np.full((4, 2), np.nan), 0.05).any()


def test_what_an_effect_at_least_is_by_hand():
    """Of four tests two are kept at .1: their intervals have the level 1 - .1 2 / 4."""
    difference, se = np.array([1.0, -1.0, 0.2, np.nan, 0.5]), np.array([0.1, 0.2, 0.2, np.nan, 0.6])
    q = np.array([0.01, 0.02, 0.4, np.nan, 0.5])
    low, high = stats.t.interval(0.95, 9)
    assert at_least(difference, se, np.full(5, 9.0), q, 0.1) == pytest.approx([1 + low * 0.1, -1 + high * 0.2, 0, 0, 0])


def simulated(generator, effects=120, real=30, images=20, size=0.8):
    truth = np.zeros(effects)
    truth[:real] = size * np.where(np.arange(real) % 2, 1, -1)
    return truth, generator.normal(size=(images, effects)), generator.normal(size=(images, effects)) + truth


@pytest.mark.parametrize("test", [paired, welch])
def test_of_what_is_kept_few_are_false_and_no_more_intervals_miss(test):
    generator, false, missed, power, rate = np.random.default_rng(2), [], [], [], 0.1
    for _ in range(200):
        truth, one, two = simulated(generator)
        found = test(one, two)
        q = false_discovery(found.p)
        least, kept = at_least(found.difference, found.se, found.df, q, rate), q <= rate
        assert ((least != 0) == kept).all() and (np.sign(least) == np.sign(found.difference))[kept].all()
        false.append((kept & (truth == 0)).sum() / max(kept.sum(), 1))
        # The end away from zero is as far from the difference as the one that is told.
        beyond = np.abs(truth - found.difference) > np.abs(found.difference - least)
        missed.append((kept & beyond).sum() / max(kept.sum(), 1))
        power.append(kept[:30].mean())
    assert np.mean(false) <= rate * 0.75 + 0.015, "the rate times the share of true nulls"
    assert np.mean(missed) <= rate + 0.015
    assert np.mean(power) > 0.3


def test_nothing_is_found_where_nothing_is():
    generator = np.random.default_rng(3)
    found = 0
    for _ in range(200):
        _, one, two = simulated(generator, real=0)
        found += (false_discovery(paired(one, two).p) <= 0.05).any()
    assert found <= 20, "in 5% of the runs, with chance"


def test_what_training_adds_by_hand():
    difference, se = np.array([0.3, -0.4, np.nan, 5.0]), np.array([0.1, 0.1, 0.1, np.nan])
    tau = between_trainings(difference, se, np.ones(4))
    assert tau == pytest.approx(np.sqrt((0.09 - 0.01 + 0.16 - 0.01) / 2)), "of the two that have an error"
    weighed = between_trainings(difference, se, np.array([2.0, 1.0, 1.0, 1.0]))
    assert weighed == pytest.approx(np.sqrt((2 * 0.08 + 0.15) / 3))
    one = np.array([0.1]), np.array([0.5]), np.ones(1)
    assert between_trainings(*one) == 0 and np.isnan(between_trainings(*np.empty((3, 0))))
    wide, df, p = widened(np.array([1.0]), np.array([0.3]), np.array([9.0]), np.array([0.4]), np.array([2.0]))
    assert wide[0] == pytest.approx(0.5) and df[0] == pytest.approx(0.25**2 / (0.3**4 / 9 + 0.4**4 / 2))
    assert p[0] == pytest.approx(2 * stats.t.sf(2, df[0]))
    same = widened(np.array([1.0]), np.array([0.3]), np.array([9.0]), np.array([0.0]), np.array([2.0]))
    assert [one[0] for one in same] == pytest.approx([0.3, 9, 2 * stats.t.sf(1 / 0.3, 9)])


def test_a_group_weighs_as_its_variance_does():
    """Of four trainings, the weighed mean square over the six pairs is twice the variance among the four."""
    trainings = np.array([0.1, 0.5, -0.2, 0.9])
    pairs = np.array([b - a for i, a in enumerate(trainings) for b in trainings[i + 1 :]])
    tau = between_trainings(pairs, np.zeros(6), np.full(6, 2 / 4))
    assert tau**2 == pytest.approx(2 * trainings.var(ddof=1))


def test_what_another_training_does_is_no_difference():
    """Trainings differ by chance, the more the one the less the other; without the noise nearly all is found.

    How much they differ is a chance of each training, the same for all its effects: so effects are no degrees of
    freedom, and a test that took them for such would find something in most comparisons of trainings alike.
    """
    generator, naive, wrong, right, power = np.random.default_rng(4), [], [], [], []
    truth = np.zeros(100)
    truth[:3] = 60.0
    for _ in range(150):
        sizes = np.sqrt(generator.chisquare(1, 4))[:, None]
        means = generator.normal(size=(4, 100)) * sizes
        first, second, third, other = (mean + generator.normal(size=(20, 100)) * 0.2 for mean in means)
        noise = [paired(a, b) for a, b in ((first, second), (first, third), (second, third))]
        tau = between_trainings(
            np.concatenate([one.difference for one in noise]), np.concatenate([one.se for one in noise]),
            np.full(300, 2 / 3),
        )  # fmt: skip
        kept = {}
        for name, two, freedom in (("none", other, 2), ("planted", other + truth, 2), ("effects", other, 200)):
            found = paired(first, two)
            wide, df, p = widened(found.difference, found.se, found.df, np.full(100, tau), np.full(100, float(freedom)))
            q = false_discovery(p)
            kept[name] = q <= 0.05
            assert ((at_least(found.difference, wide, df, q, 0.05) != 0) == kept[name]).all()
        naive.append((false_discovery(paired(first, other).p) <= 0.05).mean())
        wrong.append(kept["effects"].any())
        right.append(kept["none"].any())
        power.append(kept["planted"][:3].mean())
    assert np.mean(naive) > 0.5 and np.mean(wrong) > 0.2
    assert np.mean(right) <= 0.05 and np.mean(power) > 0.3
