"""Concepts taken out of a model, or made stronger: the edited model, and what it does on images, before and after.

The concepts are those of a finished run. The edit is `gigraph.method.projection`'s at the layer's own place in the
user's module (`gigraph.model.placing`), folded into its weights where that is exact (`gigraph.model.folding`). As a
control, as many concepts of the same layers are drawn at random, several times, and all is measured of them as well.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from gigraph.edit_circuits import circuits
from gigraph.edit_images import Images, Look, facts, measure, of_folder, of_run
from gigraph.errors import UserError, nearest
from gigraph.hashing import mix, text_key
from gigraph.images.naming import find_class
from gigraph.method.before_after import compared
from gigraph.method.projection import Change, agreement, mean_direction, span
from gigraph.model.folding import fold, proven
from gigraph.model.models import load_model
from gigraph.model.network import Layer
from gigraph.model.placing import CHANNELS, Edit, Place, inserted, places_of
from gigraph.planning.plan import Plan
from gigraph.planning.stages.stage import read
from gigraph.planning.standing import hold
from gigraph.records import tables
from gigraph.records.files import replacing
from gigraph.reserved import CLASSES
from gigraph.subject import Subject
from gigraph.version import __version__
from gigraph.vocabulary import Vocabulary

DIFFUSE = 0.1
"""Agreement of directions below which their mean says nothing of any of them."""
ACTIONS = ("suppress", "boost")
ALWAYS = -2.0
"""The threshold in a file of an edit without a gate: every cosine is above it."""
_CONTROL = text_key("random edits")


@dataclass(frozen=True)
class Choice:
    """Concepts of a layer, as they were asked for: ``layer3.1:9,10`` or ``layer3.1:family=11``."""

    action: str
    layer: str
    items: tuple[str, ...]

    @classmethod
    def parse(cls, action: str, text: str) -> Choice:
        """Read a choice.

        Raises
        ------
        UserError
            If it is not of the form LAYER:CONCEPT[,CONCEPT...] or LAYER:family=N.
        """
        layer, colon, items = text.rpartition(":")
        parts = tuple(item.strip() for item in items.split(","))
        if not colon or not layer or not all(item.removeprefix("family=").isdecimal() for item in parts):
            raise UserError(
                f"--{action}: {text!r} names no concepts; write LAYER:CONCEPT[,CONCEPT...] or LAYER:family=N, such as "
                "layer3.1:9,10"
            )
        return cls(action, layer, parts)

    def concepts(self, vocabulary: Vocabulary) -> list[int]:
        """Return the ids of the concepts, ascending.

        Raises
        ------
        UserError
            If there is no such concept, or no family that it leads.
        """
        found: set[int] = set()
        for item in self.items:
            number = int(item.removeprefix("family="))
            if number >= vocabulary.k:
                raise UserError(
                    f"--{self.action}: {self.layer} has {vocabulary.k} concepts, 0 to {vocabulary.k - 1}; there is no "
                    f"{number}"
                )
            if item.startswith("family="):
                members = vocabulary.families.members(number).tolist()
                if not members:
                    leader = int(vocabulary.families.leader[number])
                    raise UserError(
                        f"--{self.action}: {self.layer} has no family {number}; concept {number} is in family={leader}"
                    )
                found.update(members)
            else:
                found.add(number)
        return sorted(found)


@dataclass
class LayerEdit:
    """What is edited at one layer, in order: actions, ids of concepts, changes."""

    layer: Layer
    beta: Tensor
    vectors: np.ndarray
    asked: list[Choice] = field(default_factory=list)
    concepts: list[list[int]] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    def change(self, concepts: Sequence[int], like: Change) -> Change:
        """Return the same change of other concepts."""
        return make_change(self.vectors[list(concepts)], like.gain, like.threshold)

    def edit(self, changes: Sequence[Change] | None = None) -> Edit:
        """Return the edit of the layer's activation."""
        return Edit(self.beta, self.changes if changes is None else changes, CHANNELS[self.layer.layout])

    def of_pfvs(self) -> Edit:
        """Return the edit of the layer's PFVs [N, P, C]."""
        return Edit(self.beta, self.changes, -1)


