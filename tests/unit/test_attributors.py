"""Attribution methods: what each promises, and what it rests on."""

import dataclasses

import pytest
import torch
from pydantic import ValidationError

from gigraph.attributors import attribute, is_complete
from gigraph.attributors.path import ConceptPath
from gigraph.attributors.registry import MODULES
from gigraph.method.gig import Batch, Decomposition, class_score, concept_score
from gigraph.planning import stages
from gigraph.planning.config import Attribution, load, schema
from gigraph.planning.plan import Plan
from workflow.toy import ROOT

N, P, C, C_B, K, K_B = 3, 4, 5, 6, 7, 8


def relu_net():
    first, second = torch.randn(C, 16), torch.randn(16, C_B)
    return lambda x: torch.relu(torch.relu(x @ first).roll(1, 1)) @ second


@pytest.fixture
def world():
    """A path through two ReLUs that mix positions, N images of sparse codes, and all concepts as their targets."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    codes = torch.randn(N, P, K) * (torch.rand(N, P, K) < 0.4)
    images = [Decomposition(one.any(0).nonzero()[:, 0], one[:, one.any(0)]) for one in codes]
    path = ConceptPath(
        relu_net(), concept_score(torch.randn(K_B, C_B)), torch.randn(K, C), torch.randn(C), Batch(50),
        steps=16, max_steps=128, tolerance=0.01, precision="float32",
    )  # fmt: skip
    yield path, images, torch.arange(K_B).repeat(N, 1)
    torch.set_default_dtype(torch.float32)


def but(path, **changes):
    return dataclasses.replace(path, **changes)


def test_the_configuration_takes_what_is_registered():
    assert schema()["$defs"]["Attribution"]["properties"]["method"]["enum"] == [*MODULES]
    assert all(Attribution(method=name).method == name for name in MODULES)
    with pytest.raises(ValidationError, match="did you mean gradient_x_input"):
        Attribution(method="gradient_x_inputs")


@pytest.mark.parametrize("method", MODULES)
def test_every_method_keeps_the_contract(world, method):
    path, images, targets = world
    found = attribute(method, path, images, targets)
    for image, one, to in zip(images, found, targets, strict=True):
        assert one.concepts is image.concepts and one.values.shape == (K_B, len(image.concepts))
        assert one.steps.dtype == torch.int64 and (one.steps >= 1).all()
        ends = torch.stack([path.start + image.offset(path.vectors), path.start.expand(P, C)])
        scores = path.score(path.segment(ends), to.expand(2, -1))
        torch.testing.assert_close(torch.stack([one.at_concepts, one.at_baseline]), scores)


@pytest.mark.parametrize("method", MODULES)
def test_every_method_gives_the_effects_of_a_linear_score(world, method):
    """And so, from wherever the path starts, GIG and gradient times input agree, complete and in one step."""
    path, images, targets = world
    weight, unit = torch.randn(C, C_B), torch.randn(K_B, C_B)
    for start in (path.start, torch.zeros(C)):
        linear = but(path, segment=lambda x: x @ weight, score=concept_score(unit), start=start, steps=1)
        for image, one in zip(images, attribute(method, linear, images, targets), strict=True):
            towards = torch.nn.functional.normalize(unit, dim=1)
            exact = image.u.sum(0) * (path.vectors[image.concepts] @ weight @ towards.T).T
            torch.testing.assert_close(one.values, exact)
            torch.testing.assert_close(one.completeness_error, torch.zeros(K_B), atol=1e-9, rtol=0)
            assert (one.steps <= 3).all()


@pytest.mark.parametrize("method", MODULES)
def test_a_method_is_complete_exactly_if_it_says_so(world, method):
    path, images, targets = world
    for one in attribute(method, but(path, max_steps=3**9, tolerance=1e-3), images, targets):
        near = one.completeness_error.abs() <= 1e-3 * one.total_absolute
        assert near.all() if is_complete(method) else not near.any()


def test_gradient_times_input_of_a_square_adds_up_to_twice_the_score(world):
    """Euler's theorem: of a homogeneous score of degree d from zero, d times S(X~); GIG's is S(X~) itself."""
    path, images, targets = world
    score = lambda omega, to: omega.square().sum((1, 2))[:, None] * (1 + to)  # noqa: E731
    square = but(path, segment=lambda x: x, score=score, start=torch.zeros(C), tolerance=1e-9)
    both = (attribute(method, square, images, targets) for method in ("gig", "gradient_x_input"))
    for gig, gradient in zip(*both, strict=True):
        torch.testing.assert_close(gig.values.sum(1), gig.at_concepts)
        torch.testing.assert_close(gradient.values, 2 * gig.values)


def test_gradient_times_input_takes_the_gradient_at_the_end_of_the_path(world):
    path, images, targets = world
    for image, one in zip(images, attribute("gradient_x_input", path, images, targets), strict=True):
        u = image.u.clone().requires_grad_()
        scores = path.score(path.segment((path.start + u @ path.vectors[image.concepts])[None]), targets[:1])[0]
        for t in range(K_B):
            (gradient,) = torch.autograd.grad(scores[t], u, retain_graph=True)
            torch.testing.assert_close(one.values[t], (image.u * gradient).sum(0))


@pytest.mark.parametrize("method", MODULES)
def test_every_method_goes_on_with_half_the_batch_where_memory_runs_out(world, method):
    path, images, targets = world

    def small(x):
        if len(x) > 1:
            raise torch.cuda.OutOfMemoryError("stand-in for a full device")
        return path.segment(x)

    parts = attribute(method, but(path, segment=small, room=Batch(20)), images, targets)
    for one, other in zip(parts, attribute(method, path, images, targets), strict=True):
        torch.testing.assert_close(one.values, other.values)


@pytest.mark.parametrize("method", MODULES)
def test_every_method_takes_its_gradients_of_the_paths_precision_and_its_scores_of_the_full_one(world, method):
    path, images, targets = world
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    images = [Decomposition(image.concepts, image.u.float()) for image in images]
    inner, targets = relu_net(), targets[:, :C_B]
    path = but(path, segment=lambda x: inner(x).sum(1), score=class_score("logit"))
    path = but(path, vectors=path.vectors.float(), start=path.start.float())
    exact = attribute(method, path, images, targets)
    reduced = attribute(method, but(path, precision="bfloat16"), images, targets)
    for one, other in zip(reduced, exact, strict=True):
        deviation = (one.values - other.values).abs().sum() / other.total_absolute.sum()
        assert 1e-5 < deviation < 0.05
        assert torch.equal(one.at_concepts, other.at_concepts)


def test_the_code_of_a_method_is_in_the_lineages_of_its_own_attributions_only(tmp_path, monkeypatch):
    """The evaluation compares all methods, and the drawn truth is of the configured one."""

    def lineages(changed, method):
        """Return the lineages where the code of one method is another."""
        for name in MODULES:
            (tmp_path / f"{name}-{name == changed}.py").write_text(f"changed = {name == changed}")
        for declarations in (stages.attribution, stages.evaluation):
            monkeypatch.setattr(declarations, "source_of", lambda name: tmp_path / f"{name}-{name == changed}.py")
        raw = {"layers": ["layer3.1", "layer4.0"], "attribution": {"method": method}}
        plan = Plan(load(raw), ROOT / "workflow" / "scripts")
        of = {"method": "bisecting"}
        return {
            "attribution": plan.lineage("attribution", **of, source="layer3.1", target="classes", shard=0),
            "validation": plan.lineage("validation", **of, layer="layer3.1"),
            "truth": plan.lineage("truth", **of),
            "coefficients": plan.lineage("coefficients", **of, layer="layer3.1", shard=0),
        }

    def moved(changed, method):
        before, after = lineages("", method), lineages(changed, method)
        return {stage for stage in before if before[stage] != after[stage]}

    for method in MODULES:
        for changed in MODULES:
            own = {"attribution", "truth"} if changed == method else set()
            assert moved(changed, method) == own | {"validation"}, (method, changed)
    every = [lineages("", method) for method in MODULES]
    for stage in ("attribution", "validation", "truth"):
        assert len({one[stage] for one in every}) == len(MODULES), stage
