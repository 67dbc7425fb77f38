"""Small models with every kind of head, input and output, for runs in which only these matter."""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class Output(OrderedDict):
    """Like the outputs of the package transformers: a mapping and a dataclass."""

    logits: Tensor | None = None
    hidden: Tensor | None = None

    def __post_init__(self) -> None:
        for key in ("logits", "hidden"):
            self[key] = getattr(self, key)


class Net(nn.Module):
    """Two blocks, pooled, and a head.

    Parameters
    ----------
    head : str
        One of those in `forward`.
    outputs, channels : int
        Numbers of outputs and of the image's channels.
    """

    def __init__(self, head: str = "logits", outputs: int = 3, channels: int = 3):
        super().__init__()
        self.head = head
        self.block1 = nn.Sequential(nn.Conv2d(channels, 8, 5, 2, 2), nn.BatchNorm2d(8), nn.ReLU())
        self.block2 = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU())
        self.fc = nn.Linear(12, outputs)
        nn.init.normal_(self.fc.weight, 0, 3)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor):
        """[N, channels, H, W] -> what the head says."""
        features = self.block2(self.block1(x)).mean((2, 3))
        y = self.fc(features)
        if self.head == "sigmoid":
            return torch.sigmoid(y)
        if self.head == "flat sigmoid":
            return torch.sigmoid(y).squeeze(1)
        if self.head == "log_softmax":
            return nn.functional.log_softmax(y, dim=1)
        if self.head == "flat":
            return y[:, 0]
        if self.head == "tuple":
            return y, features
        if self.head == "dict":
            return {"hidden": features, "logits": y}
        if self.head == "output":
            return Output(logits=y, hidden=features)
        return y


class Tokens(nn.Module):
    """A small vision transformer with a class token and two registers."""

    def __init__(self, outputs: int = 2):
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 8, 8)
        self.class_token = nn.Parameter(torch.randn(1, 1, 12))
        self.registers = nn.Parameter(torch.randn(1, 2, 12))
        self.block1 = nn.TransformerEncoderLayer(12, 2, 24, batch_first=True, norm_first=True)
        self.block2 = nn.TransformerEncoderLayer(12, 2, 24, batch_first=True, norm_first=True)
        self.fc = nn.Linear(12, outputs)
        nn.init.normal_(self.fc.weight, 0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, 32, 32] -> logits."""
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.registers.expand(x.shape[0], -1, -1), tokens], 1)
        tokens = torch.cat([self.class_token.expand(x.shape[0], -1, -1), tokens], 1)
        return self.fc(self.block2(self.block1(tokens))[:, 0])
