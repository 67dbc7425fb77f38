"""Networks that run on some of their concepts: worked out by hand, and beside a literal reading, image by image."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gigraph.circuits import Circuits, Nodes, Search, readings
from gigraph.method.circuit import firsts, joint_order
from gigraph.method.projection import Change, span
from gigraph.model.placing import Edit
from gigraph.planning.config import Compute, load
from gigraph.planning.plan import Plan
from gigraph.replacement import Replacement
from gigraph.reserved import CLASSES
from gigraph.subject import Subject
from gigraph.vocabulary import Vocabulary
from workflow.toy import ROOT

EVERY = {"method": "pursuit", "sign": "any", "penalty": "nonzeros"}


class Linear:
    """A subject of linear layers of one position each, x -> A x -> B A x -> ..."""

    def __init__(self, *matrices, memory=10**6):
        self.matrices = {str(i): torch.tensor(m, dtype=torch.float32) for i, m in enumerate(matrices)}
        self.device, self.memory = torch.device("cpu"), memory
        self.layers = {
            name: SimpleNamespace(name=name, positions=1, channels=m.shape[1], to_pfvs=lambda value: value)
            for name, m in self.matrices.items()
        }
        self.network = SimpleNamespace(task="classes", activations=self._activations)

    def _activations(self, x, layers):
        return {name: x if name == "0" else self.segment("0", name)(x) for name in [*self.matrices, CLASSES]}

    def segment(self, source, target):
        end = len(self.matrices) if target == CLASSES else int(target)

        def run(x):
            for i in range(int(source), end):
                x = x @ self.matrices[str(i)].T
            return x[:, 0] if target == CLASSES else x

        return run

    def path_points(self, layer):
        return 2


def linear(*matrices, beta=0.0, **options):
    """Return a replacement whose concepts are the channels, all of which code a PFV, exactly."""
    subject = Linear(*matrices)
    own = [
        Vocabulary.of(name, subject, 1e-4, vectors=np.eye(m.shape[1], dtype=np.float32), encoder=None,
                      beta=np.full(m.shape[1], beta, np.float32), calibration={**EVERY, "value": m.shape[1]})
        for name, m in subject.matrices.items()
    ]  # fmt: skip
    return Replacement(subject, own, **options)


W = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]])
O = np.array([[3.0, 0.0, 0.0], [0.0, 1.0, 1.0]])  # noqa: E741
X = np.array([[[1.0, 0.5, 0.2, 0.4]], [[2.0, 0.1, 0.3, 0.3]]], np.float32)


def masks(rows, *sizes):
    """Return the masks of circuits that are written as one row of 0 and 1 each."""
    return np.split(np.array(rows, bool), np.cumsum(sizes)[:-1], 1)


def test_with_orthonormal_concepts_a_circuit_is_a_product_of_masked_matrices():
    replacement = linear(W, O)
    rows = np.random.default_rng(0).random((20, 7)) < 0.6
    found = replacement.logits(replacement.see(torch.tensor(X)), masks(rows, 4, 3)).numpy()
    for row, logits in zip(rows, found, strict=True):
        right = np.array([O @ (row[4:] * (W @ (row[:4] * x[0]))) for x in X])
        assert np.allclose(logits, right, atol=1e-5)


def test_circuits_that_differ_early_are_told_apart_later():
    three = [*np.random.default_rng(5).normal(size=(3, 3, 3))]
    replacement = linear(*three)
    seen = replacement.see(torch.tensor(X[:, :, :3]))
    rows = np.random.default_rng(6).random((30, 9)) < 0.5
    rows[:15, 3:] = rows[15:, 3:]  # the same but for the first layer
    for some in (rows, rows[::-1]):
        for row, logits in zip(some, replacement.logits(seen, masks(some, 3, 3, 3)).numpy(), strict=True):
            values = X[:, 0, :3].astype(np.float64)
            for i, matrix in enumerate(three):
                values = (values * row[3 * i : 3 * i + 3]) @ matrix.T
            assert np.allclose(logits, values, atol=1e-4)


def test_deleted_concepts_have_the_coefficients_they_are_filled_with():
    fill = [np.array([0.5, 0.25, 0.0, 1.0], np.float32), np.array([0.1, 0.2, 0.3], np.float32)]
    replacement = linear(W, O, fill=fill)
    rows = np.random.default_rng(1).random((10, 7)) < 0.5
    found = replacement.logits(replacement.see(torch.tensor(X)), masks(rows, 4, 3)).numpy()
    for row, logits in zip(rows, found, strict=True):
        a = [np.where(row[:4], x[0], fill[0]) for x in X]
        right = [O @ np.where(row[4:], W @ one, fill[1]) for one in a]
        assert np.allclose(logits, right, atol=1e-5)


def without(beta, *vectors):
    """Return the edit of PFVs that suppresses some concepts."""
    return Edit(torch.tensor(beta, dtype=torch.float32), [Change(torch.tensor(span(np.array(vectors))))], -1)


def test_without_its_only_concept_a_circuit_says_what_the_empty_one_says():
    """Of one layer whatever the origin; of two the next codes what the origin gives, here nothing."""
    one = np.eye(4)[0]
    for matrices, sizes, beta in (((W,), (4,), 1.0), ((W, O), (4, 3), 0.0)):
        plain = linear(*matrices, beta=beta)
        edited = linear(*matrices, beta=beta, edits={"0": without(np.full(4, beta), one)})
        seen = plain.see(torch.tensor(X))
        circuit = [np.eye(size, dtype=bool)[:1] for size in sizes]  # concept 0 of each layer
        empty = plain.logits(seen, [np.zeros_like(mask) for mask in circuit])
        assert not torch.allclose(plain.logits(seen, circuit), empty, atol=0.1)
        assert torch.allclose(edited.logits(seen, circuit), empty, atol=1e-5)


def test_the_other_concepts_of_a_circuit_stay():
    plain, edited = linear(W, O), linear(W, O, edits={"0": without(np.zeros(4), np.eye(4)[0])})
    seen = plain.see(torch.tensor(X))
    both, other = masks([[1, 1, 0, 0, 1, 1, 0]], 4, 3), masks([[0, 1, 0, 0, 1, 1, 0]], 4, 3)
    assert torch.allclose(edited.logits(seen, both), plain.logits(seen, other), atol=1e-5)


def test_an_edit_of_a_later_layer_changes_what_runs_on_from_there():
    plain = linear(W, O, errors=True)
    edited = linear(W, O, errors=True, edits={"1": without(np.zeros(3), np.eye(3)[1])})
    seen, whole = plain.see(torch.tensor(X)), masks([[1] * 7], 4, 3)
    right = np.array([O @ ((W @ x[0]) * [1, 0, 1]) for x in X])
    assert np.allclose(edited.logits(seen, whole)[0].numpy(), right, atol=1e-5)
    assert np.allclose(edited.alone(seen, 1, whole[1])[0].numpy(), right, atol=1e-5)
    assert np.allclose(plain.logits(seen, whole)[0].numpy(), seen.logits.numpy(), atol=1e-5)


def test_edits_are_of_layers_that_are_replaced():
    with pytest.raises(ValueError, match="no layer 7 is replaced"):
        linear(W, O, edits={"7": without(np.zeros(4), np.eye(4)[0])})


def test_the_search_finds_the_circuit_of_a_linear_network():
    """The first class is channel 0 by way of node 0 of the second layer; all else is the other class's."""
    replacement = linear(W, O)
    seen = replacement.see(torch.tensor(X))
    nodes = Nodes([np.arange(4), np.arange(3)])
    circuits = Circuits(replacement, seen, 0, nodes)
    found = circuits.find(
        {"right": joint_order([np.array([4.0, 1, 1, 1]), np.array([4.0, 1, 1])])}, Search(1.0, 4, 100, 2),
        np.random.default_rng(0),
    )  # fmt: skip
    assert found.pruned.kept.tolist() == [True, False, False, False, True, False, False] and found.pruned.minimal
    assert found.smallest.score > found.real.score and found.smallest.size == 2
    logits = torch.tensor([[3.0, 0.0], [6.0, 0.0]])
    assert found.smallest.score == pytest.approx(float(logits.softmax(1)[:, 0].mean()))
    assert found.smallest.margin == pytest.approx(4.5)
    # All others say nothing of the first class: 0 against (2 x1 + (x2 + x3) / 2).
    assert found.rest.margin == pytest.approx(-np.mean([1.3, 0.5]), abs=1e-6)
    assert found.curves["right"].smallest.size == 2 and set(found.curves) == {"right", "random"}
    assert found.measured == circuits.measured > 8


