"""A layer's place in the user's own module, and an edit put there.

A layer is a node of the traced graph. In the module as its author wrote it that value is, in this order of preference,

* the *output* of a module that is called once, read nowhere inside it;
* the *input* of a module that is called once and alone reads it, such as the activation behind the layer;
* a *node* of one module's own forward: of a residual block whose one rectifier is called three times, or which calls
  functions. That module alone is traced by plain ``torch.fx``, and the edit inserted behind the node.

The first two are forward hooks; nothing of them depends on gigraph. Every place is tried before it is returned: the
model edited there must say what the whole traced graph says with the value replaced at the node.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from gigraph.errors import UserError
from gigraph.method.projection import Change, changed
from gigraph.model.network import Layer
from gigraph.model.outputs import leaves
from gigraph.model.tracing import Tracer

CHANNELS = {"map": 1, "map_last": -1, "tokens": -1, "vector": 1}
"""Which axis of a layer's activation holds its channels."""


class Edit(nn.Module):
    """An edit of a layer's activation; its tensors are no part of a state dict, so that keys stay the user's.

    Parameters
    ----------
    beta : Tensor [C]
        The layer's centre.
    changes : sequence of Change
        In their order.
    axis : int
        The activation's channel axis.
    """

    def __init__(self, beta: Tensor, changes: Sequence[Change], axis: int):
        super().__init__()
        self.beta, self.changes, self.axis = beta, tuple(changes), axis

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation, edited; tensors follow it to its device and precision."""
        return changed(x.movedim(self.axis, -1), self.beta, self.changes).movedim(-1, self.axis)


@dataclass(frozen=True)
class Place:
    """Where an edit goes.

    Attributes
    ----------
    module : str
        Path of the user's module; empty for the whole model.
    at : str
        ``output``, ``input`` or ``node``.
    node : str
        Of ``torch.fx.symbolic_trace(module)``; empty for hooks.
    """

    module: str
    at: str
    node: str = ""

    def __str__(self) -> str:
        if self.at == "node":
            return f"node {self.node} of {self.module or 'the model'}'s forward"
        return f"{self.at} of {self.module}"


@dataclass
class _Call:
    """A call of a module while tracing: which nodes it made, [first, end); what it read and returned."""

    first: int
    end: int
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any
    leaf: bool


class Watcher(Tracer):
    """A tracer that remembers every call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, list[_Call]] = {}

    def call_module(self, m: Any, forward: Any, args: Any, kwargs: Any) -> Any:
        """Remember the call."""
        path, first = self.path_of_module(m), len(self.graph.nodes)
        out = super().call_module(m, forward, args, kwargs)
        leaf = self.is_leaf_module(m, path)
        self.calls.setdefault(path, []).append(_Call(first, len(self.graph.nodes), args, kwargs, out, leaf))
        return out


_OUTLINES = frozenset({"size", "dim", "numel", "ndimension", "shape", "ndim", "dtype", "device"})
"""Methods and attributes that read of a tensor only what an edit leaves as it is."""


def readers(value: fx.Node) -> list[fx.Node]:
    """Return the nodes that read a value's numbers for the output's sake; not its shape, nor for an assertion."""
    found = []
    for user in value.users:
        named = user.args[1] if user.target is getattr else user.target if user.op == "call_method" else None
        outline = isinstance(named, str) and named in _OUTLINES
        if not outline and (user.op == "output" or _needed(user)):
            found.append(user)
    return found


def _needed(node: fx.Node) -> bool:
    """Return whether the output depends on a node."""
    seen, pending = set(), [node]
    while pending:
        one = pending.pop()
        if one.op == "output":
            return True
        if one not in seen:
            seen.add(one)
            pending += one.users
    return False


