"""The network as a chain of cut points: layers, their activations, and the segments F_ab between them.

A *layer* is a node of the traced graph through which every path from the input to the output passes; so the
network from layer a on depends on the image through layer a's activation alone. Where a module ends in a
ReLU, the layer is the ReLU's input: PFVs are pre-activation.
"""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from gigraph.errors import UserError, nearest
from gigraph.method.srd import Sweep
from gigraph.model.axes import channel_axis
from gigraph.model.batchnorm import batchnorm_at, fused
from gigraph.model.heads import check_varies, read_head
from gigraph.model.pointwise import Pointwise, is_pointwise
from gigraph.model.tracing import RECTIFIERS, cut_sweep, is_a, several_probes, target_of, trace
from gigraph.reserved import CLASSES

Layout = Literal["map", "map_last", "tokens", "vector"]


@dataclass(frozen=True)
class Layer:
    """A named cut point.

    Attributes
    ----------
    name : str
        As the user writes it: a module's path, or an fx node's name.
    node : str
        The fx node.
    channels, height, width : int
        C, H, W; P = H W positions. Tokens have H = 1, a vector H = W = 1.
    layout : str
        Axes of the activation: ``map`` [N, C, H, W], ``map_last`` [N, H, W, C], ``tokens`` [N, T, C] or
        ``vector`` [N, C].
    patches : tuple of int, optional
        Of tokens: height and width of the patches of the image, and how many other tokens (a class token, registers)
        come before them.
    """

    name: str
    node: str
    channels: int
    height: int
    width: int
    layout: Layout
    patches: tuple[int, int, int] | None = None

    @property
    def grid(self) -> tuple[int, int, int]:
        """Height and width of the positions that are places in the image, and the number of others before them."""
        return self.patches or (self.height, self.width, 0)

    @property
    def positions(self) -> int:
        """The number of positions P = H W."""
        return self.height * self.width

    def to_pfvs(self, activation: Tensor) -> Tensor:
        """Return the pointwise feature vectors [N, P, C] of an activation, positions row by row."""
        if self.layout == "map":
            # Not flatten and transpose: of one image that leaves strides which torch's batch norm takes for another
            # layout on a CPU, and its gradient is silently wrong.
            return activation.permute(0, 2, 3, 1).flatten(1, 2)
        if self.layout == "map_last":
            return activation.flatten(1, 2)
        return activation if self.layout == "tokens" else activation.unsqueeze(1)

    def from_pfvs(self, pfvs: Tensor) -> Tensor:
        """Return the activation with these pointwise feature vectors [N, P, C]: `to_pfvs` inverted."""
        if self.layout == "map":
            return pfvs.unflatten(1, (self.height, self.width)).permute(0, 3, 1, 2)
        if self.layout == "map_last":
            return pfvs.unflatten(1, (self.height, self.width))
        return pfvs if self.layout == "tokens" else pfvs.squeeze(1)


@dataclass(frozen=True)
class CutPoint:
    """A node that can be a layer, the modules that end in it (best name first), and its shape [C, ...].

    ``block`` says whether the first of these modules holds modules itself.
    """

    node: str
    modules: tuple[str, ...]
    shape: tuple[int, ...]
    block: bool = False

    @property
    def name(self) -> str:
        """What to write in the config."""
        return self.modules[0] if self.modules else self.node


