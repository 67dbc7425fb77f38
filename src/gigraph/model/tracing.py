"""From a model to a graph of tensor operations: trace, normalise, find the cut points.

1. **Trace** with torch.fx; a module of ``torch.nn`` is one node, everything else is looked into.
2. **Clean**: operations that do nothing in eval (dropout, stochastic depth, identity) go, and in-place
   operations become ordinary ones, so that no captured activation is overwritten later. Views become reshapes.
3. **Settle** what depends on the image only through its *shape*: sizes become constants, or multiples of the
   batch size. Thus a segment of the graph needs nothing but the activation it starts from.
4. **Sweep** once over the nodes: a node is a cut point if no edge jumps over it.
"""

from __future__ import annotations

import inspect
import math
import operator
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from gigraph.errors import UserError
from gigraph.model.outputs import leaves, logits_of, makes_record
from gigraph.vision import torchvision

RECTIFIERS: tuple[Any, ...] = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Hardswish, nn.Softplus, F.relu, F.relu6, F.leaky_relu, F.prelu, F.elu, F.celu, F.selu, F.gelu, F.silu,
    F.mish, F.hardswish, F.softplus, torch.relu, torch.prelu, torch.celu, torch.selu, "relu",
)  # fmt: skip
"""Activations whose *input* is the layer: PFVs are pre-activation."""

DROPOUTS: tuple[Any, ...] = (nn.modules.dropout._DropoutNd, F.dropout, F.dropout2d, F.alpha_dropout)

_RESHAPES = {"view": "reshape", "view_as": "reshape_as"}
_SQUEEZES: tuple[Any, ...] = ("squeeze", torch.squeeze)
_DETACHES: tuple[Any, ...] = ("detach", torch.detach)
"""What hands its input on and stops gradients: what is explained are the numbers, which depend on the image."""

REMEDY = "give a factory (model.source: file.py:factory) whose forward is free of it"


class Tracer(fx.Tracer):
    """A torch.fx tracer that remembers which node each call of a module returned.

    Attributes
    ----------
    outputs : dict of str to node
        Module path -> node that the module's last call returned.
    """

    def __init__(self) -> None:
        functions: list[Callable[..., Any]] = []
        self.opaque: tuple[type, ...] = ()
        if "timm" in sys.modules:
            from timm.layers import get_notrace_functions, get_notrace_modules, norm_act

            functions = list(get_notrace_functions())
            # A BatchNormAct2d hides an activation; its forward is traceable in eval.
            self.opaque = tuple(m for m in get_notrace_modules() if m is not norm_act.BatchNormAct2d)
        modules: Any = (math, torchvision.ops)
        super().__init__(autowrap_modules=modules, autowrap_functions=tuple(functions))
        self.outputs: dict[str, fx.Node] = {}

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        """Trace with the image alone; further parameters of ``forward`` keep their defaults."""
        return root_fn, [self.root, self.create_proxy("placeholder", "x", (), {})]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether a module is one node."""
        return isinstance(m, self.opaque) or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """Record the node that the module returns."""
        out = super().call_module(m, forward, args, kwargs)
        if isinstance(out, fx.Proxy):
            self.outputs[self.path_of_module(m)] = out.node
        return out


@dataclass
class Trace:
    """A normalised graph.

    Attributes
    ----------
    module : fx.GraphModule
        One placeholder, one output (what the model gives as its logits), eval mode; shares its modules and parameters
        with the model.
        ``node.meta["shape"]`` is a tensor node's shape for a batch of one.
    modules : dict of str to str
        Module path -> name of the node that computes its output.
    aliases : dict of str to str
        Name of a node that was removed because it does nothing -> name of the node that took its place.
    between : list of fx.Node
        In order, the nodes through which the image's content flows to the output.
    end : int
        Where in these the model's output begins to be only written in another way.
    """

    module: fx.GraphModule
    modules: dict[str, str]
    aliases: dict[str, str] = field(default_factory=dict)
    between: list[fx.Node] = field(default_factory=list)
    end: int = -1


def target_of(module: nn.Module, node: fx.Node) -> Any:
    """Return what a node calls: a module, a function or a method's name."""
    return module.get_submodule(str(node.target)) if node.op == "call_module" else node.target


