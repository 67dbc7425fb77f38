import numpy as np
import pytest
import torch

from gigraph.method.fidelity import (
    agreement,
    area,
    checkable,
    class_reading,
    clear_targets,
    correlation,
    counts,
    curve,
    differences,
    drops_without,
    gains,
    largest_projections,
    mu_fidelity,
    over_active,
    over_all,
    over_targets,
    projection_reading,
    rank_correlation,
    ranks,
    shares,
    subsets,
)
from gigraph.method.gig import Batch, Decomposition, ablate, attribute, class_score
from reference import fidelity


def tensor(values):
    return torch.tensor(np.asarray(values), dtype=torch.float64)


def image(u):
    u = tensor(u)
    return Decomposition(torch.arange(u.shape[1]), u)


@pytest.fixture
def world():
    """Three positions, five concepts in four channels, and a network that is not linear."""
    random = np.random.default_rng(0)
    u, v, w = random.normal(size=(3, 5)), random.normal(size=(5, 4)), random.normal(size=(4, 3))

    def logits(x):
        return torch.relu(x).sum(1) @ tensor(w)

    return u, v, tensor(random.normal(size=4)), logits


def test_curve_against_deleting_and_inserting_one_by_one(world):
    u, v, start, logits = world
    order = [3, 0, 4, 1, 2]
    reading = class_reading(1)
    found = curve(logits, reading, start, image(u), tensor(v), torch.tensor(order), np.arange(6), batch=4)

    def function(x):
        return reading(logits(tensor(x)[None]))[0].numpy()

    for mine, literal in zip(found, fidelity.curve(function, start.numpy(), u, v, order), strict=True):
        np.testing.assert_allclose(mine, literal, rtol=1e-10)


def test_curves_read_at_some_points_are_those_of_all_points(world):
    u, v, start, logits = world
    order = torch.tensor([3, 0, 4, 1, 2])
    every = curve(logits, class_reading(0), start, image(u), tensor(v), order, np.arange(6))
    some = curve(logits, class_reading(0), start, image(u), tensor(v), order, np.array([0, 2, 5]))
    for mine, whole in zip(some, every, strict=True):
        np.testing.assert_allclose(mine, whole[[0, 2, 5]], rtol=1e-12)


def test_deletion_ends_where_insertion_starts(world):
    u, v, start, logits = world
    deletion, insertion = curve(logits, class_reading(0), start, image(u), tensor(v), torch.arange(5), np.arange(6))
    np.testing.assert_allclose(deletion[0], insertion[-1])
    np.testing.assert_allclose(deletion[-1], insertion[0])


def linear(effects):
    """A world whose score is the sum of the effects of its concepts: concept q is channel q, at one position."""
    n = len(effects)
    return np.array(effects)[None], np.eye(n), torch.zeros(n, dtype=torch.float64), lambda x: x.sum((1, 2))[:, None]


def areas(effects, order):
    u, v, start, segment = linear(effects)
    at = np.arange(len(effects) + 1)
    both = curve(segment, lambda y: y, start, image(u), tensor(v), torch.tensor(order), at)
    return tuple(area(at / len(effects), y[:, 0]) for y in both)


def test_areas_of_perfect_and_worst_order_by_hand():
    # Effects 3, 2, 1: the score runs 6, 3, 1, 0 when the largest goes first and 6, 5, 3, 0 when the smallest does.
    assert areas([3.0, 2.0, 1.0], [0, 1, 2]) == pytest.approx((7 / 3, 11 / 3))
    assert areas([3.0, 2.0, 1.0], [2, 1, 0]) == pytest.approx((11 / 3, 7 / 3))


def test_no_order_beats_the_perfect_one_of_an_additive_score():
    from itertools import permutations

    effects = [2.0, -1.0, 0.5, 3.0]
    best = areas(effects, np.argsort(effects)[::-1].tolist())
    worst = areas(effects, np.argsort(effects).tolist())
    for order in permutations(range(4)):
        deletion, insertion = areas(effects, list(order))
        assert best[0] - 1e-12 <= deletion <= worst[0] + 1e-12
        assert worst[1] - 1e-12 <= insertion <= best[1] + 1e-12


def test_area_over_all_concepts_against_ranking_the_inactive_ones(world):
    u, v, start, logits = world
    values, k = np.array([0.4, -0.3, 0.1, -0.2, 0.9]), 12
    order = np.argsort(-values, kind="stable")
    at = np.arange(6)
    both = curve(logits, class_reading(2), start, image(u), tensor(v), torch.tensor(order), at)
    x, which = over_all(at, positive=3, active=5, k=k)
    mine = [area(x, y[which, 0]) for y in both]

    def function(one):
        return float(class_reading(2)(logits(tensor(one)[None]))[0, 0])

    np.testing.assert_allclose(mine, fidelity.area_over_all(function, start.numpy(), u, v, values, k), rtol=1e-10)


