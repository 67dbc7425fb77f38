"""Eqs. 3 to 7: the batched attribution against the literal one, and its theorems."""

import numpy as np
import pytest
import torch
from torch import nn

from gigraph.errors import UserError
from gigraph.method import gig
from gigraph.method.gig import Batch, Decomposition, ablate, attribute, class_score, concept_score, mean_gradients
from gigraph.method.quadrature import midpoint
from reference.gig import class_value, concept_value, gig_at_positions

N, P, C, C_B, K, K_B = 3, 6, 5, 4, 9, 7


@pytest.fixture
def world():
    """A two-layer ReLU network on P positions that mixes positions, and N images of sparse codes."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    mix, first, second = torch.randn(P, P), torch.randn(C, 8), torch.randn(8, C_B)

    def segment(x):
        return torch.relu(torch.relu(torch.einsum("pr,nrc->npc", mix, x @ first))) @ second

    codes = torch.randn(N, P, K) * (torch.rand(N, P, K) < 0.3)
    images = []
    for code in codes:
        active = code.any(0).nonzero()[:, 0]
        images.append(Decomposition(active, code[:, active]))
    yield {"segment": segment, "vectors": torch.randn(K, C), "targets": torch.randn(K_B, C_B),
           "beta": torch.randn(C), "images": images,
           "dense": [torch.randn(size, dtype=torch.float32) for size in ((C, 32), (32, C_B))]}  # fmt: skip
    torch.set_default_dtype(torch.float32)


def head(omega):
    return omega.mean(1)


def run(world, segment, score, targets, **options):
    return attribute(segment, score, world["vectors"], world["beta"], world["images"], targets, **options)


@pytest.mark.parametrize("batch", [1, 5, 1000])
def test_equation_5_against_the_literal_sum(world, batch):
    targets = torch.tensor([[0, 3, 6], [1, 1, 2], [5, 4, 0]])
    found = run(world, world["segment"], concept_score(world["targets"]), targets, steps=7, max_steps=7, batch=batch)
    for i, image in enumerate(world["images"]):
        for j, t in enumerate(targets[i].tolist()):
            literal = gig_at_positions(
                world["segment"],
                lambda omega, _, t=t: concept_value(omega[0], world["targets"][t])[None, None],
                image.u, world["vectors"][image.concepts], world["beta"], t, steps=7,
            )  # fmt: skip
            torch.testing.assert_close(found[i].values[j], literal.sum(0))


@pytest.mark.parametrize("channels_first", [True, False])
def test_gradients_are_averaged_however_they_lie(channels_first):
    weight, gradients = torch.rand(4), torch.randn(4, N, P, C)
    lying = gradients.transpose(2, 3).contiguous().transpose(2, 3) if channels_first else gradients
    literal = sum(w * g for w, g in zip(weight, gradients, strict=True))
    torch.testing.assert_close(gig._averaged(weight, lying), literal)


def test_equation_4_per_position(world):
    image, t = world["images"][0], 2
    score = concept_score(world["targets"])
    d = mean_gradients(world["segment"], score, world["beta"], image.offset(world["vectors"])[None],
                             torch.tensor([[t]]), midpoint(5)[0], batch=100)  # fmt: skip
    literal = gig_at_positions(world["segment"], score, image.u, world["vectors"][image.concepts], world["beta"], t, 5)
    torch.testing.assert_close(image.gather_positions(d[0], world["vectors"])[0], literal)


def test_equation_7_for_classes(world):
    def segment(x):
        return head(world["segment"](x))

    targets = torch.tensor([[0, 1], [2, 3], [3, 0]])
    found = run(world, segment, class_score(), targets, steps=6, max_steps=6)
    for i, image in enumerate(world["images"]):
        for j, label in enumerate(targets[i].tolist()):
            literal = gig_at_positions(
                segment, lambda out, _, label=label: class_value(out[0], label)[None, None],
                image.u, world["vectors"][image.concepts], world["beta"], label, steps=6,
            )  # fmt: skip
            torch.testing.assert_close(found[i].values[j], literal.sum(0))


def test_the_path_is_refined_to_the_tolerance_for_those_that_need_it(world):
    targets = torch.arange(K_B).repeat(N, 1)
    score = concept_score(world["targets"])
    found = run(world, world["segment"], score, targets, steps=8, max_steps=4096, tolerance=1e-2)
    fine = run(world, world["segment"], score, targets, steps=20_000, max_steps=20_000, tolerance=1)
    ratios = []
    for one, other in zip(found, fine, strict=True):
        assert (one.quadrature_error <= 1e-2 * one.total_absolute).all()
        assert one.steps.min() >= 8 and len(one.steps.unique()) > 1
        missed = (one.values - other.values).abs().sum(1)
        ratios += (one.quadrature_error / missed).tolist()
    assert 0.5 <= np.median(ratios) <= 2 and np.quantile(ratios, 0.1) >= 1 / 1.5


def test_families_are_refined_by_what_is_read(world):
    """Errors and sizes are those of the families' sums: two concepts of opposite effect may need no refinement."""
    targets = torch.arange(K_B).repeat(N, 1)
    score, family = concept_score(world["targets"]), torch.zeros(len(world["vectors"]), dtype=torch.int64)
    for one in run(world, world["segment"], score, targets, steps=3, max_steps=400, tolerance=1e-2, family=family):
        merged = one.merged(family)
        assert (one.quadrature_error <= 1e-2 * merged.total_absolute).all()
        assert merged.values.shape[1] == 1


