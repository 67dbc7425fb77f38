"""Loading, tracing, cut points, segments, folding, and the centre of Eq. 8."""

import copy
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import save_file
from torch import nn

from gigraph.errors import UserError
from gigraph.model.centre import batchnorm_shift
from gigraph.model.contribution import contributions
from gigraph.model.models import load_model, preset_of
from gigraph.model.network import Layer, Network
from gigraph.planning.config import Compute, Model
from gigraph.reserved import CLASSES
from gigraph.subject import Subject
from reference.centre import net_shift

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT.parent / "shared" / "data" / "resnet20-cifar10.pth"
CIFAR = ROOT / "workflow" / "configs" / "cifar_resnet.py"


def roughen(model, seed=0):
    """Give every batch norm statistics and parameters of its own, so that nothing cancels by being 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor, low, high in (
                (module.running_mean, -0.3, 0.3), (module.running_var, 0.5, 2.0),
                (module.weight.data, 0.5, 1.5), (module.bias.data, -0.3, 0.3),
            ):  # fmt: skip
                tensor.uniform_(low, high, generator=generator)
    return model.eval()


def small_vit(**_):
    return torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=7
    )


ZOO = {
    "resnet18": (torchvision.models.resnet18, 64, {"weights": None}),
    "resnet50": (torchvision.models.resnet50, 64, {"weights": None}),
    "vgg16_bn": (torchvision.models.vgg16_bn, 32, {"weights": None, "init_weights": False}),
    "convnext_tiny": (torchvision.models.convnext_tiny, 32, {"weights": None}),
    "vit": (small_vit, 32, {}),
}


@pytest.fixture(scope="module")
def zoo():
    made = {}

    def get(name):
        if name not in made:
            torch.manual_seed(0)
            build, side, arguments = ZOO[name]
            model = roughen(build(**arguments))
            # A vit's head starts at zero, which would hide every error before it.
            heads = [m for m in model.modules() if isinstance(m, nn.Linear)]
            nn.init.normal_(heads[-1].weight, 0, 0.05)
            made[name] = model, Network(model, (3, side, side), name), torch.randn(2, 3, side, side)
        return made[name]

    return get


def close(a, b, tolerance=1e-5):
    assert (a - b).abs().max() <= tolerance * (1 + b.abs().max())


class Tiny(nn.Module):
    """Two residual blocks whose in-place ReLU is used again and again."""

    def __init__(self, inplace=True):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=inplace)
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        a = self.relu(self.bn1(self.conv1(x)))
        b = self.relu(self.bn2(self.conv2(a)) + a)
        return self.fc(b.mean((2, 3)))


def tiny(forward=None, seed=0):
    """Return a Tiny with another forward."""
    torch.manual_seed(seed)
    cls = type("Tiny", (Tiny,), {} if forward is None else {"forward": forward})
    return roughen(cls())


def refused(call, *words):
    """Assert that a call raises a UserError of one line that holds the words."""
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600, message
    for word in words:
        assert word in message, f"{word!r} not in {message!r}"


# ---- cut points and layers ---------------------------------------------------------------------------------


def test_resnet50_cut_points_between_stem_and_head_are_the_block_sums(zoo):
    _, network, _ = zoo("resnet50")
    cuts = network.cut_points()
    blocks = [f"layer{s + 1}.{b}" for s, n in enumerate((3, 4, 6, 3)) for b in range(n)]
    between = cuts[[c.node for c in cuts].index("maxpool") + 1 : [c.node for c in cuts].index("avgpool")]
    assert [cut.name for cut in between] == blocks
    assert [cut.node for cut in between] == ["add", *(f"add_{i}" for i in range(1, 16))]
    assert [network.layer(name).node for name in blocks] == [cut.node for cut in between]
    assert between[-1].shape == (2048, 2, 2)
    assert network.outputs == 1000


def test_a_module_that_ends_in_an_activation_is_its_input(zoo):
    _, network, _ = zoo("vgg16_bn")
    assert network.layer("features.2").node == "features_1"  # Conv, BatchNorm, ReLU
    assert network.layer("features_1") == Layer("features_1", "features_1", 64, 32, 32, "map")
    _, network, _ = zoo("resnet18")
    assert network.layer("layer1").node == network.layer("layer1.1").node == network.layer("add_1").node == "add_1"


def test_layers_of_transformers(zoo):
    _, network, _ = zoo("vit")
    block = network.layer("encoder.layers.encoder_layer_1")
    assert (block.layout, block.channels, block.height, block.width, block.positions) == (
        "tokens",
        16,
        1,
        17,
        17,
    )
    assert network.layer("conv_proj").layout == "map"
    # Features on axis 1 of [N, C, T]: no layer, rather than T taken for C.
    refused(lambda: network.layer("reshape"), "reshape", "nearest cut points")
    _, network, _ = zoo("convnext_tiny")
    assert network.layer("features.1.0").layout == "map"
    assert network.layer("permute").layout == "map_last"
    assert network.layer("permute").channels == 96


def cuts_by_deletion(graph):
    """Find cut points the slow way: a node is one if the output cannot be reached without it."""
    nodes = [n for n in graph.nodes if n.op != "get_attr"]
    found = set()
    for removed in nodes:
        reached = set()
        for node in nodes:
            if node is not removed and (node.op == "placeholder" or any(s in reached for s in node.all_input_nodes)):
                reached.add(node)
        if not any(n.op == "output" for n in reached):
            found.add(removed.name)
    return found


@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny"])
def test_cut_points_are_the_nodes_whose_removal_disconnects(zoo, name):
    _, network, _ = zoo(name)
    swept = {node.name for node, edge in network._cuts.items() if edge is None}
    assert swept == cuts_by_deletion(network.graph_module.graph) - {"output"}


@pytest.mark.parametrize("layout", ["map", "map_last", "tokens", "vector"])
def test_pfvs_and_back(layout):
    shape = {"map": (2, 5, 3, 4), "map_last": (2, 3, 4, 5), "tokens": (2, 12, 5), "vector": (2, 5)}[layout]
    height, width = {"tokens": (1, 12), "vector": (1, 1)}.get(layout, (3, 4))
    layer = Layer("a", "a", 5, height, width, layout)
    activation = torch.randn(shape)
    pfvs = layer.to_pfvs(activation)
    assert pfvs.shape == (2, layer.positions, 5)
    torch.testing.assert_close(layer.from_pfvs(pfvs), activation, rtol=0, atol=0)
    if layout == "map":  # position p is (y, x) = (p // width, p % width)
        torch.testing.assert_close(pfvs[1, 6], activation[1, :, 1, 2], rtol=0, atol=0)


# ---- segments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ZOO)
def test_segments_compose_to_the_whole_model(zoo, name):
    model, network, x = zoo(name)
    layers = [network.layer(cut.name) for cut in network.cut_points()]
    layers = layers[:: max(1, len(layers) // 6)]
    with torch.no_grad():
        expected = model(x)
        found = network.activations(x, layers)
        close(found[CLASSES], expected)
        previous, value = "input", x
        for layer in layers:
            value = network.segment(previous, layer)(value)
            close(value, found[layer.name])
            close(network.segment(layer, CLASSES)(value), expected)
            previous = layer
            close(network.pfv_segment(layer, None)(layer.to_pfvs(value)), expected)
        for a, b in pairwise(layers):
            close(network.pfv_segment(a, b)(a.to_pfvs(found[a.name])), b.to_pfvs(found[b.name]))
    assert expected.std() > 1e-3


@pytest.mark.slow
def test_vit_b_16():
    model = torchvision.models.vit_b_16(weights=None).eval()
    nn.init.normal_(model.heads.head.weight, 0, 0.05)
    network = Network(model, (3, 224, 224))
    layer = network.layer("encoder.layers.encoder_layer_5")
    assert (layer.channels, layer.positions) == (768, 197)
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        close(network.segment(layer, CLASSES)(network.activations(x, [layer])[layer.name]), model(x))


def test_a_segment_holds_only_what_it_needs_and_shares_parameters(zoo):
    model, network, _ = zoo("resnet18")
    segment = network.segment("layer3.0", "layer3.1")
    norms = {f"layer3.1.{norm}.{name}" for norm in ("bn1", "bn2") for name in ("weight", "bias")}
    assert {n for n, _ in segment.named_parameters()} == {
        "layer3.1.conv1.weight",
        "layer3.1.conv2.weight",
    } | norms
    assert segment.get_submodule("layer3.1.conv1").weight is model.layer3[1].conv1.weight
    assert network.segment("layer3.0", "layer3.1") is segment
    assert not segment.training


def test_segments_differentiate_in_both_modes(zoo):
    _, network, x = zoo("vit")
    a = network.layer("encoder.layers.encoder_layer_0")
    value = network.activations(x, [a])[a.name].detach()
    tangent = torch.randn_like(value)
    forward = network.segment(a, CLASSES)
    _, jvp = torch.func.jvp(forward, (value,), (tangent,))
    _, vjp = torch.func.vjp(forward, value)
    cotangent = torch.randn_like(jvp)
    close((jvp * cotangent).sum(), (vjp(cotangent)[0] * tangent).sum(), 1e-4)


def test_another_batch_size_goes_through_a_model_that_reads_its_sizes():
    def forward(self, x):
        n, _, h, w = x.shape
        x = self.conv1(x).reshape(n * 4, h * w).reshape(n, 4, h, w)
        offset = self.fc.bias.to(device=x.device, dtype=x.dtype).expand(n, -1)
        return self.fc(F.adaptive_avg_pool2d(self.relu(self.bn1(x)), 1).view(x.size(0), -1)) + offset

    model = tiny(forward)
    network = Network(model, (3, 6, 5))
    # The sizes read at the top jump over nothing: they are not the image.
    layer = network.layer("bn1")
    x = torch.randn(7, 3, 6, 5)
    with torch.no_grad():
        close(network.segment(layer, CLASSES)(network.activations(x, [layer])["bn1"]), model(x))


class Viewing(nn.Module):
    """Lays a map out as a vector by `view`, which asks how it lies in memory."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc1, self.fc2 = nn.Conv2d(3, 4, 3), nn.Linear(4 * 6 * 4, 5), nn.Linear(5, 3)

    def forward(self, x):
        x = torch.relu(self.conv(x))
        return self.fc2(torch.relu(self.fc1(x.view(-1, 4 * 6 * 4))))