@pytest.mark.parametrize(("active", "points", "also"), [(0, 8, 0), (5, 8, 2), (100, 8, 37), (1000, 32, 1000)])
def test_counts_start_at_nothing_and_end_at_everything(active, points, also):
    at = counts(active, points, also)
    assert at[0] == 0 and at[-1] == active and also in at and (np.diff(at) > 0).all()
    assert len(at) <= max(active, points) + 2


def test_projection_follows_the_pfv_that_is_largest_at_first():
    original = tensor([[1.0, 0.0], [4.0, 3.0], [0.0, 9.0]])
    read = projection_reading(tensor([2.0, 0.0]), tensor([0.0, 1.0]), original)
    later = tensor([[8.0, 0.0], [2.0, 5.0], [1.0, 0.0]])
    torch.testing.assert_close(read(original[None]), tensor([[1.0, 1.0]]))
    torch.testing.assert_close(read(later[None]), tensor([[0.5, 2.0]]))


def test_mu_fidelity_is_one_for_an_additive_score_and_minus_one_for_its_opposite():
    values = np.array([3.0, -1.0, 0.5, 2.0, 0.1])
    sets = subsets(np.random.default_rng(0), 5, 40, share=0.4)
    assert (sets.sum(1) == 2).all()
    assert mu_fidelity(values, sets, sets @ values) == pytest.approx(1)
    assert mu_fidelity(-values, sets, sets @ values) == pytest.approx(-1)
    assert np.isnan(mu_fidelity(values, sets, np.ones(40)))


def test_mu_fidelity_by_hand():
    sets = np.eye(4, dtype=bool)
    # Pearson's r of 1, 2, 3, 4 and 1, 3, 2, 4 is 0.8.
    assert mu_fidelity(np.array([1.0, 2.0, 3.0, 4.0]), sets, np.array([1.0, 3.0, 2.0, 4.0])) == pytest.approx(0.8)


def test_gig_of_a_linear_score_is_its_ablation():
    u, v, start, _ = linear([2.0, -1.0, 0.5, 3.0])
    w = tensor(np.random.default_rng(1).normal(size=(4, 2)))
    segment = lambda x: x.sum(1) @ w  # noqa: E731
    score, to = class_score("logit"), torch.tensor([[0]])
    (found,) = attribute(segment, score, tensor(v), start, [image(u)], to, steps=2)
    drops = ablate(segment, score, tensor(v), start, image(u), [0, 1, 2, 3], to[0])
    torch.testing.assert_close(found.values[0], drops[:, 0])


def test_ranks_share_ties():
    np.testing.assert_allclose(ranks(np.array([10.0, 5.0, 10.0, 1.0])), [2.5, 1.0, 2.5, 0.0])
    assert rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([1.0, 10.0, 100.0])) == pytest.approx(1)
    assert np.isnan(correlation(np.array([1.0, 2.0]), np.array([1.0, 2.0])))


def test_rank_correlation_is_scipys():
    from scipy.stats import spearmanr

    random = np.random.default_rng(2)
    a, b = random.integers(0, 6, 40).astype(float), random.normal(size=40)
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)


def test_without_active_concepts_both_axes_have_the_same_area():
    at, y = counts(0, 8), np.array([0.7])
    for x, which in (over_active(at, 0), over_all(at, 0, 0, 12)):
        assert area(x, y[which]) == pytest.approx(0.7)
    x, which = over_active(np.array([0, 1, 4]), 4)
    assert x.tolist() == [0, 0.25, 1] and which.tolist() == [0, 1, 2]


def test_targets_without_a_clear_projection_are_passed_over():
    # Both PFVs lie along the first axis from the centre.
    original, centre = tensor([[11.0, 1.0], [6.0, 1.0]]), tensor([1.0, 1.0])
    near = [0.05, -np.sqrt(1 - 0.05**2)]
    cosines = largest_projections(original, centre, tensor([[2.0, 0.0], [0.6, -0.8], near, [-1.0, -0.9]])).numpy()
    np.testing.assert_allclose(cosines[:3], [1, 0.6, 0.05])
    assert cosines[3] < 0
    relevance = np.array([0.1, 0.2, 0.4, 0.3])
    chosen, passed = clear_targets(relevance, cosines, 1)
    assert chosen.tolist() == [1] and passed == 2
    chosen, passed = clear_targets(relevance, cosines, 3)
    assert chosen.tolist() == [1, 0] and passed == 2


