"""Networks as people write them: relevance is conserved where there is no bias, and no image touches another's."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gigraph.errors import UserError
from gigraph.method.pattern import Pattern, placed, positions_of
from gigraph.method.positions import Positions
from gigraph.method.srd import Sweep
from gigraph.model.contribution import contributions, method_for, receptive_fields
from gigraph.model.network import Network

C = 6
WEIGHT = torch.rand(C, C, generator=torch.Generator().manual_seed(0), dtype=torch.double)


class Between(nn.Module):
    """A convolution, a function of its map, the mean over what is left of it, a head; no biases."""

    def __init__(self, function, parts=()):
        super().__init__()
        self.conv, self.function = nn.Conv2d(3, C, 3, padding=1, bias=False), function
        self.parts = nn.ModuleList(parts)
        self.scale = nn.Parameter(torch.rand(C, 1, 1))
        self.head = nn.LazyLinear(4, bias=False)

    def forward(self, x):
        x = self.function(self, F.relu(self.conv(x)))
        return self.head(x.flatten(2).mean(2))


def conv(groups=1):
    return nn.Conv2d(C, C, 3, padding=1, bias=False, groups=groups)


def gate(self, x):
    return torch.sigmoid(self.parts[0](x.mean((2, 3), keepdim=True)))


def sequence_first(self, x):
    tokens = x.flatten(2).permute(2, 0, 1)
    return self.parts[0](tokens, tokens, tokens, need_weights=False)[0].mean(0)[:, :, None]


def along(x):
    return F.conv1d(x, WEIGHT[:, :, None])


def named(self, x):
    other = F.linear(input=x.transpose(1, 3), weight=WEIGHT).transpose(1, 3)
    return torch.mul(input=F.gelu(input=x), other=other)


def by_hand(self, x):
    e = torch.exp(self.parts[0](x).flatten(2).mean(1, keepdim=True))
    return (e / e.sum(2, keepdim=True)) * x.flatten(2)


SQUEEZE = nn.Conv2d(C, C, 1, bias=False)
FUNCTIONS = {
    "a convolution along the rows": (lambda self, x: along(x.flatten(2)), ()),
    "two of them": (lambda self, x: along(F.relu(along(x.flatten(2)))), ()),
    "maxima along the rows": (lambda self, x: F.max_pool1d(x.flatten(2), 4), ()),
    "a mean by axis": (lambda self, x: x + x.mean(axis=(2, 3), keepdim=True), ()),
    "beside each other by axis": (lambda self, x: torch.cat(tensors=(x, 2 * x), axis=1), ()),
    "padded layers": (lambda self, x: self.parts[0](F.pad(x, (1, 1, 1, 1), mode="reflect")), (conv(),)),
    "padded by minus infinity": (lambda self, x: F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=-torch.inf), 3), ()),
    "excited": (lambda self, x: x * gate(self, x), (SQUEEZE,)),
    "excited by an expanded gate": (lambda self, x: gate(self, x).expand_as(x) * x, (SQUEEZE,)),
    "pooled beside": (lambda self, x: torch.cat([x.mean((2, 3), keepdim=True).expand_as(x), x], 1), ()),
    "scaled by a cast parameter": (lambda self, x: x * self.scale.type_as(x), ()),
    "scaled by an expanded parameter": (lambda self, x: self.scale.expand_as(x) * x, ()),
    "named arguments": (named, ()),
    "attention by names": (lambda self, x: F.scaled_dot_product_attention(query=x, key=x, value=x), ()),
    "sequence first": (sequence_first, (nn.MultiheadAttention(C, 2, bias=False),)),
    "patches": (lambda self, x: F.unfold(x, 2, stride=2), ()),
    "a softmax by hand": (by_hand, (conv(),)),
    "a hard swish by hand": (lambda self, x: x * F.relu6(self.parts[0](x) + 3) / 6, (conv(),)),
    "a product by names": (lambda self, x: torch.bmm(x.flatten(2).softmax(2), mat2=x.flatten(2).transpose(1, 2)), ()),
    "largest of two": (lambda self, x: torch.max(x, self.parts[0](x)), (conv(),)),
    "largest along an axis": (lambda self, x: x.max(2).values.max(2, keepdim=True)[0], ()),
    "a norm with statistics": (lambda self, x: self.parts[0](x), (nn.InstanceNorm2d(C, track_running_stats=True),)),
    "a power of the image": (lambda self, x: (x + 1).pow(1 + x.mean((2, 3), keepdim=True).detach()), ()),
    "shuffled pixels": (lambda self, x: F.pixel_shuffle(F.conv2d(x, WEIGHT.repeat(4, 1)[:, :, None, None]), 2), ()),
}  # fmt: skip
NOT_WHOLE = {"padded by minus infinity", "a power of the image"}
"""Their constants are not the image's."""


