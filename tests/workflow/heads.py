"""Small models with every kind of head, input and output, for runs in which only these matter."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

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


@dataclass
class Plain:
    """A dataclass and nothing else."""

    hidden: Tensor
    logits: Tensor


class Named(NamedTuple):
    """Two things by their names."""

    features: Tensor
    scores: Tensor


class Net(nn.Module):
    """Two blocks, pooled, and a head.

    Parameters
    ----------
    head : str
        What is done to the logits.
    outputs : int
        Of the head.
    returns : str
        What the result stands in.
    channels : int
        Of the image.
    """

    def __init__(self, head: str = "logits", outputs: int = 3, returns: str = "plain", channels: int = 3):
        super().__init__()
        self.head, self.returns = head, returns
        self.block1 = nn.Sequential(nn.Conv2d(channels, 8, 5, 2, 2), nn.BatchNorm2d(8), nn.ReLU())
        self.block2 = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU())
        self.fc = nn.Linear(12, outputs)
        self.act = {"sigmoid": nn.Sigmoid(), "logsigmoid": nn.LogSigmoid(), "softmax": nn.Softmax(1)}.get(head)
        nn.init.normal_(self.fc.weight, 0, 3)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor):
        """[N, channels, H, W] -> what the head says."""
        maps = self.block2(self.block1(x))
        features = maps.mean((2, 3))
        y = self.fc(features)
        if self.act is not None:
            y = self.act(y)
        if self.head == "log_softmax":
            y = nn.functional.log_softmax(y, dim=1)
        if self.head == "its own log_softmax":
            y = y.log_softmax(1)
        if self.head == "log of softmax":
            y = torch.log(torch.softmax(y, -1))
        if self.returns == "flat":
            return y.squeeze(1)
        if self.returns == "its class too":
            return y, y.argmax(1)
        if self.returns == "tuple":
            return y, features
        if self.returns == "named":
            return Named(features, y)
        if self.returns == "dict":
            return {"hidden": features, "map": maps, "logits": y}
        if self.returns == "dataclass":
            return Plain(features, y)
        if self.returns == "output":
            return Output(logits=y, hidden=features)
        if self.returns == "nested":
            return {"features": features, "heads": [{"logits": y}]}
        if self.returns == "two heads":
            return {"heads": [{"logits": y}, {"logits": -y}]}
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

    def forward(self, x: Tensor) -> Output:
        """[N, 3, 32, 32] -> logits, and the last tokens."""
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.registers.expand(x.shape[0], -1, -1), tokens], 1)
        tokens = torch.cat([self.class_token.expand(x.shape[0], -1, -1), tokens], 1)
        last = self.block2(self.block1(tokens))
        return Output(logits=self.fc(last[:, 0]), hidden=last)
