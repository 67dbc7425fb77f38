"""What a model's outputs mean: heads that are recognised, undone, made two-sided, and refused."""

import numpy as np
import pytest
import torch
from torch import nn

from gigraph.errors import UserError
from gigraph.evaluation.titles import to_classes
from gigraph.images.listing import SIDES, output_names
from gigraph.method.decision import Decisions, decide
from gigraph.method.fidelity import class_reading
from gigraph.method.gig import Batch, class_score
from gigraph.method.share import summary
from gigraph.method.targets import class_output
from gigraph.method.tasks import centred, predict, probabilities
from gigraph.model.contribution import contributions
from gigraph.model.network import Network
from workflow.heads import Net, Tokens

SHAPE = (3, 32, 32)


def net(head="logits", outputs=3, returns="plain", **options):
    torch.manual_seed(0)
    return Net(head, outputs, returns, **options).eval()


def opened(model, **options):
    return Network(model, SHAPE, "mine", **options)


def refused(action, *words):
    with pytest.raises(UserError) as caught:
        action()
    line = str(caught.value)
    assert "\n" not in line and all(word in line for word in words), line


@pytest.fixture
def x():
    return torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(1))


# ---- heads -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "task", "undone"),
    [
        ("logits", "classes", lambda y: y),
        ("softmax", "classes", lambda y: y.softmax(1)),
        ("log_softmax", "classes", lambda y: y.log_softmax(1)),
        ("its own log_softmax", "classes", lambda y: y.log_softmax(1)),
        ("log of softmax", "classes", lambda y: y.softmax(1).log()),
        ("sigmoid", "labels", torch.sigmoid),
        ("logsigmoid", "labels", nn.functional.logsigmoid),
    ],
)
def test_a_final_activation_says_the_task_and_is_left_out(x, head, task, undone):
    model = net(head)
    network = opened(model)
    assert (network.task, network.outputs) == (task, 3)
    with torch.no_grad():
        scores = network.graph_module(x)
        torch.testing.assert_close(scores, net("logits")(x))
        torch.testing.assert_close(undone(scores), model(x))
    refused(lambda: network.layer("fc"), "model's output", "classes")
    assert "fc" not in [cut.name for cut in network.cut_points()]


@pytest.mark.parametrize("shape", ["plain", "flat"])
@pytest.mark.parametrize("head", ["logits", "sigmoid", "logsigmoid"])
def test_one_logit_is_two_classes_by_a_sigmoid(x, head, shape):
    model = net(head, 1, shape)
    network = opened(model, task="binary" if head == "logits" else "auto")
    assert (network.task, network.outputs) == ("binary", 2)
    with torch.no_grad():
        z = net("logits", 1)(x)[:, 0]
        scores = network.graph_module(x)
    torch.testing.assert_close(scores, torch.stack([-z, z], 1))
    p = probabilities(scores, "binary")
    torch.testing.assert_close(p, torch.stack([1 - z.sigmoid(), z.sigmoid()], 1))
    torch.testing.assert_close(centred(scores, "binary"), scores)
    for name in ("fc", *(["act"] if head != "logits" else [])):
        refused(lambda name=name: network.layer(name), "model's output")
    assert "fc" not in [cut.name for cut in network.cut_points()]
    assert network.value(scores).isnan().all()


@pytest.mark.parametrize("head", ["logits", "sigmoid"])
def test_one_value_is_how_far_it_lies_below_and_above_the_reference(x, head):
    """A sigmoid at the end of a regression belongs to the value."""
    model = net(head, 1, "flat")
    network = opened(model, task="regression", reference=0.25)
    with torch.no_grad():
        value, scores = model(x), network.graph_module(x)
    torch.testing.assert_close(scores, torch.stack([0.25 - value, value - 0.25], 1))
    torch.testing.assert_close(network.value(scores), value)