class Network:
    """A traced classifier in eval mode.

    Parameters
    ----------
    model : nn.Module
        From images [N, C, H, W] to logits [N, K] or [N], or to something that holds them. Its in-place activations
        are switched off; its parameters are shared. A final softmax or sigmoid is left out.
    image_shape : tuple of int
        (channels, height, width) of the input.
    name : str
        What to call the model in messages.
    task, output, reference
        As in the configuration's section `model`.

    Raises
    ------
    UserError
        See `gigraph.model.tracing.trace` and `gigraph.model.heads`.

    Attributes
    ----------
    graph_module : fx.GraphModule
        The whole network, image -> scores, here all called logits.
    task : str
        What the scores mean (`gigraph.method.tasks`).
    outputs : int
        Number of scores K.
    """

    def __init__(
        self, model: nn.Module, image_shape: tuple[int, int, int] = (3, 224, 224), name: str = "the model",
        task: str = "auto", output: str | None = None, reference: float = 0.0,
    ):  # fmt: skip
        traced = trace(model, image_shape, name, output)
        self.task = read_head(traced, name, task, reference)
        self.reference = reference
        if any(is_a(traced.module, node, _ATTENTION) for node in traced.module.graph.nodes):
            _use_plain_attention()
        self.name = name
        self.image_shape = image_shape
        self.graph_module = traced.module
        self._modules = traced.modules
        self._aliases = traced.aliases
        self._blocks = {path for path, m in model.named_modules() if any(True for _ in m.children())}
        self._between = traced.between
        self._cuts = cut_sweep(traced.between)
        self._end = traced.between[traced.end].name
        self.outputs = int(traced.between[-1].meta["shape"][1])
        self._built: dict[tuple[str, ...], fx.GraphModule] = {}

    def check_varies(self) -> None:
        """Refuse a model that says the same of every image (`gigraph.model.heads.check_varies`)."""
        check_varies(self.graph_module, several_probes(self.graph_module, self.image_shape), self.task, self.name)

    @property
    def input(self) -> str:
        """Name of the input's node."""
        return self._between[0].name

    @property
    def numbers(self) -> int:
        """Numbers in the outputs of all operations together, for one image: what a sweep holds."""
        nodes = self.graph_module.graph.nodes
        return sum(math.prod(shape[1:]) for node in nodes if len(shape := node.meta.get("shape", ())) > 1)

    def largest(self, layer: Layer) -> int:
        """Return the numbers in the largest map from a layer on, for one image: what a pass through a segment holds."""
        nodes = list(self.graph_module.graph.nodes)
        after = nodes[nodes.index(self.node(layer.node)) :]
        return max(math.prod(shape[1:]) for node in after if len(shape := node.meta.get("shape", ())) > 1)

    @property
    def _place_of_end(self) -> int:
        """Where the nodes begin that are the model's output in some form."""
        return [node.name for node in self._between].index(self._end)

    def value(self, logits: Tensor) -> Tensor:
        """Return the model's own output [N] of a regression, from its scores [N, 2]; NaN of other tasks."""
        return logits[:, 1] + (self.reference if self.task == "regression" else torch.nan)

    def node(self, name: str) -> fx.Node:
        """Return the graph's node of this name (`classes`: the logits')."""
        if name == CLASSES:
            return self._between[-1]
        return next(node for node in self.graph_module.graph.nodes if node.name == name)

    # ---- layers --------------------------------------------------------------------------------------------

    def cut_points(self) -> list[CutPoint]:
        """Return every node that can be a layer, in order; the input, the logits and activations are none."""
        endings: dict[str, list[str]] = {}
        for path, name in self._modules.items():
            if path:
                endings.setdefault(self._pre_activation(self.node(name)).name, []).append(path)
        own = {str(node.target): node.name for node in self.graph_module.graph.nodes if node.op == "call_module"}
        # Blocks before single operations, the innermost block first (layer1.2 rather than layer1); of
        # operations the node's own rather than the activation or dropout behind it.
        for name, paths in endings.items():
            paths.sort(key=lambda path: (path not in self._blocks, own.get(path) != name, -path.count("."), path))
        return [
            CutPoint(
                node.name,
                tuple(endings.get(node.name, ())),
                tuple(node.meta["shape"][1:]),
                endings.get(node.name, [""])[0] in self._blocks,
            )
            for node in self._between[1 : self._place_of_end]
            if self._usable(node) and not self._rectifies(node)
        ]

    def layer(self, name: str) -> Layer:
        """Resolve a layer's name.

        Parameters
        ----------
        name : str
            A module's path (`layer3.5`) or an fx node's name (`add_11`).

        Returns
        -------
        Layer
            The module's output node or, where that is an activation, the activation's input.

        Raises
        ------
        UserError
            If there is no such module or node, or it is no cut point: with the edge that jumps over it and
            the nearest cut points.
        """
        if name == CLASSES:
            raise UserError(f"layer {CLASSES!r} is always there: leave it out of layers")
        found = self._pre_activation(self._find(name))
        what = name if found.name == name else f"{name} (node {found.name})"
        if found in self._between[self._place_of_end :]:
            raise UserError(f"layer {what} is the model's output, which is always there as {CLASSES!r}: leave it out")
        if found is self._between[0]:
            raise UserError(f"layer {what} is the input itself; take one of the cut points {self._around(found)}")
        if found not in self._cuts:
            raise UserError(
                f"layer {what} does not depend on the image; take a cut point, such as {self._around(found)}"
            )
        edge = self._cuts[found]
        if edge is not None:
            raise UserError(
                f"layer {what} is no cut point: {edge[1].name} reads {edge[0].name} past it; "
                f"nearest cut points: {self._around(found)}"
            )
        if not self._usable(found):
            shape = list(found.meta["shape"]) if "shape" in found.meta else "no tensor"
            raise UserError(
                f"layer {what} is {shape}, not [N, C, H, W], [N, T, C] or [N, C]; "
                f"nearest cut points: {self._around(found)}"
            )
        return self._layer(name, found)

    def check_order(self, names: Iterable[str]) -> list[Layer]:
        """Resolve the configured layers and check that they follow each other from input to output.

        Returns
        -------
        list of Layer

        Raises
        ------
        UserError
            As `layer`, or if two names are the same layer, or with the right order.
        """
        layers = [self.layer(name) for name in names]
        place = {node.name: i for i, node in enumerate(self._between)}
        ordered = sorted(layers, key=lambda layer: place[layer.node])
        for first, second in pairwise(ordered):
            if first.node == second.node:
                raise UserError(
                    f"layers: {first.name} and {second.name} are the same (node {first.node}): leave one out"
                )
        if ordered != layers:
            right = ", ".join(layer.name for layer in ordered)
            raise UserError(f"layers: not in the network's order; write them as: {right}")
        return layers

    def _find(self, name: str) -> fx.Node:
        nodes = {node.name: node for node in self.graph_module.graph.nodes if node.op not in {"output", "get_attr"}}
        if name in self._modules:
            return nodes[self._modules[name]]
        if name in nodes:
            return nodes[name]
        if name in self._aliases:
            return nodes[self._aliases[name]]
        paths = {path for path, _ in self.graph_module.named_modules()}
        if name in paths:
            raise UserError(
                f"layer {name} is a module that is not called as a whole, or returns no tensor"
                f"{nearest(name, self._choices())}"
            )
        raise UserError(f"layer {name!r} does not exist in {self.name}{nearest(name, self._choices())}")

    def _choices(self) -> list[str]:
        return list(dict.fromkeys(name for cut in self.cut_points() for name in (*cut.modules, cut.node)))

    def _around(self, node: fx.Node) -> str:
        """Name the cut points before and after a node."""
        place = {n.name: i for i, n in enumerate(self.graph_module.graph.nodes)}
        cuts = self.cut_points()
        before = [cut.name for cut in cuts if place[cut.node] < place[node.name]][-1:]
        after = [cut.name for cut in cuts if place[cut.node] > place[node.name]][:1]
        return " and ".join([f"{n} before it" for n in before] + [f"{n} after it" for n in after]) or "none"

    def _rectifies(self, node: fx.Node) -> bool:
        return is_a(self.graph_module, node, RECTIFIERS)

    def _pre_activation(self, node: fx.Node) -> fx.Node:
        while self._rectifies(node):
            node = node.all_input_nodes[0]
        return node

    def _usable(self, node: fx.Node) -> bool:
        """Return whether a node is a cut point with a batch axis and a known channel axis."""
        if self._cuts.get(node, (node, node)) is not None or not node.meta.get("batched"):
            return False
        rank = len(node.meta["shape"])
        return rank in {2, 4} or (rank == 3 and self._channel_axis(node) != 1)

    def _channel_axis(self, node: fx.Node) -> int | None:
        """Tell which axis holds a node's channels, by the operations around it or else by where its positions lie."""
        found = channel_axis(self.graph_module, node)
        return self._axes_by_positions.get(node.name) if found is None else found

    @cached_property
    def _axes_by_positions(self) -> dict[str, int]:
        first = next((p for p in self.graph_module.parameters() if p.is_floating_point()), torch.zeros(()))
        image = torch.zeros(1, *self.image_shape, device=first.device, dtype=first.dtype)
        try:
            followed = Sweep(self.graph_module, image).positions
        except UserError:
            return {}
        axes = {}
        for node, positions in followed.items():
            channels = [axis for axis in positions.channels if axis in (1, positions.ids.ndim - 1)]
            if positions.varying and positions.in_order and len(channels) == 1:
                axes[node.name] = 1 if channels == [1] else -1
        return axes

    def _layer(self, name: str, node: fx.Node) -> Layer:
        shape = tuple(node.meta["shape"][1:])
        if len(shape) == 1:
            return Layer(name, node.name, shape[0], 1, 1, "vector")
        if len(shape) == 2:
            return Layer(name, node.name, shape[1], 1, shape[0], "tokens", self._patches(node, shape[0]))
        if self._channel_axis(node) == -1:
            return Layer(name, node.name, shape[2], shape[0], shape[1], "map_last")
        return Layer(name, node.name, shape[0], shape[1], shape[2], "map")

    def _patches(self, node: fx.Node, tokens: int) -> tuple[int, int, int]:
        """Return height and width of the grid of patches among a layer's tokens, and the tokens before it.

        The last convolution made the patches; tokens that do not depend on the image were put before or behind them.
        """
        high, wide, first = 1, 0, 0
        for one in self._between[: self._between.index(node) + 1]:
            shape = one.meta.get("shape", ())
            if is_a(self.graph_module, one, _CONVOLUTIONS) and len(shape) == 4:
                high, wide = shape[2:]
            elif is_a(self.graph_module, one, (torch.cat, torch.concat)) and len(shape) == 3 and one.args:
                parts: list[fx.Node] = list(one.args[0])  # type: ignore[arg-type]
                own = [i for i, part in enumerate(parts) if part in self._cuts]
                if len(own) == 1:
                    fresh = parts[own[0]].meta["shape"][1] == high * wide
                    first = (0 if fresh else first) + sum(part.meta["shape"][1] for part in parts[: own[0]])
        count = high * wide
        if count == tokens:
            return high, wide, 0
        if count > 1 and first + count <= tokens:
            return high, wide, first
        for skip in (0, 1):  # no convolution that tells: tokens that form a square, after a class token or not
            side = math.isqrt(tokens - skip)
            if side**2 == tokens - skip and side > 1:
                return side, side, skip
        return 1, tokens, 0

    # ---- running -------------------------------------------------------------------------------------------

    def activations(self, x: Tensor, layers: Sequence[Layer]) -> dict[str, Tensor]:
        """Run the network once.

        Parameters
        ----------
        x : Tensor [N, C, H, W]
            Images, preprocessed.
        layers : sequence of Layer
            What to keep.

        Returns
        -------
        dict of str to Tensor
            Layer name -> activation, and ``classes`` -> logits [N, K].
        """
        nodes = tuple(layer.node for layer in layers)
        if nodes not in self._built:
            wanted = [*(self.node(name) for name in nodes), self._between[-1]]
            self._built[nodes] = self._extract(self._between[0], wanted)
        values = self._built[nodes](x)
        return dict(zip([*(layer.name for layer in layers), CLASSES], values, strict=True))

    def segment(self, a: Layer | str, b: Layer | str) -> fx.GraphModule:
        """Return F_ab, the network from layer a to layer b [Sec. 3.1].

        Parameters
        ----------
        a : Layer or str
            Where it starts; ``input`` for the image.
        b : Layer or str
            Where it ends; ``classes`` for the logits.

        Returns
        -------
        fx.GraphModule
            Activation of a -> activation of b, with the needed operations only; parameters are shared.

        Raises
        ------
        UserError
            If b does not come after a.
        """
        start, end = self._ending(a), self._ending(b)
        key = ("segment", start.name, end.name)
        if key not in self._built:
            if self._between.index(start) > self._between.index(end):
                raise UserError(f"there is no segment from {start.name} to {end.name}: swap them")
            self._built[key] = self._extract(start, end)
        return self._built[key]

    def pfv_segment(self, a: Layer, b: Layer | None) -> Callable[[Tensor], Tensor]:
        """Return F_ab in terms of PFVs: [N, P, C] -> [N, P_b, C_b], or, where b is None, to the logits [N, classes].

        Raises
        ------
        UserError
            If b does not come after a.
        """
        forward = self.segment(a, b or CLASSES)
        convolves = any(is_a(forward, node, _CONVOLUTIONS) for node in forward.graph.nodes)

        def run(pfvs: Tensor) -> Tensor:
            x = a.from_pfvs(pfvs)
            # PFVs are maps with channels last, as convolutions like them on a CPU; what only pools is slower on these.
            out = forward(x if convolves else x.contiguous())
            return out if b is None else b.to_pfvs(out)

        return run

    def _ending(self, layer: Layer | str) -> fx.Node:
        if isinstance(layer, Layer):
            return self.node(layer.node)
        if layer == "input":
            return self._between[0]
        return self._between[-1] if layer == CLASSES else self.node(self.layer(layer).node)

    def _extract(self, start: fx.Node, wanted: fx.Node | list[fx.Node]) -> fx.GraphModule:
        """Return the graph that computes nodes from the value of `start`, a cut point."""
        ends = wanted if isinstance(wanted, list) else [wanted]
        needed: set[fx.Node] = set()
        pending = list(ends)
        while pending:
            node = pending.pop()
            if node not in needed and node is not start:
                needed.add(node)
                pending.extend(node.all_input_nodes)
        graph = fx.Graph()
        # Batch size, device and dtype are read off the image in the whole network, here off `start`.
        placeholder = graph.placeholder(start.name)
        placeholder.meta = dict(start.meta)
        copies = {start: placeholder, self._between[0]: placeholder}
        for node in self.graph_module.graph.nodes:
            if node in needed and node not in copies:
                copies[node] = graph.node_copy(node, copies.__getitem__)
        graph.output([copies[node] for node in ends] if isinstance(wanted, list) else copies[wanted])
        return fx.GraphModule(self.graph_module, graph, class_name="Segment").eval()

    # ---- folding -------------------------------------------------------------------------------------------

    def folded(self, keep: Iterable[Layer] = ()) -> Network:
        """Return the same network with every batch norm folded into the convolution before it.

        Parameters
        ----------
        keep : iterable of Layer
            Layers that must stay; a convolution that is one of them is not folded.

        Returns
        -------
        Network
            Its folded convolutions carry the name of the batch norm's node; 1 x 1 convolutions are `Pointwise`. Other
            parameters are shared with this one.
        """
        root: dict[str, object] = {}
        kept = {layer.node for layer in keep}
        graph = copy.deepcopy(self.graph_module.graph)
        calls: dict[str, int] = {}
        for node in graph.nodes:
            if node.op == "call_module":
                calls[str(node.target)] = calls.get(str(node.target), 0) + 1
                root[str(node.target)] = target_of(self.graph_module, node)
            elif node.op == "get_attr":
                root[str(node.target)] = operator.attrgetter(str(node.target))(self.graph_module)
        for node in list(graph.nodes):
            norm = batchnorm_at(self.graph_module, node)
            if norm is None:
                continue
            before = node.all_input_nodes[0]
            linear = root[str(before.target)] if before.op == "call_module" else None
            if (
                type(linear) not in {nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear}
                or len(before.users) > 1
                or before.name in kept
                or calls[str(before.target)] > 1
            ):
                continue
            target = f"folded.{node.name}"
            root[target] = fused(linear, norm)
            # The norm's own node becomes the fused one, so that its name, which may be a layer's, stays.
            node.op, node.target, node.args, node.kwargs = "call_module", target, before.args, before.kwargs
            graph.erase_node(before)
        for node in reversed(list(graph.nodes)):
            if not node.users and node.op == "get_attr":
                graph.erase_node(node)
        root = {path: Pointwise(one) if is_pointwise(one) else one for path, one in root.items()}
        other = copy.copy(self)
        other.graph_module = fx.GraphModule(root, graph, class_name="Folded").eval()
        nodes = {node.name: node for node in other.graph_module.graph.nodes}
        other._between = [nodes[node.name] for node in self._between if node.name in nodes]
        other._cuts = cut_sweep(other._between)
        other._modules = {path: name for path, name in self._modules.items() if name in nodes}
        other._built = {}
        return other


_CONVOLUTIONS = (nn.modules.conv._ConvNd, F.conv2d, F.conv1d, torch.conv2d)
_ATTENTION = (nn.MultiheadAttention, nn.TransformerEncoderLayer, F.scaled_dot_product_attention)


def _use_plain_attention() -> None:
    """Switch the fused attention kernels off: they have no forward-mode derivative, and round otherwise."""
    torch.backends.mha.set_fastpath_enabled(False)
    torch.backends.cuda.enable_flash_sdp(False)  # these three hold for the CPU's kernels too
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(False)
