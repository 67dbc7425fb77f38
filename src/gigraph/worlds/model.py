"""The classifier of a drawn world: a ResNet-50 in miniature, on ResNet-50's own code path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from gigraph.errors import UserError
from gigraph.vision import torchvision

ResNet = torchvision.models.ResNet
Bottleneck = torchvision.models.resnet.Bottleneck

#: Mean and standard deviation that pictures in [0, 1] are normalised by, per channel.
MEAN = (0.50, 0.50, 0.50)
STD = (0.25, 0.25, 0.25)

__all__ = ["MEAN", "STD", "build", "load", "metadata", "normalise", "outputs", "predict"]


def build(outputs: int) -> nn.Module:
    """Return the untrained model: for 10 outputs 152,338 parameters, maps of 24, 12, 6 and 6 for 96 x 96 pixels.

    torchvision's `ResNet` with `Bottleneck` blocks: 1-2-2-1 of them and width 8 where ResNet-50 has 3-4-6-3
    and 64, hence 32, 64, 128 and 256 channels. The stem is a 3 x 3 convolution and the last stage keeps its
    stride at 1, since the pictures are small.
    Layers worth looking at: layer1.0, layer2.1, layer3.1, layer4.0.
    """
    # The full-size stages are replaced at once and shall cost no random numbers. (The meta device would cost no
    # memory either, but imports torch's compiler.)
    with torch.random.fork_rng(devices=[]):
        model = ResNet(Bottleneck, [1, 1, 1, 1], num_classes=outputs)
    width = 8
    model.inplanes = width
    model.conv1 = nn.Conv2d(3, width, kernel_size=3, stride=2, padding=1, bias=False)
    model.bn1 = nn.BatchNorm2d(width)
    model.layer1 = model._make_layer(Bottleneck, width, 1)
    model.layer2 = model._make_layer(Bottleneck, 2 * width, 2, stride=2)
    model.layer3 = model._make_layer(Bottleneck, 4 * width, 2, stride=2)
    model.layer4 = model._make_layer(Bottleneck, 8 * width, 1)
    model.fc = nn.Linear(8 * width * Bottleneck.expansion, outputs)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


def load(path: str | Path) -> nn.Module:
    """Return the trained model, in evaluation mode.

    Parameters
    ----------
    path : path
        A checkpoint that `gigraph.worlds.train` wrote, such as a world's own.
    """
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        model = build(len(weights["fc.bias"]) if "fc.bias" in weights else 1)
        model.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: not a checkpoint of a drawn world's model ({reason}); train it anew") from None
    return model.eval()


def outputs(path: str | Path) -> int:
    """Return the number of outputs of a checkpoint's model."""
    with safe_open(path, framework="pt") as file:
        return int(file.get_slice("fc.bias").get_shape()[0])


def metadata(path: str | Path) -> Mapping[str, str]:
    """Return what a checkpoint says of its making: command, seed, versions, accuracy."""
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def normalise(images: np.ndarray) -> torch.Tensor:
    """Turn pictures uint8 [n, h, w, 3] into the model's input: float32 [n, 3, h, w], channels last."""
    scale = torch.tensor([1 / (255 * s) for s in STD])
    shift = torch.tensor([m / s for m, s in zip(MEAN, STD, strict=True)])
    return (torch.from_numpy(images).float() * scale - shift).permute(0, 3, 1, 2)


@torch.inference_mode()
def predict(model: nn.Module, images: np.ndarray, batch: int = 100) -> np.ndarray:
    """Return the logits float32 [n, classes] of pictures uint8 [n, h, w, 3]."""
    model.eval()
    return np.concatenate([model(normalise(images[i : i + batch])).numpy() for i in range(0, len(images), batch)])