def test_what_is_two_sided_is_segmented_folded_and_swept_as_any_other(x):
    network = opened(net("sigmoid", 1, "flat")).folded()
    layers = network.check_order(["block1.1", "block2.1"])
    found = {}
    for method in ("srd", "grad_x_input"):
        for label in (0, 1):
            found[method, label], pfvs, logits, _ = contributions(network, layers, x, method, np.full(4, label))
        for layer in layers:
            torch.testing.assert_close(found[method, 0][layer.name], -found[method, 1][layer.name])
    torch.testing.assert_close(network.pfv_segment(layers[0], None)(pfvs["block1.1"]), logits)


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (("logits", 1), {}, ["one output", "binary", "regression", "model.task"]),
        (("softmax", 1), {"task": "binary"}, ["binary", "ends in a softmax"]),
        (("sigmoid", 3), {"task": "classes"}, ["classes", "ends in a sigmoid", "auto"]),
        (("softmax", 3), {"task": "labels"}, ["labels", "ends in a softmax"]),
        (("logits", 3), {"task": "binary"}, ["3 outputs", "classes or labels"]),
        (("logits", 3), {"task": "regression"}, ["3 outputs"]),
        (("logits", 1), {"task": "labels"}, ["1 output;", "binary or regression"]),
    ],
)
def test_a_task_that_is_not_clear_or_contradicts_the_model_is_refused(model, options, words):
    refused(lambda: opened(net(*model), **options), *words)


def test_a_head_that_says_the_same_of_every_image_is_refused():
    for change in (
        lambda fc: nn.init.zeros_(fc.weight),
        lambda fc: fc.weight.data.copy_(fc.weight[:1].expand(3, -1).clone()),  # equal classes: softmax sees nothing
    ):
        model = net()
        change(model.fc)
        refused(opened(model).check_varies, "mine", "same scores", "head is constant", "model.weights")
    opened(net()).check_varies()
    same = net()
    same.fc.weight.data.copy_(same.fc.weight[:1].expand(3, -1).clone())
    opened(same, task="labels").check_varies()  # three labels that agree are something


class Hidden(nn.Module):
    """What a trace does not show to be probabilities."""

    def __init__(self, write):
        super().__init__()
        self.net, self.write = net(outputs=3), write

    def forward(self, x):
        return self.write(self.net(x))


@pytest.mark.parametrize(
    "write",
    [lambda y: y.softmax(1).clamp(1e-6, 1), lambda y: y.log_softmax(1).exp(), lambda y: (y.exp().T / y.exp().sum(1)).T],
)
def test_probabilities_that_the_trace_does_not_show_are_refused(write):
    refused(opened(Hidden(write)).check_varies, "mine", "probabilities, not logits", "softmax")


def test_one_output_that_looks_like_a_probability_is_said(caplog):
    opened(Hidden(lambda y: y.softmax(1)[:, 1:2]), task="binary").check_varies()
    assert "if it is a probability, let its forward return the logit" in caplog.text


# ---- what is returned --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returns", "output"),
    [
        ("dict", None),
        ("output", None),
        ("dataclass", None),
        ("its class too", None),
        ("nested", None),
        ("named", None),
        ("tuple", "0"),
        ("nested", "heads.0.logits"),
    ],
)
def test_the_logits_are_found_in_what_a_model_returns(x, returns, output):
    network = opened(net("sigmoid", 3, returns), output=output)
    assert network.task == "labels"
    with torch.no_grad():
        torch.testing.assert_close(network.graph_module(x), net()(x))


def test_logits_that_are_not_found_are_asked_for():
    refused(lambda: opened(net(returns="tuple")), "0 [2, 3], 1 [2, 12]", "model.output")
    refused(lambda: opened(net(returns="two heads")), "heads.0.logits [2, 3], heads.1.logits [2, 3]", "model.output")
    refused(lambda: opened(net(returns="dict"), output="logit"), "model.output", "did you mean logits")
    refused(lambda: opened(net(returns="dict"), output="map"), "model.output", "[2, 12, 8, 8]")


def test_another_number_of_channels_is_named():
    refused(lambda: opened(net(channels=1)), "1 channel,", "preprocessing.channels: 1")
    Network(net(channels=9), (9, 32, 32))


# ---- tokens ------------------------------------------------------------------------------------------------


def test_patches_are_told_from_class_and_register_tokens():
    torch.manual_seed(0)
    network = Network(Tokens().eval(), SHAPE)
    assert [network.layer(name).grid for name in ("patches", "transpose", "cat", "cat_1", "block1")] == [
        (4, 4, 0), (4, 4, 0), (4, 4, 2), (4, 4, 3), (4, 4, 3),
    ]  # fmt: skip
    wide = Network(Tokens().eval(), (3, 32, 48))
    assert wide.layer("block1").grid == (4, 6, 3)