def test_circuits_are_of_families_as_of_their_members():
    nodes = Nodes([np.array([0, 0, 2, 0]), np.array([1, 1, 2])])
    assert [ids.tolist() for ids in nodes.ids] == [[0, 2], [1, 2]] and nodes.size.tolist() == [3, 1, 2, 1]
    first, second = nodes.masks(np.array([[True, False, False, True]]))
    assert first.tolist() == [[True, True, False, True]] and second.tolist() == [[False, False, True]]
    assert nodes.concepts(np.array([[True, False, False, True], [False, True, True, False]])).tolist() == [4, 3]
    scores = nodes.gathered([np.array([1.0, 2.0, 4.0, 8.0]), np.array([1.0, 2.0, 4.0])])
    assert [one.tolist() for one in scores] == [[11.0, 4.0], [3.0, 4.0]]


def test_readings_of_each_task():
    logits = torch.tensor([[[2.0, 1.0, -1.0]]])
    score, margin = readings(logits, 1)
    assert score.item() == pytest.approx(float(logits[0].softmax(1)[0, 1])) and margin.item() == -1
    score, margin = readings(logits, 1, "labels")
    assert score.item() == pytest.approx(float(torch.tensor(1.0).sigmoid())) and margin.item() == 1
    score, margin = readings(logits[..., :2], 0, "regression")
    assert score.item() == margin.item() == 2