def is_a(module: nn.Module, node: fx.Node, kinds: tuple[Any, ...]) -> bool:
    """Return whether a node calls one of `kinds`: module classes, functions, names of methods."""
    if node.op == "call_module":
        return isinstance(target_of(module, node), tuple(k for k in kinds if isinstance(k, type)))
    if node.op == "call_function":
        return any(node.target is k for k in kinds if not isinstance(k, (str, type)))
    return node.op == "call_method" and node.target in [k for k in kinds if isinstance(k, str)]


def trace(
    model: nn.Module, image_shape: tuple[int, int, int], name: str = "the model", output: str | None = None
) -> Trace:
    """Trace a model and normalise its graph.

    Parameters
    ----------
    model : nn.Module
        A classifier; it is put into eval mode, and its in-place activations are switched off.
    image_shape : tuple of int
        (channels, height, width) of the network's input, to which sizes are settled.
    name : str
        What to call the model in messages.
    output : str, optional
        Where the logits are in what the model returns (`gigraph.model.outputs`).

    Returns
    -------
    Trace

    Raises
    ------
    UserError
        If the model cannot run on such an image, does not return logits [N, K] or [N], is random in eval, mixes the
        images of a batch, gives NaN, or cannot be traced.
    """
    model.eval()
    probe = _probe(model, image_shape)
    expected, where = _run_model(model, probe, name, output)
    inplace = [m for m in model.modules() if getattr(m, "inplace", False) is True]
    tracer = Tracer()
    try:
        graph = tracer.trace(model)
    except Exception as error:  # the model's own code runs here: anything may be raised
        raise UserError(
            f"{name} cannot be traced by torch.fx: {_first_line(error)} "
            "(control flow or conversions that depend on the image's values or sizes); " + REMEDY
        ) from error
    for node in graph.nodes:
        if node.op == "output":
            found = leaves(node.args[0])
            if where not in found:
                raise UserError(
                    f"{name} cannot be traced: it returns another thing than it does when it runs; {REMEDY}"
                )
            node.args = (found[where],)
    for node in reversed(list(graph.nodes)):
        if makes_record(node) and not node.users:
            graph.erase_node(node)
    replaced = _clean(model, graph, {id(m) for m in inplace})
    for m in inplace:
        m.inplace = False  # type: ignore[assignment]
    module = fx.GraphModule(model, graph, class_name=type(model).__name__)
    _settle(module, probe, name)
    drop_unused(graph)
    module.recompile()
    _verify(module, probe, expected, name)
    nodes = {node.name for node in graph.nodes}

    def final(node: fx.Node) -> str:
        while node in replaced:
            node = replaced[node]
        return node.name

    modules = {path: final(node) for path, node in tracer.outputs.items() if final(node) in nodes}
    aliases = {node.name: final(node) for node in replaced if final(node) in nodes}
    return Trace(module, modules, aliases, between(graph))


def _first_line(error: BaseException) -> str:
    """Return an exception's message as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _probe(model: nn.Module, image_shape: tuple[int, int, int]) -> Tensor:
    """Return three random images on the model's device, always the same."""
    first = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, *image_shape, generator=generator).to(first.device, first.dtype)


def several_probes(model: nn.Module, image_shape: tuple[int, int, int]) -> Tensor:
    """Return random images and even ones, on the model's device."""
    random = _probe(model, image_shape)
    even = torch.linspace(-2, 2, 3).to(random)[:, None, None, None].expand(-1, *image_shape)
    return torch.cat([random, even])


def takes(model: nn.Module, probe: Tensor) -> bool:
    """Return whether a model runs on a batch at all."""
    try:
        model(probe.clone())
    except Exception:
        return False
    return True


