r"""Where a layer's vectors are measured from: the net shift of its batch norms [Eq. 8].

    mu_BN = beta_BN - gamma_BN mu_rn / sqrt(sigma_rn^2 + epsilon)                                      [Eq. 8]

A residual block's sum is made by several: ``bn3(...) + downsample(...)``, or ``bn3(...) + identity``.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gigraph.model.batchnorm import batchnorm_at
from gigraph.model.network import Layer, Network
from gigraph.model.tracing import is_a

_SUMS: tuple[Any, ...] = (operator.add, operator.iadd, torch.add, "add")


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
