"""Rules of the path integrals beside literal sums, and their estimates beside the true errors."""

import numpy as np
import pytest

from gigraph.method.quadrature import Tripling, midpoint


def refined(integrand, steps, most, tolerance=0.0, sums=None):
    """Refine until the estimate is within the tolerance; return the rule, and the nodes that were looked at."""
    looked = list(midpoint(steps)[0])
    rule = Tripling(steps, integrand(midpoint(steps)[0]), sums)
    while rule.error().sum() > tolerance:
        nodes = rule.wanted(most)
        if not len(nodes):
            break
        looked += list(nodes)
        rule.refine(nodes, integrand(nodes))
    return rule, np.array(looked)


def stairs(rng, jumps, components=5):
    """Return an integrand [J, Q] that is constant between random places, and its integral."""
    at, size = np.sort(rng.random(jumps)), rng.standard_normal((jumps, components))
    return lambda alpha: (alpha[:, None] > at) @ size, (1 - at) @ size


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_intervals_tile_the_path_and_no_node_is_looked_at_twice(steps):
    integrand, _ = stairs(np.random.default_rng(steps), 7)
    rule, looked = refined(integrand, steps, 200)
    assert len(np.unique(looked)) == len(looked) == len(rule.nodes) <= 200
    np.testing.assert_allclose(np.sort(looked), rule.nodes)
    np.testing.assert_allclose(np.cumsum(rule.widths) - rule.widths / 2, rule.nodes, atol=1e-12)  # each in its middle
    assert np.isclose(rule.widths.sum(), 1)
    literal = sum(w * integrand(np.array([a]))[0] for a, w in zip(rule.nodes, rule.widths, strict=True))
    np.testing.assert_allclose(rule.value(), literal)


def test_what_is_straight_needs_no_further_node_and_a_jump_only_those_around_it():
    straight = Tripling(8, 3 * midpoint(8)[0][:, None] - 1)
    assert straight.error()[0] < 1e-12 and np.isclose(straight.value()[0], 0.5)
    rule, looked = refined(lambda alpha: (alpha[:, None] > 0.4) * 1.0, 8, 60)
    assert np.abs(np.sort(looked[8:]) - 0.4).max() < 1.5 / 8  # of the first eight intervals, those beside the jump
    assert abs(rule.value()[0] - 0.6) < 1e-5


def test_what_hides_between_nodes_is_looked_for_in_the_widest_intervals():
    bump = lambda alpha: ((alpha > 0.51) & (alpha < 0.55)).astype(float)[:, None]  # noqa: E731
    rule = Tripling(8, bump(midpoint(8)[0]))
    assert rule.error()[0] == 0 and len(rule.wanted(100)) == 0
    nodes = rule.wanted(100, missed=0.04)
    assert len(nodes) == 16
    rule.refine(nodes, bump(nodes))
    assert rule.error()[0] > 0 and abs(rule.value()[0] - 0.04) < 0.04


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("jumps", "tolerance"), [(8, 0.05), (12, 0.1), (40, 0.05), (100, 0.05)])
def test_the_estimate_is_about_the_true_error_of_jumps_anywhere(jumps, tolerance, seed):
    """Near it in the median, and of nine in ten at most 1.75 times too small (of a network's rows 1.5 times)."""
    rng, ratios = np.random.default_rng(seed), []
    for _ in range(100):
        integrand, exact = stairs(rng, jumps)
        rule, _ = refined(integrand, 8, 72, tolerance * np.abs(exact).sum())
        ratios.append(rule.error().sum() / np.abs(rule.value() - exact).sum())
    assert 0.9 <= np.median(ratios) <= 1.6 and np.quantile(ratios, 0.1) >= 1 / 1.75


def test_what_changes_at_an_end_alone_is_not_seen_but_taken_to_be_as_what_lies_beside():
    """A lone jump before the first node, and jumps all over: those before the first node count as the next ones."""
    lone = Tripling(8, (midpoint(8)[0][:, None] > 0.05) * 1.0)
    assert lone.error()[0] == 0 and abs(lone.value()[0] - 0.95) > 0.04
    hidden, whole = [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        integrand, exact = stairs(rng, 30, components=1)
        rule = Tripling(8, integrand(midpoint(8)[0]))
        hidden.append(rule._squares[[0, -1]].sum())
        whole.append(((rule.value() - exact) ** 2).sum())
    # Of eight intervals two halves lie beyond the nodes: an eighth of the error's variance.
    assert 0.08 < np.mean(hidden) / np.mean(whole) < 0.2


def test_the_estimate_is_the_literal_sum_over_gaps():
    rule, _ = refined(stairs(np.random.default_rng(5), 9)[0], 8, 30)
    gaps = len(rule.nodes) - 1
    wide = [rule.nodes[i + 1] - rule.nodes[i] for i in range(gaps)]
    steep = [(rule.values[i + 1] - rule.values[i]) / wide[i] for i in range(gaps)]
    total, jumps = 0, []
    for i in range(gaps):
        around = [k for k in (i - 1, i + 1) if 0 <= k < gaps]
        trend = sum(wide[k] * steep[k] for k in around) / sum(wide[k] for k in around)
        jumps.append((wide[i] * (steep[i] - trend)) ** 2 / 1.5)
        total = total + wide[i] ** 2 * jumps[i] / 12
    for half, beside in ((rule.nodes[0], (0, 1)), (1 - rule.nodes[-1], (-1, -2))):
        dense = sum(jumps[k] for k in beside) / sum(wide[k] for k in beside)
        total = total + (2 * half) ** 2 * half * dense / 12
    np.testing.assert_allclose(rule.error(), np.sqrt(total))


def test_errors_of_sums_are_those_of_the_summed_integrand():
    integrand, _ = stairs(np.random.default_rng(1), 6)
    sums = np.array([[1, 0], [0, 1], [1, 0], [0, 1], [0, 1.0]])
    one, _ = refined(integrand, 8, 20, sums=sums)
    two, _ = refined(lambda alpha: integrand(alpha) @ sums, 8, 20)
    np.testing.assert_array_equal(one.nodes, two.nodes)
    np.testing.assert_allclose(one.error(), two.error())
    np.testing.assert_allclose(one.read(), two.value())


def test_fewer_than_three_nodes_tell_nothing_of_the_error():
    for steps in (1, 2):
        rule = Tripling(steps, np.full((steps, 1), 4.0))
        assert rule.error()[0] == 4 and len(rule.wanted(steps)) == 0
        rule.refine(rule.wanted(9), np.full((2 * steps, 1), 4.0))
        assert rule.error()[0] == 0
