"""Which axis of an activation holds the channels: told by the operations around it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import fx, nn

from gigraph.model.tracing import is_a

_FIRST = (
    nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm, nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd, nn.modules.pooling._AdaptiveMaxPoolNd, F.conv2d, F.batch_norm,
    F.group_norm, F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d,
    torch.conv2d, F.interpolate, nn.Upsample,
)  # fmt: skip
_LAST = (nn.Linear, F.linear, nn.LayerNorm, F.layer_norm, nn.MultiheadAttention)
_PERMUTES = (torch.permute, "permute")
_TRANSPOSES = (torch.transpose, "transpose")


def channel_axis(root: nn.Module, node: fx.Node) -> int | None:
    """Tell which axis of a node holds the channels, 1 or -1, by the operations around it; None: none tells.

    The search follows operations that keep the shape (sums, activations), and permutations, until one shows
    which axis it takes for channels; first those that read the node, then those that make it.

    Parameters
    ----------
    root : nn.Module
        What the graph's modules belong to.
    node : fx.Node
        With its shape in ``meta["shape"]``, as `gigraph.model.tracing.trace` leaves it.
    """
    return _search(root, node, read=True) or _search(root, node, read=False)


def _search(root: nn.Module, start: fx.Node, *, read: bool) -> int | None:
    shape = start.meta["shape"]
    seen, pending = {start}, [start]
    while pending:
        current = pending.pop(0)
        neighbours = list(current.users) if read else current.all_input_nodes
        for node in neighbours if read else [current]:
            if is_a(root, node, _FIRST):
                return 1
            if is_a(root, node, _LAST):
                return -1
            order = _permutation(root, node, len(shape))
            if order and read:
                axis = _search(root, node, read=True)
                # The permuted tensor's axis i is this one's axis order[i].
                origin = None if axis is None else order[axis]
                if origin is not None and origin in {1, len(shape) - 1}:
                    return 1 if origin == 1 else -1
            elif order:
                axis = _search(root, node.all_input_nodes[0], read=False)
                moved = None if axis is None else order.index(axis % len(shape))
                return None if moved is None else 1 if moved == 1 else -1 if moved == len(shape) - 1 else None
        for node in neighbours:
            if (
                node not in seen
                and _keeps_axes(root, node, current.meta["shape"])
                and not (read and _permutation(root, node, len(shape)))
            ):
                seen.add(node)
                pending.append(node)
    return None


def _keeps_axes(root: nn.Module, node: fx.Node, shape: tuple[int, ...]) -> bool:
    """Return whether a node's axes mean what those of its neighbour of this shape do."""
    other = node.meta.get("shape")
    return other == shape or (other is not None and len(other) == len(shape) and is_a(root, node, (torch.cat,)))


def _permutation(root: nn.Module, node: fx.Node, rank: int) -> tuple[int, ...] | None:
    """Return the order of axes of a node that permutes them, else None."""
    arguments = node.args[1:]
    if is_a(root, node, _PERMUTES):
        listed = arguments[0] if arguments and isinstance(arguments[0], (list, tuple)) else arguments
        order = tuple(axis % rank for axis in listed if isinstance(axis, int))
        return order if sorted(order) == list(range(rank)) else None
    if is_a(root, node, _TRANSPOSES) and len(arguments) == 2:
        swapped = list(range(rank))
        i, j = (int(axis) % rank for axis in arguments)  # type: ignore[arg-type]
        swapped[i], swapped[j] = swapped[j], swapped[i]
        return tuple(swapped)
    return None
