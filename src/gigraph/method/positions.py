"""Which position each number of a tensor belongs to, followed through any operation, whatever the layout.

A map [N, C, H, W] has the positions (n, h, w), tokens [N, T, C] have (n, t); windows, heads and slices hold the same
positions in other places. So every tensor has an id for each of its numbers. An operation that only moves numbers
does the same to the ids; for the others a few rules say which axes of the output are positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor

MOVES = frozenset([
    "reshape", "view", "flatten", "unflatten", "ravel", "permute", "transpose", "swapaxes", "movedim", "moveaxis",
    "t", "squeeze", "unsqueeze", "chunk", "split", "tensor_split", "unbind", "getitem", "select", "narrow",
    "index_select", "gather", "roll", "flip", "rot90", "expand", "repeat", "tile", "repeat_interleave", "unfold",
    "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "contiguous", "clone", "view_as", "reshape_as",
    "expand_as", "T", "mT", "H", "mH", "take_along_dim", "unsafe_chunk", "unsafe_split", "split_with_sizes",
    "swapdims", "broadcast_to",
])  # fmt: skip
"""Operations that hand numbers on as they are."""
JOINS = frozenset(["cat", "concat", "concatenate", "stack"])
REDUCTIONS = frozenset(["mean", "sum", "amax", "amin", "max", "min", "var_mean", "std_mean"])
SPATIAL = frozenset([
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "max_pool1d",
    "max_pool2d", "max_pool3d", "max_pool1d_with_indices", "max_pool2d_with_indices", "max_pool3d_with_indices",
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
    "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "adaptive_max_pool1d_with_indices",
    "adaptive_max_pool2d_with_indices", "interpolate", "upsample", "fold", "lp_pool2d", "grid_sample",
])  # fmt: skip
"""Operations on [N, C, ...] whose output has positions of its own."""
MATRIX_PRODUCTS = frozenset(["matmul", "bmm", "mm", "scaled_dot_product_attention"])


class Positions:
    """The positions of one tensor.

    Parameters
    ----------
    ids : Tensor of int64
        Of the tensor's shape: the position of each number.
    count : int
        How many ids there are; a tensor need not hold them all.
    straight : bool
        Whether the ids' memory is 0, 1, ..., count - 1.
    """

    def __init__(self, ids: Tensor, count: int, straight: bool = False):
        self.ids, self.count, self.straight = ids, count, straight

    @classmethod
    def fresh(cls, shape: Sequence[int], axes: Sequence[int], device: torch.device) -> Positions:
        """Return a grid of new positions: one for each index along `axes`; the other axes are channels."""
        return cls._fresh(tuple(shape), tuple(axes), device)

    @classmethod
    @lru_cache(maxsize=256)
    def _fresh(cls, shape: tuple[int, ...], axes: tuple[int, ...], device: torch.device) -> Positions:
        sizes = [size if axis in axes else 1 for axis, size in enumerate(shape)]
        count = math.prod(sizes)
        return cls(torch.arange(count, device=device).reshape(sizes).expand(list(shape)), count, straight=True)

    @property
    def varying(self) -> list[int]:
        """The axes along which positions differ."""
        return [a for a in range(self.ids.ndim) if self.ids.shape[a] > 1 and self.ids.stride(a) != 0]

    @property
    def channels(self) -> list[int]:
        """The axes of more than one number along which they do not."""
        return [a for a in range(self.ids.ndim) if self.ids.shape[a] > 1 and self.ids.stride(a) == 0]

    @cached_property
    def own(self) -> Tensor:
        """The ids, of length 1 along the axes of channels."""
        channels = self.channels
        return self.ids[tuple(slice(0, 1) if a in channels else slice(None) for a in range(self.ids.ndim))]

    @cached_property
    def in_order(self) -> bool:
        """Whether `own` is 0, 1, ..., count - 1."""
        if self.own.numel() != self.count:
            return False
        if self.straight:
            return self.own.is_contiguous() and self.own.storage_offset() == 0
        return torch.equal(self.own.reshape(-1), torch.arange(self.count, device=self.ids.device))

    @cached_property
    def once(self) -> bool:
        """Whether no id stands twice in `own`."""
        return len(self.own.unique()) == self.own.numel()

    def sum(self, values: Tensor) -> Tensor:
        """Add up the numbers of each position: values of the tensor's shape to [count]."""
        channels = self.channels
        flat = (values.sum(channels) if channels else values).reshape(-1)
        if self.in_order:
            return flat
        ids, found = self.own.reshape(-1), flat.new_zeros(self.count)
        return found.index_copy_(0, ids, flat) if self.once else found.index_add_(0, ids, flat)

    def spread(self, numbers: Tensor) -> Tensor:
        """Return each position's number [count] wherever it stands, of length 1 along the axes of channels."""
        return (numbers if self.in_order else numbers[self.own.reshape(-1)]).reshape(self.own.shape)

    def moved(self, move: Callable[[Tensor], Any]) -> Any:
        """Return the positions of what an operation that only moves numbers gives: as it does, one or several."""
        found = move(self.ids)
        if isinstance(found, (tuple, list)):
            return tuple(self._of(one) for one in found)
        return self._of(found)

    def _of(self, ids: Tensor) -> Positions:
        if self.straight and ids.untyped_storage().data_ptr() == self.ids.untyped_storage().data_ptr():
            return Positions(ids, self.count, straight=True)
        for axis in range(ids.ndim):  # a copy has lost which axes are channels
            if ids.shape[axis] > 1:
                first = ids.narrow(axis, 0, 1)
                if bool((ids == first).all()):
                    ids = first.expand(ids.shape)
        return Positions(ids, self.count)