def test_completeness_is_against_reconstruction_and_baseline(world):
    score = concept_score(world["targets"])
    found = run(world, world["segment"], score, torch.tensor([[4], [4], [4]]))
    for image, one in zip(world["images"], found, strict=True):
        at_x = score(world["segment"]((world["beta"] + image.offset(world["vectors"]))[None]), torch.tensor([[4]]))
        at_beta = score(world["segment"](world["beta"].expand(1, P, C)), torch.tensor([[4]]))
        torch.testing.assert_close(one.at_concepts, at_x[0])
        torch.testing.assert_close(one.at_baseline, at_beta[0])


def test_a_linear_model_is_attributed_exactly_in_one_step(world):
    weight = torch.randn(C, C_B)
    unit = nn.functional.normalize(world["targets"], dim=1)
    found = run(world, lambda x: x @ weight, concept_score(world["targets"]), torch.arange(K_B).repeat(N, 1), steps=1)
    for image, one in zip(world["images"], found, strict=True):
        exact = image.u.sum(0) * (world["vectors"][image.concepts] @ weight @ unit.T).T
        torch.testing.assert_close(one.values, exact)
        torch.testing.assert_close(one.completeness_error, torch.zeros(K_B), atol=1e-9, rtol=0)


def test_attributions_are_linear_in_the_score(world):
    base = concept_score(world["targets"])
    targets = torch.tensor([[0, 1]] * N)

    def both(omega, t):
        scores = base(omega, t)
        return torch.stack([2 * scores[:, 0] - 3 * scores[:, 1], scores[:, 1]], 1)

    one = run(world, world["segment"], base, targets, steps=8, max_steps=8)
    two = run(world, world["segment"], both, targets, steps=8, max_steps=8)
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(b.values[0], 2 * a.values[0] - 3 * a.values[1])


def test_a_concept_that_does_not_matter_gets_nothing(world):
    """Sensitivity: rotate one concept vector into the null space of the first layer."""
    blind = torch.zeros(C, 8)
    blind[:-1] = torch.randn(C - 1, 8)
    vectors = world["vectors"].clone()
    vectors[0] = torch.eye(C)[-1]
    image = Decomposition(torch.tensor([0, 1]), torch.ones(P, 2))
    (one,) = attribute(lambda x: torch.relu(x @ blind), concept_score(torch.randn(2, 8)), vectors, world["beta"],
                       [image], torch.tensor([[0, 1]]))  # fmt: skip
    assert (one.values[:, 0] == 0).all() and (one.values[:, 1] != 0).any()


def test_forward_mode_gives_the_same_attribution(world):
    """One Jacobian-vector product per source yields every target: the transpose of what `attribute` does."""
    score, t = concept_score(world["targets"]), torch.arange(K_B)[None]
    image = world["images"][1]
    nodes, weights = midpoint(9)
    offset = image.offset(world["vectors"])
    forward = torch.zeros(K_B, len(image.concepts))
    for q, concept in enumerate(image.concepts.tolist()):
        direction = image.u[:, q : q + 1] * world["vectors"][concept]
        for alpha, weight in zip(nodes, weights, strict=True):
            _, slope = torch.func.jvp(
                lambda x: score(world["segment"](x), t),
                ((world["beta"] + alpha * offset)[None],),
                (direction[None],),
            )
            forward[:, q] += weight * slope[0]
    reverse = run({**world, "images": [image]}, world["segment"], score, t, steps=9, max_steps=9)
    torch.testing.assert_close(reverse[0].values, forward)