def test_curves_and_drops_go_on_with_half_the_batch_where_memory_runs_out(world):
    u, v, start, logits = world
    sets = subsets(np.random.default_rng(0), 5, 20, share=0.4)
    one, to, score = image(u), torch.tensor([0]), class_score()

    def everything(segment, batch):
        yield from curve(segment, class_reading(1), start, one, tensor(v), torch.arange(5), np.arange(6), batch())
        yield drops_without(segment, score, tensor(v), start, one, sets, to, batch())

    def small(x):
        if len(x) > 1:
            raise torch.cuda.OutOfMemoryError("stand-in for a full device")
        return logits(x)

    for mine, whole in zip(everything(small, lambda: Batch(20)), everything(logits, lambda: 999), strict=True):
        np.testing.assert_allclose(mine, whole, rtol=1e-9, atol=1e-12)


def test_drops_of_an_additive_score_are_its_effects():
    u, v, start, segment = linear([3.0, 2.0, 1.0])
    sets = np.array([[1, 0, 0], [0, 1, 1]], bool)
    found = drops_without(segment, lambda y, _: y, tensor(v), start, image(u), sets, torch.tensor([0]))
    assert found.tolist() == [3, 3]


def test_orders_are_averaged_over_targets_and_compared_by_hand():
    u, v, start, segment = linear([3.0, 2.0, 1.0])
    readings = [lambda y: y, lambda y: 3 * y]
    at = np.arange(4)
    x, which = over_active(at, 3)

    def curves(reading, order):
        return curve(segment, reading, start, image(u), tensor(v), torch.from_numpy(order), at)

    perfect = np.array([[3.0, 2.0, 1.0]] * 2)
    found = over_targets(curves, readings, {"gig": perfect, "random": -perfect}, x, which, np.array([0, 1 / 3, 1]))
    lines, sizes = found["gig", "insertion"]
    # The mean of once and three times the score: 0, 3, 5, 6.
    np.testing.assert_allclose(lines, [[0, 6, 12]])
    np.testing.assert_allclose(sizes, [2 * 11 / 3])
    areas = {(order, metric, "y"): [float(size[0])] for (order, metric), (_, size) in found.items()}
    difference = differences(areas)
    np.testing.assert_allclose(difference["gig", "y"], [8 / 3])
    np.testing.assert_allclose(difference["random", "y"], [-8 / 3])
    (gain,) = gains(difference, "gig").items()
    assert gain[0] == ("random", "y") and gain[1] == pytest.approx([16 / 3])


def test_agreement_of_the_same_and_of_opposite_signs():
    gig = np.array([3.0, 1.0, 2.0])
    assert agreement(gig, 2 * gig) == pytest.approx({"rank_correlation": 1, "correlation": 1, "same_sign": 1})
    assert agreement(gig, -gig) == pytest.approx({"rank_correlation": -1, "correlation": -1, "same_sign": 0})
    assert np.isnan(list(agreement(gig[:0], gig[:0]).values())).all()
    assert np.isnan(list(agreement(0 * gig, 0 * gig).values())).all()  # no effect is no agreement


def test_shares_sum_to_one():
    # Nothing kept of 4; kept 1 and -2 of 5 with an error of -5; nothing kept, and all in the error node.
    found = shares(np.array([0, 0, 2, 2]), np.array([1.0, -2.0]), np.array([4.0, 5.0, 0.0]), np.array([0, -5.0, 1]))
    np.testing.assert_allclose(found["concepts"], [0, 0.3, 0])
    np.testing.assert_allclose(found["remainder"], [1, 0.2, 0])
    np.testing.assert_allclose(found["error"], [0, 0.5, 1])


def test_of_nothing_there_are_no_shares_and_rounding_is_no_remainder():
    values = np.full(3, 1 / 3, np.float32)
    total = np.array([0.0, np.float32(values.astype(float).sum() * (1 + 1e-7))])
    found = shares(np.array([0, 0, 3]), values, total, np.zeros(2))
    assert np.isnan([found[name][0] for name in ("concepts", "remainder", "error")]).all()
    assert found["remainder"][1] == 0 and found["concepts"][1] == pytest.approx(1)


def test_edges_are_sampled_towards_targets_that_all_images_attribute():
    scope, target = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 0, 1])
    shown = np.array([True, False, False, False, False])
    # Classes: the scope's own. Concepts: (0, 0) is a shown edge's, (1, 0) is of another scope.
    assert checkable(scope, target, shown, classes=True).tolist() == [False, True, False, False, True]
    assert checkable(scope, target, shown, classes=False).tolist() == [False, True, False, False, False]
    nothing = np.zeros(0, np.int64)
    assert not len(checkable(nothing, nothing, nothing.astype(bool), classes=False))
