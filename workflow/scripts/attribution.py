"""Attribute the targets of one shard's images, families of a later layer or classes, to families (Eqs. 3 to 7)."""

from argparse import Namespace

import numpy as np
import torch

from gigraph.attributors import is_complete
from gigraph.device import as_device
from gigraph.method.targets import by_count, class_targets, concept_targets
from gigraph.method.tasks import predict
from gigraph.pair import Pair
from gigraph.records import tables
from gigraph.records.attributions import Decompositions, rows
from gigraph.records.schemas import SCHEMAS
from gigraph.reporting import log, progress
from gigraph.reserved import CLASSES
from gigraph.running.runtime import run
from gigraph.subject import Subject, check_finite

SAMPLE = 8  # images on which a reduced precision is compared with float32


def main(args: Namespace) -> None:
    settings = args.settings
    source, target = settings["layers"]
    wanted = [source] if target == CLASSES else [source, target]
    subject = Subject(settings, args.compute, wanted)
    pair = Pair.open(subject, args.root, args.method, source, target, settings["attribution"])
    coefficients = tables.read(args.coefficients)
    positions = subject.layers[source].positions
    ids = tables.numpy(coefficients, "image_id")[::positions]
    selection = {row["image_id"]: row for row in tables.read(args.selection).to_pylist()}
    labels = np.array([selection[i]["label"] for i in ids.tolist()], np.int64)
    decompositions = Decompositions.of_table(coefficients, positions, subject.device)
    families, top, targets = pair.source.families, settings["top_sources"], None
    if pair.target is not None:
        targets = _concept_targets(args.targets, labels, ids, pair.target.families.ids.tolist(), settings)
    precision = settings["attribution"]["precision"]
    table: list[dict] = []
    for part, images, real in _gathered(args, subject, target, ids, selection, decompositions):
        wanted = (
            _class_targets(real, labels[part], settings["top_classes"], subject.network.task)
            if targets is None
            else targets[part]
        )
        mine: dict[int, list[dict]] = {}
        for alike, to in by_count(wanted):
            some, to = [images[i] for i in alike], as_device(to, subject.device)
            at_x = pair.at_x(real[alike], to)
            found = pair.attribute(some, to)
            deviation = {}
            if precision != "float32" and part.start == 0:
                exact = pair.attribute(some[:SAMPLE], to[:SAMPLE], precision="float32")
                read = [[one.merged(pair.source.family).values for one in part] for part in (found, exact)]
                deviation = {i: _deviation(*both) for i, both in enumerate(zip(*read, strict=False))}
                worst = max(float(d.max()) for d in deviation.values())
                log.info("%s: relative deviation from float32 at most %.1e on %d images", precision, worst, len(exact))
            for i, (image, one) in enumerate(zip(alike, found, strict=True)):
                new = rows(ids[part][image], labels[part][image], to[i], at_x[i], one, top, families)
                known = deviation[i].tolist() if i in deviation else [None] * len(new)
                mine[image] = [{**row, "deviation": value} for row, value in zip(new, known, strict=True)]
        table += [row for image in sorted(mine) for row in mine[image]]
    columns = {key: [row[key] for row in table] for key in SCHEMAS["attributions"].names}
    tables.write(args.attributions, "attributions", columns, args.lineage)
    if table and is_complete(pair.method):
        _report(columns, source, target, **{key: settings["attribution"][key] for key in ("tolerance", "max_steps")})
    elif table:
        log.info("%d images x targets by %s, which need not be complete", len(table), pair.method)


def _gathered(args, subject, target, ids, selection, decompositions):
    """Yield (rows, decompositions, real activations of the target) of as many images as their paths fit the memory.

    What is run forward at once is limited by the maps of all layers. Paths are shorter: those of more images fill the
    batches of later steps, in which few points are left of each.
    """
    layers, first = list(subject.layers.values()), 0
    images, real = [], []
    sweep = subject.images(args.settings["images"], ids, [selection[i]["path"] for i in ids.tolist()])
    for part, x in progress(sweep, -(-len(ids) // subject.images_at_once), "batches"):
        with torch.inference_mode():
            found = subject.network.activations(x, layers)[target]
        check_finite(found, target, ids[part])
        real.append(found if target == CLASSES else subject.layers[target].to_pfvs(found))
        images += decompositions(part)
        held = sum(4 * (one.u.numel() + len(one.u) * layers[0].channels) for one in images)
        held += sum(4 * one.numel() for one in real)
        if part.stop == len(ids) or len(images) >= subject.compute.batch_size or held > subject.memory / 4:
            yield slice(first, part.stop), images, torch.cat(real)
            images, real, first = [], [], part.stop


def _report(columns: dict[str, list], source: str, target: str, tolerance: float, max_steps: int) -> None:
    """Log the estimated error of the integrals, and how near the sums came to S(X~) - S(baseline)."""
    scale = np.maximum(columns["total_absolute"], 1e-30)
    apart = np.abs(columns["completeness_error"]) / scale
    told = None not in columns["quadrature_error"]  # another method that is complete need not estimate its error
    error = np.abs(columns["quadrature_error"]) / scale if told else apart
    log.info(
        "%d images x targets: median error %.1f%%, at most %.1f%%; of sums %.1f%%, at most %.1f%%; steps %.0f, at most "
        "%d",
        len(error), *(100 * of(one) for one in (error, apart) for of in (np.median, np.max)),
        np.mean(columns["steps"]), max(columns["steps"]),
    )  # fmt: skip
    missed = int((error > tolerance).sum())
    if missed:
        log.info(
            "note: %s to %s: %d of %d have an error above attribution.tolerance (%.3g%%), at most %.3g%%, after "
            "attribution.max_steps (%d)",
            source, target, missed, len(error), 100 * tolerance, 100 * max(error), max_steps,
        )  # fmt: skip


def _class_targets(logits, labels, top, task):
    predicted = predict(logits, as_device(labels, logits.device), task)
    return class_targets(logits.cpu().numpy(), labels, top, predicted.cpu().numpy())


def _concept_targets(paths: list[str], labels, ids, families: list[int], settings) -> np.ndarray:
    """Return the targets of each image from the families kept for its class and its own class attributions."""
    kept: dict[int, list[int]] = {}
    for row in tables.read(paths[1]).to_pylist():
        kept.setdefault(row["scope"], []).append(row["concept"])
    own: dict[int, list[int]] = {}
    for row in tables.read(paths[2], ["image_id", "label", "target", "sources", "values"]).to_pylist():
        if row["image_id"] not in own or row["target"] == row["label"]:
            ranked = sorted(zip(row["values"], row["sources"], strict=True), reverse=True)
            own[row["image_id"]] = [concept for value, concept in ranked if value > 0]
    return concept_targets(
        [kept.get(label, []) for label in labels.tolist()],
        [own[i] for i in ids.tolist()],
        settings["class_targets"] + settings["top_targets"],
        families,
    )


def _deviation(values, exact):
    """Return |values - exact|_1 / |exact|_1 of each target."""
    return (values - exact).abs().sum(1) / exact.abs().sum(1).clamp_min(1e-30)


if __name__ == "__main__":
    run(main, "root", "method", "selection", "coefficients", "targets+", "attributions")
