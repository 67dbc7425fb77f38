"""Contributions of all layers in one sweep, folded and not, by SRD and by gradient x input; iERFs of single PFVs."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gigraph.model.contribution import contributions, receptive_fields
from gigraph.model.network import Network


class Small(nn.Module):
    """Conv and batch norm, a residual block, average pool, head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.branch = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.branch_norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        x = F.relu(self.branch_norm(self.branch(x)) + x)
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    model = Small().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.bias, 0, 0.3)
    return Network(model, (3, 8, 6))


@pytest.fixture(scope="module")
def images():
    return torch.randn(3, 3, 8, 6, generator=torch.Generator().manual_seed(1))


def layers_of(network):
    return [network.layer("norm"), network.layer("add")]


def test_the_last_maps_contributions_are_the_logit_without_its_bias(network, images):
    """R_p = <w_c, relu(x_p)> / HW at the last map, exactly and signed."""
    maps, pfvs, logits, score = contributions(network, layers_of(network), images)
    head = network.graph_module.get_submodule("head")
    target = logits.argmax(1)
    expected = (pfvs["add"].relu() * head.weight[target][:, None]).sum(2) / 48
    torch.testing.assert_close(maps["add"], expected.detach())
    torch.testing.assert_close(maps["add"].sum(1), (score - head.bias[target]).detach())


@pytest.mark.parametrize("method", ["srd", "lrp", "grad_x_input"])
def test_folding_batch_norms_changes_no_contribution(network, images, method):
    layers = layers_of(network)
    one = contributions(network, layers, images, method)
    two = contributions(network.folded(layers), layers, images, method)
    for name in ("norm", "add"):
        torch.testing.assert_close(one[0][name], two[0][name], rtol=1e-4, atol=1e-5)


def test_gradient_times_input_is_the_logits_change_along_the_pfv(network, images):
    """<d logit / d x_p, x_p>, by central differences in float64."""
    import copy

    double = Network(copy.deepcopy(network.graph_module).double(), network.image_shape)
    layer = double.layer("norm")
    maps, pfvs, logits, _ = contributions(double, [layer], images.double(), "grad_x_input")
    forward, target = double.segment(layer, "classes"), logits.argmax(1)
    for position in (0, 17):
        step = torch.zeros_like(pfvs["norm"])
        step[:, position] = 1e-6 * pfvs["norm"][:, position]
        up, down = (
            forward(layer.from_pfvs(pfvs["norm"] + sign * step)).gather(1, target[:, None])[:, 0] for sign in (1, -1)
        )
        torch.testing.assert_close(maps["norm"][:, position], ((up - down) / 2e-6).detach(), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("method", ["srd", "lrp", "grad_x_input"])
def test_the_class_is_the_label_where_there_is_one_else_the_prediction(network, images, method):
    labels = np.array([4, -1, 2])
    _, _, logits, score = contributions(network, layers_of(network), images, method, labels)
    asked = torch.tensor([4, int(logits[1].argmax()), 2])
    torch.testing.assert_close(score, logits.gather(1, asked[:, None])[:, 0])


def test_of_labels_that_are_on_together_an_image_s_own_is_predicted(images):
    class Labels(Small):
        def forward(self, x):
            return super().forward(x).sigmoid()

    torch.manual_seed(0)
    model = Labels().eval()
    nn.init.constant_(model.head.bias, 1)
    model.head.bias.data[0] = -9
    network = Network(model, (3, 8, 6))
    logits = network.graph_module(images).detach()
    own = torch.tensor([1, 0, 2])  # on, off, on
    _, _, _, score = contributions(network, [network.layer("add")], images, "srd", own.numpy(), "predicted")
    expected = torch.tensor([1, int(logits[1].argmax()), 2])
    torch.testing.assert_close(score, logits.gather(1, expected[:, None])[:, 0])
    assert not torch.equal(expected, logits.argmax(1))  # else this says nothing


@pytest.mark.parametrize("method", ["srd", "lrp", "grad_x_input"])
def test_a_receptive_field_lies_within_the_theoretical_one(network, images, method):
    layer = network.layer("norm")
    positions = torch.tensor([0, 3 * 6 + 2, 47])
    fields = receptive_fields(network, layer, images, positions[:, None], method)
    assert fields.shape == (3, 1, 8, 6)
    for field, position in zip(fields[:, 0], positions.tolist(), strict=True):
        row, column = np.nonzero(field.detach().numpy())
        assert len(row) and np.abs(row - position // 6).max() <= 1 and np.abs(column - position % 6).max() <= 1


@pytest.mark.parametrize("method", ["srd", "lrp", "grad_x_input"])
def test_several_fields_of_an_image_are_those_found_one_by_one(network, images, method):
    layer = network.layer("norm")
    positions = torch.tensor([[0, 47, 20], [5, -1, 6], [-1, -1, 9]])
    fields = receptive_fields(network, layer, images, positions, method)
    for image, number in np.ndindex(3, 3):
        position = positions[image, number]
        if position < 0:
            assert not fields[image, number].any()
            continue
        alone = receptive_fields(network, layer, images[image : image + 1], position[None, None], method)
        torch.testing.assert_close(fields[image, number], alone[0, 0])
        assert alone.any()


@pytest.mark.parametrize(("source", "target"), [("0", "1"), ("0", "classes"), ("1", "4"), ("3", "classes")])
def test_the_gradient_of_one_image_is_that_in_a_batch(images, source, target):
    """Torch's batch norm has a wrong gradient for one image whose strides are a transposed view's."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5),
    ).eval()  # fmt: skip
    for i in (1, 4):
        nn.init.uniform_(model[i].weight, 0.5, 1.5)
    network = Network(model, (3, 8, 6))
    layer = network.layer(source)
    segment = network.pfv_segment(layer, None if target == "classes" else network.layer(target))
    pfvs = layer.to_pfvs(network.activations(images, [layer])[source]).detach()

    def gradient(points):
        points = points.clone().requires_grad_()
        out = segment(points)
        cotangent = torch.linspace(-1, 1, out[0].numel()).reshape(out[0].shape)
        return torch.autograd.grad((out * cotangent).sum(), points)[0]

    together = gradient(pfvs)
    for image in range(3):
        torch.testing.assert_close(gradient(pfvs[image : image + 1])[0], together[image])
