"""Operations with their pattern held fixed: values stay, and what a derivative times the input gives is the whole."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gigraph.method.pattern import GATED, PIECEWISE, Pattern, placed, positions_of
from gigraph.method.positions import Positions

N, T, C = 2, 5, 6


def made(module):
    torch.manual_seed(3)
    module = module.double().eval()
    for parameter in module.parameters():
        nn.init.uniform_(parameter, 0.2, 1.5)
    return module


class Attention(nn.Module):
    """Self-attention of two heads, in so many words."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(C, 3 * C), nn.Linear(C, C)

    def forward(self, x):
        q, k, v = self.qkv(x).reshape(N, T, 3, 2, C // 2).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q * (C // 2) ** -0.5 @ k.transpose(-2, -1)).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).reshape(N, T, C))


class Excited(nn.Module):
    """Squeeze and excitation of a map."""

    def __init__(self):
        super().__init__()
        self.narrow, self.wide = nn.Conv2d(C, 2, 1), nn.Conv2d(2, C, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.wide(F.silu(self.narrow(x.mean((2, 3), keepdim=True)))))


class Multihead(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(C, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


TOKENS = (N, T, C)
MAP = (N, C, 4, 3)
# What it does, the input's shape, and its constant: none, or the module's bias.
OPERATIONS = {
    "gelu": (F.gelu, TOKENS, 0),
    "silu": (nn.SiLU(), TOKENS, 0),
    "hardswish": (nn.Hardswish(), TOKENS, 0),
    "sigmoid": (torch.sigmoid, TOKENS, 0.5),
    "softplus": (F.softplus, TOKENS, math.log(2)),
    "relu6": (nn.ReLU6(), TOKENS, 0),
    "prelu": (made(nn.PReLU()), TOKENS, 0),
    "a power and its root": (lambda x: x.abs().pow(3).mean(1).pow(1 / 3), TOKENS, 0),
    "layer norm": (made(nn.LayerNorm(C)), TOKENS, "bias"),
    "layer norm without parameters": (nn.LayerNorm(C, elementwise_affine=False), TOKENS, 0),
    "group norm": (nn.GroupNorm(3, C, affine=False), MAP, 0),
    "instance norm": (nn.InstanceNorm2d(C), MAP, 0),
    "RMS norm": (made(nn.RMSNorm(C)), TOKENS, 0),
    "local response norm": (nn.LocalResponseNorm(3), MAP, 0),
    "unit length": (lambda x: F.normalize(x, dim=-1), TOKENS, 0),
    "standardised by hand": (
        lambda x: (x - x.mean(-1, keepdim=True)) * (x.var(-1, keepdim=True) + 1e-5).rsqrt(),
        TOKENS,
        0,
    ),
    "divided by its deviation": (lambda x: x / x.std(-1, keepdim=True), TOKENS, 0),
    "squeeze and excitation": (made(Excited()), MAP, 0),
    "a gated linear unit": (lambda x: F.silu(x[..., :3]) * x[..., 3:], TOKENS, 0),
    "its own square": (lambda x: x * x, TOKENS, 0),
    "maxima": (nn.MaxPool2d(2), MAP, 0),
    "chunks": (lambda x: torch.cat(x.chunk(2, 1)[::-1], 1), MAP, 0),
    "a shuffle": (lambda x: x.view(N, 2, 3, 4, 3).transpose(1, 2).reshape(MAP), MAP, 0),
    "windows": (lambda x: x.reshape(N, C, 2, 2, 3).permute(0, 2, 3, 4, 1).flatten(0, 1).roll(1, 1), MAP, 0),
    "einsum": (lambda x: torch.einsum("ntc,ndc->ntd", x, x), TOKENS, 0),
    "attention by torch": (lambda x: F.scaled_dot_product_attention(x, x, x), TOKENS, 0),
}


def image(shape):
    torch.manual_seed(0)
    return placed(
        torch.randn(shape, dtype=torch.double).requires_grad_(), Positions.fresh(shape, (0, 1), torch.device("cpu"))
    )


@pytest.mark.parametrize("name", OPERATIONS)
def test_values_stay_and_the_derivative_times_the_input_is_the_whole(name):
    """The conservation that Eq. 10 rests on: v = J x + b, with b the constant that biases give."""
    operation, shape, constant = OPERATIONS[name]
    x = image(shape)
    with Pattern():
        out = operation(x)
    torch.testing.assert_close(out, operation(x.detach()), rtol=1e-12, atol=1e-12)
    weights = torch.rand_like(out)
    (gradient,) = torch.autograd.grad((out * weights).sum(), x)
    whole = out.detach() - (operation.bias.detach() if constant == "bias" else constant)
    torch.testing.assert_close((gradient * x.detach()).sum(), (whole * weights).sum())


def values_alone(module, x, weights):
    """Attention to given weights: linear, but for the biases."""
    if isinstance(module, Attention):
        v = module.qkv(x)[..., 2 * C :].reshape(N, T, 2, C // 2).transpose(1, 2)
        return module.out((weights @ v).transpose(1, 2).reshape(N, T, C))
    attention = module.attention
    v = F.linear(x, attention.in_proj_weight[2 * C :], attention.in_proj_bias[2 * C :])
    v = v.reshape(N, T, 2, C // 2).transpose(1, 2)
    return attention.out_proj((weights @ v).transpose(1, 2).reshape(N, T, C))


@pytest.mark.parametrize("kind", [Attention, Multihead])
def test_attention_is_linear_in_the_values_alone(kind):
    module = made(kind())
    x = image(TOKENS)
    with Pattern():
        out = module(x)
    still = x.detach()
    if kind is Attention:
        q, k, _ = module.qkv(still).reshape(N, T, 3, 2, C // 2).permute(2, 0, 3, 1, 4)
    else:
        both = F.linear(still, module.attention.in_proj_weight[: 2 * C], module.attention.in_proj_bias[: 2 * C])
        q, k = both.reshape(N, T, 2, 2, C // 2).permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-2, -1) * (C // 2) ** -0.5).softmax(-1).detach()
    torch.testing.assert_close(out, values_alone(module, still, weights))
    y = still.clone().requires_grad_()
    cotangent = torch.rand_like(out)
    (expected,) = torch.autograd.grad((values_alone(module, y, weights) * cotangent).sum(), y)
    (found,) = torch.autograd.grad((out * cotangent).sum(), x)
    torch.testing.assert_close(found, expected)


def test_a_gate_gets_nothing_and_two_factors_share():
    x, y = image(TOKENS), image(TOKENS)
    with Pattern():
        gated, product = torch.sigmoid(x) * y, x * (2 * y)
    first, second = torch.autograd.grad(gated.sum(), (x, y), allow_unused=True)
    assert first is None or not first.any()
    torch.testing.assert_close(second, torch.sigmoid(x).detach())
    first, second = torch.autograd.grad(product.sum(), (x, y))
    torch.testing.assert_close((first * x).detach(), (second * y).detach())
    torch.testing.assert_close((first * x + second * y).detach(), product.detach())


def test_what_does_not_depend_on_the_image_is_left_alone():
    weight = nn.Parameter(torch.randn(4, C, 3, 3, dtype=torch.double))
    x = image(MAP)
    with Pattern():
        standard = (weight - weight.mean((1, 2, 3), keepdim=True)) / weight.std((1, 2, 3), keepdim=True)
        out = F.conv2d(x, standard, padding=1)
    assert not standard.requires_grad
    (gradient,) = torch.autograd.grad(out.sum(), x)
    torch.testing.assert_close((gradient * x.detach()).sum(), out.detach().sum())


def called(name):
    """Return an operation of this name on one tensor."""
    given = {
        "pow": lambda x: x.pow(1.5), "rdiv": lambda x: 2 / x, "threshold": lambda x: F.threshold(x, 0.5, 0),
        "clamp": lambda x: x.clamp(0, 9), "clip": lambda x: x.clip(0, 9), "clamp_min": lambda x: x.clamp_min(0),
        "clamp_max": lambda x: x.clamp_max(9), "prelu": lambda x: F.prelu(x, torch.full((1,), 0.3).to(x)),
        "softshrink": lambda x: F.softshrink(x, 0.0), "hardshrink": lambda x: F.hardshrink(x, 0.4),
    }  # fmt: skip
    given["dropout1d"] = lambda x: F.dropout1d(x.flatten(2), training=False).reshape(MAP)
    given["feature_dropout"] = lambda x: torch.feature_dropout(x, 0.5, False)
    if name in given:
        return given[name]
    if "dropout" in name:
        return lambda x: getattr(F, name)(x, training=False)
    return getattr(F, name, None) or getattr(torch, name)


@pytest.mark.parametrize("name", sorted(GATED | PIECEWISE))
def test_every_activation_is_its_gate_times_the_input_and_what_it_is_at_zero(name):
    operation = called(name)
    x = placed(
        image(MAP).detach().abs().add(0.5).requires_grad_(), Positions.fresh(MAP, (0, 2, 3), torch.device("cpu"))
    )
    with Pattern() as pattern:
        out = operation(x)
    # Dropouts that have nothing to do may be no operation at all.
    assert name in pattern.done or "dropout" in name
    at_zero = operation(torch.zeros(MAP, dtype=torch.double))
    constant = at_zero if bool(at_zero.isfinite().all()) else torch.zeros_like(at_zero)
    torch.testing.assert_close(out.detach(), operation(x.detach()), rtol=0, atol=1e-15)
    weights = torch.rand_like(out)
    (gradient,) = torch.autograd.grad((out * weights).sum(), x)
    torch.testing.assert_close((gradient * x.detach()), (out.detach() - constant) * weights)


WEIGHTS = {rank: torch.rand(4, C, *[2] * rank, generator=torch.Generator().manual_seed(0)) for rank in (1, 2, 3)}
BIAS = torch.arange(1.0, 5, dtype=torch.double)


def spatial(rank):
    """Return a name, a call and its constant for each operation on maps of this many axes of space."""
    w = WEIGHTS[rank].double()
    shaped = BIAS.reshape(-1, *[1] * rank)
    yield f"conv{rank}d", lambda x: getattr(F, f"conv{rank}d")(x, w, BIAS, padding=1), shaped
    yield f"conv_transpose{rank}d", lambda x: getattr(F, f"conv_transpose{rank}d")(x, w.transpose(0, 1), BIAS), shaped
    for kind, size in (("max_pool", 2), ("avg_pool", 2), ("adaptive_avg_pool", 2), ("adaptive_max_pool", 2)):
        yield f"{kind}{rank}d", lambda x, kind=kind, size=size: getattr(F, f"{kind}{rank}d")(x, size), 0
    yield "interpolate", lambda x: F.interpolate(x, scale_factor=2), 0
    statistics = torch.rand(4, C, generator=torch.Generator().manual_seed(1)).double()
    yield "batch_norm", lambda x: F.batch_norm(x, *statistics), None
    yield "pad", lambda x: F.pad(x, (1, 2)), 0


@pytest.mark.parametrize(
    ("rank", "name", "operation", "constant"), [(rank, *one) for rank in (1, 2, 3) for one in spatial(rank)]
)
def test_every_operation_on_maps_is_whole_but_for_its_bias(rank, name, operation, constant):
    shape = (N, C, *[4] * rank)
    x = placed(image(shape), Positions.fresh(shape, [0, *range(2, 2 + rank)], torch.device("cpu")))
    if constant is None:
        constant = operation(torch.zeros(shape, dtype=torch.double))
    with Pattern() as pattern:
        out = operation(x)
    assert any(done.startswith(name) for done in pattern.done) and positions_of(out).ids.shape == out.shape
    weights = torch.rand_like(out)
    (gradient,) = torch.autograd.grad((out * weights).sum(), x)
    torch.testing.assert_close((gradient * x.detach()).sum(), ((out.detach() - constant) * weights).sum())