def make_change(vectors: np.ndarray, gain: float, threshold: float | None) -> Change:
    """Return the change of the span of some concept vectors [n, C]."""
    mean = torch.from_numpy(mean_direction(vectors))
    return Change(torch.from_numpy(span(vectors)), gain, threshold, mean)


# ---- the run -----------------------------------------------------------------------------------------------


class Edited:
    """A run opened for an edit.

    Parameters
    ----------
    plan : Plan
        Of the finished run.
    choices : sequence of Choice
        Several of one layer and action are one span; what is suppressed goes before what is boosted.
    gain : float
        Of what is boosted: 1 doubles it.
    threshold : float, optional
        Only where the cosine to the concepts' mean is above this.
    method : str, optional
        Whose concepts; the first of the run if not given.

    Attributes
    ----------
    layers : list of LayerEdit
        In the network's order.
    notes : list of str
        What the reader of a report should know.

    Raises
    ------
    UserError
        If a layer, concept or family is not there, nothing is spanned, or the run is made from something else than
        what lies there now: other weights, other images, another gigraph.
    """

    def __init__(
        self, plan: Plan, choices: Sequence[Choice], gain: float = 1.0, threshold: float | None = None,
        method: str | None = None,
    ):  # fmt: skip
        if threshold is not None and not -1 <= threshold < 1:
            raise UserError(f"--only-where: {threshold:g} is no threshold of a cosine; give one from -1 to below 1")
        if not math.isfinite(gain):
            raise UserError(f"--gain: {gain} is not finite; 1 doubles a part, -1 takes it away")
        methods = plan.config.methods
        if method is not None and method not in methods:
            raise UserError(f"--method: the run has no graph of {method!r}{nearest(method, methods)}")
        self.plan, self.method = plan, method or methods[0]
        self.notes: list[str] = []
        for choice in choices:
            if choice.layer not in plan.layers:
                raise UserError(
                    f"--{choice.action}: the run has no layer {choice.layer!r}{nearest(choice.layer, plan.layers)} "
                    f"(there are: {', '.join(plan.layers)})"
                )
        names = [name for name in plan.layers if any(choice.layer == name for choice in choices)]
        of = [{"method": self.method, "layer": name} for name in names]
        own = [read(kind, **one) for one in of for kind in ("concepts", "families")]
        centres = [read("centre", layer=name) for name in names]
        hold(plan, [read("layers"), read("classes"), read("images"), *centres, *own])
        self.subject = Subject(plan.network, plan.config.compute, plan.layers)
        self.layers = [self._layer(name, choices, gain, threshold) for name in names]

    def _layer(self, name: str, choices: Sequence[Choice], gain: float, threshold: float | None) -> LayerEdit:
        vocabulary = Vocabulary(self.plan.root, self.method, name, self.subject, merge=True)
        layer = self.subject.layers[name]
        one = LayerEdit(layer, torch.from_numpy(np.array(vocabulary.beta)), vocabulary.vectors)
        for action in ACTIONS:
            mine = [choice for choice in choices if (choice.layer, choice.action) == (name, action)]
            concepts = sorted({concept for choice in mine for concept in choice.concepts(vocabulary)})
            if not mine:
                continue
            if threshold is not None and agreement(one.vectors[concepts]) < DIFFUSE:
                raise UserError(
                    f"--only-where: the concepts of {name} point in directions that cancel out, so that they have no "
                    "mean to gate by; take one of them, or a family"
                )
            change = make_change(one.vectors[concepts], -1.0 if action == "suppress" else gain, threshold)
            rank = len(change.basis)
            if not rank:
                raise UserError(f"--{action}: the concepts of {name} are zero vectors, which span nothing; take others")
            if rank == layer.channels:
                self.notes.append(
                    f"the {len(concepts)} concepts span all {rank} channels of {name}: "
                    + ("nothing of the layer is left but its centre" if action == "suppress" and threshold is None
                       else "the edit is of the whole layer")
                )  # fmt: skip
            elif rank < len(concepts):
                self.notes.append(f"the {len(concepts)} concepts of {name} span {rank} directions only")
            one.asked += mine[:1] if len(mine) == 1 else [Choice(action, name, sum((c.items for c in mine), ()))]
            one.concepts.append(concepts)
            one.changes.append(change)
        return one

    # ---- the model -----------------------------------------------------------------------------------------

    def own_model(self) -> nn.Module:
        """Return the run's own model, as its author wrote it."""
        settings = self.plan.model_settings
        given = {key: settings[key] for key in ("weights", "arguments")}
        return load_model(settings["source"], **given, shuffled=settings.get("shuffled"))

    def check(self, model: nn.Module) -> None:
        """Refuse a model that is not the run's.

        Raises
        ------
        UserError
            Naming the first tensor that differs.
        """
        own, other = self.own_model().state_dict(), model.state_dict()
        if missing := own.keys() ^ other.keys():
            key = sorted(missing)[0]
            where = "the run's model" if key in own else "the model given"
            raise UserError(f"the model given is not the run's: only {where} has {key}; give the model of this run")
        for key, tensor in own.items():
            mine = other[key].detach().cpu()
            if mine.shape != tensor.shape or not torch.equal(mine.to(tensor.dtype), tensor):
                raise UserError(
                    f"the model given has other weights than the run's ({key} differs): its concepts are another "
                    "network's; give the model of this run, or run gigraph on this one"
                )

    def places(self, model: nn.Module) -> dict[str, Place]:
        """Return where each edited layer is in the user's module."""
        network = self.subject.network
        return places_of(model, [one.layer for one in self.layers], network.image_shape, network.name)

    def apply(self, model: nn.Module) -> nn.Module:
        """Return a copy of the user's model with the edit in it; parameters and buffers are shared."""
        places = self.places(model)
        return inserted(model, {places[one.layer.name]: one.edit() for one in self.layers})

    def fold(self, model: nn.Module, edited: nn.Module) -> tuple[dict[str, Tensor] | None, dict[str, str]]:
        """Return the state dict with the edit folded in, and of each layer why not: `gigraph.model.folding.fold`."""
        state, reasons = fold(model, {one.layer: (one.beta, one.changes) for one in self.layers})
        if state is not None and not proven(model, state, edited, self.subject.network.image_shape):
            return None, dict.fromkeys(reasons, "with the weights folded the model says something else")
        return state, reasons

    # ---- measuring -----------------------------------------------------------------------------------------

    def controls(self, draws: int, seed: int) -> list[list[list[list[int]]]]:
        """Draw as many concepts of the same layers at random: draw, layer, change -> ids."""
        found = []
        for draw in range(draws):
            generator = np.random.Generator(np.random.Philox(int(mix(seed, _CONTROL, draw))))
            ids: list[list[list[int]]] = []
            for one in self.layers:
                taken = {concept for concepts in one.concepts for concept in concepts}
                rest = [i for i in range(len(one.vectors)) if i not in taken and one.vectors[i].any()]
                needed = sum(map(len, one.concepts))
                if len(rest) < needed:
                    self.notes.append(
                        f"no control: {one.layer.name} has {len(rest)} concepts besides the {needed} chosen"
                    )
                    return []
                drawn = generator.choice(rest, needed, replace=False).tolist()
                ids.append([])
                for concepts in one.concepts:
                    ids[-1].append(sorted(drawn[: len(concepts)]))
                    drawn = drawn[len(concepts) :]
            found.append(ids)
        return found

    def looks(self, controls: Sequence[list[list[list[int]]]]) -> Look:
        """Return what runs images through the network as it is, edited, and by each control: scores [N, K] of each."""
        network = self.subject.network
        names = [one.layer for one in self.layers]
        if not names:
            return lambda x: [network.segment("input", CLASSES)(x)]
        begin = network.segment("input", names[0])
        ends: list[Layer | str] = [*names[1:], CLASSES]
        between = [network.segment(a, b) for a, b in zip(names, ends, strict=True)]
        chains = [[one.edit() for one in self.layers]]
        for ids in controls:
            chains.append([
                one.edit([one.change(c, like) for c, like in zip(mine, one.changes, strict=True)])
                for one, mine in zip(self.layers, ids, strict=True)
            ])  # fmt: skip

        @torch.inference_mode()
        def run(x: Tensor) -> list[Tensor]:
            start = begin(x)
            found = []
            for chain in [None, *chains]:
                value = start
                for i, segment in enumerate(between):
                    value = segment(value if chain is None else chain[i](value))
                found.append(value)
            return found

        return run

    def circuits(self) -> dict[str, Any] | None:
        """Return what the edit does to the run's circuits (`gigraph.edit_circuits`); None where it has none.

        Circuits that were made from something else than planned are left out, and a note says so.
        """
        edits = {one.layer.name: one.of_pfvs() for one in self.layers}
        try:
            return circuits(self.plan, self.method, self.subject, edits, self.looks([]))
        except UserError as error:
            self.notes.append(f"nothing is said of circuits: {error}")
            return None


