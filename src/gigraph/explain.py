"""A new image on a finished graph: the data set's concepts in it, where they are, how they lead to the prediction.

Nothing is built again. Of each layer the concepts, the centre and the calibrated penalty are read; the image runs
through the same steps as those of the data set: coding (Eq. 2), then GIG to classes and between layers (Eqs. 3 to 7).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from gigraph.device import as_device, free_memory
from gigraph.errors import UserError, nearest
from gigraph.explorer.sheets import thumbnail
from gigraph.hashing import text_key
from gigraph.images.decoding import Unreadable, decode, size_of, visible
from gigraph.images.listing import check_name
from gigraph.method.targets import class_targets, concept_targets
from gigraph.method.tasks import probabilities
from gigraph.pair import Pair
from gigraph.planning.config import PROJECT, Compute, load
from gigraph.planning.config import read as read_config
from gigraph.planning.plan import Plan
from gigraph.planning.stages import Read
from gigraph.planning.stages.attribution import merged
from gigraph.planning.stages.stage import read
from gigraph.planning.standing import hold
from gigraph.records import tables
from gigraph.records.attributions import rows
from gigraph.records.files import alone
from gigraph.records.schemas import SCHEMAS
from gigraph.reporting import log, progress
from gigraph.reserved import CLASSES
from gigraph.subject import Subject, check_finite
from gigraph.vocabulary import Vocabulary


def explain(plan: Plan, method: str, paths: Sequence[Path]) -> list[Path]:
    """Explain images and write their tables.

    Parameters
    ----------
    plan : Plan
        Of the finished run.
    method : str
        The concept extractor.
    paths : sequence of Path
        Image files.

    Returns
    -------
    list of Path
        One folder per image, ``results/METHOD/explained/ID``: ``image.parquet``, ``coefficients/LAYER.parquet``,
        ``attributions/SOURCE--TARGET.parquet`` (schemas as those of the run, label -1), ``grids.parquet``, the size of
        each layer's map, and ``picture.webp``.

    Raises
    ------
    UserError
        If an image is missing or cannot be read, or the run is not finished or made from something else than planned.
    """
    if method not in plan.config.methods:
        known = ", ".join(plan.config.methods)
        raise UserError(
            f"--method: there is no graph of {method!r}{nearest(method, plan.config.methods)} (configured: {known}); "
            "add it to methods and run snakemake, or take one of these"
        )
    hold(plan, reads(plan, method))
    sizes = []
    for path in paths:
        if path.is_dir():
            raise UserError(f"{path} is a folder; give the images in it, such as {path}/*.jpg")
        if not path.is_file():
            raise UserError(f"there is no image {path}; correct the path")
        check_name(path.name)
        try:
            sizes.append(size_of(decode(path, plan.config.images.max_pixels, plan.config.preprocessing.depth)))
        except Unreadable as error:
            raise UserError(f"cannot read the image {path}: {error}; give another file") from None
    log.info("opening the network and its concepts ...")
    subjects = Subjects(plan)
    concepts = {
        layer: Vocabulary(
            plan.root, method, layer, subjects.own, plan.config.layer(layer).coefficients.tolerance, merge=True
        )
        for layer in plan.layers
    }
    for path, size in zip(paths, sizes, strict=True):  # before anything is written
        subjects.check_room(path, size, {layer: one.k for layer, one in concepts.items()})
        subjects.of(path, size)
    with alone(plan.root / method):  # two commands with one photo would write into one folder
        return [
            _explain(plan, method, subjects.of(path, size), concepts, path)
            for path, size in zip(paths, sizes, strict=True)
        ]


class Subjects:
    """The run's model for inputs of any size: where nothing crops, each size has maps of its own."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.own = Subject(plan.network, plan.config.compute, plan.layers)
        self.known = {tuple(self.own.network.image_shape[1:]): self.own}

    def check_room(self, path: Path, size: tuple[int, int], concepts: Mapping[str, int]) -> None:
        """Refuse a photo of a (width, height) that needs more memory than is free.

        Parameters
        ----------
        path, size
            The photo.
        concepts : mapping
            Number of concepts of each layer.

        Raises
        ------
        UserError
            With what it needs, and what size would do.
        """
        width, height = self.own.preprocessing.output_size(size)
        _, rows, columns = self.own.network.image_shape
        free = free_memory(self.own.device)
        needed = self._needed(concepts) * width * height / (rows * columns)
        if free is not None and needed > free and width * height > rows * columns:
            less = (free / needed) ** 0.5
            raise UserError(
                f"image {path} gives an input of {width}x{height}, which takes about {needed / 1e9:.1f} GB of memory, "
                f"and {free / 1e9:.1f} GB are free; scale or cut it to {int(width * less)}x{int(height * less)} or less"
            )

    def _needed(self, concepts: Mapping[str, int]) -> float:
        """Return about how many bytes an image of the run's size takes; larger ones take as much more."""
        a = self.plan.config.attribution
        targets = max(a.class_targets + a.top_targets, a.top_classes + 1)
        layers = self.own.layers.items()
        # Maps of all operations, measured at 0.4 to 1.7 times; of each layer PFVs and their coefficients; and of the
        # pair that is attributed a path point and what is integrated for each target.
        kept = sum(layer.positions * (layer.channels + concepts[name]) for name, layer in layers)
        largest = max(layer.positions * layer.channels for _, layer in layers)
        return 4 * (1.5 * self.own.network.numbers + kept + (targets + 3) * largest)

    def of(self, path: Path, size: tuple[int, int]) -> Subject:
        """Return the model for a photo of this (width, height).

        Raises
        ------
        UserError
            If the network takes no inputs of its size.
        """
        width, height = self.own.preprocessing.output_size(size)
        if (height, width) not in self.known:
            try:
                other = Subject({**self.plan.network, "image_size": size}, self.plan.config.compute, self.plan.layers)
            except UserError as error:
                raise UserError(self._refused(path, width, height, str(error))) from None
            if other.network.outputs != self.own.network.outputs:
                outputs = f"{other.network.outputs} outputs there instead of {self.own.network.outputs}"
                raise UserError(self._refused(path, width, height, outputs))
            for name, layer in self.own.layers.items():
                now = other.layers[name]
                if (now.channels, now.layout) != (layer.channels, layer.layout):
                    raise UserError(
                        self._refused(path, width, height, f"layer {name} has {now.channels} channels there")
                    )
            self.known[height, width] = other
        return self.known[height, width]

    def _refused(self, path: Path, width: int, height: int, why: str) -> str:
        rows, columns = self.own.network.image_shape[1:]
        return (
            f"image {path} gives an input of {width}x{height}, the run's images give {columns}x{rows}, and the network "
            f"does not take that ({why}); scale or cut the image to {columns}x{rows}"
        )


