"""Checkpoints: the tensors in a file, and which of them are a model's weights.

A file is a tree of mappings, so each tensor has one path in it: ``state_dict.model.fc.weight``. A model's weights are
there if all its keys are, behind one lead (``state_dict.model.``), whatever wrapped them. Where a file holds several
networks that fit, averaged weights are taken, as timm does, and otherwise none: which is meant nobody can tell.

Nothing is unpickled: a file is read as tensors (``weights_only=True``), and objects in it come out empty.
"""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gigraph.errors import UserError
from gigraph.foreign import foreign
from gigraph.reporting import log

WRAPPERS_OF_MODULES = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What compiling and sharding put before the name of a part, wherever it is in a model."""
EXTRA = "_extra_state"
"""How the key ends of what a module keeps besides tensors."""
COUNTERS = ("num_batches_tracked", "n_averaged", EXTRA)
"""How keys end that change nothing of what a model in eval mode says."""
AVERAGED = re.compile(r"(^|[._])(ema|swa|avg|averaged?)([._]|$)")
"""In the lead of weights that are an average over the training."""
SAMPLED = 8
"""Keys by which leads are found."""


def load_weights(model: nn.Module, file: Path, name: str = "") -> None:
    """Load a checkpoint into a model.

    Parameters
    ----------
    model : nn.Module
        Its parameters are all there (no lazy ones).
    file : Path
        .safetensors, or what torch.save wrote.
    name : str, optional
        What the model is called.

    Raises
    ------
    UserError
        If the file is missing, damaged, of another kind, or holds objects only; if it is of another architecture, with
        the first key that is missing, unexpected or of another shape; if it holds several networks that fit; if its
        tensors are no ordinary numbers.
    """
    what = f"model.weights: {file}"
    own = model.state_dict()
    expected = {key: value for key, value in own.items() if isinstance(value, Tensor)}
    places = _places(read_checkpoint(file), expected)
    whole = [place for place in places if not place.differences]
    if not whole:
        behind = f", behind {places[0].lead}," if places[0].lead else ""
        raise UserError(
            f"{what}{behind} is of another architecture than {name or type(model).__name__}: "
            f"{'; '.join(places[0].differences)}; correct model.source or model.arguments"
        )
    place = _meant(whole, file)
    for key, value in place.found.items():
        if strange := _strange(value, expected[key]):
            raise UserError(
                f"{what}: {key} is {strange}, not the numbers of an ordinary model; save the weights as float32"
            )
    if place.beside:
        log.info("note: %s holds %d entries beside the model's (first: %s)", file, len(place.beside), place.beside[0])
    model.load_state_dict({key: place.found.get(key, value) for key, value in own.items()})


def outputs_in(file: Path, model: nn.Module, outputs: int) -> int | None:
    """Return how many outputs a checkpoint's network has, if it is a model's but for their number.

    Parameters
    ----------
    file : Path
    model : nn.Module
    outputs : int
        Of the model.

    Returns
    -------
    int or None
        None if it is the model's, or differs in more.

    Raises
    ------
    UserError
        If the file is no checkpoint.
    """
    expected = {key: value for key, value in model.state_dict().items() if isinstance(value, Tensor)}
    place = _places(read_checkpoint(file), expected)[0]
    differing = [(key, value) for key, value in place.found.items() if value.shape != expected[key].shape]
    heads = {value.shape[0] for _, value in differing if value.ndim}
    same = all(
        value.ndim and expected[key].shape[:1] == (outputs,) and value.shape[1:] == expected[key].shape[1:]
        for key, value in differing
    )
    whole = all("of another shape" in difference for difference in place.differences)
    return heads.pop() if differing and same and whole and len(heads) == 1 else None


# ---- the network in a file ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes
    ----------
    tensors : dict of str to Tensor
        By their paths through the mappings, without what compiling and sharding put in. What a module keeps besides
        tensors is there as it is.
    homes : dict of str to str
        Of each, the path of the mapping that it lies in.
    """

    tensors: dict[str, Tensor]
    homes: dict[str, str]


