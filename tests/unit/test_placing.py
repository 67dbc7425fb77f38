"""Where a layer is in the user's own module, and edits put there, hooked or folded."""

import copy
import json
import pickle
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from gigraph.edit import LayerEdit, stored
from gigraph.errors import UserError
from gigraph.method.projection import Change, span
from gigraph.model.folding import fold, proven
from gigraph.model.models import load_model
from gigraph.model.network import Network
from gigraph.model.placing import CHANNELS, Edit, Place, inserted, place_of, places_of

SHAPE = (3, 16, 16)
PAGE = Path(__file__).parents[2] / "README.md"


class Residual(nn.Module):
    """A block whose one in-place rectifier is called twice; the shortcut is a convolution or nothing."""

    def __init__(self, c_in=4, c=4, functional=False, twice=False):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(c_in, c, 3, padding=1), nn.BatchNorm2d(c)
        self.conv2, self.bn2 = nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)
        self.relu = nn.ReLU(inplace=True)
        self.down = nn.Sequential(nn.Conv2d(c_in, c, 1), nn.BatchNorm2d(c)) if c_in != c else None
        self.spare = nn.Linear(2, 2)  # in the state dict, but never called
        self.functional, self.twice = functional, twice

    def forward(self, x):
        """[N, C, H, W] -> [N, C', H, W]."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.down is None else self.down(x)
        return F.relu(out) if self.functional else self.relu(out)


class Classifier(nn.Module):
    """A stem, a residual block, a head."""

    def __init__(self, block):
        super().__init__()
        self.stem, self.bn, self.act = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()
        self.block, self.head = block, nn.Linear(block.conv2.out_channels, 5)

    def forward(self, x):
        """[N, 3, H, W] -> [N, 5]."""
        return self.head(self.block(self.act(self.bn(self.stem(x)))).mean((2, 3)))


def warmed(model, seed=0):
    """Give batch norms statistics that are not their first, one of them a dead channel."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.3, 2)
                module.weight.data.normal_()
                module.weight.data[0] = 0
                module.bias.data.normal_()
    return model.eval()


def setting(layer, rank=2, seed=0, **more):
    rng = np.random.default_rng(seed)
    beta = torch.from_numpy(rng.standard_normal(layer.channels)).float()
    return beta, [Change(torch.from_numpy(span(rng.standard_normal((rank, layer.channels)))), **more)]


def opened(model, name):
    return Network(copy.deepcopy(model), SHAPE).layer(name)


def hooked(model, layer, beta, changes):
    return inserted(model, {place_of(model, layer, SHAPE): Edit(beta, changes, CHANNELS[layer.layout])})


def by_hand(model, layer, beta, changes, x):
    """The network's segments with the PFVs replaced in between."""
    network = Network(copy.deepcopy(model), SHAPE)
    offset = layer.to_pfvs(network.segment("input", layer)(x)) - beta
    for change in changes:
        offset = change(offset)
    return network.segment(layer, "classes")(layer.from_pfvs(offset + beta))


MODELS = {
    "shared rectifier": (lambda: Classifier(Residual()), "block", Place("block", "node", "add")),
    "functional rectifier": (lambda: Classifier(Residual(functional=True)), "block", Place("block", "node", "add")),
    "batch norm": (lambda: Classifier(Residual()), "bn", Place("bn", "output")),
    "vector": (lambda: Classifier(Residual()), "mean", Place("head", "input")),
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("threshold", [None, 0.1])
def test_a_model_edited_at_its_place_says_what_its_segments_say(kind, threshold):
    make, name, place = MODELS[kind]
    model, x = warmed(make()), torch.randn(3, *SHAPE)
    layer = opened(model, name)
    found = place_of(model, layer, SHAPE)
    assert found.module == place.module and found.at == place.at
    beta, changes = setting(layer)
    if threshold is not None:
        mean = torch.ones(layer.channels) / layer.channels**0.5
        changes = [Change(changes[0].basis, threshold=threshold, mean=mean), Change(changes[0].basis[:1], 0.5)]
    before = model(x)
    edited = hooked(model, layer, beta, changes)
    torch.testing.assert_close(edited(x), by_hand(model, layer, beta, changes, x), atol=1e-5, rtol=1e-4)
    assert torch.equal(model(x), before) and not torch.allclose(edited(x), before)


def test_an_edited_model_is_the_users_in_all_else():
    model = warmed(Classifier(Residual()))
    layer = opened(model, "block")
    edited = hooked(model, layer, *setting(layer))
    assert [*edited.state_dict()] == [*model.state_dict()]
    assert all(a is b for a, b in zip(edited.parameters(), model.parameters(), strict=True))
    x = torch.randn(2, *SHAPE)
    for other in (copy.deepcopy(edited), pickle.loads(pickle.dumps(edited))):
        assert torch.equal(other(x), edited(x))
        assert not any(a is b for a, b in zip(other.parameters(), model.parameters(), strict=True))
    halved = copy.deepcopy(edited).double()
    torch.testing.assert_close(halved(x.double()).float(), edited(x), atol=1e-4, rtol=1e-3)
    # Training mode is the module's own: batch norms look at the batch, and their statistics move.
    statistics = model.bn.running_mean.clone()
    edited.train()
    assert edited.bn.training and edited.block.bn1.training
    edited(x).square().sum().backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "spare" not in name)
    assert not torch.equal(model.bn.running_mean, statistics) and not model.training
    trained = Classifier(Residual()).train()
    again = hooked(trained, opened(trained, "block"), *setting(layer))
    assert again.training and again.block.training and trained.training
    assert not hooked(model, layer, *setting(layer)).block.training


