r"""Where a layer's vectors are measured from: the net shift of its batch norms [Eq. 8].

    mu_BN = beta_BN - gamma_BN mu_rn / sqrt(sigma_rn^2 + epsilon)                                      [Eq. 8]

A residual block's sum is made by several: ``bn3(...) + downsample(...)``, or ``bn3(...) + identity``.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from gigraph.model.tracing import is_a, target_of

if TYPE_CHECKING:
    from gigraph.model.network import Layer, Network

_SUMS: tuple[Any, ...] = (operator.add, operator.iadd, torch.add, "add")


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


def batchnorm_shift(network: Network, layer: Layer) -> np.ndarray | None:
    """Return a layer's centre, the net shift of the batch norms that are added to make it [Eq. 8].

    ``mu_BN = beta_BN - gamma_BN * mu_rn / sqrt(sigma_rn**2 + epsilon)``, summed over the batch norms whose
    outputs are added; an identity skip adds 0.

    Parameters
    ----------
    network : Network
    layer : Layer

    Returns
    -------
    array of float32 [C] or None
        None if no batch norm makes this layer.
    """
    found: list[Tensor] = []
    pending = [network.node(layer.node)]
    while pending:
        node = pending.pop()
        norm = batchnorm_at(network.graph_module, node)
        if norm is not None:
            found.append(norm.shift)
        elif is_a(network.graph_module, node, _SUMS):
            pending.extend(node.all_input_nodes)
    if not found:
        return None
    return torch.stack(found).sum(0).to(torch.float32).cpu().numpy()


@torch.no_grad()
def batchnorm_at(root: nn.Module, node: fx.Node) -> BatchNorm | None:
    """Return the batch norm that a node applies, or None if it applies none."""
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