def output(
    name: str, out: Any, args: Sequence[Any], kwargs: Mapping[str, Any], given: dict[int, Positions],
    move: Callable[[Tensor], Any],
) -> Any:  # fmt: skip
    """Return the positions of an operation's output.

    Parameters
    ----------
    name : str
        Of the operation, as torch has it (`gigraph.method.pattern.name_of`).
    out : Tensor, or tuple or list with some
        What it gave.
    args, kwargs : sequence, mapping
        Its arguments, in order as far as `gigraph.method.pattern.in_order` knows it.
    given : dict of int to Positions
        Of the tensors among them, by `id`, in order; at least one.
    move : callable
        The operation with other numbers in place of its first argument.

    Returns
    -------
    Positions, None, or a tuple of them
        None for what is no tensor.
    """
    if name == "unfold" and isinstance(out, Tensor) and out.ndim < args[0].ndim:  # F.unfold: patches, not a view of one
        return Positions.fresh(out.shape, (0, 2), out.device)
    if name in MOVES:  # what else is given, such as to `expand_as`, lends its shape only
        return given[id(args[0])].moved(move)
    if isinstance(out, (tuple, list)):
        return tuple(output(name, one, args, kwargs, given, move) if isinstance(one, Tensor) else None for one in out)

    def named(key: str, place: int, default: Any) -> Any:
        found = kwargs.get(key, args[place] if len(args) > place else default)
        return kwargs.get("axis", found) if key == "dim" else found

    first = next(iter(given.values()))
    if name in JOINS:
        parts = [given[id(one)] for one in named("tensors", 0, ()) if id(one) in given]
        return _joined(name, out, parts, named("dim", 1, 0))
    if name in SPATIAL:
        return Positions.fresh(out.shape, [axis for axis in range(out.ndim) if axis != 1], out.device)
    if name == "pad":  # what it adds belongs to no position there was
        return Positions.fresh(out.shape, first.varying, out.device)
    if name in MATRIX_PRODUCTS:
        return _product(out, [given.get(id(a)) for a in args[:2]]) or _guessed(out)
    if name == "einsum":
        return _summed(args[0], out, [given.get(id(one)) for one in (args[1] if len(args) == 2 else args[1:])])
    if name == "linear":
        return _linear(out, first)
    if name in REDUCTIONS and not isinstance(named("dim", 1, None), Tensor):
        return _reduced(out, first, named("dim", 1, None))
    same = [one for one in given.values() if one.ids.shape == out.shape]
    if same:  # one vector an image may have been expanded to a map's shape
        return _finest(same)
    wide = [one for one in given.values() if one.ids.ndim == out.ndim]
    if wide:  # broadcast
        axes = sorted({axis for one in wide for axis in one.varying})
        return Positions.fresh(out.shape, axes, out.device)
    return _guessed(out)