def test_training_goes_on_from_an_edited_model():
    torch.manual_seed(0)
    model = warmed(Classifier(Residual()))
    layer = opened(model, "block")
    edited, x, y = hooked(model, layer, *setting(layer)), torch.randn(8, *SHAPE), torch.arange(8) % 5
    optimiser = torch.optim.SGD(edited.parameters(), 0.1)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = F.cross_entropy(edited(x), y)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    after = hooked(model, layer, *setting(layer))  # of the same parameters, which have moved
    torch.testing.assert_close(after(x), edited(x))


def test_nothing_edited_is_the_model():
    model, x = warmed(Classifier(Residual())), torch.randn(2, *SHAPE)
    assert torch.equal(inserted(model, {})(x), model(x))


@pytest.mark.parametrize(("block", "name"), [(Residual(), "bn"), (Residual(4, 6), "block"), (Residual(), "block.bn1")])
@pytest.mark.parametrize("gain", [-1.0, 0.7])
def test_folded_weights_say_what_the_hook_says(block, name, gain):
    model, x = warmed(Classifier(block)), torch.randn(4, *SHAPE)
    network = Network(copy.deepcopy(model), SHAPE)
    node = network.node(network._modules[name]) if name == "block.bn1" else None
    layer = network._layer(name, node) if node is not None else network.layer(name)  # bn1 is inside the block
    beta, changes = setting(layer, gain=gain)
    changes += setting(layer, 1, seed=5)[1]
    state, reasons = fold(model, {layer: (beta, changes)})
    assert reasons == {name: ""}
    other = copy.deepcopy(model)
    other.load_state_dict(state)
    edited = inserted(model, {place_of(model, layer, SHAPE): Edit(beta, changes, 1)})
    torch.testing.assert_close(other(x), edited(x), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(other(x), model(x))


def test_what_does_not_fold_is_refused_with_its_reason():
    model = warmed(Classifier(Residual()))
    layer = opened(model, "block")
    state, reasons = fold(model, {layer: setting(layer)})
    assert state is None and "its addend act is made by no convolution or linear map" in reasons["block"]
    bn = opened(model, "bn")
    beta, changes = setting(bn)
    state, reasons = fold(model, {bn: (beta, [Change(changes[0].basis, threshold=0.2, mean=beta)])})
    assert state is None and "gated" in reasons["bn"]
    # One that folds is not written where another stays hooked: it would be edited twice.
    state, reasons = fold(model, {bn: setting(bn), layer: setting(layer)})
    assert state is None and not reasons["bn"] and reasons["block"]
    grouped = warmed(Classifier(Residual()))
    grouped.stem = nn.Conv2d(3, 6, 3, padding=1, groups=3)
    grouped.bn, grouped.block = nn.BatchNorm2d(6), Residual(6, 6)
    grouped.head = nn.Linear(6, 5)
    layer = opened(warmed(grouped), "bn")
    assert "in groups" in fold(grouped, {layer: setting(layer)})[1]["bn"]
    tied = warmed(Classifier(Residual()))
    tied.block.conv2.weight = tied.block.conv1.weight
    network = Network(copy.deepcopy(tied), SHAPE)
    layer = network._layer("block.bn1", network.node(network._modules["block.bn1"]))
    assert "more than once" in fold(tied, {layer: setting(layer)})[1]["block.bn1"]


def test_a_layer_without_a_bias_folds_only_around_zero():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 5)).eval()
    layer = opened(model, "0")
    beta, changes = setting(layer)
    assert "no bias" in fold(model, {layer: (beta, changes)})[1]["0"]
    state, reasons = fold(model, {layer: (torch.zeros(4), changes)})
    assert state is not None and not reasons["0"]