def reads(plan: Plan, method: str) -> list[Read]:
    """Return all files of a run that explaining an image rests on."""
    layers = [one for layer in plan.layers for one in merged(method, layer)]
    graph = [read(name, method=method) for name in ("calibration", "edges")]
    return [read("layers"), read("classes"), *layers, *graph]


def _explain(plan: Plan, method: str, subject: Subject, concepts: dict[str, Vocabulary], path: Path) -> Path:
    """Explain one image: its folder is there whole, or as it was."""
    image = text_key(str(path.resolve())) >> 1
    kept = plan.results("explained", method=method) / str(image)
    folder = kept.with_name(f".{image}")
    try:
        _write(plan, method, subject, concepts, path, image, folder)
        with alone(plan.root):  # the explorer may be reading it
            shutil.rmtree(kept, ignore_errors=True)
            folder.rename(kept)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return kept


def _write(
    plan: Plan, method: str, subject: Subject, concepts: dict[str, Vocabulary], path: Path, image: int, folder: Path
) -> None:
    settings = plan.config.attribution.model_dump()
    ((_, x),) = subject.images("", [image], [str(path)])
    with torch.inference_mode():
        found = subject.network.activations(x, list(subject.layers.values()))
        logits = found[CLASSES]
    for name, value in found.items():
        check_finite(value, name, [image])
    task = subject.network.task
    predicted = int(logits[0].argmax())
    probability = float(probabilities(logits, task)[0, predicted])
    images, pfvs = {}, {}
    for name, layer in subject.layers.items():
        pfvs[name] = layer.to_pfvs(found[name])
        images[name], codes = concepts[name].decompose(pfvs[name].cpu().numpy())
        where = np.arange(layer.positions)
        columns = {
            "image_id": np.full(layer.positions, image), "y": (where // layer.width).astype(np.int32),
            "x": (where % layer.width).astype(np.int32),
            "concepts": tables.ragged(codes.indptr, codes.indices.astype(np.int32)),
            "values": tables.ragged(codes.indptr, codes.values.astype(np.float32)),
            "rel_l2": codes.rel_l2.astype(np.float32), "gap": codes.gap.astype(np.float32),
            "stationarity": codes.stationarity.astype(np.float32),
        }  # fmt: skip
        tables.write(folder / "coefficients" / f"{name}.parquet", "coefficients", columns)
    own: dict[str, list[int]] = {}
    pairs = sorted(plan.pairs, key=lambda pair: pair[1] != CLASSES)  # the classes' choose the concept targets
    log.info("%s: attributing %d pairs of layers ...", path.name, len(pairs))
    for source, target in progress(pairs, len(pairs), f"{path.name}: pairs of layers"):
        pair = Pair(subject, concepts[source], concepts.get(target), settings)
        if target == CLASSES:
            taken = np.array([predicted])  # for its own class, too
            to = np.stack(class_targets(logits.cpu().numpy(), taken, settings["top_classes"], taken))
            real = logits
        else:
            count = settings["class_targets"] + settings["top_targets"]
            to = concept_targets([[]], [own[target]], count, concepts[target].families.ids.tolist())
            real = pfvs[target]
        targets = as_device(to, subject.device)
        (one,) = pair.attribute(images[source], targets)
        if target == CLASSES:
            whole = one.merged(concepts[source].family)
            ranked = sorted(zip(whole.values[0].tolist(), whole.concepts.tolist(), strict=True), reverse=True)
            own[source] = [concept for value, concept in ranked if value > 0]
        families, top = concepts[source].families, settings["top_sources"]
        table = rows(image, -1, targets[0], pair.at_x(real, targets)[0], one, top, families)
        columns = {key: [row[key] for row in table] for key in SCHEMAS["attributions"].names}
        tables.write(folder / "attributions" / f"{source}--{target}.parquet", "attributions", columns)
    channels = subject.preprocessing.channels
    picture = visible(subject.preprocessing.display(decode(path, plan.config.images.max_pixels, channels)))
    thumbnail(picture).save(folder / "picture.webp", quality=85, method=4)
    # The graph that this image was explained on: a later build of the explorer leaves it out if that is another one.
    lineage = plan.lineage("graph", method=method)
    row = {
        "image_id": image, "path": path.name, "label": -1, "class": "", "width": picture.width,
        "height": picture.height, "predicted": predicted, "probability": None if task == "regression" else probability,
        "value": float(subject.network.value(logits)[0]) if task == "regression" else None,
    }  # fmt: skip
    shapes = {"layer": [*subject.layers], "grid": [list(layer.grid) for layer in subject.layers.values()]}
    tables.write(folder / "grids.parquet", "grids", shapes)
    tables.write(folder / "image.parquet", "images", {key: [value] for key, value in row.items()}, lineage)


def unexplained(folder: Path, layers: Sequence[str], target: int) -> dict[str, float]:
    """Return of each layer the error node's share of all that is attributed to an output of an explained image.

    Parameters
    ----------
    folder : Path
        As `explain` returns it.
    layers : sequence of str
    target : int
        The output.
    """
    found = {}
    for layer in layers:
        (row,) = (
            row
            for row in tables.read(folder / "attributions" / f"{layer}--{CLASSES}.parquet").to_pylist()
            if row["target"] == target
        )
        total = sum(map(abs, [*row["values"], row["remainder"], row["error"]]))
        found[layer] = abs(row["error"]) / total if total else 0.0
    return found


def opened(files: Sequence[Path], compute: Compute | None = None) -> Plan:
    """Return the plan of a run from its configuration files, as Snakemake takes them.

    Raises
    ------
    UserError
        If a file is missing or is no valid configuration.
    """
    config = load(read_config(files))
    scripts = PROJECT / "workflow" / "scripts"
    return Plan(config if compute is None else config.model_copy(update={"compute": compute}), scripts)
