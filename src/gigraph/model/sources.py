"""Where a classifier comes from: what planning and loading both know of a source, without torch.

A source is ``torchvision:NAME``, ``timm:NAME``, ``path/to/file.py:factory``, ``package.module:factory``, or a *world*:
drawn images and a classifier of them that come with this package. A world is loaded by its name where a setting
chooses it, and imported by none of the modules that serve every run: so a run on somebody's own model and images
does not rest on its code, and planning adds what `code_of` names to what a run of the world is made from.

A world is a package with the file ``checkpoint.safetensors`` and two modules (`world_module`):

``model``
    ``build(**arguments)``, the untrained classifier; ``load(**arguments)``, the same with the weights of
    ``CHECKPOINT``, that file, in eval mode; ``MEAN`` and ``STD``, by which its pictures in [0, 1] are normalised per
    channel; ``CLASSES``, the name of each output.
``dataset``
    ``write(folder, split, count, *, seed, size)``, which draws pictures into a folder, a sub-folder per class.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

MENAGERIE = "menagerie"
WORLDS = {MENAGERIE: "gigraph.menagerie"}
"""Source -> the world's package."""
WEIGHTS = frozenset({".pth", ".pt", ".safetensors", ".ckpt", ".bin", ".tar"})
"""Suffixes of weights files, in any case."""


def world_module(source: str, module: str) -> ModuleType:
    """Return a world's module, ``model`` or ``dataset``."""
    return importlib.import_module(f"{WORLDS[source]}.{module}")


def code_of(source: str) -> list[str]:
    """Return the modules of this package that make a source's model and that nothing imports but by their names."""
    return [f"{WORLDS[source]}.model"] if source in WORLDS else []


def checkpoint_of(source: str) -> Path:
    """Return the file of the weights that come with a world."""
    spec = importlib.util.find_spec(WORLDS[source])
    assert spec and spec.origin, source
    return Path(spec.origin).with_name("checkpoint.safetensors")


def is_weights_file(weights: str) -> bool:
    """Whether weights are a file rather than a name: by its suffix, or since it lies there."""
    return "/" in weights or Path(weights).suffix.lower() in WEIGHTS or Path(weights).exists()


def preset_crops(source: str, weights: str | None) -> bool:
    """Whether a source's weights come with preprocessing, which then crops images to one size.

    Those of torchvision that are chosen by name do, and those of timm, whose architectures have a preset each.
    """
    kind, _, _ = source.rpartition(":")
    return kind == "timm" or (kind == "torchvision" and weights is not None and not is_weights_file(weights))
