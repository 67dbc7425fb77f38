"""1 x 1 convolutions of few maps, rearranged: the same numbers, gradients and relevance; and when they are."""

import copy

import pytest
import torch
from torch import nn

from gigraph.method.srd import Sweep
from gigraph.model import pointwise
from gigraph.model.network import Network
from gigraph.model.pointwise import Pointwise, is_pointwise, rearranged


@pytest.mark.parametrize("shape", [(1, 6, 8, 8), (2, 6, 14, 14), (2, 6, 7, 7), (3, 6, 5, 7), (16, 6, 4, 4)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_it_is_the_convolution(shape, bias, layout):
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 10, 1, bias=bias)
    fast = Pointwise(conv)
    assert fast.weight is conv.weight and fast.bias is conv.bias
    x = torch.randn(shape).to(memory_format=layout).requires_grad_()
    literal = torch.einsum("oc,nchw->nohw", conv.weight[:, :, 0, 0], x)
    if bias:
        literal = literal + conv.bias[:, None, None]
    found = fast(x)
    torch.testing.assert_close(found, literal)
    given = torch.randn_like(literal)
    slopes = [torch.autograd.grad(one, x, given, retain_graph=True)[0] for one in (found, literal)]
    torch.testing.assert_close(*slopes)


def test_maps_are_rearranged_where_there_are_few_of_them(monkeypatch):
    """All positions are in as many maps, 16 or more, of four positions or more; many maps and tiny ones stay."""
    assert [rearranged(2, 196), rearranged(2, 12544), rearranged(1, 64)] == [28, 16, 16]
    assert [rearranged(16, 196), rearranged(2, 49), rearranged(1, 49), rearranged(2, 31)] == [0, 0, 0, 0]
    seen = []

    def conv2d(x, *rest):
        seen.append(tuple(x.shape))
        return torch.conv2d(x, *rest)

    monkeypatch.setattr(pointwise.F, "conv2d", conv2d)
    fast, x = Pointwise(nn.Conv2d(6, 10, 1)), torch.randn(2, 6, 14, 14)
    fast(x.to(memory_format=torch.channels_last)), fast(x)
    assert seen == [(28, 6, 1, 14), (2, 6, 14, 14)]


def test_only_plain_ones_are_taken():
    plain = [nn.Conv2d(4, 8, 1), nn.Conv2d(4, 8, 1, padding="same", bias=False)]
    others = [
        nn.Conv2d(4, 8, 3), nn.Conv2d(4, 8, 1, stride=2), nn.Conv2d(4, 8, 1, groups=2), nn.Conv2d(4, 8, 1, padding=1),
        nn.Conv1d(4, 8, 1), nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 8, 1)), nn.ReLU(),
    ]  # fmt: skip
    hooked = nn.Conv2d(4, 8, 1)
    hooked.register_forward_hook(lambda *_: None)
    assert all(map(is_pointwise, plain)) and not any(map(is_pointwise, [*others, hooked]))


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.wide, self.norm = nn.Conv2d(8, 12, 1, bias=False), nn.BatchNorm2d(12)
        self.narrow = nn.Conv2d(12, 8, 1)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = x + self.narrow(torch.relu(self.norm(self.wide(x))))
        return self.head(torch.relu(x).mean((2, 3)))


def test_a_folded_network_has_them_and_relevance_goes_back_as_before(monkeypatch):
    torch.manual_seed(1)
    network = Network(Small().eval(), (3, 12, 12), "small")
    layer = next(one for one in network.check_order(["stem"]))
    folded = network.folded([layer])
    kinds = [type(one) for one in folded.graph_module.modules()]
    assert kinds.count(Pointwise) == 2
    x = torch.randn(2, 3, 12, 12).to(memory_format=torch.channels_last)
    found = Sweep(folded.graph_module, x, keep=[layer.node])
    at = Sweep(folded.graph_module, x, last="add")
    fields = at.from_positions("add", torch.tensor([17, 200]))
    monkeypatch.setattr(pointwise, "MANY", 0)  # none is rearranged
    literal = Sweep(copy.deepcopy(folded.graph_module), x, keep=[layer.node])
    to = torch.tensor([1, 3])
    for name, map_ in literal.from_logits(to).items():
        torch.testing.assert_close(found.from_logits(to)[name], map_)
    other = Sweep(folded.graph_module, x, last="add")
    torch.testing.assert_close(other.from_positions("add", torch.tensor([17, 200])), fields)