@torch.no_grad()
def _run_model(model: nn.Module, probe: Tensor, name: str, output: str | None) -> tuple[Tensor, str]:
    """Return the logits of two images, and where they are, after checking that the model is deterministic."""
    size = "x".join(str(n) for n in probe.shape[1:])
    try:
        out = model(probe[:2].clone())
        alone = model(probe[:1].clone())
    except Exception as error:  # the model's own code runs here: anything may be raised
        first = next((m for m in model.modules() if isinstance(m, nn.modules.conv._ConvNd)), None)
        if first is not None and first.in_channels != probe.shape[1]:
            raise UserError(
                f"{name} takes images of {first.in_channels} channel{'s' * (first.in_channels > 1)}, not "
                f"{probe.shape[1]}: set "
                f"preprocessing.channels: {first.in_channels} (--channels), with as many numbers in mean and std"
            ) from error
        for channels in {1, 3} - {probe.shape[1]}:
            if takes(model, probe[:2, :1].expand(-1, channels, -1, -1)):
                raise UserError(
                    f"{name} takes images of {channels} channels, not {probe.shape[1]}: set preprocessing.channels: "
                    f"{channels} (--channels), with as many numbers in mean and std"
                ) from error
        raise UserError(
            f"{name} fails on images of {size}: {_first_line(error)}; correct preprocessing.resize and "
            "preprocessing.crop, or model.arguments, or give a factory whose forward takes images alone"
        ) from error
    where = logits_of(out, 2, name, output)
    if where is None:
        what = f"a tensor of shape {list(out.shape)}" if isinstance(out, Tensor) else f"a {type(out).__name__}"
        raise UserError(f"{name} returns {what}, not logits [N, K]; {REMEDY.replace('free of it', 'logits only')}")
    out, alone = leaves(out)[where], leaves(alone)[where]
    if alone.ndim < out.ndim and alone.numel() == out[:1].numel():  # a `squeeze` took the one image's axis with it
        alone = alone.reshape(out[:1].shape)
    if not torch.isfinite(out).all():
        raise UserError(f"{name} gives NaN or infinite logits for an ordinary input; check model.weights")
    if not _close(out[:1], alone):
        if not _close(alone, leaves(model(probe[:1].clone()))[where].reshape(alone.shape)):
            raise UserError(
                f"{name} is random in eval mode (two runs differ); pass training=self.training to its dropout"
            )
        norms = [
            path
            for path, m in model.named_modules()
            if getattr(m, "track_running_stats", None) is False
            and not isinstance(m, nn.modules.instancenorm._InstanceNorm)
        ]
        reason = f" ({norms[0]} has no running statistics)" if norms else ""
        raise UserError(f"{name} gives an image other logits in another batch{reason}; use one that does not")
    return out, where


def _close(a: Tensor, b: Tensor) -> bool:
    """Return whether two logits agree, as far as TensorFloat-32 lets them."""
    return a.shape == b.shape and bool((a - b).abs().max() <= 1e-2 * b.abs().max())


@torch.no_grad()
def _verify(module: fx.GraphModule, probe: Tensor, expected: Tensor, name: str) -> None:
    """Check that the normalised graph computes what the model does."""
    out = module(probe)[:2]  # three images: a size wrongly taken for a constant, or for affine, shows
    if not _close(out, expected):
        worst = float((out - expected).abs().max())
        raise UserError(f"{name} is traced wrongly: logits differ by {worst:.3g} (in-place work on views?); {REMEDY}")


# ---- clean -------------------------------------------------------------------------------------------------


def _clean(model: nn.Module, graph: fx.Graph, inplace: set[int]) -> dict[fx.Node, fx.Node]:
    """Make in-place operations ordinary ones, and drop what does nothing in eval.

    Returns
    -------
    dict of node to node
        Each dropped node's replacement.
    """
    replaced: dict[fx.Node, fx.Node] = {}
    place = {node: i for i, node in enumerate(graph.nodes)}
    for node in list(graph.nodes):
        if _made_ordinary(model, node, inplace):
            # In place, whatever reads the operand later reads the result.
            source = node.all_input_nodes[0]
            source.replace_all_uses_with(node, delete_user_cb=lambda user, at=place[node]: place[user] > at)
    for node in list(graph.nodes):
        # Maps may lie in memory with their channels last, where not every shape is a view.
        given = (*node.args, *node.kwargs.values())
        if node.op == "call_method" and not any(isinstance(one, torch.dtype) for one in given):
            node.target = _RESHAPES.get(str(node.target), node.target)
        if _idle(model, node):
            replaced[node] = node.all_input_nodes[0]
            node.replace_all_uses_with(node.all_input_nodes[0])
            graph.erase_node(node)
    return replaced