def shared_copy(model: nn.Module) -> nn.Module:
    """Return a copy of a model's modules that shares its parameters and buffers."""
    tensors: list[Tensor] = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def places_of(
    model: nn.Module, layers: Sequence[Layer], image_shape: Sequence[int], name: str = "the model"
) -> dict[str, Place]:
    """Find layers in the user's own module, so that they can be edited together.

    Parameters
    ----------
    model : nn.Module
        As its author wrote it; it is not changed.
    layers : sequence of Layer
        Of a `gigraph.model.network.Network` of the same model.
    image_shape : sequence of int
        (channels, height, width) of its input.
    name : str
        What to call the model in messages.

    Returns
    -------
    dict of str to Place
        By the layers' names.

    Raises
    ------
    UserError
        If a value cannot be reached in it: it is made inside a module that is called several times, or that plain
        ``torch.fx`` does not trace as it runs.
    """
    found = {layer.name: place_of(model, layer, image_shape, name) for layer in layers}
    traced = sorted({place.module for place in found.values() if place.at == "node"}, key=len)
    for layer in layers:
        # A module that is traced takes in those within it: what is edited in them is one of its own nodes.
        module = found[layer.name].module
        around = next(
            (path for path in traced if path != module and f"{module}.".startswith(path and f"{path}.")), None
        )
        if around is not None and not Tracer().is_leaf_module(model.get_submodule(module), module):
            found[layer.name] = place_of(model, layer, image_shape, name, around)
    return found


def place_of(
    model: nn.Module, layer: Layer, image_shape: Sequence[int], name: str = "the model", within: str | None = None
) -> Place:
    """Find one layer in the user's own module: `places_of`; with `within`, as a node of that module's forward."""
    own = shared_copy(model).eval()
    watcher = Watcher()
    graph = watcher.trace(own)
    nodes = list(graph.nodes)
    order = {node: i for i, node in enumerate(nodes)}
    value = next(node for node in nodes if node.name == layer.node)
    found = _hooked(watcher.calls, value, order) if within is None else None
    found = found or _inside(own, watcher.calls, value, nodes, layer, name, within)
    _try(own, found, graph, value, layer, image_shape, name)
    return found


def _hooked(calls: Mapping[str, list[_Call]], value: fx.Node, order: Mapping[fx.Node, int]) -> Place | None:
    """Return the module that returns a value, or that alone reads it."""
    reading = [order[user] for user in readers(value)]
    found: list[tuple[int, str, Place]] = []
    for path, many in calls.items():
        if len(many) > 1:
            continue
        (call,) = many
        if getattr(call.out, "node", None) is value and all(call.end <= reader for reader in reading):
            found.append((call.end - call.first, path, Place(path, "output")))
    if found:
        return min(found, key=lambda one: one[:2])[2]
    for path, many in calls.items():
        call = many[0]
        given = [getattr(arg, "node", None) for arg in (*call.args, *call.kwargs.values())]
        alone = len(many) == 1 and all(call.first <= reader < call.end for reader in reading)
        if alone and call.args and given.count(value) == 1 and given[0] is value:
            found.append((call.end - call.first, path, Place(path, "input")))
    return min(found, key=lambda one: one[:2])[2] if found else None


def _inside(
    model: nn.Module, calls: Mapping[str, list[_Call]], value: fx.Node, nodes: list[fx.Node], layer: Layer, name: str,
    within: str | None = None,
) -> Place:  # fmt: skip
    """Return the node of the innermost module whose own forward makes a value, or of a module around it."""
    at = nodes.index(value)
    whole = _Call(0, len(nodes) - 1, (), {}, None, False)
    around = [("", [whole])] + [
        (path, many)
        for path, many in calls.items()
        if any(call.first <= at < call.end and not call.leaf for call in many)
    ]
    around = [one for one in around if within is None or one[0] == within]
    path, many = min(around, key=lambda one: min(c.end - c.first for c in one[1] if c.first <= at < c.end))
    what = f"layer {layer.name} is made inside {path or name}"
    if len(many) > 1:
        raise UserError(
            f"{what}, which is called {len(many)} times, so that it cannot be edited there alone; edit another layer"
        )
    module = model.get_submodule(path)
    remedy = "edit a layer that a module returns"
    try:
        local = fx.symbolic_trace(module)
        trained = fx.symbolic_trace(copy.deepcopy(module).train())
    except Exception as error:  # the model's own code runs here
        raise UserError(f"{what}, which plain torch.fx cannot trace by itself ({_line(error)}); {remedy}") from error
    if local.code != trained.code:
        raise UserError(f"{what}, which does something else in training than in evaluation; {remedy}")
    (call,) = many
    here = [node for node in nodes[call.first : call.end] if node.op != "placeholder"]
    there = [node for node in local.graph.nodes if node.op not in ("placeholder", "output")]
    if [node.op for node in here] != [node.op for node in there]:
        raise UserError(f"{what}, which plain torch.fx traces otherwise than gigraph does; {remedy}")
    return Place(path, "node", there[here.index(value)].name)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@torch.no_grad()
