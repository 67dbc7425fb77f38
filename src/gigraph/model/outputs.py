"""What a model returns, and where in it the logits are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx

from gigraph.errors import UserError, nearest

KEY = "model.output"
NAMES = ("logits", "logit", "scores", "predictions")
"""What the logits are called, where a model returns several things of their shape; the first one that is there."""


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Return the tensors, or the nodes of a traced graph, in what a model returns, by their paths.

    Parameters
    ----------
    value : tensor, node, or a tuple, list, mapping or dataclass of such
        A node that makes a dataclass or a named tuple counts as one.

    Returns
    -------
    dict
        Path -> leaf: ``""`` for the value itself, else keys, attributes and indices such as ``heads.0.logits``.
    """
    if isinstance(value, fx.Node) and (names := _names(value.target)):
        inside: Any = {**dict(zip(names, value.args, strict=False)), **value.kwargs}
    elif isinstance(value, Mapping):
        inside = value
    elif names := _names(type(value)):
        inside = {name: getattr(value, name) for name in names}
    elif isinstance(value, (tuple, list)):
        inside = dict(enumerate(value))
    else:
        return {path: value} if isinstance(value, (Tensor, fx.Node)) else {}
    found: dict[str, Any] = {}
    for key, one in inside.items():
        found |= leaves(one, f"{path}.{key}" if path else str(key))
    return found


def makes_record(node: fx.Node) -> bool:
    """Return whether a node makes a dataclass or a named tuple."""
    return node.op == "call_function" and bool(_names(node.target))


def _names(kind: Any) -> list[str]:
    """Return the fields of a dataclass or a named tuple; none of another thing."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    return list(getattr(kind, "_fields", ()))


def logits_of(value: Any, images: int, name: str, wanted: str | None = None) -> str | None:
    """Return the path of the logits in what a model returned for a batch.

    Parameters
    ----------
    value : Any
        What the model returned.
    images : int
        In the batch.
    name : str
        What to call the model in messages.
    wanted : str, optional
        The path that the user names.

    Returns
    -------
    str or None
        None where nothing has the shape of logits, [N, K] or [N].

    Raises
    ------
    UserError
        If the path named is not there, or none is named and several could be meant.
    """
    every = leaves(value)
    shapes = {
        path: list(one.shape)
        for path, one in every.items()
        if one.ndim in (1, 2) and len(one) == images and one.is_floating_point()
    }
    if wanted is not None:
        if wanted not in every:
            raise UserError(f"{KEY}: {name} returns nothing called {wanted!r}{nearest(wanted, list(every))}")
        if wanted not in shapes:
            raise UserError(f"{KEY}: {wanted} of {name} is {list(every[wanted].shape)}, not logits [N, K] or [N]")
        return wanted
    if len(shapes) < 2:
        return next(iter(shapes), None)
    called = [[path for path in shapes if path.rpartition(".")[2] == one] for one in NAMES]
    found = next(filter(None, called), [])
    if len(found) != 1:
        listed = ", ".join(f"{path} {shape}" for path, shape in shapes.items())
        raise UserError(f"{name} returns several things of the shape of logits: {listed}; say which in {KEY}")
    return found[0]
