"""The images that an edit is measured on: the run's, a folder's, and a drawn world's new scenes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gigraph.errors import UserError, nearest
from gigraph.images.decoding import Unreadable, decode, size_of
from gigraph.images.listing import scan
from gigraph.method.before_after import spread
from gigraph.method.heldout import held_out
from gigraph.method.tasks import predict, probabilities
from gigraph.planning.plan import Plan
from gigraph.records import tables
from gigraph.subject import Subject

Look = Callable[[Tensor], list[Tensor]]
"""From a batch of images to the scores [N, K] of each model that is compared."""


@dataclass
class Images:
    """Images that are looked at together.

    Attributes
    ----------
    name, what : str
        A short name, and what they are.
    labels : int64 array [N]
        -1 where unknown: the prediction before the edit stands for it.
    batches : callable
        Yields network inputs [B, C, H, W], in order.
    left_out : int
        Files that cannot be read, or give an input of another size.
    """

    name: str
    what: str
    labels: np.ndarray
    batches: Callable[[], Iterator[Tensor]]
    left_out: int = 0


def of_run(plan: Plan, subject: Subject) -> list[Images]:
    """Return the run's images: those that concepts were found on, and those held out."""
    table = tables.read(plan.results("images"))
    ids, labels = tables.numpy(table, "image_id"), tables.numpy(table, "label").astype(np.int64)
    paths = np.array(table["path"].to_pylist(), object)
    if plan.unlabelled:
        labels = np.full(len(ids), -1)
    unseen = held_out(ids, plan.config.seed, plan.config.evaluation.holdout)
    found = []
    for name, what, which in (
        ("found on", "images of the run that concepts were found on", ~unseen),
        ("held out", "images of the run that no concept was found on (evaluation.holdout)", unseen),
    ):
        if which.any():
            rows = np.flatnonzero(which)

            def batches(rows: np.ndarray = rows) -> Iterator[Tensor]:
                for _, x in subject.images(plan.image_folder, ids[rows].tolist(), paths[rows].tolist()):
                    yield x

            found.append(Images(name, what, labels[rows], batches))
    return found


def of_folder(plan: Plan, subject: Subject, folder: Path) -> Images:
    """Return the images of a folder: flat, or with sub-folders that are called as the run's classes or its folders.

    Raises
    ------
    UserError
        If there is no such folder, a sub-folder is no class, or no image can be used.
    """
    known = {row["class"]: row["label"] for row in tables.read(plan.results("classes")).to_pylist()}
    if not plan.unlabelled:
        for row in tables.read(plan.results("images"), ["path", "label"]).to_pylist():
            known.setdefault(row["path"].partition("/")[0], row["label"])
    try:
        entries = scan(folder)
    except UserError as error:
        raise UserError(str(error).replace("images.source:", "--images:")) from None
    strange = sorted({e.class_name for e in entries if e.class_name is not None} - known.keys())
    if strange and not plan.grouped:
        raise UserError(
            f"--images: {folder} has a folder {strange[0]!r}, which is no class of the run"
            f"{nearest(strange[0], known)}; call folders as the run's classes, or give a flat folder"
        )
    _, height, width = subject.network.image_shape
    channels = plan.config.preprocessing.depth
    usable = []
    for entry in entries:
        try:
            size = size_of(decode(folder / entry.path, plan.config.images.max_pixels, channels))
            if subject.preprocessing.output_size(size) == (width, height):
                usable.append(entry)
        except Unreadable:
            continue
    if not usable:
        raise UserError(f"--images: no image of {folder} can be read and gives an input of {width}x{height}")
    labels = [known.get(e.class_name, -1) if not plan.grouped and e.class_name else -1 for e in usable]

    def batches() -> Iterator[Tensor]:
        for _, x in subject.images(folder, range(len(usable)), [e.path for e in usable]):
            yield x

    what = f"images of the folder {folder}"
    return Images(folder.name or str(folder), what, np.array(labels, np.int64), batches, len(entries) - len(usable))


def measure(subject: Subject, images: Images, look: Look) -> dict[str, np.ndarray]:
    """Run images through all models.

    Returns
    -------
    dict of array
        ``labels`` [N], with the prediction before where there is none; and of the models, the one before, the one
        after, and the controls: ``predicted`` int64 [M, N], ``probability`` of the label float64 [M, N], and
        ``value`` [M, N], that of a regression.

    Raises
    ------
    UserError
        If a model says something that is no number.
    """
    task, device = subject.network.task, subject.device
    labels, predicted, probability, value, at = [], [], [], [], 0
    for x in images.batches():
        scores = look(x)
        if not all(bool(one.isfinite().all()) for one in scores):
            raise UserError(f"{images.name}: edited, the model says something that is no number; give a smaller --gain")
        own = torch.from_numpy(images.labels[at : at + len(x)]).to(device)
        at += len(x)
        own = torch.where(own < 0, predict(scores[0], own, task), own)
        labels.append(own.cpu().numpy())
        predicted.append(torch.stack([predict(one, own, task) for one in scores]).cpu().numpy())
        chosen = [probabilities(one, task).gather(1, own[:, None])[:, 0] for one in scores]
        probability.append(torch.stack(chosen).double().cpu().numpy())
        value.append(torch.stack([subject.network.value(one) for one in scores]).double().cpu().numpy())
    joined = {"predicted": predicted, "probability": probability, "value": value}
    return {"labels": np.concatenate(labels), **{key: np.concatenate(parts, 1) for key, parts in joined.items()}}


def facts(
    plan: Plan, subject: Subject, look: Look, model: nn.Module, after: nn.Module, scenes: int
) -> dict[str, Any] | None:
    """Return the causal facts of a drawn world's model before and after, on new scenes; None where there are none.

    Of the controls those of the shortcut, over the same scenes.
    """
    source = plan.config.model.source
    if not scenes or plan.world is None or source != plan.world:
        return None
    from gigraph.worlds.dataset import render
    from gigraph.worlds.facts import SPLIT, causal_facts
    from gigraph.worlds.registry import get

    world = get(source)
    how = {"seed": plan.config.drawn.seed, "size": plan.config.drawn.size, "workers": plan.config.compute.workers or 1}
    then, now = (causal_facts(world, one.cpu(), scenes, **how) for one in (model, after))
    base = list(world.scenes(how["seed"], SPLIT, scenes))
    tag, twin, mimic = world.shortcut.part, world.shortcut.planted, world.shortcut.mimic
    plain = [one for one in base if not world.has(one, tag)]
    worn = {
        f"{mimic}_{tag}_added": [world.with_shortcut(one) for one in plain if one.name == mimic],
        f"others_{tag}_added": [world.with_shortcut(one) for one in plain if one.name not in (mimic, twin)],
    }
    random = {}
    for name, some in worn.items():
        pictures = render(world, some, size=how["size"], workers=how["workers"])
        shares = [
            torch.stack([one.argmax(1) == world.number(twin) for one in look(subject.inputs(list(part)))])
            for part in np.array_split(pictures, max(1, math.ceil(len(pictures) / 100)))
        ]
        random[name] = spread(torch.cat(shares, 1).double().mean(1).cpu().numpy()[2:])
    counts = {"plain": len(plain), **{name: len(some) for name, some in worn.items()}}
    return {
        "world": world.name, "scenes": scenes, "seed": how["seed"], "counts": counts, "before": then, "after": now,
        "random": random, "what": f"new scenes of {world.title}, drawn again with one thing changed",
    }  # fmt: skip
