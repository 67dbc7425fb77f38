"""Eq. 10: the sweep against the literal sum over positions, and conservation with the bias's share accounted for."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

from gigraph.errors import UserError
from gigraph.method.positions import Positions
from gigraph.method.srd import Sweep, norms_of, share
from reference.srd import bias_share, sharing_ratio


class Residual(nn.Module):
    """Conv, batch norm, max-pool, a residual sum with a strided option-A shortcut, average pool, linear head."""

    def __init__(self, bias=True):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1, bias=bias)
        self.norm = nn.BatchNorm2d(4)
        self.pool = nn.MaxPool2d(2)
        self.branch = nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=bias)
        self.branch_norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        x = self.pool(F.relu(self.norm(self.stem(x))))
        short = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1))
        x = F.relu(self.branch_norm(self.branch(x)) + short)
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def make(seed=0, bias=True):
    torch.manual_seed(seed)
    model = Residual(bias).double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3 if bias else 0)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3 if bias else 0)
            if not bias:
                module.running_mean.zero_()
                module.bias.data.zero_()
    if not bias:
        model.head.bias.data.zero_()
    return model, fx.symbolic_trace(model)


def shared(v, x, relevance):
    """Return what an operation on maps passes on: [N, H, W] of relevance [N, H', W']."""
    at, place = (Positions.fresh(map_.shape, (0, 2, 3), map_.device) for map_ in (v, x))
    (found,) = share(v, at, norms_of(v, at), [x], [place], relevance.flatten())
    return found.reshape(len(x), *x.shape[2:])


def test_a_convolution_shares_as_equation_10_says():
    torch.manual_seed(1)
    conv = nn.Conv2d(3, 4, 3, stride=2, padding=1).double()
    x, relevance = torch.randn(3, 6, 5, dtype=torch.double), torch.randn(3, 3, dtype=torch.double)
    leaf = x[None].clone().requires_grad_()
    fast = shared(conv(leaf), leaf, relevance)
    torch.testing.assert_close(fast[0], sharing_ratio(conv, x, relevance).detach())
    v = conv(leaf)
    with torch.no_grad():
        torch.testing.assert_close(shared(v, leaf, relevance), fast, rtol=0, atol=0)


@pytest.mark.parametrize("position", [(0, 0), (1, 2)])
def test_the_sweep_is_equation_10_operation_by_operation(position):
    model, module = make()
    x = torch.randn(2, 3, 10, 10, dtype=torch.double)
    sweep = Sweep(module, x)
    ids = sweep.positions[sweep.node("add")].ids
    fast = sweep.from_positions("add", ids[:, 0, *position])
    for image in range(2):
        values = {node.name: value[image] for node, value in sweep.values.items() if torch.is_tensor(value)}
        total = values["add"]
        start = torch.zeros(total.shape[1:], dtype=torch.double)
        start[position] = 1
        square = (total * total).sum(0)
        to_branch = (values["branch_norm"] * total).sum(0) / square * start
        to_short = (values["pad"] * total).sum(0) / square * start
        pooled = values["pool"]
        r = sharing_ratio(lambda v: model.branch_norm(model.branch(v)), pooled, to_branch)
        r[::2, ::2] += to_short
        # The max-pool given its argmax: each window's values at the winners' places.
        big = values["relu"]
        _, winners = F.max_pool2d(big[None], 2, return_indices=True)

        def pool(v, winners=winners):
            return v.flatten(2).gather(2, winners.flatten(2)).reshape(winners.shape)

        r = sharing_ratio(pool, big, r)
        r = sharing_ratio(lambda v: model.norm(model.stem(v)), x[image], r)
        torch.testing.assert_close(fast[image], r.detach())


def test_the_last_map_shares_the_logit_exactly():
    model, module = make()
    x = torch.randn(3, 3, 12, 12, dtype=torch.double)
    sweep = Sweep(module, x, keep=["add"])
    label = torch.tensor([0, 4, 2])
    contribution = sweep.from_logits(label)["add"][:, 0]
    last = F.relu(sweep.values[sweep.node("add")])
    expected = torch.einsum("nc,nchw->nhw", model.head.weight[label], last) / last[0, 0].numel()
    torch.testing.assert_close(contribution, expected.detach())
    logits = model(x).gather(1, label[:, None])[:, 0]
    torch.testing.assert_close(contribution.sum((1, 2)), (logits - model.head.bias[label]).detach())


def test_relevance_is_conserved_without_biases():
    model, module = make(bias=False)
    x = torch.randn(2, 3, 12, 12, dtype=torch.double)
    sweep = Sweep(module, x, keep=["x", "pool", "add"])
    found = sweep.from_logits(torch.tensor([1, 3]))
    logit = model(x)[[0, 1], [1, 3]].detach()
    for name, relevance in found.items():
        torch.testing.assert_close(relevance[:, 0].sum((1, 2)), logit, msg=name)


def test_the_bias_keeps_its_share():
    model, module = make()
    x = torch.randn(1, 3, 12, 12, dtype=torch.double)
    sweep = Sweep(module, x, keep=["add", "pool"])
    found = sweep.from_logits(torch.tensor([1]))
    total = sweep.values[sweep.node("add")][0]
    norm = sweep.values[sweep.node("branch_norm")][0]
    to_branch = (norm * total).sum(0) / (total * total).sum(0) * found["add"][0, 0]
    kept = bias_share(lambda v: model.branch_norm(model.branch(v)), sweep.values[sweep.node("pool")][0], to_branch)
    torch.testing.assert_close(float(found["pool"][0, 0].sum()) + kept, float(found["add"][0, 0].sum()))


def test_a_dead_position_passes_nothing_on():
    conv = nn.Conv2d(2, 3, 1, bias=False)
    leaf = torch.zeros(1, 2, 2, 2)
    leaf[0, :, 0, 0] = 1
    leaf.requires_grad_()
    r = shared(conv(leaf), leaf, torch.ones(1, 2, 2))
    torch.testing.assert_close(r[0], torch.tensor([[1.0, 0.0], [0.0, 0.0]]))


def test_batches_do_not_mix_images():
    _, module = make()
    x = torch.randn(5, 3, 10, 10, dtype=torch.double)
    label = torch.arange(5) % 5
    together = Sweep(module, x, keep=["pool"]).from_logits(label)["pool"]
    apart = [Sweep(module, x[i : i + 1], keep=["pool"]).from_logits(label[i : i + 1])["pool"] for i in range(5)]
    torch.testing.assert_close(together, torch.cat(apart))


def test_the_model_is_left_as_it_was():
    model, module = make()
    before = copy.deepcopy(model.state_dict())
    Sweep(module, torch.randn(1, 3, 10, 10, dtype=torch.double), keep=["add"]).from_logits(torch.tensor([0]))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


class Calls(nn.Module):
    """A convolution, a function, the mean of a map."""

    def __init__(self, function):
        super().__init__()
        self.function, self.conv = function, nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.function(self.conv(x)).mean((2, 3))


@pytest.mark.parametrize(
    ("function", "name"),
    [(lambda x: torch.fft.fft2(x).real, "fft_fft2"), (lambda x: x.cumprod(2), "cumprod"), (torch.erfinv, "erfinv")],
)
def test_what_is_not_known_to_be_linear_is_refused_by_name(function, name):
    with pytest.raises(UserError, match=f"cannot pass {name} \\(node .*contribution.method: grad_x_input"):
        Sweep(fx.symbolic_trace(Calls(function).eval()), torch.randn(1, 3, 8, 8))


def test_what_fails_for_the_positions_is_refused_by_name_without_an_address():
    def odd(x):
        raise ValueError("no such thing")

    module = fx.symbolic_trace(Calls(lambda x: x).eval())
    node = next(node for node in module.graph.nodes if node.name == "mean")
    with module.graph.inserting_before(node):
        node.replace_input_with(node.args[0], module.graph.call_function(odd, (node.args[0],)))
    module.recompile()
    with pytest.raises(UserError, match=r"cannot pass node odd \(odd; ValueError: no such thing\)") as caught:
        Sweep(module, torch.randn(1, 3, 8, 8))
    assert "0x" not in str(caught.value)


def test_what_only_the_pattern_depends_on_is_refused():
    with pytest.raises(UserError, match="no relevance comes back from node mean"):
        Sweep(fx.symbolic_trace(Calls(lambda x: x.softmax(1)).eval()), torch.randn(1, 3, 8, 8))


class Functional(nn.Module):
    """A batch norm called as a function behind a subclass of a convolution, and constant padding: timm's ways."""

    def __init__(self, plain, training=False):
        super().__init__()
        self.conv, self.norm, self.head = plain[0], plain[1], plain[4]
        self.pad = nn.ConstantPad2d(1, 0.0)
        self.training_statistics = training

    def forward(self, x):
        n = self.norm
        x = F.batch_norm(
            self.conv(x), n.running_mean, n.running_var, n.weight, n.bias, self.training_statistics, 0.1, n.eps
        )
        return self.head(self.pad(F.relu(x))).mean((2, 3))


class Same(nn.Conv2d):
    """A convolution of another package."""


def test_a_functional_batch_norm_is_one_step_with_its_convolution():
    torch.manual_seed(0)
    layers = [Same(3, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU(), nn.ZeroPad2d(1), nn.Conv2d(5, 4, 3)]
    plain = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    plain[1].running_mean.normal_()
    plain[1].running_var.uniform_(0.5, 2)
    plain.eval()
    x = torch.randn(2, 3, 9, 9, dtype=torch.double)
    target = torch.tensor([1, 3])
    expected = Sweep(fx.symbolic_trace(plain), x, keep=["input_1"]).from_logits(target)["input_1"]
    functional = fx.symbolic_trace(Functional(plain).eval())
    found = Sweep(functional, x, keep=["x"]).from_logits(target)["x"]
    torch.testing.assert_close(found, expected)


def test_a_batch_norm_with_the_batchs_own_statistics_is_refused():
    plain = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.ZeroPad2d(1), nn.Conv2d(5, 4, 3)).eval()
    with pytest.raises(
        UserError, match=r"cannot pass batch_norm .*not known to be linear given the activation pattern"
    ):
        Sweep(fx.symbolic_trace(Functional(plain, training=True)), torch.randn(2, 3, 9, 9))
