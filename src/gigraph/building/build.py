"""A run from a model in memory and a folder of images, without a file of settings (see `gigraph.build`)."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gigraph.api import Run
from gigraph.building.factory import KEY, Factory, factory_of
from gigraph.building.probe import INPUT, SAID, says
from gigraph.commands.run import arguments as snakemake_arguments
from gigraph.errors import UserError, one_line
from gigraph.hashing import file_digest
from gigraph.model.checkpoints import load_weights
from gigraph.model.models import draws_weights
from gigraph.model.sources import BUILT, RANDOM
from gigraph.planning.config import PROJECT, load, with_defaults
from gigraph.planning.plan import Plan

GIVEN = "given"
"""The folder in that of the results which holds what was given: configuration, weights, source."""
CONFIG, WEIGHTS, SOURCE = "config.yaml", "weights.safetensors", BUILT
TOLERANCE = 1e-5
"""Of what two copies of a model say, by the largest that each output is."""
ROUNDING = 1e-7
"""Besides, by the largest of all outputs: that of float32."""
BUILDING = "GIGRAPH_BUILDING"
"""In the environment of all processes that a build starts: they import the user's file, and must not build again."""
PROFILE = "Using workflow specific profile"
"""How a line of Snakemake's begins that says nothing but where this package lies."""
STOPPING = 5
"""Seconds that Snakemake has after an interruption that reached it, too."""

Weights = nn.Module | Mapping[str, Tensor] | str | Path


def build(
    model_factory: str | nn.Module | Callable[..., nn.Module],
    images: str | Path | Mapping[str, Any],
    layers: Sequence[str | Mapping[str, Any]],
    out: str | Path,
    *,
    weights: Weights | None = None,
    arguments: Sequence[str] = (),
    **settings: Any,
) -> Run:
    """Run the workflow on a model in memory: see `gigraph.build`."""
    if os.environ.get(BUILDING):
        raise UserError(
            "gigraph.build is called where the model's file is imported, by each of its jobs: put the call below "
            'if __name__ == "__main__":'
        )
    root = Path(out)
    raw = settings_of(images, layers, root, settings)
    given, made, raw["model"] = _model(model_factory, weights, raw["model"])
    # What was given comes to its place only when all is well: a refusal leaves an earlier run as it is.
    with tempfile.TemporaryDirectory(prefix="gigraph-") as temporary:
        _write(Path(temporary), raw, made, _state(given, raw["model"].get("weights") or weights))
        try:
            _check(Path(temporary), raw, given)
        except UserError as error:
            of_model = str(error).startswith(("model.", KEY))
            if of_model and isinstance(model_factory, nn.Module):
                raise UserError(_alone(model_factory, str(error))) from None
            raise
        _place(Path(temporary), root / GIVEN, raw)
    file_digest.cache_clear()  # what this process knows of files that have changed now
    _run([f"--configfile={root / GIVEN / CONFIG}", *arguments])
    return Run(root)


# ---- what is given ---------------------------------------------------------------------------------------------------


def settings_of(
    images: str | Path | Mapping[str, Any], layers: Sequence[str | Mapping[str, Any]], out: Path, settings: Mapping
) -> dict[str, Any]:
    """Return a configuration as plain values, which still lacks the model's source.

    Raises
    ------
    UserError
        If a setting stands where a parameter says it, or is no plain value.
    """
    if "output" in settings:
        raise UserError("gigraph.build: output is given as out; leave it out of the settings")
    source = images if isinstance(images, Mapping) else {"source": str(images)}
    model = settings.get("model", {})
    if not isinstance(model, Mapping):
        raise UserError(
            "gigraph.build: model: it is a section, such as {'task': 'labels'}; the model itself comes first"
        )
    if "source" in model:
        raise UserError(f"gigraph.build: model.source is given as {KEY}; leave it out of the settings")
    named = [layers] if isinstance(layers, str) else layers
    raw = {"output": str(out), "images": source, "model": model, "layers": named, **settings}
    return {key: _plain(value, key) for key, value in raw.items()}


def _plain(value: Any, key: str) -> Any:
    if isinstance(value, Mapping):
        return {_plain(name, key): _plain(one, f"{key}.{name}") for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, key) for one in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise UserError(
        f"gigraph.build: {key}: a {type(value).__name__} is no plain value; give numbers, texts, lists and mappings of "
        "them"
    )