def _made_ordinary(model: nn.Module, node: fx.Node, inplace: set[int]) -> bool:
    """Rewrite an in-place operation; return whether the node was one."""
    if node.op == "call_module":
        return id(target_of(model, node)) in inplace
    if node.op == "call_method":
        method = str(node.target)
        if method.endswith("_") and not method.endswith("__") and hasattr(Tensor, method[:-1]):
            node.target = method[:-1]
            return True
    if node.op == "call_function":
        function: Any = node.target
        here = getattr(function, "__name__", "")
        if function in (operator.iadd, operator.isub, operator.imul, operator.itruediv):
            node.target = getattr(operator, here[1:])
            return True
        for home in (F, torch):
            if here.endswith("_") and getattr(home, here, None) is function and hasattr(home, here[:-1]):
                node.target = getattr(home, here[:-1])
                return True
        try:
            bound = inspect.signature(function).bind(*node.args, **node.kwargs)
        except (TypeError, ValueError):  # built-in functions have no signature, nor an `inplace`
            return False
        if bound.arguments.get("inplace") is True:
            bound.arguments["inplace"] = False
            node.args, node.kwargs = bound.args, bound.kwargs
            return True
    return False


def _idle(model: nn.Module, node: fx.Node) -> bool:
    """Return whether a node hands its input on unchanged in eval mode."""
    if is_a(model, node, (nn.Identity, nn.modules.dropout._DropoutNd)):
        return len(node.all_input_nodes) == 1
    if is_a(model, node, _DETACHES) or (node.target is getattr and node.args[1:] == ("data",)):
        return True
    if node.op == "call_function":
        function: Any = node.target
        known = is_a(model, node, DROPOUTS) or getattr(function, "__name__", "") in {
            "stochastic_depth",
            "drop_path",
        }
        if known:
            bound = inspect.signature(function).bind(*node.args, **node.kwargs)
            bound.apply_defaults()
            return bound.arguments.get("training") is False
    return False


# ---- settle ------------------------------------------------------------------------------------------------


class _Recorder(fx.Interpreter):
    """Run a graph and keep each node's value, tensors as shapes only."""

    def __init__(self, module: fx.GraphModule):
        super().__init__(module, garbage_collect_values=True)
        self.seen: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        self.seen[n] = _outlined(value)
        return value


@dataclass(frozen=True)
class _Shape:
    shape: tuple[int, ...]