class Skipped(nn.Module):
    """The stem's value is made by a function, and read past the activation behind it."""

    def __init__(self):
        super().__init__()
        self.stem, self.bn, self.act, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Linear(4, 5)

    def forward(self, x):
        """[N, 3, H, W] -> [N, 5]."""
        made = self.stem(x)
        value = torch.mul(self.bn(made), 1.5)
        return self.head((self.act(value) + value).mean((2, 3)) + 0 * made.mean((2, 3)))


def test_no_reader_of_a_value_is_bypassed():
    model, x = warmed(Skipped()), torch.randn(2, *SHAPE)
    network = Network(copy.deepcopy(model), SHAPE)
    layer = network._layer("mul", network._find("mul"))
    assert place_of(model, layer, SHAPE) == Place("", "node", "mul")
    edited = hooked(model, layer, *setting(layer))
    assert [*edited.state_dict()] == [*model.state_dict()] and not torch.allclose(edited(x), model(x))
    for other in (copy.deepcopy(edited), pickle.loads(pickle.dumps(edited))):
        assert torch.equal(other(x), edited(x))


def test_what_others_read_is_not_folded():
    model = warmed(Skipped())
    network = Network(copy.deepcopy(model), SHAPE)
    layer = network._layer("bn", network._find("bn"))
    assert "stem is read by 2 others" in fold(model, {layer: setting(layer)})[1]["bn"]


class Odd(nn.Module):
    """Two convolutions made one by a function; the first one's bias may be read once more."""

    def __init__(self, joined, channels=4, reads=False):
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(3, channels, 1), nn.Linear(4, 5)
        self.joined, self.reads = joined, reads

    def forward(self, x):
        """[N, 3, H, W] -> [N, 5]."""
        y = F.relu(self.joined(self.a(x), self.b(x))).mean((2, 3))
        return self.head(y + self.a.bias if self.reads else y)


def test_addends_that_are_spread_or_doubled_do_not_fold():
    for joined, channels, reason in ((torch.add, 1, "b makes 1 channels"), (lambda a, b: a + a, 4, "a is added to")):
        model = Odd(joined, channels).eval()
        layer = opened(model, "add")
        state, reasons = fold(model, {layer: setting(layer)})
        assert state is None and reason in reasons["add"]


@pytest.mark.parametrize("reads", [False, True])
def test_a_fold_is_proven_by_what_the_models_say(reads):
    model = Odd(torch.add, reads=reads).eval()
    layer = opened(model, "add")
    beta, changes = setting(layer)
    state, _ = fold(model, {layer: (beta, changes)})
    assert proven(model, state, hooked(model, layer, beta, changes), SHAPE) != reads


class Nested(nn.Module):
    """Two sums in the model's own forward, and a block between them with one of its own."""

    def __init__(self):
        super().__init__()
        self.stem, self.bn, self.block = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), Residual()
        self.a, self.b, self.act, self.head = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Linear(4, 5)

    def forward(self, x):
        """[N, 3, H, W] -> [N, 5]."""
        x = self.bn(self.stem(x))
        x = self.act(self.a(x) + x)
        x = self.block(x)
        x = self.act(self.b(x) + x)
        return self.head(x.mean((2, 3)))