def _model(
    given: Any, weights: Weights | None, section: dict[str, Any]
) -> tuple[nn.Module | None, Factory | None, dict[str, Any]]:
    """Return the model in memory, if there is one, what makes it again, and the configuration's section.

    Raises
    ------
    UserError
        If it cannot be made again, or two things say what its weights are.
    """
    if weights is not None and section.get("weights") is not None:
        raise UserError("gigraph.build: weights and model.weights both say which weights; give one of them")
    section = {**section, **({"weights": str(weights)} if isinstance(weights, str | Path) else {})}
    if isinstance(given, str):
        return weights if isinstance(weights, nn.Module) else None, None, {**section, "source": given}
    if isinstance(given, nn.Module):
        if weights is not None or section.get("weights") is not None:
            raise UserError(f"gigraph.build: a module has its own weights; give what makes it as {KEY}")
        given = getattr(given, "_orig_mod", given)  # of torch.compile
        if section.get("arguments"):
            raise UserError(
                f"gigraph.build: model.arguments are for a function that makes the model; give that as {KEY}"
            )
        try:
            made = factory_of(type(given))
        except UserError as error:
            raise UserError(_alone(given, str(error))) from None
    elif callable(given):
        made = factory_of(given)
    else:
        raise UserError(f"{KEY}: a {type(given).__name__} is no model; give a module, what makes it, or its source")
    made_with = {**made.arguments, **section.get("arguments", {})}
    _plain(made_with, "model.arguments")
    section = {**section, "arguments": made_with, "source": made.source or f"{SOURCE}:{made.name}"}
    if isinstance(given, nn.Module):
        return given, made, section
    if isinstance(weights, nn.Module):
        return getattr(weights, "_orig_mod", weights), made, section
    model = _called(made, made_with)
    if weights is None and section.get("weights") is None and draws_weights(lambda: made.call(**made_with)):
        raise UserError(
            f"gigraph.build: {made.name} draws its model's weights at random whenever it is called, a graph of which "
            f'says nothing; give the trained module, its state dict or a file as weights, or "{RANDOM}" if meant'
        )
    if isinstance(weights, Mapping):
        return _with(model, weights), made, section
    if section.get("weights") not in (None, RANDOM):
        load_weights(model, Path(section["weights"]))
    return model, made, section


