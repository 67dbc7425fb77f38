r"""Sharing ratio decomposition: how much each position of each layer contributes to the output [Eq. 10].

Notation
--------
``v_j``   [C_k]     pre-activation PFV at position j of an operation's output
``v_ij``  [C_k]     part of v_j that came, through the operation, from position i of its input
``R``     [N, H, W] relevance: one number per position

A position j passes its relevance on in proportion to how much of it came from where::

    mu_ij = <v_ij, v_j> / |v_j|^2         R_i = sum_j mu_ij R_j                                       [Eq. 10]

The sweep, for a network of operations that are linear given the activation pattern:

1. Run forward, keeping for each operation the graph from its (detached) input to its output.
2. Start at the last map: from there to the logit everything is linear given the pattern, so that
   R_p = <d logit / d x_p, x_p>, exactly and signed.
3. Go back operation by operation. Since v_ij is linear in x_i, Eq. 10 is one vector-Jacobian product with
   cotangent ``g_j = v_j R_j / |v_j|^2``, times the input, summed over channels. A convolution and the batch norm
   behind it are one operation. An activation takes no step: R is the same on both sides.

The bias keeps its share, sum_j R_j <b, v_j> / |v_j|^2; nothing is renormalised.

Reference: Han, Kim & Kwak, "Respect the model: fine-grained and robust explanation with sharing ratio
decomposition", ICLR 2024; here App. C.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from gigraph.errors import UserError

ACTIVATIONS: tuple[Any, ...] = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardtanh, nn.Identity, nn.Dropout, nn.Dropout2d,
    F.relu, F.relu6, F.leaky_relu, F.hardtanh, F.dropout, F.dropout2d, torch.relu,
    "relu", "contiguous", "clone",
)  # fmt: skip
LINEAR: tuple[Any, ...] = (
    nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d, nn.BatchNorm1d,
    nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Flatten, nn.Upsample, nn.ZeroPad2d,
    operator.add, operator.iadd, operator.sub, operator.neg, operator.getitem, torch.add, torch.sub, torch.cat,
    torch.flatten, torch.mean, torch.reshape, torch.permute, torch.transpose,
    nn.modules.padding._ConstantPadNd,
    F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d, F.pad, F.interpolate, F.conv2d,
    F.linear, torch.conv2d, "add", "add_", "sub", "flatten", "mean", "view", "reshape", "permute", "transpose",
    "squeeze", "unsqueeze",
)  # fmt: skip
DIVISION: tuple[Any, ...] = (operator.truediv, torch.div, "div")
SCALING: tuple[Any, ...] = (*DIVISION, operator.mul, torch.mul, "mul")
_FUSED = (nn.Conv2d, nn.Conv1d, nn.Linear, nn.ConvTranspose2d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, F.batch_norm, torch.batch_norm)


@dataclass
class _Step:
    """One operation: its node, the leaves that it read (with gradients), and its output on the local graph."""

    leaves: dict[fx.Node, Tensor]
    out: Tensor


class Sweep:
    """One forward pass of a traced network, ready to carry relevance back from any node.

    Parameters
    ----------
    module : fx.GraphModule
        The traced model in eval mode, without in-place activations.
    x : Tensor [N, 3, H, W]
        A batch of network inputs.
    keep : iterable of str
        Names of the nodes whose relevance will be asked for.
    last : str or None
        Run only up to this node.

    Raises
    ------
    UserError
        If an operation is neither linear given the activation pattern nor an activation that keeps signs in place.
    """

    def __init__(self, module: fx.GraphModule, x: Tensor, keep: Iterable[str] = (), last: str | None = None):
        self.module = module
        self.keep = frozenset(keep)
        self.steps: dict[fx.Node, _Step] = {}
        self.values: dict[fx.Node, Any] = {}
        self.order: list[fx.Node] = []
        self._run(x, last)

    def _run(self, x: Tensor, last: str | None) -> None:
        reached = {node for node in self.module.graph.nodes if node.op == "placeholder"}
        for node in self.module.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = x
                self.order.append(node)
                continue
            if node.op == "output":
                break
            read = [source for source in node.all_input_nodes if source in reached]
            if not read:
                self.values[node] = self._call(node, self.values)
                continue
            reached.add(node)
            self._step(node, read)
            self.order.append(node)
            if node.name == last:
                break

    def _step(self, node: fx.Node, read: list[fx.Node]) -> None:
        previous = read[0]
        seen = {source: self.values[source] for source in node.all_input_nodes}
        # The convolution before a batch norm left its graph attached: both are one operation.
        attached = previous in self.steps and self._fuses(previous)
        if attached:
            leaves = self.steps[previous].leaves
            seen[previous] = self.steps[previous].out
        else:
            leaves = {n: seen[n].detach().requires_grad_() for n in read if isinstance(seen[n], Tensor)}
            seen |= leaves
        with torch.enable_grad():
            out = self._call(node, seen)
        if not isinstance(out, Tensor) or not leaves:  # arithmetic on shapes carries no relevance
            self.values[node] = out
            return
        self._check(node, [source for source in read if isinstance(seen[source], Tensor)])
        self.values[node] = out.detach()
        self.steps[node] = _Step(leaves, out)

    def _fuses(self, node: fx.Node) -> bool:
        """Whether a node is the linear half of a batch-normalised operation."""
        users = list(node.users)
        return (
            node.name not in self.keep
            and len(users) == 1
            and isinstance(self._target(node), _FUSED)
            and self._normalises(users[0])
        )

    def _normalises(self, node: fx.Node) -> bool:
        """Whether a node is a batch norm with the statistics of the training, which is affine."""
        if not self._is(node, _NORMS) or node.op == "call_module":
            return self._is(node, _NORMS)
        return not node.kwargs.get("training", node.args[5] if len(node.args) > 5 else False)

    def _target(self, node: fx.Node) -> Any:
        return self.module.get_submodule(str(node.target)) if node.op == "call_module" else node.target

    def _is(self, node: fx.Node, kinds: tuple[Any, ...]) -> bool:
        target = self._target(node)
        classes = tuple(kind for kind in kinds if isinstance(kind, type))
        return (
            isinstance(target, classes) if node.op == "call_module" else any(target is k or target == k for k in kinds)
        )

    def _check(self, node: fx.Node, reached: list[fx.Node]) -> None:
        if self._is(node, ACTIVATIONS) or self._is(node, LINEAR) or self._normalises(node):
            return
        if self._is(node, SCALING):
            factors = [argument in reached for argument in node.args]
            # A product of two things that depend on the image is not linear, nor is what divides by one.
            if sum(factors) == 1 and (factors[0] or not self._is(node, DIVISION)):
                return
        what = type(self._target(node)).__name__ if node.op == "call_module" else str(node.target)
        raise UserError(
            f"contribution.method srd cannot pass {what} (node {node.name}): it is not linear given the activation "
            "pattern; set contribution.method: grad_x_input"
        )

    def _call(self, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
        if node.op == "get_attr":
            return operator.attrgetter(str(node.target))(self.module)
        args = fx.node.map_arg(node.args, values.__getitem__)
        kwargs = fx.node.map_arg(node.kwargs, values.__getitem__)
        target = self._target(node)
        if node.op == "call_method":
            return getattr(args[0], target)(*args[1:], **kwargs)
        return target(*args, **kwargs)

    # ---- backwards ------------------------------------------------------------------------------------------

    def node(self, name: str) -> fx.Node:
        """Return the node of this name among those run."""
        return next(node for node in self.order if node.name == name)

    def last_map(self) -> fx.Node:
        """Return the last node that every path passes and whose output is a map of more than one position."""
        maps = [n for n in self.order if isinstance(self.values[n], Tensor) and self.values[n].ndim == 4]
        place = {node: index for index, node in enumerate(self.order)}
        furthest, cuts = -1, []
        for index, node in enumerate(self.order):
            if furthest <= index:
                cuts.append(node)
            furthest = max([furthest, *(place[user] for user in node.users if user in place)])
        wide = [n for n in maps if n in cuts and self.values[n].shape[2:].numel() > 1]
        return (wide or [n for n in maps if n in cuts])[-1]

    def from_logits(self, targets: Tensor) -> dict[str, Tensor]:
        """Carry the target logits back to every kept node.

        Parameters
        ----------
        targets : Tensor of int64 [N]
            The class of each image whose logit is decomposed.

        Returns
        -------
        dict of str to Tensor [N, H, W]
            Contributions of each kept node's positions ([N, 1, 1] for vectors).
        """
        start = self.last_map()
        inner = self.order[self.order.index(start) + 1 :]
        values = dict(self.values)
        values[start] = self.values[start].detach().requires_grad_()
        with torch.enable_grad():
            for node in inner:
                values[node] = self._call(node, values)
            logits = values[inner[-1]] if inner else values[start]
            score = logits.flatten(1).gather(1, targets[:, None]).sum()
        asked = [start, *(n for n in inner if n.name in self.keep)]
        gradients = torch.autograd.grad(score, [values[n] for n in asked])
        relevance = {
            n: (g * values[n].detach()).reshape(len(g), g.shape[1], -1).sum(1)
            for n, g in zip(asked, gradients, strict=True)
        }
        maps = {n.name: r.sum(1)[:, None, None] for n, r in relevance.items() if n is not start}
        shape = self.values[start].shape
        return maps | self._back(start, relevance[start].reshape(shape[0], *shape[2:]))

    def from_positions(self, name: str, positions: Tensor, width: int) -> Tensor:
        """Return the instance-specific effective receptive field (iERF) of one PFV per image; may be asked again.

        Parameters
        ----------
        name : str
            Node of the layer.
        positions : Tensor of int64 [N]
            Index of the PFV in each image's map, row by row; it starts with R = 1. Negative: none, and a field of 0.
        width : int
            Of the map.

        Returns
        -------
        Tensor [N, H, W]
            Signed relevance of each pixel of the network's input.
        """
        start = self.node(name)
        value = self.values[start]
        relevance = value.new_zeros(len(value), *value.shape[2:])
        there = torch.nonzero(positions >= 0)[:, 0]
        relevance[there, positions[there] // width, positions[there] % width] = 1
        source = self.order[0]
        return self._back(start, relevance, {source.name})[source.name]

    def _back(
        self, start: fx.Node, relevance: Tensor, keep: frozenset[str] | set[str] | None = None
    ) -> dict[str, Tensor]:
        keep = self.keep if keep is None else keep
        pending: dict[fx.Node, Tensor] = {start: relevance}
        found: dict[str, Tensor] = {}
        for node in reversed(self.order[: self.order.index(start) + 1]):
            r = pending.pop(node, None)
            if r is None:
                continue
            if node.name in keep:
                found[node.name] = r
            if node not in self.steps:
                continue
            step = self.steps[node]
            if self._is(node, ACTIVATIONS):
                (source,) = step.leaves
                pending[source] = pending[source] + r if source in pending else r
                continue
            for source, r_in in zip(step.leaves, share(step.out, list(step.leaves.values()), r), strict=True):
                pending[source] = pending[source] + r_in if source in pending else r_in
        return found


def share(v: Tensor, inputs: list[Tensor], relevance: Tensor) -> list[Tensor]:
    """Pass relevance through one operation, by one vector-Jacobian product [Eq. 10].

    Parameters
    ----------
    v : Tensor [N, C_k, H_k, W_k]
        The operation's output, on the graph of its inputs, in which it is affine.
    inputs : list of Tensor [N, C_l, H_l, W_l]
        Its inputs.
    relevance : Tensor [N, H_k, W_k]
        R_j of the output's positions; a zero PFV passes nothing on.

    Returns
    -------
    list of Tensor [N, H_l, W_l]
        R_i of each input's positions.
    """
    values = v.detach()
    norms = values.square().sum(1)  # [N, H_k, W_k]
    ratio = torch.where(norms > 0, relevance / norms.clamp_min(torch.finfo(norms.dtype).tiny), 0)
    with torch.enable_grad():
        paired = _Paired.apply(v, values * ratio[:, None])
    gradients = torch.autograd.grad(paired, inputs, allow_unused=True, retain_graph=True)
    return [
        x.new_zeros(len(x), *x.shape[2:]) if g is None else (g * x.detach()).sum(1)
        for g, x in zip(gradients, inputs, strict=True)
    ]


class _Paired(torch.autograd.Function):
    """A number whose gradient in v is the given cotangent.

    `torch.autograd.grad` takes cotangents too, but loads torch's symbolic shapes to compare two sizes: half a second
    of every job.
    """

    @staticmethod
    def forward(ctx: Any, v: Tensor, cotangent: Tensor) -> Tensor:
        ctx.cotangent = cotangent
        return v.new_zeros(())

    @staticmethod
    def backward(ctx: Any, one: Tensor) -> tuple[Tensor, None]:
        return ctx.cotangent, None
