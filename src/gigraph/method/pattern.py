"""An operation as what it is once its pattern is held fixed: linear in the image, up to a constant.

Rectifiers and maxima are so by themselves. Beyond the paper, what else a network knows is held fixed as attention-aware
layer-wise relevance propagation does [1, 2]:

- the gate (f(x) - f(0)) / x of an activation f (GELU, SiLU, sigmoid, a power, ...), f(0) being its bias,
- the deviation of a layer norm or group norm, and whatever else divides,
- the weights of attention, and the gate of a product (of squeeze and excitation); a product of two things neither of
  which is a gate is shared between them in halves.

Values stay what they are; only derivatives change.

[1] Ali et al., "XAI for transformers: better explanations through conservative propagation", ICML 2022.
[2] Achtibat et al., "AttnLRP: attention-aware layer-wise relevance propagation for transformers", ICML 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gigraph.errors import UserError
from gigraph.method.positions import JOINS, MOVES, SPATIAL, Positions, output

GATED = frozenset([
    "relu6", "hardtanh", "gelu", "silu", "hardswish", "mish", "sigmoid", "hardsigmoid", "tanh", "elu", "celu", "selu",
    "softplus", "softsign", "logsigmoid", "tanhshrink", "pow", "square", "sqrt", "rsqrt", "exp", "log", "reciprocal",
    "rdiv", "sin", "cos", "erf", "expm1", "log1p",
])  # fmt: skip
"""f(x) = g x + f(0), number by number, with the gate g held fixed."""
SOMETHING_AT_ZERO = frozenset(["sigmoid", "hardsigmoid", "softplus", "logsigmoid", "exp", "cos"])
SELF_NORMED = frozenset(["rms_norm", "local_response_norm", "normalize"])
"""x over a measure of its size, which is held fixed."""
PIECEWISE = frozenset([
    "relu", "leaky_relu", "prelu", "rrelu", "threshold", "clamp", "clamp_min", "clamp_max", "clip", "abs", "softshrink",
    "hardshrink", "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout",
])  # fmt: skip
"""Linear given the signs; dropouts, which do nothing here, among them."""
ACTIVATIONS = GATED | PIECEWISE | {"contiguous", "clone"}
"""Number by number: a position's relevance is the same on both sides."""
GATES = {
    **dict.fromkeys(["sigmoid", "hardsigmoid", "tanh", "rsqrt", "exp", "reciprocal", "rdiv"], 2),
    **dict.fromkeys(["relu6", "hardtanh", "clamp", "clip"], 1),
}
"""How far an activation is a gate: what is most so in a product is held fixed. Of the last, hard sigmoids are made."""
STATISTICS = frozenset([
    "softmax", "softmin", "log_softmax", "norm", "vector_norm", "linalg_vector_norm", "var", "std", "logsumexp",
])  # fmt: skip
"""Held fixed as a whole."""
LINEAR = frozenset([
    "add", "sub", "subtract", "rsub", "neg", "negative", "positive", "mean", "sum", "amax", "amin", "max", "min",
    "maximum", "minimum", "cumsum", "topk", "masked_fill", "where", "pad", "tril", "triu", "nan_to_num",
])  # fmt: skip
CASTS = frozenset(["float", "double", "half", "bfloat16", "to", "type", "type_as", "detach"])
FIRST = frozenset([
    "linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "div",
    "divide", "grid_sample",
])  # fmt: skip
"""Linear in the first argument, given the others."""
NATIVE = (LINEAR | CASTS | PIECEWISE | MOVES | JOINS | SPATIAL) - FIRST
"""Linear given the pattern as they are."""
PRODUCTS = frozenset(["mul", "multiply", "matmul", "bmm", "mm", "einsum"])
ATTENTION = frozenset(["scaled_dot_product_attention", "multi_head_attention_forward"])
"""Linear in the third argument, the values, given queries and keys."""
NORMS = frozenset(["layer_norm", "group_norm", "instance_norm"])
KEEPS_GATES = MOVES | JOINS | CASTS | {
    "add", "sub", "rsub", "mul", "div", "mean", "sum", "amax", "max", "pow", "clamp", "where", "masked_fill",
    "interpolate",
}  # fmt: skip
"""Of gates alone these are gates again."""
ORDER = {
    **dict.fromkeys(["add", "sub", "mul", "multiply", "div", "divide", "maximum", "minimum"], ("input", "other")),
    "matmul": ("input", "other"),
    **dict.fromkeys(["bmm", "mm"], ("input", "mat2")),
    **dict.fromkeys(sorted(ATTENTION), ("query", "key", "value")),
    **dict.fromkeys(sorted(JOINS), ("tensors",)),
    **dict.fromkeys(sorted(FIRST - {"div", "divide"}), ("input", "weight")),
}  # fmt: skip
"""Names of the arguments that stand first; else ``input``."""
_SAME = {
    "iadd": "add", "radd": "add", "isub": "sub", "imul": "mul", "rmul": "mul", "truediv": "div", "itruediv": "div",
    "true_divide": "div", "rtruediv": "rdiv", "rmatmul": "matmul", "imatmul": "matmul", "ipow": "pow",
    "log_sigmoid": "logsigmoid",
}  # fmt: skip