def _try(
    model: nn.Module, place: Place, graph: fx.Graph, value: fx.Node, layer: Layer, shape: Sequence[int], name: str
) -> None:
    """Check that a model edited at a place says what its whole graph says edited at the node."""
    generator, probe, size = torch.Generator().manual_seed(0), probe_of(model, shape), layer.channels
    basis = torch.linalg.qr(torch.randn(size, max(1, size // 2), generator=generator))[0].T
    # Half of all directions twice as strong, around no particular centre: no reader of the old value goes unnoticed.
    edit = Edit(torch.randn(size, generator=generator), [Change(basis, 1.0)], CHANNELS[layer.layout])
    before = leaves(model(probe.clone()))
    after = leaves(inserted(model, {place: edit}).eval()(probe.clone()))
    whole = fx.GraphModule(model, graph)
    _insert(whole, value.name, edit)
    expected = leaves(whole(probe.clone()))
    if not alike(after, expected, before):
        raise UserError(
            f"layer {layer.name}: {place} of {name} was taken for it, and the model edited there does not say what its "
            "graph says (in-place work on views?); edit another layer"
        )


def probe_of(model: nn.Module, shape: Sequence[int]) -> Tensor:
    """Return two random inputs of a model, always the same."""
    first = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(1)).to(first)


def alike(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> bool:
    """Return whether two edited models say the same, as far as the edit's effect and float32 tell."""
    return all(_like(found[key], one, (one - before[key]).abs().max()) for key, one in expected.items())


def _like(a: Tensor, b: Tensor, effect: Tensor) -> bool:
    """Return whether two values are equal, as far as an effect and float32 tell."""
    return a.shape == b.shape and bool((a - b).abs().max() <= 1e-2 * effect + 1e-5 * b.abs().max())


def inserted(model: nn.Module, edits: Mapping[Place, Edit]) -> nn.Module:
    """Return a copy of a model, sharing its parameters and buffers, with edits in it.

    Its state dict has the model's keys. It is in the mode that the model is in, and can be copied and pickled.
    """
    own = shared_copy(model)
    within: dict[str, dict[str, Edit]] = {}
    for place, edit in edits.items():
        if place.at == "output":
            own.get_submodule(place.module).register_forward_hook(partial(_after, edit))
        elif place.at == "input":
            own.get_submodule(place.module).register_forward_pre_hook(partial(_before, edit))
        else:
            within.setdefault(place.module, {})[place.node] = edit
    for path, nodes in within.items():
        module = own.get_submodule(path)
        traced = _completed(fx.symbolic_trace(module), module)
        for node, edit in nodes.items():
            _insert(traced, node, edit)
        if path:
            own.set_submodule(path, traced)
        else:
            own = traced
    return own


def _after(edit: Edit, module: nn.Module, args: Any, out: Tensor) -> Tensor:
    return edit(out)


def _before(edit: Edit, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return (edit(args[0]), *args[1:])


def _completed(traced: fx.GraphModule, module: nn.Module) -> fx.GraphModule:
    """Give a traced module what its original has besides: unused parts, hooks, attributes, its mode."""
    for kind in ("_modules", "_parameters", "_buffers"):
        # The same objects, whole, where the traced module has only what its graph calls.
        setattr(traced, kind, dict(getattr(module, kind)))
    inherited = nn.Module().__dict__
    for key, one in module.__dict__.items():
        if key not in traced.__dict__ or (key in inherited and key.endswith("hooks")):
            traced.__dict__[key] = one
    traced.training = module.training
    return traced


def _insert(module: fx.GraphModule, name: str, edit: Edit) -> None:
    """Put an edit behind a node of a traced module."""
    graph = module.graph
    value = next(node for node in graph.nodes if node.name == name)
    path = "gigraph_edit"
    while hasattr(module, path):
        path += "_"
    module.add_module(path, edit)
    with graph.inserting_after(value):
        new = graph.call_module(path, (value,))
    value.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
    module.recompile()