@dataclass(frozen=True)
class _Place:
    """Where a model's weights may be: its keys are `stem` + rest, those in the file `lead` + rest."""

    stem: str
    lead: str
    checkpoint: Checkpoint
    expected: Mapping[str, Tensor]

    @cached_property
    def names(self) -> dict[str, str]:
        """Of each key of the model that is there, its path in the file."""
        plain = {key: _unwrapped(key) for key in self.expected}
        there = {
            key: self.lead + name.removeprefix(self.stem) for key, name in plain.items() if name.startswith(self.stem)
        }
        return {key: path for key, path in there.items() if path in self.checkpoint.tensors}

    @cached_property
    def found(self) -> dict[str, Tensor]:
        """The model's weights."""
        return {key: self.checkpoint.tensors[path] for key, path in self.names.items()}

    @cached_property
    def _others(self) -> list[str]:
        """What else there is in the mapping that the weights lie in."""
        homes = self.checkpoint.homes
        here, used = {homes[path] for path in self.names.values()} or {*homes.values()}, {*self.names.values()}
        return [p for p, home in homes.items() if home in here and p not in used and not p.endswith(COUNTERS)]

    @property
    def beside(self) -> list[str]:
        """What lies beside the network."""
        return [path for path in self._others if not path.startswith(self.lead)]

    @cached_property
    def differences(self) -> list[str]:
        """What differs between the network there and the model; nothing where it is the model's."""
        # Batch counters are absent from old checkpoints.
        missing = [key for key in self.expected if key not in self.found and not key.endswith(COUNTERS)]
        unexpected = [path.removeprefix(self.lead) for path in self._others if path.startswith(self.lead)]
        shapes = [
            f"{key} {list(value.shape)} for {list(self.expected[key].shape)}"
            for key, value in self.found.items()
            if value.shape != self.expected[key].shape
        ]
        return [
            f"{len(keys)} {kind} (first: {keys[0]})"
            for keys, kind in ((missing, "missing"), (unexpected, "unexpected"), (shapes, "of another shape"))
            if keys
        ]

    def says_the_same(self, other: _Place) -> bool:
        """Return whether the weights here are those of another place."""
        pairs = ((value, other.found.get(key, value)) for key, value in self.found.items())
        return all(one is two or (one.dtype == two.dtype and torch.equal(one, two)) for one, two in pairs)