def name_of(function: Callable[..., Any]) -> str:
    """Return one name for the forms of an operation: `add` of `torch.add`, `Tensor.add_`, `Tensor.__iadd__`."""
    name = getattr(function, "__name__", str(function))
    if name == "__get__":  # a property, such as Tensor.T
        name = getattr(getattr(function, "__self__", None), "__name__", name)
    name = name.strip("_")
    return _SAME.get(name, name)


def in_order(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments with those in place that were given by their names."""
    kwargs = dict(kwargs)
    for key in ORDER.get(name, ("input",))[len(args) :]:
        if key not in kwargs:
            break
        args = (*args, kwargs.pop(key))
    if name == "einsum" and len(args) > 1 and not isinstance(args[1], Tensor):
        args = (args[0], *args[1])
    return args, kwargs


class Pattern(TorchFunctionMode):
    """While it is on, operations on the image's numbers have the derivatives of the fixed pattern.

    Tensors that depend on the image say so by what they carry: their ``positions``, which every operation hands on, and
    ``gate``, how far they are one (`placed`).

    Parameters
    ----------
    where : str
        What to name in messages.

    Attributes
    ----------
    done : set of str
        Names of the operations on numbers of the image.
    """

    def __init__(self, where: str = "the model"):
        super().__init__()
        self.where = where
        self.done: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation."""
        name = name_of(func)
        args, kwargs = in_order(name, args, kwargs or {})
        known = {id(one): one for one in _tensors((args, kwargs)) if positions_of(one) is not None}
        # A parameter that is expanded to an image's shape, or cast to its type, is none of the image.
        lends = name in MOVES | CASTS and id(args[0]) not in known
        reached = [] if lends else [one for one in known.values() if _reached(one)]
        if not reached:
            with torch.no_grad():
                out = func(*args, **kwargs)
        else:
            self._check_in_place(func, name, args, kwargs)
            out = self._run(name, func, args, kwargs, reached)
        if lends or not known or not any(one.is_floating_point() for one in _tensors(out)):
            return out
        self.done.add(name)
        given = {key: places for key, one in known.items() if (places := positions_of(one)) is not None}
        # The ids lie otherwise in memory, where not every shape is a view.
        move = {"view": Tensor.reshape, "view_as": Tensor.reshape_as}.get(name, func)
        _place(out, output(name, out, args, kwargs, given, lambda ids: move(ids, *args[1:], **kwargs)))
        gates = [one for one in known.values() if name not in MOVES | CASTS or one is args[0]]
        gate = max(GATES.get(name, 0), min(map(gate_of, gates)) if name in KEEPS_GATES else 0)
        for one in _tensors(out) if gate else ():
            one.gate = gate  # type: ignore[attr-defined]
        return out

    def _check_in_place(self, func: Any, name: str, args: Any, kwargs: Any) -> None:
        raw = getattr(func, "__name__", "")
        written = raw.startswith("__i") or raw == "__setitem__" or (raw.endswith("_") and not raw.endswith("__"))
        if (
            written
            or kwargs.get("inplace") is True
            or (name in GATED | PIECEWISE and any(one is True for one in args[1:]))
        ):
            self._refuse(f"{name} in place")

    def _refuse(self, what: str) -> NoReturn:
        raise UserError(
            f"relevance cannot pass {what} ({self.where}): it is not known to be linear given the activation pattern; "
            "set contribution.method: grad_x_input, or auto"
        )

    def _run(self, name: str, func: Any, args: Any, kwargs: Any, reached: list[Tensor]) -> Any:
        if name in NATIVE or (name == "batch_norm" and not kwargs.get("training", args[5] if len(args) > 5 else False)):
            return func(*args, **kwargs)
        if name in GATED | SELF_NORMED:
            return _gated(name, func, args, kwargs, reached[0])
        if name in STATISTICS:
            return func(*args, **kwargs).detach()
        if name in PRODUCTS:
            return _product(func, args, kwargs)
        if name in NORMS and func is not torch.instance_norm:
            if name == "instance_norm" and not kwargs.get("use_input_stats", args[5] if len(args) > 5 else True):
                return func(*args, **kwargs)
            return _normalised(name, func(*args, **kwargs), reached[0], args, kwargs)
        if name in {"var_mean", "std_mean"}:
            deviation, mean = func(*args, **kwargs)
            return deviation.detach(), mean
        if name in FIRST:  # weights and divisors that depend on the image are the pattern
            return func(args[0], *_detached(args[1:]), **_detached(kwargs))
        if name in ATTENTION:
            return func(*_detached(args[:2]), *args[2:], **kwargs)
        if name in {"addcmul", "lerp"} and len(reached) == 1:
            return func(*args, **kwargs)
        out = func(*args, **kwargs)
        if any(one.requires_grad for one in _tensors(out)):
            self._refuse(name)
        return out  # a size, a type, a comparison


def positions_of(tensor: Tensor) -> Positions | None:
    """Return the positions of a tensor that depends on the image, else None."""
    return getattr(tensor, "positions", None)


def _reached(tensor: Tensor) -> bool:
    """Whether relevance comes to a tensor: it depends on the image, and not as a part of the pattern."""
    return tensor.requires_grad and positions_of(tensor) is not None


def gate_of(tensor: Tensor) -> int:
    """Return how far a tensor is a gate (`GATES`)."""
    return getattr(tensor, "gate", 0)


def placed(tensor: Tensor, positions: Positions | None, gate: int = 0) -> Tensor:
    """Give a tensor its positions, and say how far it is a gate."""
    tensor.positions, tensor.gate = positions, gate  # type: ignore[attr-defined]
    return tensor


def _place(out: Any, positions: Any) -> None:
    if isinstance(out, Tensor):
        if positions is not None and getattr(out, "positions", None) is None:
            out.positions = positions  # type: ignore[attr-defined]
    elif isinstance(out, (tuple, list)):
        for one, its in zip(out, positions, strict=True):
            _place(one, its)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for one in value:
            yield from _tensors(one)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, (tuple, list)):
        return (tuple if isinstance(value, tuple) else list)(_mapped(one, change) for one in value)
    if isinstance(value, dict):
        return {key: _mapped(one, change) for key, one in value.items()}
    return value