def test_ablation_recomputes_without_the_concept(world):
    score, image = concept_score(world["targets"]), world["images"][0]
    targets = torch.tensor([1, 5])
    absent = next(q for q in range(K) if q not in image.concepts.tolist())
    sources = [int(image.concepts[1]), absent]
    drop = ablate(world["segment"], score, world["vectors"], world["beta"], image, sources, targets, batch=2)
    full = torch.zeros(P, K)
    full[:, image.concepts] = image.u
    for i, q in enumerate(sources):
        code = full.clone()
        before = score(world["segment"]((world["beta"] + code @ world["vectors"])[None]), targets[None])[0]
        code[:, q] = 0
        after = score(world["segment"]((world["beta"] + code @ world["vectors"])[None]), targets[None])[0]
        torch.testing.assert_close(drop[i], before - after)
    assert (drop[1] == 0).all()


def test_ablation_from_the_real_pfvs_leaves_what_concepts_do_not_hold(world):
    score, image, targets = concept_score(world["targets"]), world["images"][0], torch.tensor([1, 5])
    source = int(image.concepts[1])
    torch.manual_seed(1)
    real = world["beta"] + image.offset(world["vectors"]) + torch.randn(P, C)
    given = world["segment"], score, world["vectors"], world["beta"], image, [source], targets
    drop = ablate(*given, pfvs=real)
    without = real - torch.outer(image.u[:, 1], world["vectors"][source])
    before, after = (score(world["segment"](x[None]), targets[None])[0] for x in (real, without))
    torch.testing.assert_close(drop[0], before - after)
    assert not torch.allclose(drop, ablate(*given))


def test_a_decomposition_from_csr():
    indptr, indices = torch.tensor([0, 2, 2, 3]), torch.tensor([7, 2, 7])
    found = Decomposition.from_csr(indptr, indices, torch.tensor([1.0, 2.0, 3.0]))
    assert found.concepts.tolist() == [2, 7]
    assert found.u.tolist() == [[2, 1], [0, 0], [0, 3]]


def test_no_point_of_the_path_is_computed_twice(world):
    points = []

    def segment(x):
        points.append(len(x))
        return world["segment"](x)

    found = run(world, segment, concept_score(world["targets"]), torch.tensor([[0], [1], [2]]), steps=2, max_steps=162,
                tolerance=1e-4)  # fmt: skip
    # Besides the path: X~ of each image, and the baseline once.
    assert sum(points) == N + 1 + sum(int(one.steps[0]) for one in found)


def test_no_target_is_refined_for_the_sake_of_another(world, monkeypatch):
    """One backward pass for each point and each target that needs it, where the batch holds one point at a time."""
    passes = []
    real = torch.autograd.grad

    def counted(*given, **more):
        passes.append(1)
        return real(*given, **more)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    found = run(world, world["segment"], concept_score(world["targets"]), torch.arange(K_B).repeat(N, 1), steps=3,
                max_steps=54, tolerance=1e-2, batch=1)  # fmt: skip
    steps = torch.stack([one.steps for one in found])
    assert len(steps.unique()) > 3  # they differ in what they need
    assert len(passes) == steps.sum()


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_however_many_points_are_held_at_once(world, batch):
    targets = torch.arange(K_B).repeat(N, 1)
    score, options = concept_score(world["targets"]), {"steps": 3, "max_steps": 60, "tolerance": 1e-2}
    literal = run(world, world["segment"], score, targets, **options)
    for one, other in zip(run(world, world["segment"], score, targets, batch=batch, **options), literal, strict=True):
        torch.testing.assert_close(one.values, other.values)
        torch.testing.assert_close(one.quadrature_error, other.quadrature_error)
        assert (one.steps == other.steps).all()


def test_the_midpoint_rule_is_exact_for_straight_lines():
    nodes, weights = midpoint(6)
    assert np.isclose(weights.sum(), 1) and (nodes > 0).all() and (nodes < 1).all()
    assert np.isclose(weights @ nodes, 0.5)


@pytest.mark.parametrize("batch", [1, 4, 1000])
def test_forward_mode_is_chosen_for_few_concepts_and_agrees(world, batch, monkeypatch):
    """With seven targets the images of up to three concepts go forwards; the attribution is the same."""
    score, targets = concept_score(world["targets"]), torch.arange(K_B).repeat(N, 1)
    few = [Decomposition(image.concepts[:3], image.u[:, :3]) for image in world["images"]]
    options = {"steps": 3, "max_steps": 27, "tolerance": 1e-3}
    calls = []
    real = gig.forward_slopes
    monkeypatch.setattr(gig, "forward_slopes", lambda *a: calls.append(1) or real(*a))
    forward = run({**world, "images": few}, world["segment"], score, targets, batch=batch, **options)
    assert len(calls) >= N
    monkeypatch.setattr(gig, "FORWARD_COST", np.inf)
    reverse = run({**world, "images": few}, world["segment"], score, targets, batch=batch, **options)
    for one, other in zip(forward, reverse, strict=True):
        torch.testing.assert_close(one.values, other.values)
        assert (one.steps == other.steps).all()


