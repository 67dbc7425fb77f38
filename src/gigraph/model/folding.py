"""An edit folded into the weights that make the layer, exactly: the user's own architecture, no hook.

Where a layer is the output of a convolution or linear map, with or without a batch norm behind it, an ungated edit
x -> A x + c (`gigraph.method.projection.affine`) is one with it:

    W' = A diag(s) W,    b' = A (s b + t) + c        with s, t the batch norm's scale and shift

Where it is a sum, A folds if it folds into every addend; an identity shortcut has no weights to take it. In training
mode a batch norm looks at its batch, and what is folded there is another network.

What a forward reads of weights besides, or a hook does, no graph shows: `proven` compares both models.
"""

from __future__ import annotations

import copy
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
from gigraph.model.outputs import leaves
from gigraph.model.placing import Watcher, alike, probe_of, readers, shared_copy
from gigraph.model.tracing import is_a, target_of

_LINEAR = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_SUMS: tuple[Any, ...] = (operator.add, operator.iadd, torch.add, "add", "add_")
_PASSED: tuple[Any, ...] = (nn.Identity, nn.modules.dropout._DropoutNd)
"""What does nothing in evaluation."""


class _Unfoldable(Exception):  # noqa: N818 - it is an answer about a layer rather than a failure
    """Why an edit does not fold."""


@dataclass(frozen=True)
class _Norm:
    """A batch norm: keys of its running mean and variance, weight and bias in the state dict, and its epsilon."""

    keys: tuple[str, ...]
    eps: float


@dataclass(frozen=True)
class _Term:
    """An addend of a layer: the path of the linear map, and the batch norm behind it."""

    linear: str
    norm: _Norm | None


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
            if len({term.linear for term in terms}) < len(terms):
                raise _Unfoldable(f"{terms[0].linear} is added to itself")
            _fold_into(state, terms, *affine(beta.cpu().numpy(), changes))
            reasons[layer.name] = ""
        except _Unfoldable as reason:
            reasons[layer.name] = str(reason)
    return (None if any(reasons.values()) else state), reasons


@torch.no_grad()
def proven(model: nn.Module, state: Mapping[str, Tensor], edited: nn.Module, image_shape: Sequence[int]) -> bool:
    """Return whether a model with folded weights says of random inputs what the edited one says; all in evaluation."""
    folded, probe = copy.deepcopy(model), probe_of(model, image_shape)
    folded.load_state_dict(state)
    return alike(*(leaves(one(probe.clone())) for one in (folded, edited, model)))


def _terms(model: nn.Module, node: fx.Node, watcher: Watcher, whole: fx.Node) -> list[_Term]:
    """Return the linear maps whose sum a node is."""
    path = [node]
    while is_a(model, node, _PASSED):
        path.append(node := node.all_input_nodes[0])
    if is_a(model, node, _SUMS):
        added = [arg for arg in node.args if isinstance(arg, fx.Node)]
        if len(added) != 2 or node.kwargs:
            raise _Unfoldable(f"{node.name} adds something else than two maps")
        if node is not whole and len(readers(node)) > 1:
            raise _Unfoldable(f"{node.name} is read by {len(readers(node))} others, which need it unedited")
        return [term for one in added for term in _terms(model, one, watcher, whole)]
    norm = None
    if batchnorm_at(model, node) is not None:
        norm = _norm(model, node, watcher)
        path.append(node := node.all_input_nodes[0])
    linear: Any = target_of(model, node) if node.op == "call_module" else None
    if type(linear) not in _LINEAR or "weight" not in linear._parameters:
        what = f"its addend {node.name}" if node is not whole else node.name
        raise _Unfoldable(f"{what} is made by no convolution or linear map, so that there are no weights to take it")
    if getattr(linear, "groups", 1) > 1:
        raise _Unfoldable(f"{node.target} is a convolution in groups, which cannot mix all channels")
    for one in path:
        if one is not whole and len(readers(one)) > 1:
            raise _Unfoldable(f"{one.name} is read by {len(readers(one))} others, which need it unedited")
    return [_Term(_once(model, str(node.target), watcher), norm)]


