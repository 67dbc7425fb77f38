"""Where a classifier comes from: what planning and loading both know of a source, without torch.

A source is ``torchvision:NAME``, ``timm:NAME``, ``path/to/file.py:factory``, ``package.module:factory``, or the name
of a drawn world, whose classifier comes with this package (`gigraph.worlds.registry`). All worlds' classifiers have one
module, which a run on somebody's own model does not rest on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gigraph.worlds.registry import MODEL, NAMES

WEIGHTS = frozenset({".pth", ".pt", ".safetensors", ".ckpt", ".bin", ".tar"})
"""Suffixes of weights files, in any case."""
RANDOM = "random"
"""In place of weights: those that torchvision's and timm's networks are made with are meant."""


def code_of(source: str) -> list[str]:
    """Return the modules of this package that make a source's model and that nothing imports but by their names."""
    return [MODEL] if source in NAMES else []


def is_weights_file(weights: str) -> bool:
    """Whether weights are a file rather than a name: by its suffix, or since it lies there."""
    return "/" in weights or Path(weights).suffix.lower() in WEIGHTS or Path(weights).exists()


def is_untrained(source: str, weights: str | None, arguments: Mapping[str, Any]) -> bool:
    """Whether a model's weights are random: those of torchvision's and timm's where none are given, or `RANDOM`."""
    return has_random(source) and (weights == RANDOM or (weights is None and not arguments.get("pretrained")))


def short_name(source: str) -> str:
    """Return what people call a source: a network's name, a drawn world's, or that of a factory's file."""
    kind, _, name = source.rpartition(":")
    return Path(kind).stem if kind.endswith(".py") else name


def has_random(source: str) -> bool:
    """Whether a source's own weights are random, so that others must be given."""
    return source.partition(":")[0] in ("torchvision", "timm")


def preset_crops(source: str, weights: str | None) -> bool:
    """Whether a source's weights come with preprocessing, which then crops images to one size.

    Those of torchvision that are chosen by name do, and those of timm, whose architectures have a preset each.
    """
    kind, _, _ = source.rpartition(":")
    named = weights not in (None, RANDOM) and not is_weights_file(weights)
    return kind == "timm" or (kind == "torchvision" and named)
