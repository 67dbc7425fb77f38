"""Contributions of all layers' positions to the output, and the receptive fields of single ones.

Three methods: sharing ratio decomposition (`srd`) [Eq. 10]; layer-wise relevance propagation (`lrp`), which is gradient
x input with the activation pattern held fixed, <d logit / d x_p, x_p>; and plain gradient x input (`grad_x_input`). The
first two need every operation to be linear given its pattern (`gigraph.method.pattern`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gigraph.errors import UserError
from gigraph.method.pattern import Pattern, placed
from gigraph.method.positions import Positions
from gigraph.method.srd import Sweep
from gigraph.method.tasks import predict
from gigraph.model.network import Layer, Network
from gigraph.reporting import log
from gigraph.reserved import CLASSES


def contributions(
    network: Network,
    layers: list[Layer],
    x: Tensor,
    method: str = "srd",
    labels: np.ndarray | None = None,
    target: str = "label",
) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor, Tensor]:
    """Carry a logit back to every position of every layer, by one forward and one backward sweep.

    Parameters
    ----------
    network : Network
        The traced model.
    layers : list of Layer
        The layers whose positions are asked about.
    x : Tensor [N, C, H, W]
        Network inputs.
    method : {"srd", "lrp", "grad_x_input"}
        See above.
    labels : array of int [N], optional
        The images' own labels; negative where unknown.
    target : {"label", "predicted"}
        Whose logit is taken: the label's, the predicted one's where that is unknown; or always the predicted one's
        (`gigraph.method.tasks.predict`).

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
        targets = _targets(logits, labels, target, network.task)
        relevance = sweep.from_logits(targets)
        maps = {layer.name: layer.to_pfvs(relevance[layer.node])[:, :, 0] for layer in layers}
        pfvs = {layer.name: layer.to_pfvs(values[layer.node]) for layer in layers}
        return maps, pfvs, logits, logits.gather(1, targets[:, None])[:, 0]
    with torch.enable_grad(), _held(method):
        found = network.activations(_image(x), layers)
        logits = found.pop(CLASSES)
        score = logits.gather(1, _targets(logits, labels, target, network.task)[:, None])[:, 0]
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
    x : Tensor [N, C, H, W]
        Network inputs.
    positions : Tensor of int64 [N, M]
        Indices of the PFVs among the layer's positions, each of which starts with R = 1; negative: none, a field of 0.
    method : {"srd", "lrp", "grad_x_input"}
        Eq. 10 operation by operation, or taken once over the whole way from the input to the layer.

    Returns
    -------
    Tensor [N, M, H, W]
        Signed relevance of each input pixel.
    """
    if method == "srd":
        sweep = Sweep(network.graph_module, x, last=layer.node)
        ids = layer.to_pfvs(sweep.positions[sweep.node(layer.node)].ids)[:, :, 0]  # [N, P]
        asked = torch.where(positions < 0, positions, ids.gather(1, positions.clamp_min(0)))
        return torch.stack([sweep.from_positions(layer.node, some) for some in asked.T], 1)
    with torch.enable_grad():
        image = _image(x)
        with _held(method):
            reached = network.segment("input", layer)(image)
        pfvs = layer.to_pfvs(reached)
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


def method_for(network: Network, layers: list[Layer], x: Tensor, method: str) -> str:
    """Return the method that `auto` stands for, or check that the asked one can carry relevance.

    Parameters
    ----------
    network, layers : Network, list of Layer
        The traced model, and the layers asked about.
    x : Tensor [1, C, H, W]
        Any input.
    method : {"auto", "srd", "lrp", "grad_x_input"}
        `auto` is `srd`, or `grad_x_input` where an operation is not known to be linear given the activation pattern.

    Raises
    ------
    UserError
        Naming that operation, or a layer whose axes are no positions and channels.
    """
    if method == "grad_x_input":
        return method
    try:
        sweep = Sweep(network.graph_module, x)
        sweep.from_logits(torch.zeros(len(x), dtype=torch.int64, device=x.device))
    except UserError as error:
        if method != "auto":
            raise
        log.warning("contribution.method auto: gradient x input, for %s", error)
        return "grad_x_input"
    for layer in layers:
        ids = layer.to_pfvs(sweep.positions[sweep.node(layer.node)].ids)
        own = ids[:, :, :1]
        if not torch.equal(ids, own.expand_as(ids)) or not bool((own.diff(dim=1) > 0).all()):
            shape = list(sweep.values[sweep.node(layer.node)].shape)
            raise UserError(
                f"layer {layer.name} is {shape}, whose axes are not positions and channels (windows of attention?); "
                "take the layer before or after it"
            )
    return "srd" if method == "auto" else method


def _held(method: str) -> AbstractContextManager[Any]:
    return Pattern() if method == "lrp" else nullcontext()


def _image(x: Tensor) -> Tensor:
    return placed(x.detach().requires_grad_(), Positions.fresh(x.shape, [0, *range(2, x.ndim)], x.device))


def _targets(logits: Tensor, labels: np.ndarray | None, target: str, task: str) -> Tensor:
    given = torch.full((len(logits),), -1) if labels is None else torch.tensor(labels, dtype=torch.int64)
    given = given.to(logits.device)
    predicted = predict(logits, given, task)
    return torch.where(given >= 0, given, predicted) if target == "label" else predicted
