"""Orders, curves, areas and the search for circuits, on cases worked out by hand."""

import itertools

import numpy as np
import pytest

from gigraph.method.circuit import (
    areas,
    bisect,
    bracket,
    curve_sizes,
    faithfulness,
    firsts,
    graph_scores,
    joint_order,
    prune,
    random_order,
)


def test_nodes_stand_where_their_layer_is_covered_as_far():
    # Layer 1 is covered by 0, .6, .9 before its nodes 0, 2, 1; layer 2, of a hundredth the size, by 0, .5 before 1, 0.
    order = joint_order([np.array([6.0, 1.0, 3.0]), np.array([0.05, 0.05])])
    assert order.tolist() == [0, 3, 4, 2, 1]


def test_nodes_without_a_positive_score_come_last_the_worst_at_the_end():
    assert joint_order([np.array([-2.0, 1.0, 0.0, -1.0]), np.array([5.0])]).tolist() == [1, 4, 2, 3, 0]
    assert joint_order([np.array([-2.0, -1.0])]).tolist() == [1, 0]


def test_a_layers_own_order_is_that_of_its_scores():
    generator = np.random.default_rng(0)
    scores = [generator.normal(size=n) for n in (5, 9, 2)]
    order, first = joint_order(scores), 0
    assert sorted(order.tolist()) == list(range(16))
    for own in scores:
        mine = order[(order >= first) & (order < first + len(own))] - first
        assert mine.tolist() == np.argsort(-own, kind="stable").tolist()
        first += len(own)


def test_random_orders_hold_as_many_nodes_of_each_layer_at_every_size():
    layer = np.repeat([0, 1, 2], [4, 7, 3])
    order = np.random.default_rng(1).permutation(14)
    found = random_order(order, layer, np.random.default_rng(2))
    assert sorted(found.tolist()) == list(range(14)) and found.tolist() != order.tolist()
    assert layer[found].tolist() == layer[order].tolist()


def test_circuits_are_the_first_of_an_order():
    assert firsts(np.array([2, 0, 1]), [0, 1, 3]).tolist() == [[False] * 3, [False, False, True], [True] * 3]


@pytest.mark.parametrize(("n", "points"), [(70, 10), (480, 12), (3, 10), (1, 3), (16384, 12)])
def test_sizes_run_from_nothing_to_everything(n, points):
    sizes = curve_sizes(n, points)
    assert (sizes[0], sizes[-1]) == (0, n) and len(sizes) <= points and (np.diff(sizes) > 0).all()


def test_areas_of_a_straight_line_and_of_one_that_overshoots():
    sizes = np.array([0, 1, 4])
    f = faithfulness(np.array([0.2, 0.4, 1.0]), 1.0)
    assert f.tolist() == pytest.approx([0, 0.25, 1])
    assert areas(sizes, f) == pytest.approx((0.5, 0.5))
    cpr, cmd = areas(sizes, faithfulness(np.array([0.0, 2.0, 2.0]), 1.0))
    # Trapezoids of f: (0 + 2) / 2 / 4 + 2 * 3 / 4; of |1 - f|, which is 1 at all three sizes: 1.
    assert (cpr, cmd) == pytest.approx((1.75, 1.0))
    assert np.isnan(faithfulness(np.array([0.5, 0.6]), 0.4)).all()


def test_the_bracket_is_where_a_curve_first_reaches_it():
    sizes = np.array([0, 2, 5, 9])
    assert bracket(sizes, np.array([0.1, 0.3, 0.9, 0.8]), 0.8) == (2, 5)
    assert bracket(sizes, np.array([0.9, 0.3, 0.9, 0.8]), 0.8) == (0, 0)
    assert bracket(sizes, np.array([0.1, 0.3, 0.4, 0.7]), 0.8) is None


def test_bisection_finds_the_crossing_of_a_monotone_measure():
    order = np.random.default_rng(3).permutation(100)
    for wanted, (low, high) in itertools.product((1, 37, 38, 64, 100), ((0, 100), (0, 64))):
        if wanted <= high:
            seen = []
            found = bisect(lambda some, seen=seen: seen.append(len(some)) or some.sum(1), order, low, high, wanted)
            assert found == wanted and sum(seen) <= np.log2(high - low) + 1


def linear(weights):
    """Return m of circuits of a network that adds up what its nodes give."""
    return lambda chosen: chosen @ weights


def test_the_search_finds_the_nodes_that_matter_and_says_that_none_can_go():
    weights = np.array([0.5, 0.0, 0.3, 0.0, 0.0, 0.2, 0.0])
    pruned = prune(linear(weights), np.ones(7, bool), np.arange(7), 0.8, 100)
    assert np.flatnonzero(pruned.kept).tolist() == [0, 2] and pruned.minimal
    for budget in range(pruned.tried):
        early = prune(linear(weights), np.ones(7, bool), np.arange(7), 0.8, budget)
        assert early.tried == budget and not early.minimal and early.kept @ weights >= 0.8


def test_what_the_search_says_is_minimal_is():
    """Also where nodes hinder each other, so that smaller circuits may do what larger ones do not."""
    generator = np.random.default_rng(4)
    for _ in range(20):
        weights, pairs = generator.normal(size=9), generator.normal(size=(9, 9))

        def measure(chosen, weights=weights, pairs=pairs):
            return chosen @ weights + np.einsum("si,ij,sj->s", chosen, pairs, chosen)

        start, wanted = np.ones(9, bool), float(measure(np.ones((1, 9), bool))[0]) - 1.0
        pruned = prune(measure, start, generator.permutation(9), wanted, 1000)
        assert pruned.minimal and measure(pruned.kept[None])[0] >= wanted
        for node in np.flatnonzero(pruned.kept):
            fewer = pruned.kept.copy()
            fewer[node] = False
            assert measure(fewer[None])[0] < wanted


def test_a_circuit_of_nothing_is_minimal():
    pruned = prune(lambda chosen: np.ones(len(chosen)), np.ones(4, bool), np.arange(4), 0.5, 100)
    assert not pruned.kept.any() and pruned.minimal and pruned.tried <= 4


def test_scores_of_a_graph_worked_out_by_hand():
    # The class 7: half from concept 1, three tenths from concept 2, a fifth unexplained. Below, concept 1 has all from
    # concepts 0 and 4, one of them negative, and concept 2 two thirds of error.
    top = {7: ({1: 0.5, 2: -0.3}, 0.2, 0.0)}
    below = {1: ({0: 3.0, 4: -1.0}, 0.0, 0.0), 2: ({0: 1.0}, -2.0, 0.0)}
    replacement, completeness, followed = graph_scores([top, below], 7)
    assert replacement == pytest.approx(0.5 + 0.1) and followed == pytest.approx(1)
    # Targets: the class (influence 1, explained .8), concept 1 (.5, all), concept 2 (.3, a third).
    assert completeness == pytest.approx((0.8 + 0.5 + 0.1) / 1.8)


def test_a_graph_without_errors_is_a_replacement_and_what_is_not_followed_counts_for_neither():
    whole = {7: ({1: 0.6, 2: 0.3}, 0.0, 0.1)}
    assert graph_scores([whole, {1: ({0: 1.0}, 0.0, 0.0)}], 7) == pytest.approx((1.0, 1.0, 0.6))
    assert graph_scores([whole, {1: ({0: 1.0}, 1.0, 0.0)}], 7) == pytest.approx((0.5, (1 + 0.3) / 1.6, 0.6))
    assert all(np.isnan(graph_scores([{}], 7)[:2]))
