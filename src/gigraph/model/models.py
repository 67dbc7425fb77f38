"""Load the classifier that is to be explained: where it comes from, its weights, its preprocessing."""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gigraph.errors import UserError, install, nearest
from gigraph.model.checkpoints import load_weights
from gigraph.model.shuffled import shuffle
from gigraph.model.sources import RANDOM, check_named, check_weights, is_weights_file, preset_crops
from gigraph.reporting import log
from gigraph.worlds import registry as worlds

QUANTIZED = frozenset({"quantized", "quantization", "qat"})
"""Packages of torch's whose modules hold or watch for numbers of few bits."""


def load_model(
    source: str,
    *,
    weights: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    shuffled: int | None = None,
    base: Path = Path(),
) -> nn.Module:
    """Build a classifier and load its weights.

    Parameters
    ----------
    source : str
        A drawn world's name, ``torchvision:NAME``, ``timm:NAME``, ``path/to/file.py:factory`` or
        ``package.module:factory``.
    weights : str or None
        A torchvision weights name (``IMAGENET1K_V2``, ``DEFAULT``), or a checkpoint's file.
        None: what the source itself gives (a drawn world's shipped checkpoint; random for torchvision, timm, but
        the same at every call, as is ``random``).
    arguments : mapping or None
        Keyword arguments of the constructor or factory.
    shuffled : int or None
        Seed that the weights of each layer are shuffled by (`gigraph.model.shuffled`).
    base : Path
        Folder that relative paths start from.

    Returns
    -------
    nn.Module
        In eval mode, on the CPU.

    Raises
    ------
    UserError
        One line for: an unknown source, name or factory; a factory that raises or returns no module; a
        weights file that is missing, damaged, holds no state dict, needs unpickling, is of another
        architecture, or has NaN or infinite entries.
    """
    arguments = dict(arguments or {})
    if weights == RANDOM and source not in worlds.NAMES:
        weights = None
    file = _weights_file(weights, base)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # every job loads the model anew: random weights must be the same in all
        model = _build(source, weights, arguments, file, base)
    model = _usable(model, source)  # in float32 before its weights are, so that none of theirs are rounded
    if file is not None:
        load_weights(model, file, source)
    if getattr(model, "num_classes", None) == 0:  # as timm calls it
        raise UserError(
            f"model.source: {source} has num_classes: 0, so that it returns features and no classes; remove that from "
            "model.arguments, or from the factory"
        )
    _check_finite(model.state_dict(), f"model.source: {source}" if file is None else f"model.weights: {file}")
    if shuffled is not None:
        shuffle(model, shuffled)
    return model.eval()