@pytest.mark.parametrize("method", ["srd", "lrp", "grad_x_input"])
def test_maps_with_channels_last_go_through_views(method):
    torch.manual_seed(0)
    model = Viewing().eval()
    network = Network(model, (3, 8, 6))
    layers = network.check_order(["conv", "fc1"])
    x = torch.randn(2, 3, 8, 6).contiguous(memory_format=torch.channels_last)
    maps, pfvs, logits, _ = contributions(network, layers, x, method)
    expected = contributions(network, layers, x.contiguous(), method)
    for name in ("conv", "fc1"):
        close(maps[name], expected[0][name])
        close(network.pfv_segment(network.layer(name), None)(pfvs[name]), logits)
    close(logits, model(x.contiguous()))


def test_reused_inplace_relu_does_not_overwrite_what_is_captured():
    torch.manual_seed(0)
    model = roughen(Tiny(inplace=True))
    plain = copy.deepcopy(model)
    plain.relu.inplace = False
    expected = {}
    for name in ("bn1", "bn2"):
        getattr(plain, name).register_forward_hook(lambda m, i, o, name=name: expected.__setitem__(name, o))
    network = Network(model, (3, 8, 8))
    layers = network.check_order(["bn1", "add"])
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        logits = plain(x)
        found = network.activations(x, layers)
    assert (expected["bn1"] < 0).any()
    close(found["bn1"], expected["bn1"])
    close(found["add"], expected["bn2"] + expected["bn1"].relu())
    close(found[CLASSES], logits)


