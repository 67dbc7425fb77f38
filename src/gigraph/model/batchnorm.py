"""Batch norms of a traced network: what one computes in eval mode, and how the operation before it takes it in."""

from __future__ import annotations

import copy
import operator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from gigraph.model.tracing import target_of


@dataclass(frozen=True)
class BatchNorm:
    """A batch norm in eval mode, y = scale x + shift, per channel in float64.

    Attributes
    ----------
    scale : Tensor [C]
        gamma / sqrt(sigma_rn^2 + epsilon).
    shift : Tensor [C]
        The net shift mu_BN.
    """

    scale: Tensor
    shift: Tensor


@torch.no_grad()
def batchnorm_at(root: nn.Module, node: fx.Node) -> BatchNorm | None:
    """Return the batch norm that a node applies, or None if it applies none.

    Parameters
    ----------
    root : nn.Module
        What the graph's modules and parameters belong to.
    node : fx.Node
        A module or a function call; one without running statistics is no batch norm here.
    """
    if node.op == "call_module":
        module = target_of(root, node)
        if not isinstance(module, nn.modules.batchnorm._BatchNorm) or module.running_mean is None:
            return None
        assert module.running_var is not None
        return _batchnorm(module.running_mean, module.running_var, module.weight, module.bias, module.eps)
    if node.op == "call_function" and node.target in (F.batch_norm, torch.batch_norm):
        values: list[Any] = [_value(root, a) for a in node.args[1:5]]
        values += [None] * (4 - len(values))
        mean, var, weight, bias = (
            _value(root, node.kwargs.get(key, value))
            for key, value in zip(("running_mean", "running_var", "weight", "bias"), values, strict=True)
        )
        eps = node.kwargs.get("eps", node.args[7] if len(node.args) > 7 else 1e-5)
        return None if mean is None else _batchnorm(mean, var, weight, bias, float(eps))  # type: ignore[arg-type]
    return None


def _value(root: nn.Module, argument: Any) -> Any:
    """Return the tensor behind a node that fetches a parameter."""
    if isinstance(argument, fx.Node):
        return operator.attrgetter(str(argument.target))(root) if argument.op == "get_attr" else None
    return argument


def _batchnorm(mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> BatchNorm:
    gamma = torch.ones_like(mean).double() if weight is None else weight.double()
    beta = torch.zeros_like(mean).double() if bias is None else bias.double()
    scale = gamma / torch.sqrt(var.double() + eps)
    return BatchNorm(scale, beta - mean.double() * scale)


def fused(linear: Any, norm: BatchNorm) -> nn.Module:
    """Return a convolution or linear map and the batch norm behind it as one.

    ``scale (W x + b) + shift = (scale W) x + (scale b + shift)``, computed in float64 and rounded once.

    Parameters
    ----------
    linear : nn.Conv1d, nn.Conv2d, nn.Conv3d or nn.Linear
        With C output channels; it stays as it is.
    norm : BatchNorm
        Of C channels.
    """
    one = copy.deepcopy(linear)
    weight, bias = linear.weight, linear.bias
    rows = norm.scale.reshape(-1, *[1] * (weight.ndim - 1))
    with torch.no_grad():
        one.weight = nn.Parameter((weight.double() * rows).to(weight.dtype), requires_grad=weight.requires_grad)
        old = 0 if bias is None else bias.double()
        one.bias = nn.Parameter((old * norm.scale + norm.shift).to(weight.dtype), requires_grad=weight.requires_grad)
    return one
