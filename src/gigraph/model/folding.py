"""An edit folded into the weights that make the layer, exactly: the user's own architecture, no hook.

Where a layer is the output of a convolution or linear map, with or without a batch norm behind it, an ungated edit
x -> A x + c (`gigraph.method.projection.affine`) is one with it:

    W' = A diag(s) W,    b' = A (s b + t) + c        with s, t the batch norm's scale and shift

Where it is a sum, A folds if it folds into every addend; an identity shortcut has no weights to take it. In training
mode a batch norm looks at its batch, and what is folded there is another network.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from gigraph.method.projection import Change, affine
from gigraph.model.batchnorm import batchnorm_at
from gigraph.model.network import Layer
from gigraph.model.placing import Watcher, shared_copy
from gigraph.model.tracing import is_a, target_of

_LINEAR = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_SUMS: tuple[Any, ...] = (operator.add, operator.iadd, torch.add, "add", "add_")
_PASSED: tuple[Any, ...] = (nn.Identity, nn.modules.dropout._DropoutNd)
"""What does nothing in evaluation."""


class _Unfoldable(Exception):  # noqa: N818 - it is an answer about a layer rather than a failure
    """Why an edit does not fold."""


@dataclass(frozen=True)
class _Term:
    """An addend of a layer: paths of the linear map and of the batch norm behind it (empty without one)."""

    linear: str
    norm: str


def fold(
    model: nn.Module, edits: Mapping[Layer, tuple[Tensor, Sequence[Change]]]
) -> tuple[dict[str, Tensor] | None, dict[str, str]]:
    """Fold edits into a copy of a model's state dict.

    Parameters
    ----------
    model : nn.Module
        As its author wrote it; it is not changed.
    edits : mapping
        Of each layer its centre [C] and its changes, in their order.

    Returns
    -------
    state : dict of str to Tensor, or None
        For the same architecture in evaluation mode; None where an edit does not fold, since one that is folded must
        not be hooked as well.
    reasons : dict of str to str
        Of each layer why its edit does not fold; empty where it does.
    """
    own = shared_copy(model).eval()
    watcher = Watcher()
    graph = watcher.trace(own)
    state = {key: value.detach().clone() for key, value in model.state_dict().items()}
    reasons = {}
    for layer, (beta, changes) in edits.items():
        try:
            value = next(node for node in graph.nodes if node.name == layer.node)
            if any(change.threshold is not None for change in changes):
                raise _Unfoldable("it is gated (--only-where), which no linear map is")
            terms = _terms(own, value, watcher, value)
            _fold_into(own, state, terms, *affine(beta.cpu().numpy(), changes))
            reasons[layer.name] = ""
        except _Unfoldable as reason:
            reasons[layer.name] = str(reason)
    return (None if any(reasons.values()) else state), reasons


def _terms(model: nn.Module, node: fx.Node, watcher: Watcher, whole: fx.Node) -> list[_Term]:
    """Return the linear maps whose sum a node is."""
    path = [node]
    while is_a(model, node, _PASSED):
        path.append(node := node.all_input_nodes[0])
    if is_a(model, node, _SUMS):
        added = [arg for arg in node.args if isinstance(arg, fx.Node)]
        if len(added) != 2 or node.kwargs:
            raise _Unfoldable(f"{node.name} adds something else than two maps")
        if node is not whole and len(node.users) > 1:
            raise _Unfoldable(f"{node.name} is read by {len(node.users)} others, which need it unedited")
        return [term for one in added for term in _terms(model, one, watcher, whole)]
    norm = ""
    if node.op == "call_module" and isinstance(target_of(model, node), nn.modules.batchnorm._BatchNorm):
        own = target_of(model, node)
        if batchnorm_at(model, node) is None or own.weight is None:
            raise _Unfoldable(f"the batch norm {node.target} has no running statistics or no weights of its own")
        norm = _once(model, node, watcher)
        path.append(node := node.all_input_nodes[0])
    linear: Any = target_of(model, node) if node.op == "call_module" else None
    if type(linear) not in _LINEAR or "weight" not in linear._parameters:
        what = f"its addend {node.name}" if node is not whole else node.name
        raise _Unfoldable(f"{what} is made by no convolution or linear map, so that there are no weights to take it")
    if getattr(linear, "groups", 1) > 1:
        raise _Unfoldable(f"{node.target} is a convolution in groups, which cannot mix all channels")
    for one in path:
        if one is not whole and len(one.users) > 1:
            raise _Unfoldable(f"{one.name} is read by {len(one.users)} others, which need it unedited")
    return [_Term(_once(model, node, watcher), norm)]


def _once(model: nn.Module, node: fx.Node, watcher: Watcher) -> str:
    """Return the path of a module that is called once and shares no parameters."""
    path = str(node.target)
    others = [id(p) for name, p in model.named_parameters(remove_duplicate=False) if not name.startswith(f"{path}.")]
    if len(watcher.calls[path]) > 1 or any(id(p) in others for p in model.get_submodule(path).parameters()):
        raise _Unfoldable(f"{path} is used more than once")
    return path


def _fold_into(
    model: nn.Module, state: dict[str, Tensor], terms: Sequence[_Term], whole: np.ndarray, more: np.ndarray
) -> None:
    """Write A and c into the weights of all terms; the first that has a bias takes c."""
    a, c = torch.from_numpy(whole), torch.from_numpy(more)
    holds = [bool(term.norm) or f"{term.linear}.bias" in state for term in terms]
    if not any(holds) and float(c.abs().max()) > 0:
        raise _Unfoldable(f"{terms[0].linear} has no bias to hold the constant")
    holder = holds.index(True) if any(holds) else 0
    new: dict[str, Tensor] = {}
    for i, term in enumerate(terms):
        weight = state[f"{term.linear}.weight"].cpu().double()
        bias = state.get(f"{term.linear}.bias")
        b = torch.zeros(len(a)).double() if bias is None else bias.cpu().double()
        constant = c if i == holder else torch.zeros_like(c)
        scale = torch.ones_like(b)
        if term.norm:
            norm = model.get_submodule(term.norm)
            mean, var, gain, shift = (
                state[f"{term.norm}.{key}"].cpu().double() for key in ("running_mean", "running_var", "weight", "bias")
            )
            root = torch.sqrt(var + norm.eps)  # type: ignore[operator]
            scale = gain / root
            # The norm's scale becomes 1, so that dead channels (gamma = 0) can take part.
            new[f"{term.norm}.weight"] = root
            new[f"{term.norm}.bias"] = a @ (scale * (b - mean) + shift) + constant - b + mean
        elif bias is not None:
            new[f"{term.linear}.bias"] = a @ b + constant
        rows = scale.reshape(-1, *[1] * (weight.ndim - 1))
        new[f"{term.linear}.weight"] = torch.tensordot(a, rows * weight, dims=1)
    state.update({key: value.to(state[key]) for key, value in new.items()})
