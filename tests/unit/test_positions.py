"""Positions followed through layouts: what belongs to which, and where relevance can come from."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import SwinTransformer, VisionTransformer

from gigraph.errors import UserError
from gigraph.method.pattern import Pattern, placed, positions_of
from gigraph.method.positions import Positions
from gigraph.method.srd import Sweep
from gigraph.model.contribution import contributions, method_for, receptive_fields
from gigraph.model.network import Network

N, C, H, W = 2, 6, 4, 6
CPU = torch.device("cpu")


def after(operation, shape=(N, C, H, W), axes=(0, 2, 3)):
    """Return the positions of what an operation gives."""
    x = placed(torch.randn(shape).requires_grad_(), Positions.fresh(shape, axes, CPU))
    with Pattern():
        out = operation(x)
    return positions_of(out), out


def windows(x):
    x = x.permute(0, 2, 3, 1).reshape(N, 2, 2, 3, 2, C).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(N * 6, 4, C)


# The operation, how many positions there are, and how many numbers each has in the output.
MOVED = {
    "a convolution": (lambda x: F.conv2d(x, torch.ones(8, C, 2, 2), stride=2), N * 2 * 3, 8),
    "channels last": (lambda x: x.permute(0, 2, 3, 1), N * H * W, C),
    "tokens": (lambda x: x.flatten(2).transpose(1, 2), N * H * W, C),
    "a layer on channels": (lambda x: F.linear(x.flatten(2).transpose(1, 2), torch.ones(9, C)), N * H * W, 9),
    "a layer on positions": (lambda x: F.linear(x.flatten(2), torch.ones(7, H * W)), N * 7, C),
    "a layer on the whole map": (lambda x: F.linear(x.flatten(1), torch.ones(7, C * H * W)), N, 7),
    "windows": (windows, N * H * W, C),
    "a layer on windows": (lambda x: F.linear(windows(x), torch.ones(9, C)), N * H * W, 9),
    "turned": (lambda x: x.transpose(2, 3), N * H * W, C),
    "rolled": (lambda x: x.roll((1, 2), (2, 3)), N * H * W, C),
    "heads": (lambda x: x.flatten(2).reshape(N, 2, 3, H * W).transpose(2, 3), N * H * W, C),
    "half the channels": (lambda x: x.chunk(2, 1)[1], N * H * W, C // 2),
    "twice the channels": (lambda x: torch.cat([x, 2 * x], 1), N * H * W, 2 * C),
    "beside a constant": (lambda x: torch.cat([torch.ones(N, C, 1), x.flatten(2)], 2), N * (H * W + 1), C),
    "the mean of the map": (lambda x: x.mean((2, 3)), N, C),
    "the mean of the channels": (lambda x: x.mean(1, keepdim=True), N * H * W, 1),
    "rows": (lambda x: x.mean(3), N * H, C),
    "an activation": (F.gelu, N * H * W, C),
    "attention": (lambda x: F.scaled_dot_product_attention(*[x.flatten(2).transpose(1, 2)] * 3), N * H * W, C),
    "einsum": (lambda x: torch.einsum("nchw,dc->nhwd", x, torch.ones(5, C)), N * H * W, 5),
}


@pytest.mark.parametrize("name", MOVED)
def test_each_number_belongs_to_one_position(name):
    operation, count, each = MOVED[name]
    positions, out = after(operation)
    assert positions.ids.shape == out.shape and positions.count == positions.own.numel() == count
    assert torch.equal(torch.bincount(positions.ids.flatten(), minlength=count), torch.full((count,), each))
    values = torch.rand_like(out)
    expected = torch.zeros(count).index_add_(0, positions.ids.flatten(), values.flatten())
    torch.testing.assert_close(positions.sum(values), expected)
    numbers = torch.rand(count)
    assert torch.equal(positions.spread(numbers).expand(out.shape), numbers[positions.ids])


@pytest.mark.parametrize("name", ["channels last", "tokens", "windows", "turned", "rolled", "heads"])
def test_what_only_moves_keeps_its_position(name):
    operation = MOVED[name][0]
    where = torch.arange(N * H * W, dtype=torch.float).reshape(N, 1, H, W).expand(N, C, H, W)
    positions, _ = after(operation)
    assert torch.equal(positions.ids, operation(where).long())


def swin():
    torch.manual_seed(0)
    settings = {"patch_size": [4, 4], "embed_dim": 8, "depths": [2, 2], "num_heads": [2, 2], "window_size": [3, 3]}
    return Network(SwinTransformer(**settings, num_classes=5).eval(), (3, 48, 48))


def test_a_token_sees_its_window_and_a_shifted_block_its_neighbours():
    network = swin()
    x = torch.randn(1, 3, 48, 48)
    for name, rows, columns in (("features.1.0", (12, 24), (0, 12)), ("features.1.1", (0, 48), (0, 48))):
        layer = network.layer(name)
        assert (layer.height, layer.width) == (12, 12)
        field = receptive_fields(network, layer, x, torch.tensor([[4 * 12 + 2]]))[0, 0]
        assert field.any()
        outside = field.clone()
        outside[slice(*rows), slice(*columns)] = 0
        assert not outside.any()


def test_the_class_token_alone_decides_and_the_others_reach_it():
    torch.manual_seed(0)
    model = VisionTransformer(16, 4, 3, 2, 8, 16, num_classes=5).eval()
    nn.init.normal_(model.heads.head.weight)
    nn.init.normal_(model.class_token)
    network = Network(model, (3, 16, 16))
    last, first = network.layer("encoder.ln"), network.layer("encoder.layers.encoder_layer_0")
    maps, _, logits, _ = contributions(network, [first, last], torch.randn(2, 3, 16, 16))
    assert last.positions == 17 and not maps["encoder.ln"][:, 1:].any()
    torch.testing.assert_close(maps["encoder.ln"][:, 0], logits.max(1).values - model.heads.head.bias[logits.argmax(1)])
    assert maps[first.name][:, 1:].all()


class Attends(nn.Module):
    """Patches, attention, the mean of all tokens, a head."""

    def __init__(self):
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, C, 4, 4), nn.Linear(C, 5)
        self.attention = nn.MultiheadAttention(C, 2, batch_first=True)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


def test_attention_shares_as_equation_10_says():
    """mu_ij with v_ij written out: what position i alone gives position j, the weights of attention held fixed."""
    torch.manual_seed(0)
    model = Attends().double().eval()
    image = torch.randn(1, 3, 8, 12, dtype=torch.double)
    network = Network(model, (3, 8, 12))
    sweep = Sweep(network.graph_module, image, keep=["transpose", "getitem"])
    found = sweep.from_logits(torch.tensor([2]))
    tokens, out = (sweep.values[sweep.node(name)][0] for name in ("transpose", "getitem"))
    relevance = found["getitem"][0, :, 0]
    attention = model.attention
    _, weights = attention(tokens[None], tokens[None], tokens[None], average_attn_weights=False)
    value = attention.in_proj_weight[2 * C :]
    expected = torch.zeros(6, dtype=torch.double)
    for i in range(6):
        for j in range(6):
            heads = [weights[0, h, j, i] * (value[3 * h : 3 * h + 3] @ tokens[i]) for h in (0, 1)]
            v_ij = attention.out_proj.weight @ torch.cat(heads)
            expected[i] += v_ij @ out[j] / (out[j] @ out[j]) * relevance[j]
    torch.testing.assert_close(found["transpose"][0, :, 0], expected.detach())


class Windowed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, C, 1), nn.Linear(C, 5)

    def forward(self, x):
        x = self.conv(x).reshape(-1, C, 2, 2, 2, 2).permute(0, 2, 4, 3, 5, 1).flatten(1, 2).flatten(2, 3)
        return self.head(F.gelu(x).mean((1, 2)))


def test_a_layer_that_has_positions_for_channels_is_refused():
    network = Network(Windowed().eval(), (3, 4, 4))
    layer = next(network.layer(cut.name) for cut in network.cut_points() if cut.shape == (4, 4, C))
    for method in ("auto", "srd", "lrp"):
        with pytest.raises(UserError, match=f"layer {layer.name} is .*not positions and channels.*layer before"):
            method_for(network, [layer], torch.zeros(1, 3, 4, 4), method)


class Pooled(nn.Module):
    """Channels last, and nothing around that says so."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, C, 1), nn.Linear(C, 5)

    def forward(self, x):
        return self.head((F.gelu(self.conv(x).movedim(1, 3)) + 1).mean((1, 2)))


def test_where_no_operation_tells_the_channels_the_positions_do():
    network = Network(Pooled().eval(), (3, 4, 8))
    layer = network.layer("movedim")
    assert (layer.layout, layer.channels, layer.height, layer.width) == ("map_last", C, 4, 8)
    assert method_for(network, [layer], torch.zeros(1, 3, 4, 8), "srd") == "srd"


def test_auto_takes_gradients_where_relevance_cannot_pass(caplog):
    class Sorted(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, C, 1)

        def forward(self, x):
            return self.conv(x).cumprod(1).mean((2, 3))

    network = Network(Sorted().eval(), (3, 4, 4))
    layers, x = [network.layer("conv")], torch.zeros(1, 3, 4, 4)
    assert method_for(network, layers, x, "auto") == "grad_x_input" and "cumprod" in caplog.text
    with pytest.raises(UserError, match="cumprod"):
        method_for(network, layers, x, "lrp")
    assert method_for(swin(), [], torch.zeros(1, 3, 48, 48), "auto") == "srd"
