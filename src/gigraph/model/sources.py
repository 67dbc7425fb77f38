"""Where a classifier comes from: what planning and loading both know of a source, without torch.

A source is ``torchvision:NAME``, ``timm:NAME``, ``path/to/file.py:factory``, ``package.module:factory``, or the name
of a drawn world, whose classifier comes with this package (`gigraph.worlds.registry`). All worlds' classifiers have one
module, which a run on somebody's own model does not rest on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gigraph.errors import UserError
from gigraph.worlds.registry import MODEL, NAMES

WEIGHTS = frozenset({".pth", ".pt", ".safetensors", ".ckpt", ".bin", ".tar"})
"""Suffixes of weights files, in any case."""
RANDOM = "random"
"""In place of weights: those that a network is made with are meant, which are drawn."""
BUILT = "factory.py"
"""The file that `gigraph.build` writes what makes a model to."""
LIBRARIES = ("torchvision", "timm")
"""Whose networks are made with random weights."""


def code_of(source: str) -> list[str]:
    """Return the modules of this package that make a source's model and that nothing imports but by their names."""
    return [MODEL] if source in NAMES else []


def is_weights_file(weights: str) -> bool:
    """Whether weights are a file rather than a name: by its suffix, or since it lies there."""
    if weights == RANDOM:
        return False
    return "/" in weights or Path(weights).suffix.lower() in WEIGHTS or Path(weights).exists()


def check_weights(source: str, weights: str | None, arguments: Mapping[str, Any]) -> None:
    """Refuse weights that a source does not have, and random ones that nobody has asked for.

    Of a factory's own weights nobody knows before it is called (`gigraph.model.models.draws_weights`).

    Raises
    ------
    UserError
        For a name where there are none, for weights among the arguments, and for none.
    """
    library, _, _ = source.partition(":")
    if library in LIBRARIES:
        for key in ("pretrained", "weights"):
            if key in arguments:
                raise UserError(f"model.arguments: {key} says which weights; say that in model.weights")
    if weights is None and library in LIBRARIES:
        name = ", a name such as DEFAULT" * (library == "torchvision")
        raise UserError(
            f"model.weights: none are given, and those of {source} itself are random, a graph of which says "
            f"nothing; give a checkpoint's file{name}, or {RANDOM} if that is what you mean"
        )
    check_named(source, weights)


def check_named(source: str, weights: str | None) -> None:
    """Refuse weights by name of a source that has none.

    Raises
    ------
    UserError
        With the name.
    """
    if weights is None or is_weights_file(weights) or source.startswith("torchvision:"):
        return
    if weights != RANDOM or source in NAMES:
        raise UserError(
            f"model.weights: {weights!r} is no checkpoint's file, and only torchvision's networks have weights by "
            f"name; give {source} a file"
        )


def short_name(source: str) -> str:
    """Return what people call a source: a network's name, a drawn world's, or that of a factory's file."""
    kind, _, name = source.rpartition(":")
    return Path(kind).stem if kind.endswith(".py") and Path(kind).name != BUILT else name


def preset_crops(source: str, weights: str | None) -> bool:
    """Whether a source's weights come with preprocessing, which then crops images to one size.

    Those of torchvision that are chosen by name do, and those of timm, whose architectures have a preset each.
    """
    kind, _, _ = source.rpartition(":")
    named = weights is not None and weights != RANDOM and not is_weights_file(weights)
    return kind == "timm" or (kind == "torchvision" and named)