def made(name):
    torch.manual_seed(0)
    function, parts = FUNCTIONS[name]
    model = Between(function, parts).double().eval()
    model(torch.randn(1, 3, 8, 8, dtype=torch.double))
    return Network(model, (3, 8, 8), name)


@pytest.mark.parametrize("method", ["srd", "lrp"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_relevance_is_conserved_and_an_image_is_by_itself(name, method):
    network = made(name)
    layer = network.layer("conv")
    x = torch.randn(3, 3, 8, 8, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    assert method_for(network, [layer], x[:1], "auto") == "srd"
    maps, _, _, score = contributions(network, [layer], x, method)
    if name not in NOT_WHOLE:
        torch.testing.assert_close(maps["conv"].sum(1), score)
    for image in range(3):
        alone = contributions(network, [layer], x[image : image + 1], method)[0]["conv"]
        torch.testing.assert_close(maps["conv"][image], alone[0])
        assert alone.any()


def test_a_gate_is_one_however_it_is_given_the_maps_shape():
    x = torch.randn(2, 3, 8, 8, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    plain, expanded = (made(name) for name in ("excited", "excited by an expanded gate"))
    for method in ("srd", "lrp"):
        one, two = (contributions(net, [net.layer("conv")], x, method)[0]["conv"] for net in (plain, expanded))
        torch.testing.assert_close(one, two)


def test_a_padded_border_is_no_place_of_the_image():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, C, 1, bias=False), nn.ZeroPad2d(1), nn.Conv2d(C, C, 3, bias=False), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(C, 4, bias=False),
    ).double()  # fmt: skip
    network = Network(model, (3, 4, 4))
    layer = network.layer("1")
    x = torch.randn(2, 3, 4, 4, dtype=torch.double)
    maps, _, _, score = contributions(network, [layer], x)
    border = F.pad(torch.zeros(4, 4, dtype=torch.bool), (1, 1, 1, 1), value=True).flatten()
    assert not maps["1"][:, border].any() and maps["1"][:, ~border].all()
    torch.testing.assert_close(maps["1"].sum(1), score)
    assert not receptive_fields(network, layer, x, torch.zeros(2, 1, dtype=torch.int64)).any()


@pytest.mark.parametrize("activation", [nn.Sigmoid(), nn.Softplus(), nn.Hardsigmoid()])
def test_what_an_activation_is_at_zero_is_its_bias(activation):
    """lrp against deletion in a network that is close to linear: what f(0) is belongs to no position."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 2, 1, bias=False), nn.Flatten(), nn.Linear(32, 50, bias=False), activation, nn.Linear(50, 4)
    ).double()  # fmt: skip
    nn.init.normal_(model[2].weight, std=1e-4)
    network = Network(model, (3, 4, 4))
    layer = network.layer("0")
    maps, pfvs, logits, score = contributions(network, [layer], torch.randn(1, 3, 4, 4, dtype=torch.double), "lrp")
    many = pfvs["0"].detach().repeat(16, 1, 1)
    many[range(16), range(16)] = 0
    falls = score - network.pfv_segment(layer, None)(many)[:, logits.argmax()]
    torch.testing.assert_close(maps["0"][0], falls.detach(), rtol=0.05, atol=1e-3 * float(falls.abs().max()))


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: F.silu(x, inplace=True), "silu in place"), (lambda x: (2 * x).mul_(x.mean()), "mul in place"),
        (lambda x: torch.lerp(x, 2 * x, torch.sigmoid(x)), "lerp"), (torch.fft.fft, "fft_fft"),
        (lambda x: torch.instance_norm(x, None, None, None, None, True, 0.1, 1e-5, False), "instance_norm"),
    ],
)  # fmt: skip
def test_what_would_be_wrong_is_refused(function, said):
    x = placed(torch.randn(2, C, 4, 4).requires_grad_(), Positions.fresh((2, C, 4, 4), (0, 2, 3), torch.device("cpu")))
    with Pattern() as pattern, pytest.raises(UserError, match=f"cannot pass {said} "):
        function(1 * x)
    assert pattern.where == "the model"


def test_nothing_stays_on_the_models_parameters():
    network = made("scaled by a cast parameter")
    Sweep(network.graph_module, torch.randn(2, 3, 8, 8, dtype=torch.double))
    assert all(positions_of(parameter) is None for parameter in network.graph_module.parameters())


def test_a_layer_that_repeats_its_positions_is_refused():
    network = made("shuffled pixels")
    layer = network.layer(next(cut.name for cut in network.cut_points() if cut.shape == (C, 16, 16)))
    assert layer.positions == 256
    with pytest.raises(UserError, match=f"layer {layer.name} is .*not positions and channels"):
        method_for(network, [layer], torch.zeros(1, 3, 8, 8, dtype=torch.double), "auto")
