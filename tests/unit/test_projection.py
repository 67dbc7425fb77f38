"""Projections on the span of concepts: theorems, and the same by literal loops."""

import numpy as np
import pytest
import torch

from gigraph.method.before_after import compared, spread
from gigraph.method.projection import Change, affine, agreement, changed, mean_direction, span
from gigraph.method.proportion import Z, paired, wilson

RNG = np.random.default_rng(0)
VECTORS = RNG.standard_normal((3, 7)).astype(np.float32)
BETA = torch.from_numpy(RNG.standard_normal(7)).double()
X = torch.from_numpy(RNG.standard_normal((5, 4, 7))).double()


def suppress(x, vectors, **more):
    return changed(x, BETA, [Change(torch.from_numpy(span(vectors)).double(), **more)])


def orthonormal(vectors):
    """Return a basis by Gram and Schmidt's procedure, twice for precision."""
    rows = []
    for vector in np.asarray(vectors, np.float64):
        for _ in range(2):
            for row in rows:
                vector = vector - (row @ vector) * row
        rows.append(vector / np.linalg.norm(vector))
    return np.stack(rows)


def test_the_span_is_gram_and_schmidts():
    basis, literal = span(VECTORS).astype(np.float64), orthonormal(VECTORS)
    np.testing.assert_allclose(basis @ basis.T, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(basis.T @ basis, literal.T @ literal, atol=1e-6)


def test_lengths_order_and_repetition_do_not_matter():
    p = span(VECTORS).T @ span(VECTORS)
    for other in (VECTORS[[2, 0, 1]], VECTORS * [[1e-4], [5], [1e4]], np.concatenate([VECTORS, -3 * VECTORS[:2]])):
        np.testing.assert_allclose(span(other).T @ span(other), p, atol=1e-5)


def test_near_parallel_vectors_span_one_direction_and_zero_vectors_none():
    near = VECTORS[[0, 0]] + [[0] * 7, [1e-5] * 7]
    assert len(span(near)) == 1 and len(span(VECTORS[[0, 0]] + [[0] * 7, [0.05] * 7])) == 2
    assert span(np.zeros((2, 7))).shape == (0, 7)
    assert len(span(np.concatenate([np.zeros((1, 7)), VECTORS[:1]]))) == 1
    x = changed(X, BETA, [Change(torch.zeros(0, 7).double())])
    torch.testing.assert_close(x, X)


def test_suppression_is_an_orthogonal_projection_around_the_centre():
    once = suppress(X, VECTORS)
    torch.testing.assert_close(suppress(once, VECTORS), once)  # idempotent
    left = (once - BETA) @ torch.from_numpy(VECTORS).double().T
    torch.testing.assert_close(left, torch.zeros_like(left), atol=1e-6, rtol=0)  # nothing along a concept
    taken = X - once
    cross = (taken * (once - BETA)).sum(-1)
    torch.testing.assert_close(cross, torch.zeros_like(cross), atol=1e-5, rtol=0)  # orthogonal
    torch.testing.assert_close(suppress(BETA[None], VECTORS), BETA[None])  # the centre stays


def test_what_no_concept_can_write_stays():
    basis = orthonormal(VECTORS)
    free = RNG.standard_normal((6, 7))
    free -= free @ basis.T @ basis
    x = BETA + torch.from_numpy(free)
    torch.testing.assert_close(suppress(x, VECTORS), x, atol=1e-6, rtol=0)


def test_a_boost_of_minus_one_suppresses_and_boosts_scale_the_part():
    torch.testing.assert_close(suppress(X, VECTORS, gain=-1.0), suppress(X, VECTORS))
    p = torch.from_numpy(orthonormal(VECTORS).T @ orthonormal(VECTORS))
    torch.testing.assert_close(suppress(X, VECTORS, gain=2.5), X + 2.5 * (X - BETA) @ p, atol=1e-5, rtol=0)


def test_the_gate_is_literal_and_strict():
    mean = torch.from_numpy(mean_direction(VECTORS)).double()
    literal = X.clone()
    for n in range(5):
        for position in range(4):
            z = X[n, position] - BETA
            if float(z @ mean / z.norm()) > 0.1:
                literal[n, position] = suppress(X[n, position], VECTORS)
    gated = suppress(X, VECTORS, threshold=0.1, mean=mean)
    torch.testing.assert_close(gated, literal)
    assert not torch.equal(gated, X) and not torch.allclose(gated, suppress(X, VECTORS))
    axis = torch.eye(2).double()[:1]
    at = Change(axis, threshold=0.6, mean=axis[0])
    z = torch.tensor([[3.0, 4.0], [3.1, 4.0], [0.0, 0.0]]).double()
    torch.testing.assert_close(at(z), torch.tensor([[3.0, 4.0], [0.0, 4.0], [0.0, 0.0]]).double())


def test_gradients_pass_through_the_projection_alone():
    mean = torch.from_numpy(mean_direction(VECTORS)).double()
    x = X.clone().requires_grad_()
    change = Change(torch.from_numpy(span(VECTORS)).double(), threshold=0.1, mean=mean)
    changed(x, BETA, [change]).sum().backward()
    whole = torch.ones(7).double() - change.basis.T @ (change.basis @ torch.ones(7).double())
    opened = torch.cosine_similarity(X - BETA, mean, dim=-1) > 0.1
    expected = torch.where(opened[..., None], whole, torch.ones(7).double())
    torch.testing.assert_close(x.grad, expected)


def test_the_affine_map_is_the_changes_one_after_another():
    changes = [Change(torch.from_numpy(span(VECTORS[:2]))), Change(torch.from_numpy(span(VECTORS[2:])), 1.5)]
    a, c = affine(BETA.numpy(), changes)
    torch.testing.assert_close(
        X @ torch.from_numpy(a).T + torch.from_numpy(c), changed(X, BETA, changes), atol=1e-5, rtol=0
    )
    other, _ = affine(BETA.numpy(), changes[::-1])
    assert not np.allclose(a, other)  # a boost of what was suppressed is another map
    with pytest.raises(ValueError, match="gated"):
        affine(BETA.numpy(), [Change(changes[0].basis, threshold=0.5)])


def test_the_mean_direction_weighs_concepts_alike():
    one, two = np.eye(4)[:2]
    np.testing.assert_allclose(mean_direction(np.stack([one, 100 * two])), (one + two) / np.sqrt(2), rtol=1e-6)
    assert not mean_direction(np.stack([one, -one])).any()


# ---- intervals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("successes", "n"), [(0, 5), (3, 7), (7, 7), (49, 50)])
def test_wilsons_ends_are_where_the_score_test_turns(successes, n):
    low, high = wilson(successes, n)
    for end in (low, high):
        if 0 < end < 1:
            assert abs(successes / n - end) == pytest.approx(Z * np.sqrt(end * (1 - end) / n))
    assert (low == 0) == (successes == 0) and (high == 1) == (successes == n) and wilson(0, 0) == (0, 1)


@pytest.mark.parametrize(("gained", "lost", "n"), [(0, 0, 10), (3, 1, 12), (0, 9, 9)])
def test_the_paired_interval_is_walds_with_half_a_case_in_each_cell(gained, lost, n):
    cells = np.array([gained, lost, (n - gained - lost) / 2, (n - gained - lost) / 2]) + 0.5
    p = cells / cells.sum()
    signs = np.array([1, -1, 0, 0])
    mean = (signs * p).sum()
    half = Z * np.sqrt(((signs - mean) ** 2 * p).sum() / cells.sum())
    low, high = paired(gained, lost, n)
    assert (low, high) == (pytest.approx(max(-1, mean - half)), pytest.approx(min(1, mean + half)))
    assert low < (gained - lost) / n < high or abs(gained - lost) == n
    assert paired(0, 0, 0) == (-1, 1)


def test_shares_before_and_after_are_counted_by_hand():
    nan = np.full((4, 3), np.nan)
    found = {
        "labels": np.array([0, 1, 1]),
        "predicted": np.array([[0, 1, 0], [0, 0, 1], [1, 1, 1], [0, 1, 0]]),
        "probability": np.array([[0.9, 0.8, 0.4], [0.9, 0.2, 0.6], [0.1, 0.7, 0.7], [0.9, 0.8, 0.4]]),
        "value": nan,
    }
    row = compared(found, np.array([True, True, True]))
    assert row["accuracy"]["before"] == row["accuracy"]["after"] == pytest.approx(2 / 3)
    assert (row["change"]["gained"], row["change"]["lost"], row["images"]) == (1, 1, 3)
    assert row["predictions_changed"] == pytest.approx(2 / 3) and row["value"] is None
    assert row["probability"] == {"before": pytest.approx(0.7), "after": pytest.approx(1.7 / 3)}
    assert row["random"]["predictions_changed"] == {
        "mean": pytest.approx(1 / 3),
        "least": 0,
        "most": pytest.approx(2 / 3),
    }
    one = compared(found, np.array([False, True, True]))
    last = compared(found, np.array([False, False, True]))["change"]
    assert (last["gained"], last["lost"], last["of_accuracy"]) == (1, 0, 1)
    assert one["accuracy"]["before"] == 0.5 and one["random"]["change_of_accuracy"]["most"] == 0.5
    assert (
        compared({**found, "predicted": found["predicted"][:2], "probability": nan[:2]}, np.ones(3, bool))["random"]
        is None
    )
    assert spread(np.array([np.nan])) is None


def test_directions_agree_from_cancelling_to_parallel():
    one = np.array([3.0, 4.0, 0.0])
    assert agreement(np.stack([one, 2 * one])) == pytest.approx(1)
    assert agreement(np.stack([one, -7 * one])) == pytest.approx(0)
    assert agreement(np.eye(4)) == pytest.approx(0.5)
