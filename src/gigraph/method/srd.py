r"""Sharing ratio decomposition: how much each position of each layer contributes to the output [Eq. 10].

Notation
--------
``v_j``   [C_k]     pre-activation PFV at position j of an operation's output
``v_ij``  [C_k]     part of v_j that came, through the operation, from position i of its input
``R``     relevance: one number per position

A position j passes its relevance on in proportion to how much of it came from where::

    mu_ij = <v_ij, v_j> / |v_j|^2         R_i = sum_j mu_ij R_j                                       [Eq. 10]

The sweep, for a network of operations that are linear given their pattern (`gigraph.method.pattern`):

1. Run forward, keeping for each operation the graph from its (detached) input to its output, and which number
   belongs to which position (`gigraph.method.positions`).
2. Start at the last map: from there to the logit everything is linear given the pattern, so that
   R_p = <d logit / d x_p, x_p>, exactly and signed.
3. Go back operation by operation. Since v_ij is linear in x_i, Eq. 10 is one vector-Jacobian product with
   cotangent ``g_j = v_j R_j / |v_j|^2``, times the input, summed over channels. A convolution and the batch norm
   behind it are one operation. An activation takes no step: R is the same on both sides.

The bias keeps its share, sum_j R_j <b, v_j> / |v_j|^2; nothing is renormalised.

Reference: Han, Kim & Kwak, "Respect the model: fine-grained and robust explanation with sharing ratio
decomposition", ICLR 2024; here App. C. What is no rectifier is beyond the paper.
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
from gigraph.method.pattern import ACTIVATIONS, Pattern, gate_of, name_of, placed, positions_of
from gigraph.method.positions import Positions

_FUSED = (nn.Conv2d, nn.Conv1d, nn.Linear, nn.ConvTranspose2d, F.conv2d, torch.conv2d, F.linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, F.batch_norm, torch.batch_norm)


@dataclass
class _Step:
    """One operation: the leaves that it read (with gradients), its output on the local graph, and what it did."""

    leaves: dict[fx.Node, Tensor]
    out: Any
    done: set[str]
    norms: Tensor | None = None
    """|v_j|^2 of its output's positions, once relevance has passed."""