def test_other_images_are_read_and_a_value_is_measured_from_the_empty_circuit():
    replacement = linear(W, O, beta=1.0)
    replacement.subject.network.task = "regression"
    seen, others = replacement.see(torch.tensor(X)), replacement.see(torch.tensor(X[:1] * 3))
    circuits = Circuits(replacement, seen, 0, Nodes([np.arange(4), np.arange(3)]), others)
    whole = np.ones(7, bool)
    assert circuits.real.score == pytest.approx(4.5) and circuits.real.elsewhere == pytest.approx(9)
    assert circuits.say(whole).score == pytest.approx(4.5, abs=1e-5)
    # Without any concept both layers are at their origin, 1: O 1 = 3.
    assert circuits.say(~whole).score == pytest.approx(3) and circuits.say(~whole).elsewhere == pytest.approx(3)
    assert circuits.kept(np.array([whole, ~whole])).tolist() == pytest.approx([1, 0], abs=1e-5)


# ---- a real network ------------------------------------------------------------------------------------------

LAYERS = ("layer3.1", "layer4.0")


@pytest.fixture(scope="module")
def small():
    """The drawn world's model, with a few random PFVs of two layers as concepts."""
    plan = Plan(load({"layers": list(LAYERS)}), ROOT / "workflow" / "scripts")
    subject = Subject(plan.network, Compute(device="cpu", workers=1), plan.layers)
    x = torch.rand(3, 3, 96, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    generator, own = np.random.default_rng(0), []
    for name in LAYERS:
        pfvs = subject.pfvs(x, name).flatten(0, 1).numpy()
        beta = pfvs.mean(0)
        vectors = (pfvs - beta)[generator.choice(len(pfvs), 12, replace=False)]
        calibration = {"method": "lasso", "sign": "any", "penalty": "relative", "value": 0.2}
        own.append(
            Vocabulary.of(name, subject, 1e-4, vectors=vectors, beta=beta, calibration=calibration, encoder=None)
        )
    return subject, own, x


def literally(subject, own, x, kept, fill, errors):
    """Run one image through one circuit, dense and step by step."""
    value = subject.network.activations(x[None], list(subject.layers.values()))
    real = [subject.layers[name].to_pfvs(value[name])[0] for name in LAYERS]
    pfvs = real[0]
    for i, one in enumerate(own):
        u = one.code(pfvs.numpy()).dense(one.k)
        before = one.code(real[i].numpy()).dense(one.k)
        u = np.where(kept[i], u, 0 if fill is None else fill[i])
        rebuilt = one.beta + u @ one.vectors
        if errors:
            rebuilt = rebuilt + real[i].numpy() - (one.beta + before @ one.vectors)
        target = CLASSES if i + 1 == len(own) else LAYERS[i + 1]
        out = subject.segment(LAYERS[i], target)(torch.tensor(rebuilt, dtype=torch.float32)[None])
        pfvs = out[0]
    return pfvs


@pytest.mark.parametrize("errors", [False, True])
@pytest.mark.parametrize("filled", [False, True])
def test_circuits_say_what_a_literal_reading_says(small, errors, filled):
    subject, own, x = small
    generator = np.random.default_rng(1)
    fill = [generator.normal(size=one.k).astype(np.float32) / 4 for one in own] if filled else None
    replacement = Replacement(subject, own, fill, errors)
    chosen = generator.random((4, 24)) < 0.7
    chosen[0] = True
    kept = masks(chosen, 12, 12)
    found = replacement.logits(replacement.see(x), kept)
    with torch.inference_mode():
        for s in range(4):
            for n in range(3):
                right = literally(subject, own, x[n], [one[s] for one in kept], fill, errors)
                assert torch.allclose(found[s, n], right, atol=2e-3), (s, n)


def test_an_edit_of_nothing_changes_nothing_and_replacements_share_no_codes(small):
    subject, own, x = small
    chosen = masks(np.random.default_rng(3).random((4, 24)) < 0.6, 12, 12)
    plain = Replacement(subject, own)
    nothing = Edit(torch.from_numpy(own[0].beta), [Change(torch.from_numpy(span(own[0].vectors[:2])), gain=0.0)], -1)
    still = Replacement(subject, own, edits={LAYERS[0]: nothing})
    edited = Replacement(subject, own, edits={LAYERS[0]: without(own[0].beta, *own[0].vectors[:2])})
    seen = plain.see(x)
    right = plain.logits(seen, chosen)
    assert torch.allclose(still.logits(seen, chosen), right, atol=2e-3)
    other = edited.logits(seen, chosen)
    assert (other - right).abs().max() > 0.1
    assert torch.equal(other, edited.logits(edited.see(x), chosen))
    assert torch.equal(plain.logits(seen, chosen), right)


def test_with_all_concepts_an_edit_of_the_last_layer_is_the_networks_own(small):
    """Nothing is left out where error nodes are kept, so the network itself is edited there."""
    subject, own, x = small
    edit = without(own[1].beta, *own[1].vectors[:3])
    edited = Replacement(subject, own, errors=True, edits={LAYERS[1]: edit})
    seen = edited.see(x)
    with torch.inference_mode():
        right = subject.segment(LAYERS[1], CLASSES)(edit(subject.pfvs(x, LAYERS[1])))
    assert torch.allclose(edited.logits(seen, [np.ones((1, 12), bool)] * 2)[0], right, atol=2e-3)
    assert (right - seen.logits).abs().max() > 0.1


def test_with_all_concepts_and_their_errors_it_is_the_network(small):
    subject, own, x = small
    replacement = Replacement(subject, own, errors=True)
    seen, whole = replacement.see(x), [np.ones((1, 12), bool)] * 2
    assert torch.allclose(replacement.logits(seen, whole)[0], seen.logits, atol=1e-3)
    assert torch.allclose(replacement.alone(seen, 0, whole[0])[0], seen.logits, atol=1e-3)
    dropped = Replacement(subject, own)
    assert (dropped.logits(dropped.see(x), whole)[0] - seen.logits).abs().max() > 0.1


def test_without_concepts_nothing_of_the_image_is_left(small):
    subject, own, x = small
    replacement = Replacement(subject, own)
    found = replacement.logits(replacement.see(x), [np.zeros((1, 12), bool)] * 2)[0]
    start = subject.segment(LAYERS[1], CLASSES)(own[1].start.expand(1, subject.layers[LAYERS[1]].positions, -1))
    assert torch.allclose(found, start.expand(3, -1), atol=1e-5)


def test_how_many_circuits_run_together_and_what_is_remembered_changes_nothing(small):
    subject, own, x = small
    replacement, memory = Replacement(subject, own), subject.memory
    chosen = np.random.default_rng(2).random((6, 24)) < 0.6
    chosen[3, :12] = chosen[1, :12]  # the same first layer: coded once
    together = replacement.logits(replacement.see(x), masks(chosen, 12, 12))
    try:
        subject.memory = 1  # one at a time, and next to nothing is kept
        seen = replacement.see(x)
        alone = torch.cat([replacement.logits(seen, masks(chosen[s : s + 1], 12, 12)) for s in range(6)])
        assert len(seen.known) == 1
    finally:
        subject.memory = memory
    assert torch.allclose(together, alone, atol=1e-3)
    seen = replacement.see(x)
    replacement.logits(seen, masks(chosen, 12, 12))
    assert len(seen.known) == 5
    assert torch.equal(together, replacement.logits(seen, masks(chosen, 12, 12)))


def test_codes_that_are_known_need_not_be_found_again(small, monkeypatch):
    subject, own, x = small
    replacement = Replacement(subject, own)
    found = [one.code(subject.pfvs(x, one.layer).flatten(0, 1).numpy()) for one in own]
    right, chosen = replacement.see(x), firsts(np.arange(24), [7, 20])
    monkeypatch.setattr(Vocabulary, "code", None)
    seen = replacement.see(x, codes=[(one.indptr, one.indices, one.values) for one in found])
    monkeypatch.undo()
    assert torch.equal(
        replacement.logits(seen, masks(chosen, 12, 12)), replacement.logits(right, masks(chosen, 12, 12))
    )
