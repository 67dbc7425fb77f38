"""A new image on a finished graph: the data set's concepts in it, where they are, how they lead to the prediction.

Nothing is built again. Of each layer the concepts, the centre and the calibrated penalty are read; the image runs
through the same steps as those of the data set: coding (Eq. 2), then GIG to classes and between layers (Eqs. 3 to 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from gigraph.device import as_device
from gigraph.errors import UserError, nearest
from gigraph.explorer.sheets import thumbnail
from gigraph.hashing import text_key
from gigraph.images.decoding import Unreadable, decode, visible
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
from gigraph.records.schemas import SCHEMAS
from gigraph.reserved import CLASSES
from gigraph.subject import Subject
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
        ``attributions/SOURCE--TARGET.parquet`` (schemas as those of the run, label -1) and ``picture.webp``.

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
    for path in paths:
        if not path.is_file():
            raise UserError(f"there is no image {path}; correct the path")
        try:
            decode(path, plan.config.images.max_pixels, plan.config.preprocessing.depth)
        except Unreadable as error:
            raise UserError(f"cannot read the image {path}: {error}; give another file") from None
    subject = Subject(plan.network, plan.config.compute, plan.layers)
    concepts = {
        layer: Vocabulary(
            plan.root, method, layer, subject, plan.config.layer(layer).coefficients.tolerance, merge=True
        )
        for layer in plan.layers
    }
    return [_explain(plan, method, subject, concepts, path) for path in paths]


def reads(plan: Plan, method: str) -> list[Read]:
    """Return all files of a run that explaining an image rests on."""
    layers = [one for layer in plan.layers for one in merged(method, layer)]
    graph = [read(name, method=method) for name in ("calibration", "edges")]
    return [read("layers"), read("classes"), *layers, *graph]


def _explain(plan: Plan, method: str, subject: Subject, concepts: dict[str, Vocabulary], path: Path) -> Path:
    settings = plan.config.attribution.model_dump()
    image = text_key(str(path.resolve())) >> 1
    folder = plan.results("explained", method=method) / str(image)
    ((_, x),) = subject.images("", [image], [str(path)])
    with torch.inference_mode():
        found = subject.network.activations(x, list(subject.layers.values()))
        logits = found[CLASSES]
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
    for source, target in pairs:
        pair = Pair(subject, concepts[source], concepts.get(target), settings)
        if target == CLASSES:
            to = class_targets(logits.cpu().numpy(), np.array([predicted]), settings["top_classes"])
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
    tables.write(folder / "image.parquet", "images", {key: [value] for key, value in row.items()}, lineage)
    return folder


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
