"""Contributions of all layers' positions to the output, by SRD [Eq. 10] or by gradient x input."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gigraph.network import Network
from gigraph.srd import Sweep


def contributions(
    network: Network, x: Tensor, method: str = "srd", labels: np.ndarray | None = None
) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Carry a logit back to every position of every layer, by one forward and one backward sweep.

    Parameters
    ----------
    network : Network
        The traced model and its layers.
    x : Tensor [N, 3, H, W]
        Network inputs.
    method : {"srd", "grad_x_input"}
        Sharing ratio decomposition, or <d logit / d x_p, x_p>, which also serves models with attention.
    labels : array of int [N], optional
        Class whose logit is taken; the predicted class where absent or negative.

    Returns
    -------
    maps : dict of str to Tensor [N, P]
        Signed contribution of each position, per layer.
    pfvs : dict of str to Tensor [N, P, C]
        The PFVs.
    logits : Tensor [N, classes]
        The model's output.
    """
    if method == "srd":
        sweep = Sweep(network.graph_module, x, keep=[layer.node for layer in network.layers.values()])
        values = {node.name: value for node, value in sweep.values.items()}
        logits = values[sweep.order[-1].name]
        relevance = sweep.from_logits(_targets(logits, labels))
        maps = {name: relevance[layer.node].flatten(1) for name, layer in network.layers.items()}
        pfvs = {name: layer.to_pfvs(values[layer.node]) for name, layer in network.layers.items()}
        return maps, pfvs, logits
    with torch.enable_grad():
        found = network.activations(x.detach().requires_grad_(), list(network.layers))
        logits = found.pop("classes")
        score = logits.gather(1, _targets(logits, labels)[:, None]).sum()
        gradients = torch.autograd.grad(score, list(found.values()))
    pfvs = {name: network.layers[name].to_pfvs(value.detach()) for name, value in found.items()}
    maps = {
        name: (network.layers[name].to_pfvs(gradient) * pfvs[name]).sum(2)
        for (name, gradient) in zip(found, gradients, strict=True)
    }
    return maps, pfvs, logits.detach()


def _targets(logits: Tensor, labels: np.ndarray | None) -> Tensor:
    predicted = logits.argmax(1)
    if labels is None:
        return predicted
    given = torch.as_tensor(labels, device=logits.device, dtype=torch.int64)
    return torch.where(given >= 0, given, predicted)
