"""1 x 1 convolutions that are as fast for few maps as for many.

On one thread of a CPU torch hands a 1 x 1 convolution of fewer than 16 maps to a matrix product that takes twice as
long for each, or three times. Positions are to it what images are, so that those of few maps can be seen as more and
smaller ones: where channels lie last that moves no number.
"""

from __future__ import annotations

import math
from typing import TypeGuard

import torch.nn.functional as F
from torch import Tensor, nn

MANY = 16
"""Maps from which on torch takes the fast one."""
MOST = 64
"""Into so many they are rearranged at most."""
NARROWEST = 4
"""Positions that a rearranged map must have for it to be worth while."""


class Pointwise(nn.Conv2d):
    """A 1 x 1 convolution of the same parameters, whose maps are rearranged where that is faster.

    Parameters
    ----------
    conv : nn.Conv2d
        One that `is_pointwise`.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__(conv.in_channels, conv.out_channels, 1, bias=conv.bias is not None, device="meta")
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of maps [N, C, H, W]."""
        rows = x.movedim(1, -1) if x.ndim == 4 else x
        if x.ndim != 4 or x.device.type != "cpu" or not rows.is_contiguous():
            return F.conv2d(x, self.weight, self.bias)
        maps = rearranged(len(x), x.shape[2] * x.shape[3])
        if not maps:
            return F.conv2d(x, self.weight, self.bias)
        out = F.conv2d(rows.reshape(maps, 1, -1, x.shape[1]).movedim(-1, 1), self.weight, self.bias)
        return out.movedim(1, -1).reshape(*rows.shape[:3], out.shape[1]).movedim(-1, 1)


def rearranged(maps: int, positions: int) -> int:
    """Return as how many maps of one row the positions of some maps are to be seen; 0: as they are."""
    if maps >= MANY:
        return 0
    total = maps * positions
    fits = (n for n in range(MANY, min(MOST, math.ceil(total / NARROWEST)) + 1) if total % n == 0)
    return next((n for n in fits if total // n >= NARROWEST), 0)


def is_pointwise(module: object) -> TypeGuard[nn.Conv2d]:
    """Whether a module is a 1 x 1 convolution and nothing else."""
    return (
        type(module) is nn.Conv2d
        and module.kernel_size == (1, 1)
        and module.stride == (1, 1)
        and module.padding in ((0, 0), "valid", "same")
        and module.groups == 1
        and not (module._forward_hooks or module._forward_pre_hooks)
    )