class Sweep:
    """One forward pass of a traced network, ready to carry relevance back from any node.

    Parameters
    ----------
    module : fx.GraphModule
        The traced model in eval mode, without in-place activations.
    x : Tensor [N, C, H, W]
        A batch of network inputs.
    keep : iterable of str
        Names of the nodes whose relevance will be asked for.
    last : str or None
        Run only up to this node.

    Attributes
    ----------
    order : list of fx.Node
        The nodes that relevance may pass, in order.
    values : dict of fx.Node to Tensor
        What each node gave.
    positions : dict of fx.Node to Positions
        Of the nodes that depend on the image.

    Raises
    ------
    UserError
        If an operation is not known to be linear given the pattern, or relevance cannot pass from the output to the
        image because the pattern alone depends on it.
    """

    def __init__(self, module: fx.GraphModule, x: Tensor, keep: Iterable[str] = (), last: str | None = None):
        self.module = module
        self.keep = frozenset(keep)
        self.steps: dict[fx.Node, _Step] = {}
        self.values: dict[fx.Node, Any] = {}
        self.positions: dict[fx.Node, Positions] = {}
        self.gates: dict[fx.Node, int] = {}
        self.order: list[fx.Node] = []
        self._run(x, last)

    def _run(self, x: Tensor, last: str | None) -> None:
        for node in self.module.graph.nodes:
            if node.op == "output":
                break
            if node.op == "placeholder":
                self._keep(node, placed(x.detach(), Positions.fresh(x.shape, [0, *range(2, x.ndim)], x.device)))
                self.order.append(node)
                continue
            self._step(node)
            if node.name == last:
                break
        end = next(reversed(self.values))
        if end is not self.order[-1]:
            raise UserError(
                f"no relevance comes back from node {end.name}: all that depends on the image there is held fixed as "
                "activation pattern; set contribution.method: grad_x_input, or auto"
            )

    def _step(self, node: fx.Node) -> None:
        read = [source for source in node.all_input_nodes if source in self.steps or source in self.order[:1]]
        # The convolution before a batch norm left its graph attached: both are one operation. So did what gives several
        # tensors, before one of them is taken.
        attached = [source for source in read if isinstance(self.values[source], (tuple, list)) or self._fuses(source)]
        leaves = {node: leaf for source in attached for node, leaf in self.steps[source].leaves.items()}
        leaves |= {source: self._leaf(source) for source in read if source not in attached and source not in leaves}
        seen = self.values | leaves | {source: self.steps[source].out for source in attached}
        with torch.set_grad_enabled(bool(leaves)), Pattern(f"node {node.name}") as pattern:
            out = self._carefully(node, seen)
        self._keep(node, out)
        if leaves and _passes(out):
            self.order.append(node)
            self.steps[node] = _Step(leaves, out, pattern.done.union(*(self.steps[source].done for source in attached)))

    def _leaf(self, node: fx.Node) -> Tensor:
        return placed(self.values[node].detach().requires_grad_(), self.positions[node], self.gates[node])

    def _keep(self, node: fx.Node, out: Any) -> None:
        if isinstance(out, Tensor):
            positions = positions_of(out)
            self.values[node] = out.detach()
            if positions is not None:
                self.positions[node] = positions
                self.gates[node] = gate_of(out)
                placed(self.values[node], positions, gate_of(out))
        else:
            self.values[node] = out

    def _fuses(self, node: fx.Node) -> bool:
        """Whether a node is the linear half of a batch-normalised operation."""
        users = list(node.users)
        return node.name not in self.keep and len(users) == 1 and self._is(node, _FUSED) and self._normalises(users[0])

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

    def _carefully(self, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
        """Call a node; what fails for the positions or the pattern only is refused by name."""
        try:
            return self._call(node, values)
        except (TypeError, ValueError, IndexError, KeyError, AttributeError, RuntimeError) as error:
            if isinstance(error, torch.OutOfMemoryError) or "allocate" in str(error):
                raise
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            what = type(self._target(node)).__name__ if node.op == "call_module" else name_of(self._target(node))
            raise UserError(
                f"relevance cannot pass node {node.name} ({what}; {reason}); set contribution.method: "
                "grad_x_input, or auto"
            ) from error

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
        """Return the last node that every path passes and whose output has more than one position an image."""
        place = {node: index for index, node in enumerate(self.order)}
        furthest, cuts = -1, []
        for index, node in enumerate(self.order):
            if furthest <= index and node in self.positions:
                cuts.append(node)
            furthest = max([furthest, *(place[user] for user in node.users if user in place)])
        maps = [n for n in cuts if self.positions[n].channels and self.values[n].ndim > 2]
        images = len(self.values[self.order[0]])
        wide = [n for n in maps if self.positions[n].own.numel() > images]
        return (wide or maps or cuts)[-1]

    def from_logits(self, targets: Tensor) -> dict[str, Tensor]:
        """Carry the target logits back to every kept node.

        Parameters
        ----------
        targets : Tensor of int64 [N]
            The class of each image whose logit is decomposed.

        Returns
        -------
        dict of str to Tensor
            Of each kept node, shaped as its value: the contribution of the position that each number belongs to.
        """
        start = self.last_map()
        inner = self.order[self.order.index(start) + 1 :]
        values = {**self.values, start: self._leaf(start)}
        with torch.enable_grad(), Pattern() as pattern:
            for node in inner:
                pattern.where = f"node {node.name}"
                values[node] = self._carefully(node, values)
            logits = values[inner[-1]] if inner else values[start]
            score = logits.flatten(1).gather(1, targets[:, None]).sum()
        asked = [start, *(n for n in inner if n.name in self.keep)]
        gradients = torch.autograd.grad(score, [values[n] for n in asked])
        relevance = {n: self.positions[n].sum(g * values[n].detach()) for n, g in zip(asked, gradients, strict=True)}
        maps = {n.name: self._spread(n, r) for n, r in relevance.items() if n is not start}
        return maps | self._back(start, relevance[start])

    def from_positions(self, name: str, positions: Tensor) -> Tensor:
        """Return the instance-specific effective receptive field (iERF) of one PFV per image; may be asked again.

        Parameters
        ----------
        name : str
            Node of the layer.
        positions : Tensor of int64 [N]
            The id of each image's PFV among the node's positions, which starts with R = 1. Negative: none, and a
            field of 0.

        Returns
        -------
        Tensor [N, H, W]
            Signed relevance of each pixel of the network's input.
        """
        start = self.node(name)
        relevance = self.values[start].new_zeros(self.positions[start].count)
        relevance[positions[positions >= 0]] = 1
        source = self.order[0]
        return self._back(start, relevance, {source.name})[source.name][:, 0]

    def _spread(self, node: fx.Node, relevance: Tensor) -> Tensor:
        return self.positions[node].spread(relevance).expand(self.values[node].shape)

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
                found[node.name] = self._spread(node, r)
            if node not in self.steps:
                continue
            step = self.steps[node]
            if step.done <= ACTIVATIONS and len(step.leaves) == 1:
                (source,) = step.leaves
                pending[source] = pending[source] + r if source in pending else r
                continue
            places = [self.positions[source] for source in step.leaves]
            if step.norms is None:
                step.norms = norms_of(step.out, self.positions[node])
            passed = share(step.out, self.positions[node], step.norms, list(step.leaves.values()), places, r)
            for source, r_in in zip(step.leaves, passed, strict=True):
                pending[source] = pending[source] + r_in if source in pending else r_in
        return found


def _passes(out: Any) -> bool:
    """Whether relevance can go back through what an operation gave."""
    if isinstance(out, (tuple, list)):
        return any(map(_passes, out))
    return isinstance(out, Tensor) and out.requires_grad and positions_of(out) is not None


def norms_of(v: Tensor, at: Positions) -> Tensor:
    """Return |v_j|^2 of each position [J]."""
    return at.sum(v.detach().square())


def share(
    v: Tensor, at: Positions, norms: Tensor, inputs: list[Tensor], places: list[Positions], relevance: Tensor
) -> list[Tensor]:
    """Pass relevance through one operation, by one vector-Jacobian product [Eq. 10].

    Parameters
    ----------
    v : Tensor
        The operation's output, on the graph of its inputs, in which it is affine.
    at : Positions
        Of the output.
    norms : Tensor [J]
        `norms_of` the output, which serve every relevance.
    inputs : list of Tensor
        Its inputs.
    places : list of Positions
        Of each input.
    relevance : Tensor [J]
        R_j of the output's positions; a zero PFV passes nothing on.

    Returns
    -------
    list of Tensor [I]
        R_i of each input's positions.
    """
    values = v.detach()
    ratio = torch.where(norms > 0, relevance / norms.clamp_min(torch.finfo(norms.dtype).tiny), 0)
    with torch.enable_grad():
        paired = _Paired.apply(v, values * at.spread(ratio))
    gradients = torch.autograd.grad(paired, inputs, allow_unused=True, retain_graph=True)
    return [
        x.new_zeros(place.count) if g is None else place.sum(g * x.detach())
        for g, x, place in zip(gradients, inputs, places, strict=True)
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