# ---- measuring and writing --------------------------------------------------------------------------------


def described(edited: Edited, images: Images, found: Mapping[str, np.ndarray], of: int | None) -> dict[str, Any]:
    """Return a section of the report: of all of some images, of each class, and of all classes but one."""
    names = {row["label"]: row["class"] for row in tables.read(edited.plan.results("classes")).to_pylist()}
    labels = found["labels"]
    classes = []
    for label in np.unique(labels).tolist():
        row = compared(found, labels == label)
        low, high = row["change"]["interval"]
        row["verdict"] = "gained" if low > 0 else "lost" if high < 0 else "no change seen"
        classes.append({"class": names.get(label, str(label)), "label": label, **row})
    section = {
        "name": images.name,
        "what": images.what,
        "labels": "the model's own predictions before the edit" if (images.labels < 0).all() else "given",
        "left_out": images.left_out,
        "all": compared(found, np.ones(len(labels), bool)),
        "classes": classes,
    }
    if of is not None and {True, False} == {*(labels == of).tolist()}:
        section["others"] = compared(found, labels != of)
    return section


def edit(
    edited: Edited, out: Path, folders: Sequence[Path] = (), of: str | None = None, draws: int = 10, seed: int = 0,
    scenes: int = 500,
) -> dict[str, Any]:  # fmt: skip
    """Edit a run's model, measure it, and write what came out.

    Parameters
    ----------
    edited : Edited
    out : Path
        Folder of ``edit.safetensors``, ``report.json``, ``report.html``, ``per_class.parquet`` and, where all folds,
        ``folded.safetensors``.
    folders : sequence of Path
        Further images.
    of : str, optional
        The class that the edit is about: the others are also counted together. Of a drawn world's run that with the
        shortcut, if not given.
    draws, seed : int
        Number and seed of the random edits.
    scenes : int
        New scenes of a drawn world that its facts are measured on; 0 for none.

    Returns
    -------
    dict
        The report.
    """
    from safetensors.torch import save_file

    from gigraph.explorer.edited import page

    names = {row["class"]: row["label"] for row in tables.read(edited.plan.results("classes")).to_pylist()}
    if of is None and edited.plan.world is not None:
        from gigraph.worlds.registry import get

        of = get(edited.plan.world).shortcut.planted
    if of is not None:
        place = find_class(of, list(names), edited.plan.config.explorer.names)
        if place is None:
            raise UserError(f"--of: there is no class {of!r}{nearest(of, names)}")
        of = list(names)[place]
    subject = edited.subject
    more = [of_folder(edited.plan, subject, folder) for folder in folders]
    try:  # before anything is measured
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out: cannot write to {out}: {error.strerror}; choose another folder") from None
    model = edited.own_model()
    places = edited.places(model)
    after = edited.apply(model)
    state, reasons = edited.fold(model, after)
    controls = edited.controls(draws, seed)
    look = edited.looks(controls)
    sections = [
        described(edited, images, measure(subject, images, look), None if of is None else names[of])
        for images in [*of_run(edited.plan, subject), *more]
    ]
    alone = edited.circuits()
    shown = [
        {
            "layer": one.layer.name, "place": str(places[one.layer.name]), "node": one.layer.node,
            "channels": one.layer.channels, "concepts_of_layer": len(one.vectors),
            "folds": not reasons[one.layer.name], "why_not": reasons[one.layer.name] or None,
            "changes": [
                {"action": choice.action, "asked": ",".join(choice.items), "concepts": ids, "rank": len(change.basis),
                 "gain": change.gain, "only_where": change.threshold}
                for choice, ids, change in zip(one.asked, one.concepts, one.changes, strict=True)
            ],
        }
        for one in edited.layers
    ]  # fmt: skip
    report: dict[str, Any] = {
        "gigraph": __version__, "run": str(edited.plan.root), "method": edited.method,
        "model": edited.plan.config.model.source, "weights": digest_of(model), "task": edited.subject.network.task,
        "of": of, "edits": shown, "notes": list(dict.fromkeys(edited.notes)),
        "random": {"draws": len(controls), "seed": seed, "concepts": controls}, "images": sections,
        "circuits": alone,
        "facts": facts(edited.plan, subject, look, model, after, scenes),
    }  # fmt: skip
    tensors, entries = stored(edited, places)
    with replacing(out / "edit.safetensors") as temporary:
        # One key of metadata: safetensors writes several in an order of its own.
        save_file(tensors, temporary, {"edits": json.dumps(entries)})
        temporary.chmod(0o644)
    folded = out / "folded.safetensors"
    folded.unlink(missing_ok=True)
    if state is not None:
        with replacing(folded) as temporary:
            save_file({key: value.contiguous() for key, value in state.items()}, temporary)
            temporary.chmod(0o644)  # safetensors writes for the owner alone
    tables.write(out / "per_class.parquet", "edited", columns(sections, alone))
    with replacing(out / "report.json") as temporary:
        temporary.write_text(json.dumps(report, indent=1))
    with replacing(out / "report.html") as temporary:
        temporary.write_text(page(report), encoding="utf-8")
    return report