def _norm(model: nn.Module, node: fx.Node, watcher: Watcher) -> _Norm:
    """Return the batch norm that a node applies, a module's or, within a module such as timm's, a function's."""
    names = ("running_mean", "running_var", "weight", "bias")
    if node.op == "call_module":
        own = target_of(model, node)
        keys, eps = tuple(f"{node.target}.{name}" for name in names), own.eps
        there = own.weight is not None and own.bias is not None
    else:
        given = dict(zip(names, node.args[1:5], strict=False)) | node.kwargs
        nodes = [given.get(name) for name in names]
        there = all(isinstance(one, fx.Node) and one.op == "get_attr" for one in nodes)
        keys = tuple(str(one.target) for one in nodes if isinstance(one, fx.Node))
        eps = float(node.kwargs.get("eps", node.args[7] if len(node.args) > 7 else 1e-5))  # type: ignore[arg-type]
    if not there or len({key.rpartition(".")[0] for key in keys}) > 1:
        raise _Unfoldable(f"the batch norm {node.name} has no weights of its own")
    fetched = [one for one in node.graph.nodes if one.op == "get_attr" and str(one.target) in keys]
    if sum(len(one.users) for one in fetched) > len(keys):
        raise _Unfoldable(f"the weights of {node.name} are used more than once")
    _once(model, keys[0].rpartition(".")[0], watcher)
    return _Norm(keys, eps)


def _once(model: nn.Module, path: str, watcher: Watcher) -> str:
    """Return the path of a module that is called once and shares no parameters."""
    others = [id(p) for name, p in model.named_parameters(remove_duplicate=False) if not name.startswith(f"{path}.")]
    if len(watcher.calls.get(path, [])) > 1 or any(id(p) in others for p in model.get_submodule(path).parameters()):
        raise _Unfoldable(f"{path} is used more than once")
    return path


def _fold_into(state: dict[str, Tensor], terms: Sequence[_Term], whole: np.ndarray, more: np.ndarray) -> None:
    """Write A and c into the weights of all terms; the first that has a bias takes c."""
    a, c = torch.from_numpy(whole), torch.from_numpy(more)
    holds = [term.norm is not None or f"{term.linear}.bias" in state for term in terms]
    if not any(holds) and float(c.abs().max()) > 0:
        raise _Unfoldable(f"{terms[0].linear} has no bias to hold the constant")
    holder = holds.index(True) if any(holds) else 0
    new: dict[str, Tensor] = {}
    for i, term in enumerate(terms):
        weight = state[f"{term.linear}.weight"].cpu().double()
        if len(weight) != len(a):
            raise _Unfoldable(f"{term.linear} makes {len(weight)} channels, which are added to each of {len(a)}")
        bias = state.get(f"{term.linear}.bias")
        b = torch.zeros(len(a)).double() if bias is None else bias.cpu().double()
        constant = c if i == holder else torch.zeros_like(c)
        scale = torch.ones_like(b)
        if term.norm is not None:
            mean, var, gain, shift = (state[key].cpu().double() for key in term.norm.keys)
            root = torch.sqrt(var + term.norm.eps)
            scale = gain / root
            # The norm's scale becomes 1, so that dead channels (gamma = 0) can take part.
            new[term.norm.keys[2]] = root
            new[term.norm.keys[3]] = a @ (scale * (b - mean) + shift) + constant - b + mean
        elif bias is not None:
            new[f"{term.linear}.bias"] = a @ b + constant
        rows = scale.reshape(-1, *[1] * (weight.ndim - 1))
        new[f"{term.linear}.weight"] = torch.tensordot(a, rows * weight, dims=1)
    state.update({key: value.to(state[key]) for key, value in new.items()})