# ---- how scores are read -----------------------------------------------------------------------------------


def test_scores_are_read_by_their_task():
    scores = torch.tensor([[2.0, -1.0, 0.5], [-3.0, -1.0, -2.0]])
    torch.testing.assert_close(probabilities(scores, "labels"), scores.sigmoid())
    assert probabilities(scores, "regression").isnan().all()
    torch.testing.assert_close(probabilities(scores).sum(1), torch.ones(2))
    to = torch.tensor([[2, 0], [1, 1]])
    for output, wanted in (("probability", scores.sigmoid()), ("logit", scores), ("centred_logit", scores)):
        torch.testing.assert_close(class_score(output, "labels")(scores, to), wanted.gather(1, to))
    torch.testing.assert_close(centred(scores).mean(1), torch.zeros(2))
    assert [class_output("auto", 3, task) for task in ("classes", "labels", "binary", "regression")] == [
        "probability", "logit", "logit", "logit",
    ]  # fmt: skip
    assert class_output("probability", 3, "binary") == "probability"


def test_an_image_is_taken_for_its_own_label_where_that_is_on():
    scores = torch.tensor([[2.0, 0.1], [2.0, 0.1], [2.0, -0.1], [-3.0, -1.0]])
    labels = torch.tensor([1, -1, 1, 0])
    assert predict(scores, labels, "labels").tolist() == [1, 0, 0, 1]
    assert predict(scores, labels).tolist() == [0, 0, 0, 1]


def test_a_label_is_kept_where_it_stays_on_or_off():
    """Whether another label overtakes it does not matter, as it does for classes."""
    at_x = torch.tensor([[2.0, 1.0], [2.0, 1.0], [-2.0, -1.0]])
    there = torch.tensor([[1.0, 3.0], [-1.0, -3.0], [-3.0, -2.0]])
    for task, agree in (("labels", [True, False, True]), ("classes", [False, True, True])):
        before = decide(at_x, task=task)
        after = decide(there, at_x.argmax(1), task)
        assert (before.predicted == after.predicted).tolist() == agree, task
    read = class_reading(1, "labels")(there)
    torch.testing.assert_close(read[:, 0], there[:, 1].sigmoid())
    assert read[:, 1].tolist() == [1, 0, 0]


def test_what_is_kept_of_values_is_measured_from_the_baseline_on_both_sides():
    """Whichever side of the baseline (here 1) and of the reference a value is on: X~ keeps a tenth of the last."""

    def segment(values):  # [N, 1, 1]: the value itself
        v = values[:, 0]
        return torch.cat([-v, v], 1)

    x = torch.tensor([3.0, 5.0, -0.5, -2.0, 0.5])[:, None, None]
    start = torch.ones(1)
    found = Decisions(segment, Batch(4), "regression")
    part = torch.tensor([0.5, 0.5, 0.5, 0.5, 0.1])[:, None, None]
    found.add(x, [("concepts", start + part * (x - start)), ("baseline", start)])
    kept = summary(found.columns(), "concepts")
    far = (x - start).abs()
    assert kept.logit == pytest.approx(float((part * far).sum() / far.sum())) and np.isnan(kept.probability)
    assert kept.agreement == pytest.approx(4 / 5)  # -0.5 crosses the reference
    assert "48% of the value" in kept.said()
    reading = class_reading(1, "regression")(segment(x))
    assert reading[:, 0].tolist() == x[:, 0, 0].tolist()


def test_the_sides_of_a_value_have_names(tmp_path):
    assert output_names(tmp_path, 2, None, "regression") == list(SIDES)
    assert output_names(tmp_path, 2, ["younger", "older"], "regression") == ["younger", "older"]
    refused(lambda: output_names(tmp_path, 2, ["age"], "regression"), "images.classes", "two")


def test_the_evaluation_of_a_value_is_named_after_it():
    own, value = to_classes(["probability_at_x", "mu_fidelity"]), to_classes(["c_deletion_value_all", "mu_fidelity"])
    assert "c_deletion_probability_all" in own and "c_deletion_value_all" in value and len(own) == len(value)
    assert "AUC of the value over" in value["c_deletion_value_all"]
    assert value["value_at_concepts"] == "Value of the class at X~"