def _outlined(value: Any) -> Any:
    """Replace the tensors in a value by their shapes."""
    if isinstance(value, Tensor):
        return _Shape(tuple(value.shape))
    if isinstance(value, dict):
        return {key: _outlined(v) for key, v in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(_outlined(v) for v in value)
    return value


def _has_tensor(value: Any) -> bool:
    if isinstance(value, _Shape):
        return True
    if isinstance(value, dict):
        return any(_has_tensor(v) for v in value.values())
    return isinstance(value, (tuple, list)) and any(_has_tensor(v) for v in value)


@torch.no_grad()
def _recorded(module: fx.GraphModule, probe: Tensor, name: str) -> dict[fx.Node, Any]:
    """Return each node's value on some images, tensors as shapes only."""
    recorder = _Recorder(module)
    try:
        recorder.run(probe)
    except Exception as error:  # the model's own operations run here
        raise UserError(f"{name} cannot be run as traced: {_first_line(error)}; {REMEDY}") from error
    return recorder.seen


def _keep_batch(module: fx.GraphModule, probe: Tensor, name: str) -> None:
    """Let a `squeeze` of all axes leave the batch's axis alone, which it would take from a batch of one."""
    nodes = [node for node in module.graph.nodes if is_a(module, node, _SQUEEZES) and len(node.args) == 1]
    nodes = [node for node in nodes if not node.kwargs.keys() - {"input"}]
    if nodes:
        seen = _recorded(module, probe[:2], name)
        for node in nodes:
            before = node.all_input_nodes[0]
            shape = seen[before].shape
            if shape[:1] == (2,):
                node.args = (before, tuple(axis for axis in range(1, len(shape)) if shape[axis] == 1))
        module.recompile()


@torch.no_grad()
def _settle(module: fx.GraphModule, probe: Tensor, name: str) -> None:
    """Replace every value that is no tensor by a constant, or by an expression in the batch size.

    A size seen with a batch of one and of two is taken as affine in the batch size. Devices and types follow
    the input. Tensor nodes get ``meta["shape"]``, for a batch of one, and ``meta["batched"]``.
    """
    graph = module.graph
    _keep_batch(module, probe, name)
    one, two = (_recorded(module, probe[:n], name) for n in (1, 2))
    x = next(node for node in graph.nodes if node.op == "placeholder")
    roots: dict[str, fx.Node] = {}

    def number(at: fx.Node, function: Any, *args: Any) -> fx.Node:
        """Insert a node that is no tensor, and mark it so, right after another."""
        with graph.inserting_after(at):
            node = graph.call_function(function, args)
        node.meta["number"] = True
        return node

    def root(attribute: str) -> fx.Node:
        """Return the node of the input's batch size, device or dtype."""
        if attribute not in roots:
            if attribute == "batch":
                shape = number(x, getattr, x, "shape")
                roots[attribute] = number(shape, operator.getitem, shape, 0)
            else:
                roots[attribute] = number(x, getattr, x, attribute)
        return roots[attribute]

    def settled(node: fx.Node, a: Any, b: Any) -> Any:
        """Return the constant or expression for values a and b at batch sizes one and two."""
        if isinstance(a, torch.device):
            return root("device") if a == probe.device else a
        if isinstance(a, torch.dtype):
            return root("dtype") if a == probe.dtype else a
        if isinstance(a, (tuple, list)):
            return tuple(settled(node, p, q) for p, q in zip(a, b, strict=True))
        if a == b or (a is None and b is None):
            return a
        if isinstance(a, int) and isinstance(b, int) and not isinstance(a, bool):
            step, start = b - a, 2 * a - b
            out = root("batch")
            if step != 1:
                out = number(out, operator.mul, out, step)
            return number(out, operator.add, out, start) if start else out
        raise UserError(f"{name} cannot be traced: {node.name} is a number that depends on the image; {REMEDY}")

    fixed: dict[fx.Node, Any] = {}
    for node in list(graph.nodes):
        if node.op == "output":
            continue
        if node not in one or _has_tensor(one[node]):
            if isinstance(one.get(node), _Shape):
                node.meta["shape"] = one[node].shape
                node.meta["batched"] = (
                    len(one[node].shape) > 0
                    and (one[node].shape[0], two[node].shape[0]) == (1, 2)
                    and one[node].shape[1:] == two[node].shape[1:]
                )
            node.args = fx.node.map_arg(node.args, lambda n: fixed.get(n, n))
            node.kwargs = fx.node.map_arg(node.kwargs, lambda n: fixed.get(n, n))
        elif node.op == "call_method" and node.target in {"item", "tolist"}:
            raise UserError(f"{name} cannot be traced: {node.name} reads numbers out of a tensor; {REMEDY}")
        else:
            fixed[node] = settled(node, one[node], two[node])


def drop_unused(graph: fx.Graph) -> None:
    """Erase every node that the output does not need, assertions included."""
    for node in reversed(list(graph.nodes)):
        if not node.users and node.op not in {"output", "placeholder"}:
            graph.erase_node(node)
    graph.lint()


# ---- sweep -------------------------------------------------------------------------------------------------


def between(graph: fx.Graph) -> list[fx.Node]:
    """Return the nodes that depend on the image's content; after `drop_unused` all reach the output."""
    reached: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or (
            node.op != "output" and "number" not in node.meta and any(s in reached for s in node.all_input_nodes)
        ):
            reached.add(node)
    return [node for node in graph.nodes if node in reached]


def cut_sweep(between: list[fx.Node]) -> dict[fx.Node, tuple[fx.Node, fx.Node] | None]:
    """Find the nodes through which every path from the input to the output passes.

    One pass over the topological order: n is a cut point if no edge (u, v) has u before n and v after it.

    Parameters
    ----------
    between : list of fx.Node
        The nodes that lie between the input and the output, in order.

    Returns
    -------
    dict of node to (node, node) or None
        None for a cut point, else an edge that jumps over the node.
    """
    place = {node: i for i, node in enumerate(between)}
    jump: dict[fx.Node, tuple[fx.Node, fx.Node] | None] = {}
    furthest, edge = -1, None
    for i, node in enumerate(between):
        jump[node] = edge if furthest > i else None
        for user in node.users:
            if place.get(user, -1) > furthest:
                furthest, edge = place[user], (node, user)
    return jump