def _called(made: Factory, arguments: Mapping[str, Any]) -> nn.Module:
    """Return what a function makes, from the same random numbers as in the jobs.

    Raises
    ------
    UserError
        If it fails, or returns something else.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            model = made.call(**arguments)
        except Exception as error:  # the user's code runs here
            raise UserError(f"{KEY}: {made.name} fails: {type(error).__name__}: {one_line(error)}") from error
    if not isinstance(model, nn.Module):
        raise UserError(f"{KEY}: {made.name} returns a {type(model).__name__}, not a torch.nn.Module")
    return model


def _with(model: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """Return a model with a state dict.

    Raises
    ------
    UserError
        If that is another network's.
    """
    try:
        model.load_state_dict(weights)
    except Exception as error:  # of missing keys, other shapes, no tensors
        raise UserError(f"gigraph.build: weights: {one_line(error)}") from error
    return model


def _state(given: nn.Module | None, weights: Weights | None) -> dict[str, Tensor]:
    """Return the weights that are written: those of what is in memory."""
    if isinstance(weights, str | Path):
        return {}
    found = given.state_dict() if given is not None else weights if isinstance(weights, Mapping) else {}
    return {key: value.detach().cpu().contiguous().clone() for key, value in found.items() if isinstance(value, Tensor)}


def _alone(model: nn.Module, why: str) -> str:
    kind = type(model).__name__
    return (
        f"a {kind} does not say by itself how it is made ({why.removeprefix(f'{KEY}: ')}); give what makes it, a "
        "function or a class, and the module as its weights: gigraph.build(make_model, ..., weights=model)"
    )


# ---- the folder ------------------------------------------------------------------------------------------------------


def _write(folder: Path, raw: dict[str, Any], made: Factory | None, state: Mapping[str, Tensor]) -> None:
    """Write what was given to a folder; `raw` then names the files there without it."""
    if made is not None and made.source is None:
        (folder / SOURCE).write_text(made.text, encoding="utf-8")
    if state:
        try:
            save_file(dict(state), folder / WEIGHTS)
        except (SafetensorError, OSError, ValueError) as error:
            raise UserError(f"gigraph.build: the weights cannot be written: {one_line(error)}") from error
        raw["model"] = {**raw["model"], "weights": WEIGHTS}
    _write_config(folder / CONFIG, raw, folder)


def _write_config(file: Path, raw: Mapping[str, Any], folder: Path) -> None:
    """Write the configuration with the files that were written as they lie in a folder."""
    model = dict(raw["model"])
    if model["source"].startswith(f"{SOURCE}:"):
        model["source"] = f"{folder}/{model['source']}"
    if model.get("weights") == WEIGHTS:
        model["weights"] = f"{folder}/{WEIGHTS}"
    head = "# Written by gigraph.build; `gigraph explain` and the other commands take it by --configfile.\n"
    file.write_text(head + yaml.safe_dump({**raw, "model": model}, sort_keys=False), encoding="utf-8")


def _place(folder: Path, place: Path, raw: Mapping[str, Any]) -> None:
    """Move what was given to where it stays."""
    _write_config(folder / CONFIG, raw, place)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"gigraph.build: out: {place} cannot be made: {error.strerror or error}") from error
    for name in (SOURCE, WEIGHTS, CONFIG):
        if (folder / name).is_file():
            shutil.move(folder / name, place / name)
        else:
            (place / name).unlink(missing_ok=True)


def _check(folder: Path, raw: Mapping[str, Any], given: nn.Module | None) -> None:
    """Compare what a fresh process makes with what was given.

    Raises
    ------
    UserError
        If it cannot be made there, or says something else.
    """
    config = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    Plan(load(with_defaults(config)), PROJECT / "workflow" / "scripts").check()
    file = folder / "said"
    command = [sys.executable, "-P", "-m", "gigraph.building.probe", str(folder / CONFIG), str(file)]
    probe = subprocess.run(
        command, env={**os.environ, BUILDING: "1"}, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if not file.is_file():
        last = (probe.stderr.strip().splitlines() or [f"status {probe.returncode}"])[-1]
        raise UserError(f"{KEY}: a fresh process fails to make the model: {one_line(last)}")
    try:
        found = load_file(file)
    except SafetensorError:
        raise UserError(json.loads(file.read_text())["error"].replace(f"{folder}/", "")) from None
    if given is None:
        return
    x = found.pop(INPUT)
    try:
        # Some modules cannot be copied; and the user's own must stay in its mode and where it is.
        own = says(copy.deepcopy(given).cpu().float().eval(), x)
    except Exception as error:  # the user's code runs here
        raise UserError(f"{KEY}: the model given fails where its copy does not: {one_line(error)}") from error
    if (worst := difference(own, found)) is not None:
        raise UserError(
            f"{KEY}: what {raw['model']['source']} makes in a fresh process is another model than the one given: "
            f"{worst}. Something changes what it computes that is neither in its source nor in its state dict (a hook, "
            "a patch, an attribute, a global); let the function make the model whole"
        )


def difference(own: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> str | None:
    """Return in what two models differ by what they say; None if in nothing.

    Parameters
    ----------
    own, other : mapping of str to Tensor
        What they return for the same images.
    """
    if {*own} != {*other}:
        missing = sorted({*own} ^ {*other})[0].removeprefix(SAID)
        return f"only one returns {missing or 'a single tensor'}"
    for key, value in own.items():
        name = key.removeprefix(SAID) or "the output"
        if value.shape != other[key].shape:
            return f"{name} is {list(other[key].shape)} instead of {list(value.shape)}"
        here, there = value.double(), other[key].double()
        if not here.numel():
            continue
        largest = here.abs().max()
        # Of each output by its own size: one that is large by itself, such as by its bias, hides no other.
        bound = TOLERANCE * here.abs().amax(0) + ROUNDING * largest
        apart = (here - there).abs()
        if not bool((apart <= bound).all()):  # nor if it is not a number
            return f"{name} differs by up to {float(apart.max()):.2g}, where the largest is {float(largest):.2g}"
    return None


# ---- the workflow ----------------------------------------------------------------------------------------------------


def _run(given: Sequence[str]) -> None:
    """Run Snakemake in a process of its own, and print what it says.

    Raises
    ------
    UserError
        If the run is not complete.
    """
    command = [sys.executable, "-P", "-m", "snakemake", *snakemake_arguments(list(given))]
    terminal = sys.stderr is sys.__stderr__ and sys.stderr is not None and sys.stderr.isatty()
    pipe = None if terminal else subprocess.PIPE
    said: list[str] = []
    with subprocess.Popen(
        command, env={**os.environ, BUILDING: "1"}, stdin=subprocess.DEVNULL, stdout=pipe, text=True,
        stderr=None if terminal else subprocess.STDOUT,
    ) as process:  # fmt: skip
        try:
            for line in process.stdout or ():
                if line.startswith(PROFILE):
                    continue
                said.append(line.rstrip())
                print(line, end="", flush=True)
            process.wait()
        except KeyboardInterrupt:
            # A terminal and a notebook interrupt all processes of theirs, others only this one.
            try:
                process.wait(STOPPING)
            except subprocess.TimeoutExpired:
                process.terminate()
            raise
    if process.returncode:
        errors = [line.removeprefix("gigraph: error: ") for line in said if line.startswith("gigraph: error: ")]
        raise UserError(errors[0] if errors else "the run is not complete; what failed is named above")
