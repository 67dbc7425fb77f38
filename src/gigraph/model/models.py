"""Load the classifier that is to be explained: where it comes from, its weights, its preprocessing.

A checkpoint is read as tensors only (``weights_only=True``): a file that needs unpickling is refused.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gigraph.errors import UserError, nearest
from gigraph.model.shuffled import shuffle
from gigraph.model.sources import is_weights_file, preset_crops
from gigraph.reporting import log
from gigraph.worlds import registry as worlds

WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model")
"""Keys that a state dict lies under, the first that is there: averaged weights before others, as timm takes them."""
WRAPPERS_OF_MODULES = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What compiling and sharding put before the name of a part, wherever it is in a model."""
EXTRA = "_extra_state"
"""How the key ends of what a module keeps besides tensors."""


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
        the same at every call).
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
    file = _weights_file(weights, base)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # every job loads the model anew: random weights must be the same in all
        model = _build(source, weights, arguments, file, base)
    if file is not None:
        _load_into(model, read_state_dict(file), file)
    model = _usable(model, source)
    if getattr(model, "num_classes", None) == 0:  # as timm calls it
        raise UserError(
            f"model.source: {source} has num_classes: 0, so that it returns features and no classes; remove that from "
            "model.arguments, or from the factory"
        )
    _check_finite(model.state_dict(), f"model.source: {source}" if file is None else f"model.weights: {file}")
    if shuffled is not None:
        shuffle(model, shuffled)
    return model.eval()


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
    if source in worlds.NAMES:
        return _world(source, arguments, file)
    if kind == "torchvision":
        return _torchvision(name, None if file else weights, arguments)
    if weights is not None and file is None:
        raise UserError(
            f"model.weights: {weights!r} is no checkpoint's file, and only "
            f"torchvision models have weights by name; give {source} a file"
        )
    if kind == "timm":
        return _timm(name, arguments)
    if kind and name:
        return _made_by(_factory(kind, name, base), source, arguments)
    raise UserError(
        f"model.source: {source!r} is none of {', '.join(worlds.NAMES)}, torchvision:NAME, timm:NAME, "
        f"path/to/file.py:factory, package.module:factory{nearest(source, list(worlds.NAMES))}"
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

    known = models.list_models(module=models)
    if name not in known:
        raise UserError(f"model.source: torchvision has no classifier {name!r}{nearest(name, known)}")
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
            f"download {enum.url} elsewhere and give the file's path"
        ) from error
    except (TypeError, ValueError) as error:
        raise UserError(_failed(f"torchvision:{name}", error)) from error


def _weights_enum(name: str, weights: str) -> Any:
    from gigraph.vision import torchvision

    models = torchvision.models

    known = models.list_models(module=models)
    if name not in known:
        raise UserError(f"model.source: torchvision has no classifier {name!r}{nearest(name, known)}")
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
        raise UserError("model.source: timm is not installed; run: uv sync --extra timm") from error


def _check_timm(timm: Any, name: str) -> None:
    if not timm.is_model(name):
        raise UserError(f"model.source: timm has no model {name!r}{nearest(name, timm.list_models())}")


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
    model = getattr(model, "_orig_mod", model)  # compiled: as it was before
    tensors = [*model.parameters(), *model.buffers()]
    if any(is_lazy(tensor) for tensor in tensors):
        raise UserError(f"{what} with lazy parameters; let the factory run it on one image first")
    if any(tensor.is_meta for tensor in tensors):
        raise UserError(f"{what} on the meta device, which holds no numbers; build it on the cpu")
    if any(tensor.is_sparse or tensor.is_inference() for tensor in tensors):
        raise UserError(f"{what} with sparse tensors or tensors of inference mode; build it of plain ones")
    if any(".quantized" in type(module).__module__ for module in model.modules()):
        raise UserError(f"{what} that is quantized and has no gradients; return it as it was before")
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