def _detached(value: Any) -> Any:
    return _mapped(value, lambda one: one if isinstance(one, nn.Parameter) else one.detach())


def _valued(value: Tensor, linear: Tensor) -> Tensor:
    """Return a tensor of one's values and another's derivatives."""
    return value.detach() + (linear - linear.detach())


def _gated(name: str, func: Any, args: Any, kwargs: Any, x: Tensor) -> Tensor:
    out, still = func(*args, **kwargs), x.detach()
    above = out.detach()
    if name in SOMETHING_AT_ZERO:  # it is a constant, like a bias: shared out it would be divided by small numbers
        above = above - func(still.new_zeros([1] * still.ndim), *args[1:], **kwargs)
    gate = torch.where(still.abs() > torch.finfo(still.dtype).tiny, above / still, 0)
    return _valued(out, x * gate)


def _product(func: Any, args: Any, kwargs: Any) -> Any:
    at = [place for place, one in enumerate(args) if isinstance(one, Tensor) and _reached(one)]
    free = [place for place in at if gate_of(args[place]) == min(gate_of(args[other]) for other in at)]
    parts = [
        func(*(one.detach() if place in at and place != kept else one for place, one in enumerate(args)), **kwargs)
        for kept in free
    ]
    return sum(parts[1:], parts[0]) / len(parts) if len(parts) > 1 else parts[0]


def _normalised(name: str, out: Tensor, x: Tensor, args: Any, kwargs: Any) -> Tensor:
    """Of a norm: the mean is linear in x, the deviation held fixed."""
    weight = kwargs.get("weight", args[3 if name == "instance_norm" else 2] if len(args) > 2 else None)
    if name == "layer_norm":
        shape = kwargs.get("normalized_shape", args[1] if len(args) > 1 else ())
        grouped, axes = x, list(range(-len(shape), 0))
    else:
        groups = x.shape[1] if name == "instance_norm" else kwargs.get("num_groups", args[1] if len(args) > 1 else None)
        grouped, axes = x.reshape(len(x), groups, -1), [-1]
        weight = None if weight is None else weight.reshape(-1, *[1] * (x.ndim - 2))
    centred = grouped - grouped.mean(axes, keepdim=True)
    still = centred.detach()
    place = 7 if name == "instance_norm" else 4
    eps = kwargs.get("eps", args[place] if len(args) > place else 1e-5)
    linear = (centred / (still.square().mean(axes, keepdim=True) + eps).sqrt()).reshape(x.shape)
    return _valued(out, linear if weight is None else linear * weight)
