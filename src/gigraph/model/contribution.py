"""Contributions of all layers' positions to the output, by SRD [Eq. 10] or by gradient x input."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gigraph.method.srd import Sweep
from gigraph.model.network import Layer, Network
from gigraph.reserved import CLASSES


def contributions(
    network: Network, layers: list[Layer], x: Tensor, method: str = "srd", labels: np.ndarray | None = None
) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor, Tensor]:
    """Carry a logit back to every position of every layer, by one forward and one backward sweep.

    Parameters
    ----------
    network : Network
        The traced model.
    layers : list of Layer
        The layers whose positions are asked about.
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
    score : Tensor [N]
        The logit that is decomposed; what the maps' sums miss of it is the bias's share.
    """
    if method == "srd":
        sweep = Sweep(network.graph_module, x, keep=[layer.node for layer in layers])
        values = {node.name: value for node, value in sweep.values.items()}
        logits = values[sweep.order[-1].name]
        targets = _targets(logits, labels)
        relevance = sweep.from_logits(targets)
        maps = {layer.name: relevance[layer.node].flatten(1) for layer in layers}
        pfvs = {layer.name: layer.to_pfvs(values[layer.node]) for layer in layers}
        return maps, pfvs, logits, logits.gather(1, targets[:, None])[:, 0]
    with torch.enable_grad():
        found = network.activations(x.detach().requires_grad_(), layers)
        logits = found.pop(CLASSES)
        score = logits.gather(1, _targets(logits, labels)[:, None])[:, 0]
        gradients = torch.autograd.grad(score.sum(), [found[layer.name] for layer in layers])
    pfvs = {layer.name: layer.to_pfvs(found[layer.name].detach()) for layer in layers}
    maps = {
        layer.name: (layer.to_pfvs(gradient) * pfvs[layer.name]).sum(2)
        for layer, gradient in zip(layers, gradients, strict=True)
    }
    return maps, pfvs, logits.detach(), score.detach()


def receptive_fields(network: Network, layer: Layer, x: Tensor, positions: Tensor, method: str = "srd") -> Tensor:
    """Return the instance-specific effective receptive fields (iERFs) of some PFVs of each image.

    Parameters
    ----------
    network, layer : Network, Layer
        Where the PFVs are.
    x : Tensor [N, 3, H, W]
        Network inputs.
    positions : Tensor of int64 [N, M]
        Indices of the PFVs among the layer's positions, each of which starts with R = 1; negative: none, a field of 0.
    method : {"srd", "grad_x_input"}
        Eq. 10 operation by operation, or taken once over the whole way from the input to the layer.

    Returns
    -------
    Tensor [N, M, H, W]
        Signed relevance of each input pixel.
    """
    if method == "srd":
        sweep = Sweep(network.graph_module, x, last=layer.node)
        return torch.stack([sweep.from_positions(layer.node, some, layer.width) for some in positions.T], 1)
    with torch.enable_grad():
        image = x.detach().requires_grad_()
        pfvs = layer.to_pfvs(network.segment("input", layer)(image))
        everyone = torch.arange(len(x), device=x.device)
        fields = []
        for some in positions.T:
            v = pfvs[everyone, some.clamp_min(0)]  # [N, C]
            there = v.detach() * (some >= 0)[:, None]
            cotangent = there / v.detach().square().sum(1, keepdim=True).clamp_min(torch.finfo(v.dtype).tiny)
            # Not with the cotangent as an argument: see `gigraph.method.srd._Paired`.
            (gradient,) = torch.autograd.grad((v * cotangent).sum(), image, retain_graph=True)
            fields.append((gradient * x).sum(1))
    return torch.stack(fields, 1).detach()


def _targets(logits: Tensor, labels: np.ndarray | None) -> Tensor:
    predicted = logits.argmax(1)
    if labels is None:
        return predicted
    given = torch.as_tensor(labels, device=logits.device, dtype=torch.int64)
    return torch.where(given >= 0, given, predicted)