@pytest.mark.parametrize("kind", ["gelu", "layer norm"])
@pytest.mark.parametrize("output", ["logit", "probability"])
def test_the_estimate_of_a_smooth_networks_error_is_not_below_it(kind, output):
    """Beside 1,200 midpoints: of nine in ten rows it is at most 1.5 times too small."""
    torch.manual_seed(0)
    ratios, errors = [], []
    for _ in range(3):
        mixes = [torch.randn(C, C, dtype=torch.float64) * 2 / C**0.5 for _ in range(4)]
        head = 3 * torch.randn(C, 10, dtype=torch.float64) / C**0.5

        def segment(x, mixes=mixes, head=head):
            for mix in mixes:
                normal = torch.nn.functional.layer_norm(x, (C,)) if kind == "layer norm" else x
                x = x * (kind == "layer norm") + torch.nn.functional.gelu(normal @ mix)
            return x.mean(1) @ head

        vectors, start = torch.randn(K, C, dtype=torch.float64), 0.3 * torch.randn(C, dtype=torch.float64)
        u = torch.randn(N, P, K, dtype=torch.float64) * (torch.rand(N, P, K) < 0.4)
        images = [Decomposition(one.any(0).nonzero()[:, 0], one[:, one.any(0)]) for one in u]
        targets = torch.arange(5).repeat(N, 1)
        of = (segment, class_score(output), vectors, start, images, targets)
        found = attribute(*of, steps=8, max_steps=72, tolerance=0.02)
        fine = attribute(*of, steps=1200, max_steps=1200, tolerance=1)
        for one, other in zip(found, fine, strict=True):
            missed = (one.values - other.values).abs().sum(1)
            # The reference has an error of its own.
            ratios += (one.quadrature_error / (missed + 1e-4 * other.total_absolute)).tolist()
            errors += (missed / other.total_absolute).tolist()
    assert np.quantile(ratios, 0.1) >= 1 / 1.5 and np.median(errors) <= 0.02


def test_out_of_memory_halves_the_batch_and_goes_on(world, caplog):
    caplog.set_level("INFO", "gigraph")
    score, targets = concept_score(world["targets"]), torch.tensor([[0, 3], [1, 2], [5, 4]])
    expected = run(world, world["segment"], score, targets, steps=6, max_steps=6)

    def segment(x):
        if len(x) > 3:
            raise torch.cuda.OutOfMemoryError("stand-in for a full device")
        return world["segment"](x)

    batch = Batch(20)
    found = run(world, segment, score, targets, steps=6, max_steps=6, batch=batch)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.values, other.values)
    assert batch.points == 2
    assert "out of memory: going on with 2 path points at once" in caplog.text
    image = world["images"][0]
    arguments = (score, world["vectors"], world["beta"], image, image.concepts[:3].tolist(), targets[0])
    torch.testing.assert_close(ablate(segment, *arguments), ablate(world["segment"], *arguments))

    def full(x):
        raise torch.cuda.OutOfMemoryError("stand-in")

    with pytest.raises(UserError, match="no room for one path point"):
        run(world, full, score, targets)


def test_bfloat16_stays_near_and_scores_stay_exact(world):
    torch.set_default_dtype(torch.float32)
    near = {key: value.float() if torch.is_tensor(value) else value for key, value in world.items()}
    near["images"] = [Decomposition(image.concepts, image.u.float()) for image in world["images"]]
    layer, last = world["dense"]

    def segment(x):
        return torch.relu(x @ layer) @ last

    score, targets = concept_score(near["targets"]), torch.arange(K_B).repeat(N, 1)
    exact = run(near, segment, score, targets, steps=9, max_steps=9)
    rough = run(near, segment, score, targets, steps=9, max_steps=9, precision="bfloat16")
    for one, other in zip(rough, exact, strict=True):
        assert one.values.dtype == torch.float32
        deviation = (one.values - other.values).abs().sum(1) / other.values.abs().sum(1)
        assert 0 < deviation.max() < 0.03
        torch.testing.assert_close(one.at_concepts, other.at_concepts, rtol=0, atol=0)