def read_state_dict(file: Path) -> dict[str, Tensor]:
    """Read a state dict; wrappers (``state_dict``, ``model``, ...) are taken off.

    Parameters
    ----------
    file : Path
        .safetensors, or what torch.save wrote.

    Returns
    -------
    dict of str to Tensor

    Raises
    ------
    UserError
        If the file is missing, damaged, needs unpickling, or holds no state dict.
    """
    what = f"model.weights: {file}"
    if not file.is_file():
        is_folder = "is a folder; give the file in it" if file.is_dir() else "does not exist; correct the path"
        raise UserError(f"{what} {is_folder}")
    if file.suffix.lower() == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            content: Any = load_file(file)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{what} is damaged or no safetensors file ({_line(error)}); fetch it again") from error
    else:
        content = _read_pickle(file, what)
    while isinstance(content, Mapping):
        there = [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
        if not there:
            break
        if len(there) > 1:
            log.info("note: %s holds %s; %s is taken", file, " and ".join(there), there[0])
        content = content[there[0]]
    if not isinstance(content, Mapping) or not content or not all(map(_is_entry, content.items())):
        held = (
            f"a mapping with keys {', '.join(map(str, list(content)[:4]))}"
            if isinstance(content, Mapping)
            else type(content).__name__
        )
        raise UserError(f"{what} holds no state dict (but {held}); save model.state_dict()")
    state = {str(key): value for key, value in content.items() if value is not None}
    return state


def _is_entry(entry: tuple[Any, Any]) -> bool:
    """Return whether this can stand in a state dict: a tensor, or what a module keeps besides."""
    return isinstance(entry[1], Tensor) or str(entry[0]).endswith(EXTRA)


def _read_pickle(file: Path, what: str) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds for a damaged file
        text = str(error)
        scripted = "TorchScript" in text
        if scripted or (isinstance(error, pickle.UnpicklingError) and _is_checkpoint(file, text)):
            reason = (
                "is a TorchScript archive" if scripted else "holds more than tensors and would have to be unpickled"
            )
            raise UserError(f"{what} {reason}, which can run any code; save model.state_dict() instead") from error
        raise UserError(f"{what} is damaged or no checkpoint ({type(error).__name__}); fetch it again") from error


def _is_checkpoint(file: Path, message: str) -> bool:
    """Tell a checkpoint with objects in it from a file that is no checkpoint at all."""
    return zipfile.is_zipfile(file) or "GLOBAL" in message or "global" in message


def _load_into(model: nn.Module, state: dict[str, Tensor], file: Path) -> None:
    """Load a state dict strictly.

    Raises
    ------
    UserError
        Naming the first keys that are missing, unexpected or of another shape, and how many there are.
    """
    expected = {key: value for key, value in model.state_dict().items() if isinstance(value, Tensor)}
    state = _aligned(state, expected, file)
    # Batch counters are absent from old checkpoints and do not matter in eval.
    missing = [k for k in expected if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in expected and not k.endswith(("num_batches_tracked", EXTRA))]
    other = [k for k in expected if k in state and expected[k].shape != state[k].shape]
    if missing or unexpected or other:
        shapes = [f"{k} {list(state[k].shape)} for {list(expected[k].shape)}" for k in other]
        listed = [
            f"{len(keys)} {kind} (first: {', '.join(keys[:3])})"
            for keys, kind in ((missing, "missing"), (unexpected, "unexpected"), (shapes, "of another shape"))
            if keys
        ]
        raise UserError(
            f"model.weights: {file} is of another architecture than {type(model).__name__}: "
            f"{'; '.join(listed)}; correct model.source or model.arguments"
        )
    whole = model.state_dict()
    model.load_state_dict({key: state.get(key, own) for key, own in whole.items()})


def _aligned(state: dict[str, Any], expected: Mapping[str, Tensor], file: Path) -> dict[str, Any]:
    """Return a state dict under the model's own keys, where it has these, or most of them, behind one prefix."""
    wanted = [key for key in expected if not key.endswith("num_batches_tracked")]
    if not wanted or all(key in state for key in wanted):
        return state
    plain = {_unwrapped(key): value for key, value in state.items()}
    own = {_unwrapped(key): key for key in expected}
    some = [_unwrapped(key) for key in wanted[:: max(1, len(wanted) // 8)]]
    longer = {key.removesuffix(one) for one in some for key in plain if key == one or key.endswith(f".{one}")}
    shorter = {one.removesuffix(key) for one in some for key in plain if one.endswith(f".{key}")}
    ways = [{key: f"{prefix}{key}" for key in own} for prefix in sorted(longer, key=len)]
    ways += [{key: key.removeprefix(prefix) for key in own} for prefix in sorted(shorter, key=len)]
    if not ways:
        return plain
    way = max(ways, key=lambda way: sum(way[_unwrapped(key)] in plain for key in wanted))
    found = {own[key]: plain[there] for key, there in way.items() if there in plain}
    left = {key: plain[key] for key in plain if key not in way.values() and key.rpartition(".")[2] != "n_averaged"}
    if not all(key in found for key in wanted):
        return found | left  # what differs is said by whoever loads it
    if left:
        log.info("note: %s holds %d entries beside the model's (first: %s)", file, len(left), next(iter(left)))
    return found


def _unwrapped(key: str) -> str:
    for wrapper in WRAPPERS_OF_MODULES:
        key = key.replace(wrapper, "")
    return key


def _check_finite(state: Mapping[str, Tensor], what: str) -> None:
    for key, value in state.items():
        if isinstance(value, Tensor) and value.is_floating_point() and not torch.isfinite(value).all():
            bad = int((~torch.isfinite(value)).sum())
            raise UserError(f"{what}: {key} has {bad} NaN or infinite entries; use another checkpoint")