def digest_of(model: nn.Module) -> str:
    """Return the hash of a model's weights: names, types and numbers."""
    own = hashlib.blake2b(digest_size=16)
    for key, value in model.state_dict().items():
        own.update(f"{key} {value.dtype} {list(value.shape)}".encode())
        own.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if value.ndim else b"")
    return own.hexdigest()


def stored(edited: Edited, places: Mapping[str, Place]) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Return the tensors of ``edit.safetensors``, changes stacked, and what its metadata says of each layer."""
    tensors: dict[str, Tensor] = {}
    entries = []
    for one in edited.layers:
        name, place = one.layer.name, places[one.layer.name]
        rank = max(len(change.basis) for change in one.changes)
        above = [ALWAYS if change.threshold is None else change.threshold for change in one.changes]
        means = [change.mean for change in one.changes if change.mean is not None]
        own = {
            "beta": one.beta,
            # Rows of zeros span nothing.
            "basis": torch.stack([pad(change.basis, (0, 0, 0, rank - len(change.basis))) for change in one.changes]),
            "mean": torch.stack(means),
            "gain": torch.tensor([change.gain for change in one.changes]),
            "above": torch.tensor(above),
        }
        tensors |= {f"{name}.{key}": value.contiguous() for key, value in own.items()}
        entries.append({
            "layer": name, "module": place.module, "at": place.at, "node": place.node,
            "axis": CHANNELS[one.layer.layout], "tensors": [f"{name}.{key}" for key in own],
        })  # fmt: skip
    return tensors, entries


def columns(sections: Sequence[Mapping[str, Any]], alone: Mapping[str, Any] | None) -> dict[str, list[Any]]:
    """Return the table of classes; a class's circuit is the same in all rows of it."""
    circuit = {one["label"]: one["circuit"] for one in alone["classes"]} if alone else {}
    rows = []
    for section in sections:
        for one in section["classes"]:
            p, random = one["probability"] or {}, (one["random"] or {}).get("change_of_accuracy") or {}
            rows.append({
                "images": section["name"], "class": one["class"], "label": one["label"], "count": one["images"],
                "accuracy_before": one["accuracy"]["before"], "accuracy_after": one["accuracy"]["after"],
                "gained": one["change"]["gained"], "lost": one["change"]["lost"],
                "low": one["change"]["interval"][0], "high": one["change"]["interval"][1],
                "predictions_changed": one["predictions_changed"],
                "probability_before": p.get("before"), "probability_after": p.get("after"),
                "random_mean": random.get("mean"), "random_least": random.get("least"),
                "random_most": random.get("most"),
                **{f"circuit_{when}": circuit.get(one["label"], {}).get(when) for when in ("before", "after")},
            })  # fmt: skip
    return {key: [row[key] for row in rows] for key in rows[0]} if rows else {}