def _finest(several: list[Positions]) -> Positions:
    """Return the positions that differ along most axes, the first such."""
    return max(several, key=lambda one: len(one.varying))


def _guessed(out: Tensor) -> Positions:
    """Of a map [N, C, H, W], tokens [N, T, C] or vectors [N, C]."""
    channel = 1 if out.ndim >= 4 else out.ndim - 1
    axes = [axis for axis in range(out.ndim) if axis != channel or axis == 0]
    return Positions.fresh(out.shape, axes, out.device)


def _linear(out: Tensor, x: Positions) -> Positions:
    """Of a layer on the last axis: of channels, which leaves positions be; or of positions, which makes new ones."""
    last = out.ndim - 1
    if last not in x.varying:
        return Positions(x.ids[..., :1].expand(out.shape), x.count, x.straight)
    rest = [axis for axis in x.varying if axis != last]
    # All that an image has on one axis (a flattened map) becomes one vector; beside other channels the axis stays one
    # of positions (a mixer's).
    return Positions.fresh(out.shape, [*rest, last] if x.channels else rest, out.device)


def _product(out: Tensor, factors: list[Positions | None]) -> Positions | None:
    """Of a matrix product: rows are the first factor's positions, or columns the second's."""
    a, b = (one if one is not None and one.ids.ndim == out.ndim else None for one in (*factors, None)[:2])
    rows, columns = out.ndim - 2, out.ndim - 1
    if a is not None and rows in a.varying and columns not in a.varying and a.ids.shape[rows] == out.shape[rows]:
        return Positions(a.ids[..., :1].expand(out.shape), a.count, a.straight)
    if b is not None and columns in b.varying and rows not in b.varying and b.ids.shape[columns] == out.shape[columns]:
        return Positions(b.ids[..., :1, :].expand(out.shape), b.count, b.straight)
    known = a or b
    if known is None:
        return None
    axes = [axis for axis in known.varying if axis < rows]
    return Positions.fresh(out.shape, [*axes, rows] if rows in known.varying else axes, out.device)


def _summed(equation: str, out: Tensor, factors: list[Positions | None]) -> Positions:
    """Of a sum of products by Einstein's convention: new ones along every axis that is one of positions in a factor."""
    left, _, right = equation.replace(" ", "").partition("->")
    if "..." in equation or not right:
        return _guessed(out)
    varying = {
        labels[axis]
        for labels, one in zip(left.split(","), factors, strict=True) if one is not None for axis in one.varying
    }  # fmt: skip
    return Positions.fresh(out.shape, [axis for axis, label in enumerate(right) if label in varying], out.device)


def _reduced(out: Tensor, x: Positions, dim: Any) -> Positions:
    """Of a sum over some axes: the positions that are left, or new ones where positions were summed over."""
    rank = x.ids.ndim
    gone = {axis % rank for axis in ([dim] if isinstance(dim, int) else range(rank) if dim is None else dim)}
    if not gone & set(x.varying):
        index = tuple(slice(0, 1) if axis in gone else slice(None) for axis in range(rank))
        return x.moved(lambda ids: ids[index].reshape(out.shape))
    kept = [axis for axis in range(rank) if out.ndim == rank or axis not in gone]
    axes = [place for place, axis in enumerate(kept) if axis in x.varying and axis not in gone]
    return Positions.fresh(out.shape, axes, out.device)


def _joined(name: str, out: Tensor, parts: list[Positions], dim: int) -> Positions:
    """Of tensors beside each other: the finest ones along channels, else new ones."""
    axis = dim % out.ndim
    if name == "stack":
        return _finest(parts).moved(lambda ids: ids.unsqueeze(axis).expand(out.shape))
    if not any(axis in one.varying for one in parts):
        return _finest(parts).moved(lambda ids: ids.narrow(axis, 0, 1).expand(out.shape))
    return Positions.fresh(out.shape, sorted({axis, *(a for one in parts for a in one.varying)}), out.device)