def _places(checkpoint: Checkpoint, expected: Mapping[str, Tensor]) -> list[_Place]:
    """Return the places where a model's weights may be, those first that hold most of them."""
    wanted = [_unwrapped(key) for key in expected if not key.endswith(COUNTERS)]
    ways = {("", "")}
    for stem in _stems(wanted):
        rests = [key.removeprefix(stem) for key in wanted if key.startswith(stem)]
        for rest in rests[:: max(1, len(rests) // SAMPLED)]:
            ways |= {
                (stem, path.removesuffix(rest))
                for path in checkpoint.tensors
                if path == rest or path.endswith(f".{rest}")
            }
    found = [_Place(stem, lead, checkpoint, expected) for stem, lead in sorted(ways)]
    return sorted(found, key=lambda place: (-len(place.names), bool(place.differences), len(place.lead)))


def _stems(keys: Sequence[str]) -> list[str]:
    """Return the beginnings that most of a model's keys share: what its own wrapper put before them, and nothing."""
    shared = Counter(key[: dot + 1] for key in keys for dot in range(len(key)) if key[dot] == ".")
    return ["", *(stem for stem, count in shared.items() if 2 * count > len(keys))]


def _meant(whole: Sequence[_Place], file: Path) -> _Place:
    """Return the one of several places that fit whose weights are meant.

    Raises
    ------
    UserError
        If that cannot be told.
    """
    others: list[_Place] = []
    for place in whole:
        if not any(place.says_the_same(other) for other in others):
            others.append(place)
    if len(others) == 1:
        return others[0]
    averaged = [place for place in others if AVERAGED.search(place.lead)]
    names = " and ".join(place.lead.rstrip(".") or "its own keys" for place in others[:4])
    if len(averaged) != 1:
        raise UserError(
            f"model.weights: {file} holds {len(others)} networks that fit: {names}; save the one that "
            "is meant by itself (its state_dict)"
        )
    log.info("note: %s holds %s; %s is taken", file, names, averaged[0].lead.rstrip("."))
    return averaged[0]


def _unwrapped(key: str) -> str:
    for wrapper in WRAPPERS_OF_MODULES:
        key = key.replace(wrapper, "")
    return key


def _strange(value: Tensor, own: Tensor) -> str | None:
    """Return what a tensor is that cannot stand for the model's own; None of one that can."""
    if value.is_meta:
        return "on the meta device, without numbers"
    if value.is_quantized or value.layout != torch.strided:
        return "quantized" if value.is_quantized else "sparse"
    if value.is_floating_point() != own.is_floating_point() or value.is_complex() != own.is_complex():
        return str(value.dtype).removeprefix("torch.")
    return None


# ---- reading -----------------------------------------------------------------------------------------------


def read_checkpoint(file: Path) -> Checkpoint:
    """Read the tensors of a file.

    Parameters
    ----------
    file : Path
        .safetensors, or what torch.save wrote; which of both, its content says.

    Raises
    ------
    UserError
        If the file is missing, damaged, of another kind, or holds no tensors.
    """
    what = f"model.weights: {file}"
    if not file.is_file():
        is_folder = "is a folder; give the file in it" if file.is_dir() else "does not exist; correct the path"
        raise UserError(f"{what} {is_folder}")
    if strange := foreign(file):
        raise UserError(f"{what} is no checkpoint, but {strange}")
    content, objects = _read_safetensors(file, what) if _is_safetensors(file) else _read_pickle(file, what)
    tensors: dict[str, Tensor] = {}
    homes: dict[str, str] = {}
    for home, key, value in _leaves(content):
        path = _unwrapped(f"{home}{key}")
        tensors[path], homes[path] = value, home
    if not tensors:
        if objects:
            raise UserError(
                f"{what} holds objects ({', '.join(objects[:2])}) that would have to be unpickled, which can run any "
                "code, and no tensors beside them; save model.state_dict() instead"
            )
        keys = ", ".join(map(str, list(content)[:4])) if isinstance(content, Mapping) else ""
        held = f"a mapping {f'with keys {keys}' if keys else 'of nothing'}"
        held = held if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise UserError(f"{what} holds no state dict (but {held}); save model.state_dict()")
    return Checkpoint(tensors, homes)


def _leaves(content: Any, home: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield (path of the mapping, key, value) of each tensor, and of what modules keep besides."""
    if not isinstance(content, Mapping):
        return
    for key, value in content.items():
        if isinstance(value, Tensor) or (str(key).endswith(EXTRA) and value is not None):
            yield home, str(key), value
        else:
            yield from _leaves(value, f"{home}{key}.")


def _is_safetensors(file: Path) -> bool:
    """Return whether a file is one of safetensors, or is called so and is no archive of torch's."""
    with file.open("rb") as stream:
        head = stream.read(9)
    starts = head[8:] == b"{" and int.from_bytes(head[:8], "little") < file.stat().st_size
    return starts or (file.suffix.lower() == ".safetensors" and not zipfile.is_zipfile(file))


def _read_safetensors(file: Path, what: str) -> tuple[Any, list[str]]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file), []
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{what} is damaged or no safetensors file ({reason}); fetch it again") from error


class _Empty:
    """Stands for an object in a checkpoint, such as the arguments of a training: takes anything, keeps nothing."""

    def __init__(self, *_: Any, **__: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _read_pickle(file: Path, what: str) -> tuple[Any, list[str]]:
    """Return what torch.save wrote, objects empty, and the names of their classes."""
    try:
        zipped = zipfile.is_zipfile(file)
        objects = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(file)) if zipped else []
        # A stream, for by a name torch would choose its reader.
        with file.open("rb") as stream, torch.serialization.safe_globals([(_Empty, name) for name in objects]):
            return torch.load(stream, map_location="cpu", weights_only=True), objects
    except Exception as error:  # torch.load raises many kinds for a damaged file
        inside = _files_in(file)
        if "constants.pkl" in inside:
            reason = "is a TorchScript archive, which can run any code"
        elif "data.pkl" in inside or "global" in str(error).lower():
            reason = "holds more than tensors and would have to be unpickled, which can run any code"
        else:
            raise UserError(f"{what} is damaged or no checkpoint ({type(error).__name__}); fetch it again") from error
        raise UserError(f"{what} {reason}; save model.state_dict() instead") from error


def _files_in(file: Path) -> set[str]:
    """Return the names of the files in an archive, without their folders; none of what is no archive."""
    if not zipfile.is_zipfile(file):
        return set()
    with zipfile.ZipFile(file) as archive:
        return {name.rpartition("/")[2] for name in archive.namelist()}