def draws_weights(make: Callable[[], object]) -> bool:
    """Return whether what a function makes has weights that are drawn: other ones from other random numbers."""
    states = []
    for seed in (0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            states.append(made.state_dict() if isinstance(made := make(), nn.Module) else {})
    return any(
        isinstance(value, Tensor) and not value.is_meta and not torch.equal(value, states[1].get(key, value))
        for key, value in states[0].items()
    )


def check_own_weights(source: str, weights: str | None, arguments: Mapping[str, Any], base: Path = Path()) -> None:
    """Refuse a factory's own weights where they are random, and nobody has asked for these.

    Parameters
    ----------
    source, weights, arguments, base
        As of `load_model`.

    Raises
    ------
    UserError
        If they are drawn anew whenever the factory is called.
    """
    check_weights(source, weights, arguments)
    if weights is not None or source in worlds.NAMES:
        return
    if draws_weights(lambda: _build(source, None, dict(arguments), None, base)):
        raise UserError(
            f"model.weights: none are given, and {source} draws its own at random whenever it is called, a graph of "
            f"which says nothing; give a checkpoint's file, load one in the factory, or write {RANDOM} if you mean that"
        )


def preset_of(source: str, weights: str | None = None) -> dict[str, Any] | None:
    """Return the preprocessing that belongs to a source's weights.

    Parameters
    ----------
    source, weights : str
        As `load_model`.

    Returns
    -------
    dict or None
        Keys resize, crop, mean, std, interpolation, antialias, way, pads: those of
        `gigraph.images.preprocessing.Preprocessing`.
        None where the source has no preset (a weights file of torchvision, a user's module).
    """
    if source in worlds.NAMES:
        known = worlds.model()
        return {"mean": known.MEAN, "std": known.STD}
    if not preset_crops(source, weights):
        return None
    kind, _, name = source.rpartition(":")
    if kind == "torchvision":
        assert weights is not None
        preset = _weights_enum(name, weights).transforms()
        return {
            "resize": preset.resize_size[0],
            "crop": preset.crop_size[0],
            "mean": tuple(preset.mean),
            "std": tuple(preset.std),
            "interpolation": preset.interpolation.value,
            "antialias": bool(preset.antialias),
        }
    timm = _import_timm()
    from timm.data import resolve_data_config

    _check_timm(timm, name)
    config = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    crop = tuple(config["input_size"][1:])
    resize = tuple(math.floor(side / config["crop_pct"]) for side in crop)
    way = config["crop_mode"]
    return {
        # As timm's own transforms: the shorter side alone where the sides' ratio is kept.
        "resize": resize[0] if way == "center" and len({*resize}) == 1 else resize,
        "crop": crop[0] if len({*crop}) == 1 else crop,
        "way": way,
        "pads": True,
        "mean": tuple(config["mean"]),
        "std": tuple(config["std"]),
        "interpolation": config["interpolation"],
        "antialias": True,
    }


# ---- sources -----------------------------------------------------------------------------------------------


def _build(source: str, weights: str | None, arguments: dict[str, Any], file: Path | None, base: Path) -> nn.Module:
    kind, _, name = source.rpartition(":")
    if kind == "torchvision":
        return _torchvision(name, None if file else weights, arguments)
    if file is None:
        check_named(source, weights)
    if source in worlds.NAMES:
        return _world(source, arguments, file)
    if kind == "timm":
        return _timm(name, arguments)
    check_source(source)
    return _made_by(_factory(kind, name, base), source, arguments)


def check_source(source: str) -> None:
    """Refuse what can name no model, and a classifier that torchvision does not have.

    Raises
    ------
    UserError
    """
    from gigraph.vision import torchvision

    kind, _, name = source.rpartition(":")
    known = torchvision.models.list_models(module=torchvision.models)
    if kind == "torchvision" and name not in known:
        raise UserError(f"model.source: torchvision has no classifier {name!r}{nearest(name, known)}")
    if source in worlds.NAMES or (kind and name):
        return
    if source.endswith(".py"):
        raise UserError(
            f"model.source: {source} is a file; name its function or class that makes the model, too: {source}:NAME"
        )
    meant = nearest(source, worlds.NAMES) or (nearest(source, known) if source else "")
    hint = f"; did you mean torchvision:{source}?" if source in known else meant
    raise UserError(
        f"model.source: {source!r} is none of {', '.join(worlds.NAMES)}, torchvision:NAME, timm:NAME, "
        f"path/to/file.py:factory, package.module:factory{hint}"
    )


def _world(source: str, arguments: dict[str, Any], file: Path | None) -> nn.Module:
    if arguments:
        names = ", ".join(arguments)
        raise UserError(f"model.arguments: the model of {source} does not take any ({names}); remove them")
    shipped, known = worlds.checkpoint_of(source), worlds.model()
    return known.load(shipped) if file is None else known.build(known.outputs(shipped))


def _torchvision(name: str, weights: str | None, arguments: dict[str, Any]) -> nn.Module:
    from gigraph.vision import torchvision

    models = torchvision.models

    check_source(f"torchvision:{name}")
    enum = None if weights is None else _weights_enum(name, weights)
    if enum is None and name in {"googlenet", "inception_v3"}:
        arguments.setdefault("init_weights", False)  # minutes of drawing random weights otherwise
    try:
        return models.get_model(name, weights=enum, **arguments)
    except (OSError, RuntimeError) as error:
        if enum is None:
            raise UserError(_failed(f"torchvision:{name}", error)) from error
        raise UserError(
            f"model.weights: {name} {weights} cannot be fetched ({_line(error)}); "
            f"download {enum.url} elsewhere, give the file's path, and say preprocessing, which a file does not"
        ) from error
    except (TypeError, ValueError) as error:
        raise UserError(_failed(f"torchvision:{name}", error)) from error


def _weights_enum(name: str, weights: str) -> Any:
    from gigraph.vision import torchvision

    models = torchvision.models

    check_source(f"torchvision:{name}")
    enum = models.get_model_weights(name)
    member = weights.rpartition(".")[2]  # ResNet50_Weights.IMAGENET1K_V2 is accepted too
    if member not in enum.__members__:
        names = ", ".join(enum.__members__)
        raise UserError(
            f"model.weights: torchvision's {name} has no weights {weights!r}; it has {names}, or give a file"
        )
    return enum[member]


def _timm(name: str, arguments: dict[str, Any]) -> nn.Module:
    timm = _import_timm()
    _check_timm(timm, name)
    return _made_by(lambda **kw: timm.create_model(name, pretrained=False, **kw), f"timm:{name}", arguments)


def _import_timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise UserError(f"model.source: timm is not installed; run: {install('timm')}") from error


def _check_timm(timm: Any, name: str) -> None:
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise UserError(f"model.source: timm has no model {name!r}{nearest(name, timm.list_models())}")
    tags = [one.partition(".")[2] for one in timm.list_models(f"{architecture}.*", include_tags=True)]
    if "." in name and tag not in tags:
        known = f"it has {', '.join(tags[:6])}" if tags else "it has none"
        raise UserError(f"model.source: timm's {architecture} has no weights {tag!r}{nearest(tag, tags)} ({known})")


def _factory(home: str, name: str, base: Path) -> Any:
    """Return the attribute `name` of a Python file or an importable module."""
    with _importable(base):
        if home.endswith(".py"):
            file = base / home
            if not file.is_file():
                raise UserError(f"model.source: there is no file {file}; correct the path")
            module = _run_file(file)
        else:
            try:
                module = importlib.import_module(home)
            except (Exception, SystemExit) as error:  # the user's code runs here
                raise UserError(
                    f"model.source: {home} cannot be imported: {_line(error)}; "
                    "write path/to/file.py:factory, torchvision:NAME, timm:NAME or an installed module"
                ) from error
    if not hasattr(module, name):
        public = [key for key in vars(module) if not key.startswith("_")]
        raise UserError(f"model.source: {home} has no {name!r}{nearest(name, public)}")
    return getattr(module, name)


def _run_file(file: Path) -> Any:
    module_name = f"gigraph_user_{file.stem}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and torch.fx look a class's module up
    try:
        with _importable(file.parent):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's code runs here
        raise UserError(f"model.source: {file} fails when imported: {_line(error)}") from error
    return module


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let a user's file import its neighbours."""
    entry = str(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)


def _made_by(factory: Callable[..., Any], source: str, arguments: dict[str, Any]) -> nn.Module:
    if isinstance(factory, nn.Module) and not arguments:
        return factory
    if not callable(factory) or isinstance(factory, nn.Module):
        raise UserError(f"model.source: {source} is no factory; name a function or class that returns the model")
    try:
        model = factory(**arguments)
    except (Exception, SystemExit) as error:  # the user's code runs here
        raise UserError(_failed(source, error)) from error
    if not isinstance(model, nn.Module):
        raise UserError(f"model.source: {source} returns a {type(model).__name__}, not a torch.nn.Module")
    return model


def _usable(model: nn.Module, source: str) -> nn.Module:
    """Return a model in float32 whose parameters are all there.

    Raises
    ------
    UserError
        If it is quantized, lazy, sparse, on the meta device, of inference mode, scripted or exported.
    """
    what = f"model.source: {source} returns a model"
    model = _uncompiled(model)
    tensors = [*model.parameters(), *model.buffers()]
    if any(is_lazy(tensor) for tensor in tensors):
        raise UserError(f"{what} with lazy parameters; let the factory run it on one image first")
    if any(tensor.is_meta for tensor in tensors):
        raise UserError(f"{what} on the meta device, which holds no numbers; build it on the cpu")
    if any(tensor.is_sparse or tensor.is_inference() for tensor in tensors):
        raise UserError(f"{what} with sparse tensors or tensors of inference mode; build it of plain ones")
    homes = [type(module).__module__.split(".") for module in model.modules()]
    if any(home[0] in ("torch", "torchao") and QUANTIZED & {*home} for home in homes):
        raise UserError(f"{what} that is quantized, or prepared for it; return it as it was before")
    if isinstance(model, torch.jit.ScriptModule):
        raise UserError(f"{what} of TorchScript, whose parts cannot be told apart; return the module it was made from")
    try:
        model.eval()
    except NotImplementedError:
        raise UserError(f"{what} that torch.export made; return the module that it was made from") from None
    kinds = {tensor.dtype for tensor in tensors if tensor.is_floating_point()} - {torch.float32}
    if kinds:
        names = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
        log.info("note: the model's numbers are %s; they are cast to float32", names)
    return model.float()


def _uncompiled(model: nn.Module) -> nn.Module:
    """Return a model whose compiled parts, or which itself, are as they were before."""
    model = getattr(model, "_orig_mod", model)
    for name, part in model._modules.items():
        if part is not None and (plain := _uncompiled(part)) is not part:
            setattr(model, name, plain)
    return model


def _failed(source: str, error: BaseException) -> str:
    return f"model.source: {source} fails: {_line(error)}; correct it or model.arguments"


def _line(error: BaseException) -> str:
    """Return an exception's message as one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


# ---- weights -----------------------------------------------------------------------------------------------


def _weights_file(weights: str | None, base: Path) -> Path | None:
    """Return the file that `weights` means, or None if it is a name."""
    return base / weights if weights is not None and is_weights_file(weights) else None


def _check_finite(state: Mapping[str, Tensor], what: str) -> None:
    for key, value in state.items():
        if isinstance(value, Tensor) and value.is_floating_point() and not torch.isfinite(value).all():
            bad = int((~torch.isfinite(value)).sum())
            raise UserError(f"{what}: {key} has {bad} NaN or infinite entries; use another checkpoint")