def test_a_model_that_relies_on_an_inplace_activation_keeps_its_meaning():
    def forward(self, x):
        a = self.bn1(self.conv1(x))
        b = self.conv2(self.relu(a))  # in place: `a` below is rectified too
        return self.fc((b + a).mul_(2.0).mean((2, 3)))

    model = tiny(forward)
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = model(x)
        close(Network(model, (3, 8, 8)).graph_module(x), expected)


def test_a_final_softmax_and_idle_modules_are_left_out():
    class Soft(Tiny):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            return F.softmax(self.drop(super().forward(x)), dim=1)

    model = roughen(Soft())
    network = Network(model, (3, 8, 8))
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        logits = network.activations(x, [])[CLASSES]
        close(logits.softmax(1), model(x))
    assert logits.min() < 0
    refused(lambda: network.layer("drop"), "classes", "leave it out")


# ---- folding and the centre --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vgg16_bn"])
def test_folding_changes_nothing(zoo, name):
    model, network, x = zoo(name)
    keep = [network.layer("conv1" if name != "vgg16_bn" else "features.0")]
    folded = network.folded(keep)
    norms = [n for n in folded.graph_module.modules() if isinstance(n, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == 1  # behind the convolution that is kept
    layers = [network.layer(cut.name) for cut in network.cut_points()]
    folded_away = {node.name for node in network.graph_module.graph.nodes} - {
        node.name for node in folded.graph_module.graph.nodes
    }
    layers = [layer for layer in layers if layer.layout == "map" and layer.node not in folded_away]
    assert keep[0] in layers
    with torch.no_grad():
        before, after = network.activations(x, layers), folded.activations(x, layers)
        for key in before:
            close(after[key], before[key])
        close(folded.graph_module(x), model(x))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_equation_8(zoo, name):
    model, network, _ = zoo(name)
    last = "bn3" if name == "resnet50" else "bn2"
    for layer in ("layer1.1", "layer2.0", "layer4.0"):
        stage, block = layer.split(".")
        block = getattr(model, stage)[int(block)]
        norms = [getattr(block, last), *([block.downsample[1]] if block.downsample is not None else [])]
        assert len(norms) == (2 if layer.endswith(".0") else 1)
        shift = batchnorm_shift(network, network.layer(layer))
        assert shift.dtype == np.float32
        np.testing.assert_allclose(shift, net_shift(norms), rtol=1e-5, atol=1e-6)


def test_the_centre_is_what_a_block_makes_of_nothing():
    """With nothing to convolve (zero weights), a layer is its centre, whatever the image."""
    torch.manual_seed(0)
    model = roughen(torchvision.models.resnet18(weights=None))
    for module in model.layer3[0].modules():
        if isinstance(module, nn.Conv2d):
            nn.init.zeros_(module.weight)
    network = Network(model, (3, 32, 32))
    layer = network.layer("layer3.0")
    with torch.no_grad():
        pfvs = layer.to_pfvs(network.activations(torch.randn(2, 3, 32, 32), [layer])["layer3.0"])
    np.testing.assert_allclose(pfvs.reshape(-1, 256), np.tile(batchnorm_shift(network, layer), (8, 1)), atol=1e-5)


def test_no_batch_norm_no_shift(zoo):
    _, network, _ = zoo("convnext_tiny")
    assert batchnorm_shift(network, network.layer("features.1.0")) is None
    _, network, _ = zoo("resnet18")
    assert batchnorm_shift(network, network.layer("conv1")) is None


# ---- what is refused ---------------------------------------------------------------------------------------


def test_layers_that_are_refused(zoo):
    _, network, _ = zoo("resnet50")
    refused(lambda: network.layer("layer3.55"), "layer3.55", "did you mean", "layer3.5")
    refused(
        lambda: network.layer("layer3.5.conv1"),
        "layer3.5.conv1 (node layer3_5_conv1) is no cut point: add_12 reads layer3_4_relu_2 past it",
        "layer3.4 before it and layer3.5 after it",
    )
    refused(lambda: network.layer("classes"), "classes", "leave it out")
    refused(lambda: network.layer("fc"), "fc", "leave it out")
    refused(lambda: network.layer("x"), "input")
    refused(lambda: network.segment("layer2.0", "layer1.0"), "swap")


def test_order_of_layers(zoo):
    _, network, _ = zoo("resnet18")
    assert [layer.name for layer in network.check_order(["layer1.0", "layer2"])] == ["layer1.0", "layer2"]
    refused(lambda: network.check_order(["layer3.0", "layer1.0", "add_2"]), "layer1.0, add_2, layer3.0")
    refused(lambda: network.check_order(["layer1.0", "add"]), "layer1.0 and add are the same")


def branch(self, x):
    return super(type(self), self).forward(x if x.sum() > 0 else -x)


def item(self, x):
    return super(type(self), self).forward(x * x.mean().item())


def pair(self, x):
    y = super(type(self), self).forward(x)
    return y, y


def noisy(self, x):
    return super(type(self), self).forward(F.dropout(x))


def batchwise(self, x):
    return super(type(self), self).forward(x - x.mean(0, keepdim=True))


def boom(self, x):
    raise ValueError("two\nlines")


def nan(self, x):
    return super(type(self), self).forward(x) * float("nan")


def maps(self, x):
    return self.conv1(x)


@pytest.mark.parametrize(
    "forward, words",
    [
        (branch, ["cannot be traced", "factory"]),
        (item, ["cannot be traced"]),
        (pair, ["0 [2, 5], 1 [2, 5]", "model.output"]),
        (noisy, ["random in eval"]),
        (batchwise, ["another batch"]),
        (boom, ["fails on images of 3x8x8", "ValueError: two"]),
        (nan, ["NaN", "model.weights"]),
        (maps, ["[2, 4, 8, 8]", "logits"]),
    ],
)
def test_models_that_are_refused(forward, words):
    refused(lambda: Network(tiny(forward), (3, 8, 8), "mine.py:net"), "mine.py:net", *words)


def test_batch_norm_without_running_statistics_is_refused():
    model = tiny()
    model.bn2 = nn.BatchNorm2d(4, track_running_stats=False).eval()
    refused(lambda: Network(model, (3, 8, 8)), "bn2 has no running statistics")


# ---- loading -----------------------------------------------------------------------------------------------

SMALL = """
from torch import nn

def net(width=4):
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5))

def raises():
    raise RuntimeError("no\\nluck")

def number():
    return 3
"""


@pytest.fixture
def home(tmp_path):
    (tmp_path / "small.py").write_text(SMALL)
    return tmp_path


def small(home, **kw):
    return load_model("small.py:net", base=home, **kw)


def test_a_users_module(home):
    model = small(home, arguments={"width": 6})
    assert not model.training and model[0].out_channels == 6
    assert not any(path == str(home) for path in sys.path)
    for source, words in {
        "none.py:net": ["none.py", "no file"],
        "small.py:nett": ["nett", "did you mean net"],
        "small.py:raises": ["RuntimeError: no luck", "model.arguments"],
        "small.py:number": ["returns a int"],
        "no_such_package.models:net": ["no_such_package.models", "cannot be imported"],
        "resnet50": ["torchvision:NAME"],
        "small.py": ["is a file", "small.py:NAME"],
        "torchvision:resnet51": ["resnet51", "did you mean", "resnet50"],
        "timm:resnet1888": ["resnet1888", "did you mean", "resnet18"],
    }.items():
        refused(lambda source=source: load_model(source, base=home), "model.source", *words)
    refused(lambda: small(home, arguments={"depth": 1}), "model.arguments", "depth")
    (home / "broken.py").write_text("def net(:\n")
    refused(lambda: load_model("broken.py:net", base=home), "broken.py", "SyntaxError")


def test_installed_modules_torchvision_and_timm():
    assert load_model("torchvision.models:squeezenet1_1", arguments={"num_classes": 3}).num_classes == 3
    model = load_model("torchvision:resnet18", arguments={"num_classes": 3})
    assert model.fc.out_features == 3
    network = Network(load_model("timm:resnet18", arguments={"num_classes": 4}), (3, 32, 32))
    assert network.layer("layer2.1").node == "add_3" and network.outputs == 4


def test_timm_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    refused(lambda: load_model("timm:resnet18"), "timm is not installed", "uv sync")


def test_weights_by_name(monkeypatch):
    refused(lambda: load_model("torchvision:resnet50", weights="IMAGENET1K_V3"), "IMAGENET1K_V1, IMAGENET1K_V2")
    refused(lambda: load_model("timm:resnet18", weights="DEFAULT"), "torchvision", "file")

    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", offline)
    refused(
        lambda: load_model("torchvision:resnet18", weights="DEFAULT"),
        "no network",
        "resnet18-f37072fd.pth",
        "file's path",
    )


def test_presets():
    preset = preset_of("torchvision:resnet50", "IMAGENET1K_V2")
    assert (preset["resize"], preset["crop"], preset["interpolation"]) == (232, 224, "bilinear")
    assert preset["mean"] == (0.485, 0.456, 0.406)
    assert preset_of("torchvision:resnet50", "weights.pth") is None
    assert preset_of("torchvision:resnet50") is None
    assert preset_of("file.py:net") is None
    assert preset_of("timm:resnet18")["crop"] == 224


@pytest.mark.parametrize("wrap", ["bare", "state_dict", "model", "model_state_dict", "prefix", "safetensors"])
def test_checkpoints_in_their_wrappings(home, wrap):
    model = roughen(small(home))
    state = {k: v.clone() for k, v in model.state_dict().items()}
    file = home / ("w.safetensors" if wrap == "safetensors" else "w.pth")
    if wrap == "safetensors":
        save_file(state, file)
    elif wrap == "bare":
        torch.save(model.state_dict(), file)
    elif wrap == "prefix":
        torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, file)
    else:
        torch.save({wrap: state, "best": 0.9}, file)
    found = small(home, weights=file.name).state_dict()
    assert all(torch.equal(found[k], v) for k, v in state.items())


WRAPPINGS = {
    "compiled, then sharded": lambda key: f"_orig_mod.module.{key}",
    "sharded, then compiled": lambda key: f"module._orig_mod.{key}",
    "parts compiled": lambda key: key.replace(".", "._orig_mod.", 1),
    "lightning": lambda key: f"model.{key}",
    "lightning of a compiled, sharded one": lambda key: f"model.module._orig_mod.{key}",
    "backbone": lambda key: f"net.{key}",
}


@pytest.mark.parametrize("name", ["last.ckpt", "model_best.pth.tar", "pytorch_model.bin", "X.PTH", "noending"])
@pytest.mark.parametrize("way", WRAPPINGS)
def test_checkpoints_as_people_have_them(home, monkeypatch, way, name):
    monkeypatch.chdir(home)
    state = roughen(small(home)).state_dict()
    kept = {WRAPPINGS[way](key): value for key, value in state.items()}
    kept |= {"n_averaged": torch.tensor(7), "0._extra_state": None}
    if way.startswith("lightning"):
        kept["loss.weight"] = torch.ones(3)
    torch.save({"epoch": 3, "state_dict": kept}, home / name)
    found = small(home, weights=name).state_dict()
    assert all(torch.equal(found[key], value) for key, value in state.items())


def test_a_model_that_is_wrapped_takes_weights_that_are_not(home):
    state = roughen(small(home)).state_dict()
    torch.save(state, home / "w.pth")
    (home / "wrapped.py").write_text(
        "from torch import nn\nfrom small import net\n\n\ndef make():\n    return nn.Sequential(net())\n"
    )
    found = load_model("wrapped.py:make", weights="w.pth", base=home).state_dict()
    assert all(torch.equal(found[f"0.{key}"], value) for key, value in state.items())


def test_what_differs_behind_a_prefix_is_named_by_the_models_own_keys(home):
    state = {f"module.{key}": value for key, value in small(home).state_dict().items()}
    state["module.5.weight"] = torch.ones(9, 4)
    del state["module.0.weight"]
    torch.save(state, home / "w.pth")
    refused(lambda: small(home, weights="w.pth"), "1 missing (first: 0.weight)", "5.weight [9, 4] for")
    refused(lambda: small(home, weights=f"{home}"), "is a folder")


def test_averaged_weights_are_taken_as_timm_takes_them(home, caplog):
    one, two = (small(home).state_dict() for _ in range(2))
    two = {key: value + 1 if value.is_floating_point() else value for key, value in two.items()}
    torch.save({"state_dict": one, "state_dict_ema": two}, home / "w.pth")
    with caplog.at_level("INFO", logger="gigraph"):
        found = small(home, weights="w.pth").state_dict()
    assert all(torch.equal(found[key], value) for key, value in two.items())
    assert "note: " in caplog.text and "state_dict_ema is taken" in caplog.text


FACTORIES = """
import sys

import torch
from torch import nn


def net():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def half():
    return net().half()


def bfloat16():
    return net().bfloat16()


def double():
    return net().double()


def lazy():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))


def quantized():
    return torch.ao.quantization.quantize_dynamic(net(), {nn.Linear})


class Extra(nn.Linear):
    def get_extra_state(self):
        return {"version": 1}

    def set_extra_state(self, state):
        assert state == {"version": 1}


def extra():
    return nn.Sequential(*list(net())[:-1], Extra(4, 3))


def meta():
    with torch.device("meta"):
        return net()


def leaves():
    sys.exit(0)


def scripted():
    return torch.jit.script(net())


def exported():
    return torch.export.export(net().eval(), (torch.zeros(2, 3, 16, 16),)).module()


def inference():
    with torch.inference_mode():
        return net()


def sparse():
    model = net()
    model.register_buffer("eye", torch.eye(3).to_sparse())
    return model


def compiled():
    return torch.compile(net())


def flat():
    return nn.Sequential(nn.Flatten(), nn.Linear(256, 3))


def part_compiled():
    model = net()
    return nn.DataParallel(nn.Sequential(torch.compile(model[:2]), *model[2:]))


def watched():
    return torch.ao.quantization.QuantWrapper(net())


class Detached(nn.Module):
    def __init__(self, way=None):
        super().__init__()
        self.body, self.head = net()[:4], nn.Linear(4, 3)
        self.way = way

    def forward(self, x):
        x = self.body(x)
        return self.head(x if self.way is None else self.way(x))


def attached():
    return Detached()


def detached():
    return Detached(lambda x: x.detach())


def data():
    return Detached(lambda x: x.data)


class Squeezed(Detached):
    def forward(self, x):
        return torch.squeeze(self.head(self.body(x)[:, :, None].squeeze()))[..., :1].squeeze()


def squeezed():
    return Squeezed()


def takes_more():
    class More(Detached):
        def forward(self, x, labels):
            return super().forward(x)

    return More()
"""


@pytest.mark.parametrize("kind", ["half", "bfloat16", "double", "extra", "compiled"])
def test_a_models_numbers_are_cast_to_float32_and_it_works(tmp_path, caplog, kind):
    (tmp_path / "made.py").write_text(FACTORIES)
    with caplog.at_level("INFO", logger="gigraph"):
        model = load_model(f"made.py:{kind}", base=tmp_path)
    assert ("cast to float32" in caplog.text) == (kind not in ("extra", "compiled"))
    x = torch.rand(2, 3, 16, 16)
    if kind != "extra":
        with torch.no_grad():
            close(model(x), load_model("made.py:net", base=tmp_path)(x), 1e-2)
    network = Network(model, (3, 16, 16), kind)
    assert network.activations(x, [network.layer("0")])["0"].dtype == torch.float32
    if kind == "extra":
        torch.save(model.state_dict(), tmp_path / "own.pth")
        state = {key: value for key, value in model.state_dict().items() if torch.is_tensor(value)}
        torch.save(state, tmp_path / "plain.pth")
        for weights in ("own.pth", "plain.pth"):
            load_model("made.py:extra", weights=weights, base=tmp_path)


@pytest.mark.parametrize(
    ("kind", "words"),
    [("lazy", "lazy parameters"), ("quantized", "quantized"), ("watched", "quantized"),
     ("meta", "meta device"), ("leaves", "SystemExit"),
     ("scripted", "TorchScript"), ("exported", "torch.export"), ("inference", "inference mode"), ("sparse", "sparse")],
)  # fmt: skip
def test_a_factory_that_makes_no_usable_model_gets_one_line(tmp_path, kind, words):
    (tmp_path / "made.py").write_text(FACTORIES)
    refused(lambda: load_model(f"made.py:{kind}", base=tmp_path), "model.source: made.py:", words)


def test_parts_that_are_compiled_are_as_they_were_before(tmp_path):
    (tmp_path / "made.py").write_text(FACTORIES)
    model = load_model("made.py:part_compiled", base=tmp_path)
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        close(Network(model, (3, 16, 16), "compiled").graph_module(x), load_model("made.py:net", base=tmp_path)(x))


@pytest.mark.parametrize("kind", ["detached", "data"])
def test_what_stops_gradients_stops_no_attribution(tmp_path, kind):
    """Gradients ended there, so that everything before it was attributed nothing."""
    (tmp_path / "made.py").write_text(FACTORIES)
    found = []
    for name in (kind, "attached"):
        network = Network(load_model(f"made.py:{name}", base=tmp_path), (3, 16, 16), name)
        layer = network.layer("body.0")
        x = torch.rand(2, 3, 16, 16)
        pfvs = layer.to_pfvs(network.activations(torch.ones_like(x), [layer])["body.0"]).detach().requires_grad_()
        found.append(torch.autograd.grad(network.pfv_segment(layer, None)(pfvs)[:, 0].sum(), pfvs)[0])
    close(*found)
    assert found[0].abs().max() > 0


@pytest.mark.parametrize("images", [1, 2, 3])
def test_a_squeeze_of_all_axes_keeps_the_batch(tmp_path, images):
    """Of one image it takes the batch's axis, too; binary models end in it."""
    (tmp_path / "made.py").write_text(FACTORIES)
    model = load_model("made.py:squeezed", base=tmp_path)
    network = Network(model, (3, 16, 16), "squeezed", task="binary")
    x = torch.rand(images, 3, 16, 16)
    with torch.no_grad():
        close(network.graph_module(x)[:, 1], model(torch.cat([x, x]))[:images])


def test_a_forward_that_takes_more_than_images_is_told_so(tmp_path):
    (tmp_path / "made.py").write_text(FACTORIES)
    model = load_model("made.py:takes_more", base=tmp_path)
    refused(lambda: Network(model, (3, 16, 16), "more"), "'labels'", "whose forward takes images alone")


@pytest.mark.parametrize("tag", ["", "a1_in2k", "a1_in1k.x"])
def test_a_tag_that_timm_does_not_know(tag):
    pytest.importorskip("timm")
    for call in (preset_of, load_model):
        refused(lambda call=call: call(f"timm:resnet18.{tag}"), "timm's resnet18 has no weights", "a1_in1k")
    assert preset_of("timm:resnet18.a1_in1k")["crop"] == 224


def test_a_model_of_one_channel_without_a_convolution_is_told_so(tmp_path):
    (tmp_path / "made.py").write_text(FACTORIES)
    model = load_model("made.py:flat", base=tmp_path)
    refused(lambda: Network(model, (3, 16, 16), "flat"), "takes images of 1 channels", "preprocessing.channels: 1")


def test_a_file_that_ends_the_process_gets_one_line(tmp_path):
    (tmp_path / "ends.py").write_text("import sys\nsys.exit('bye')\n")
    refused(lambda: load_model("ends.py:make", base=tmp_path), "ends.py", "SystemExit")


def test_features_are_no_classes():
    pytest.importorskip("timm")
    refused(lambda: load_model("timm:resnet18", arguments={"num_classes": 0}), "num_classes: 0", "features")


class Evil:
    """An object that writes a file when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (Path.touch, (self.file,))


def test_checkpoints_that_are_refused(home):
    state = small(home).state_dict()

    def load(content, name="w.pth"):
        if isinstance(content, bytes):
            (home / name).write_bytes(content)
        else:
            torch.save(content, home / name)
        return lambda: small(home, weights=name)

    refused(lambda: small(home, weights="absent.pth"), "absent.pth", "does not exist")
    refused(load(b"not a checkpoint"), "w.pth", "damaged")
    refused(load(b""), "w.pth", "damaged")
    refused(load(b"not a checkpoint", "w.safetensors"), "w.safetensors", "damaged")
    torch.save(state, home / "whole.pth")
    refused(load((home / "whole.pth").read_bytes()[:-500]), "damaged")
    refused(load({"epoch": 3, "lr": 0.1}), "no state dict", "epoch")
    refused(load([1, 2]), "no state dict")
    refused(load({"model": Evil(home / "was-run")}), "unpickled", "save model.state_dict()")
    assert not (home / "was-run").exists()
    refused(load(small(home)), "unpickled")
    refused(load({f"net_{k}": v for k, v in state.items()}), "missing (first: 0.weight",
            "unexpected (first: net_0.weight", "another architecture")  # fmt: skip
    refused(
        load(small(home, arguments={"width": 6}).state_dict()),
        "of another shape",
        "0.weight [6, 3, 3, 3] for [4, 3, 3, 3]",
    )
    bad = {k: v.clone() for k, v in state.items()}
    bad["5.weight"][1, 2] = float("inf")
    bad["5.weight"][0, 0] = float("nan")
    refused(load(bad), "5.weight has 2 NaN or infinite")


@pytest.mark.skipif(not CHECKPOINT.exists(), reason=f"no {CHECKPOINT}")
def test_a_real_checkpoint_in_a_users_module(tmp_path):
    (tmp_path / "cifar.py").write_text(CIFAR.read_text())
    model = load_model("cifar.py:resnet20", weights=str(CHECKPOINT), base=tmp_path)
    network = Network(model, (3, 32, 32), "cifar.py:resnet20")
    assert [c.name for c in network.cut_points() if c.node.startswith("add")] == [
        f"layer{s}.{b}" for s in (1, 2, 3) for b in range(3)
    ]
    for name, norms in {"layer1.0": 1, "layer2.0": 1}.items():
        stage, block = name.split(".")
        norm = getattr(model, stage)[int(block)].bn2
        np.testing.assert_allclose(batchnorm_shift(network, network.layer(name)), net_shift([norm] * norms), atol=1e-5)
    layer = network.layer("layer2.0")
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        close(network.segment(layer, CLASSES)(network.activations(x, [layer])[layer.name]), model(x))


def test_the_menagerie():
    network = Network(load_model("menagerie"), (3, 96, 96))
    layers = network.check_order(["layer1.0", "layer2.1", "layer3.1", "layer4.0"])
    assert [layer.channels for layer in layers] == [32, 64, 128, 256]
    refused(lambda: load_model("menagerie", arguments={"depth": 3}), "model.arguments", "depth")


def test_random_weights_are_the_same_in_every_job():
    before = torch.get_rng_state()
    one, two = (load_model("torchvision:resnet18").state_dict() for _ in range(2))
    torch.testing.assert_close(one, two, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_picture_whose_activations_are_not_finite_is_named(monkeypatch):
    preprocessing = {"mean": [0, 0, 0], "std": [1, 1, 1]}
    model = {**Model().model_dump(), "source": "menagerie"}
    settings = {"model": model, "preprocessing": preprocessing, "image_size": (96, 96)}
    subject = Subject(settings, Compute(device="cpu"), ["layer4.0"])
    pictures = np.zeros((3, 96, 96, 3), np.uint8)
    assert subject.sweep_arrays(pictures)["layer4.0"].shape == (3, 36, 256)
    real = subject.network.activations

    def overflow(x, layers):
        found = real(x, layers)
        found["layer4.0"][2, 0, 0, 0] = torch.nan
        return found

    monkeypatch.setattr(subject.network, "activations", overflow)
    refused(lambda: subject.sweep_arrays(pictures), "layer4.0", "image 2")
