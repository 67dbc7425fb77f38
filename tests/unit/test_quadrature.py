"""Rules of the path integrals beside literal sums, and their estimates beside the true errors."""

import numpy as np
import pytest

from gigraph.method.quadrature import Gauss, Tripling, gauss_legendre, midpoint


def refined(integrand, steps, most, tolerance=0.0, sums=None):
    """Refine until the estimate is within the tolerance; return the rule, and the nodes that were looked at."""
    looked = list(midpoint(steps)[0])
    rule = Tripling(steps, integrand(midpoint(steps)[0]))
    while rule.error(sums).sum() > tolerance:
        nodes = rule.wanted(most, sums)
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


@pytest.mark.parametrize(("jumps", "tolerance"), [(1, 0.05), (4, 0.02), (12, 0.02), (40, 0.05)])
def test_the_estimate_is_about_the_true_error_of_jumps_anywhere(jumps, tolerance):
    """Within a factor of 2 in the median. Few jumps, which all components share, spread more than a network's."""
    rng, ratios = np.random.default_rng(jumps), []
    for _ in range(200):
        integrand, exact = stairs(rng, jumps)
        rule, _ = refined(integrand, 8, 2000, tolerance * np.abs(exact).sum())
        ratios.append(rule.error().sum() / np.abs(rule.value() - exact).sum())
    assert 0.5 <= np.median(ratios) <= 2 and np.quantile(ratios, 0.1) >= 0.4


def test_the_estimate_is_the_literal_sum_over_gaps():
    rule, _ = refined(stairs(np.random.default_rng(5), 9)[0], 8, 30)
    gaps = len(rule.nodes) - 1
    steep = [(rule.values[i + 1] - rule.values[i]) / (rule.nodes[i + 1] - rule.nodes[i]) for i in range(gaps)]
    total = 0
    for i in range(gaps):
        wide = rule.nodes[i + 1] - rule.nodes[i]
        around = [k for k in (i - 1, i + 1) if 0 <= k < gaps]
        weights = [rule.nodes[k + 1] - rule.nodes[k] for k in around]
        trend = sum(w * steep[k] for k, w in zip(around, weights, strict=True)) / sum(weights)
        total = total + (wide * (steep[i] - trend) * wide) ** 2 / 12 / 1.5
    np.testing.assert_allclose(rule.error(), np.sqrt(total))


def test_errors_of_sums_are_those_of_the_summed_integrand():
    integrand, _ = stairs(np.random.default_rng(1), 6)
    sums = np.array([[1, 0], [0, 1], [1, 0], [0, 1], [0, 1.0]])
    one, two = Tripling(8, integrand(midpoint(8)[0])), Tripling(8, integrand(midpoint(8)[0]) @ sums)
    np.testing.assert_allclose(one.error(sums), two.error())
    np.testing.assert_array_equal(one.wanted(20, sums), two.wanted(20))


def test_fewer_than_three_nodes_tell_nothing_of_the_error():
    for steps in (1, 2):
        rule = Tripling(steps, np.full((steps, 1), 4.0))
        assert rule.error()[0] == 4 and len(rule.wanted(steps)) == 0
        rule.refine(rule.wanted(9), np.full((2 * steps, 1), 4.0))
        assert rule.error()[0] == 0


@pytest.mark.parametrize(
    "function", [lambda x: np.exp(2 * x), lambda x: 1 / (1 + x), lambda x: np.tanh(3 * x - 1), lambda x: np.sin(5 * x)]
)
def test_gauss_takes_its_error_from_the_decay_of_legendre_coefficients(function):
    from scipy.integrate import quad

    exact = quad(function, 0, 1, epsabs=1e-14)[0]
    for steps, most in ((4, 0.3), (12, 1e-6)):
        rule = Gauss(steps, function(gauss_legendre(steps)[0])[:, None])
        missed = abs(rule.value()[0] - exact)
        assert rule.error()[0] >= missed / 1.5 - 1e-13
        assert rule.error()[0] <= most
    assert len(rule.wanted(35)) == 0 and len(rule.wanted(36)) == 36