def test_layers_of_one_forward_and_of_forwards_within_it_are_edited_together(tmp_path):
    model, x = warmed(Nested()), torch.randn(3, *SHAPE)
    network = Network(copy.deepcopy(model), SHAPE)
    layers = network.check_order(["bn", "add", "block", "add_2"])
    places = places_of(model, layers, SHAPE)
    assert [place.at for place in places.values()] == ["output", "node", "node", "node"]
    assert [place.module for place in places.values()] == ["bn", "", "", ""]
    edits = [LayerEdit(layer, *setting(layer, seed=i), [], [], []) for i, layer in enumerate(layers)]
    for one in edits:
        one.changes, one.vectors = one.vectors, np.zeros((1, 4))
    value = x
    for start, end, one in zip(["input", *layers], layers, edits, strict=False):
        value = one.edit()(network.segment(start, end)(value))
    expected = network.segment(layers[-1], "classes")(value)
    edited = inserted(model, {places[one.layer.name]: one.edit() for one in edits})
    torch.testing.assert_close(edited(x), expected, atol=1e-5, rtol=1e-4)
    assert torch.equal(pickle.loads(pickle.dumps(edited))(x), edited(x))
    assert [*edited.state_dict()] == [*model.state_dict()]
    for one in edits:
        one.changes = [replace(change, mean=torch.ones(4)) for change in one.changes]
    tensors, entries = stored(SimpleNamespace(layers=edits), places)
    save_file(tensors, tmp_path / "edit.safetensors", {"edits": json.dumps(entries)})
    (text,) = re.findall(r"```python\n(import json, torch, safetensors\n.*?)```", PAGE.read_text(), flags=re.DOTALL)
    names = {"__name__": "mine"}
    exec(text, names)
    loaded = names["load_edit"](copy.deepcopy(model), tmp_path / "edit.safetensors")
    torch.testing.assert_close(loaded(x), expected, atol=1e-5, rtol=1e-4)


class Checked(nn.Module):
    """A batch norm called as a function within a module, as timm's are, which looks at its input's shape."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        """[N, C, H, W] -> [N, C, H, W]."""
        torch._assert(x.ndim == 4, "a map")
        norm = self.norm
        out = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.1, norm.eps)
        return out


def test_shapes_and_assertions_are_no_readers():
    model = warmed(nn.Sequential(nn.Conv2d(3, 4, 1), Checked(), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 5)))
    x = torch.randn(2, *SHAPE)
    layer = opened(model, "1")
    beta, changes = setting(layer)
    assert place_of(model, layer, SHAPE) == Place("1", "output")
    state, reasons = fold(model, {layer: (beta, changes)})
    assert reasons == {"1": ""}
    other = copy.deepcopy(model)
    other.load_state_dict(state)
    torch.testing.assert_close(other(x), hooked(model, layer, beta, changes)(x), atol=1e-5, rtol=1e-4)


class Repeated(nn.Module):
    """A block that is called twice."""

    def __init__(self):
        super().__init__()
        self.stem, self.block, self.head = nn.Conv2d(3, 4, 3, padding=1), Residual(), nn.Linear(4, 5)

    def forward(self, x):
        """[N, 3, H, W] -> [N, 5]."""
        return self.head(self.block(self.block(self.stem(x))).mean((2, 3)))


class Moody(Residual):
    """A block that does something else in training."""

    def forward(self, x):
        """[N, C, H, W] -> [N, C, H, W]."""
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(F.dropout(out, 0.5, self.training) + x)


@pytest.mark.parametrize(
    ("model", "message"),
    [(Repeated(), "called 2 times"), (Classifier(Moody()), "does something else in training")],
)
def test_places_that_cannot_be_edited_are_refused_in_a_line(model, message):
    layer = opened(warmed(model), "block")
    with pytest.raises(UserError, match=message):
        place_of(model, layer, SHAPE)


def test_a_wrong_place_does_not_pass():
    """The trial compares with the whole graph: a hook that one reader bypasses is caught."""
    from gigraph.model import placing

    model = warmed(Classifier(Residual()))
    layer = opened(model, "block")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placing, "_inside", lambda *_: Place("block.bn2", "output"))
        with pytest.raises(UserError, match="does not say what its graph says"):
            place_of(model, layer, SHAPE)


def test_the_shipped_models_and_the_ready_ones_have_places():
    for source, shape, layers in (
        ("menagerie", (3, 96, 96), ["layer1.0", "layer2.1", "layer3.1", "layer4.0"]),
        ("workflow/configs/cifar_resnet.py:resnet20", (3, 32, 32), ["layer1.2", "layer2.2", "layer3.2"]),
        ("torchvision:regnet_y_400mf", (3, 64, 64), ["trunk_output.block2"]),
        ("torchvision:mobilenet_v3_small", (3, 64, 64), ["features.5"]),
    ):
        model = load_model(source)
        network = Network(copy.deepcopy(model), shape)
        for name in layers:
            assert place_of(model, network.layer(name), shape)
