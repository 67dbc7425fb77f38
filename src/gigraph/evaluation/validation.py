"""One layer's concepts on held-out images: Tables 1 and 2, Figs. 4 and 5, C-muFidelity, and other lambdas.

Everything is measured as the graph was made: with its attribution method, and from where its paths start.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gigraph.attributors.registry import MODULES
from gigraph.device import as_device
from gigraph.evaluation.measures import GRID, Measures, per_image
from gigraph.evaluation.titles import PROBABILITY, VALUE
from gigraph.hashing import mix
from gigraph.method.fidelity import (
    Reading,
    area,
    class_reading,
    clear_targets,
    counts,
    curve,
    differences,
    drops_without,
    gains,
    largest_projections,
    mu_fidelity,
    over_active,
    over_all,
    over_targets,
    projection_reading,
    rank_correlation,
    subsets,
)
from gigraph.method.gig import Decomposition
from gigraph.method.heldout import held_out
from gigraph.method.reconstruction import explained, l0_ratio
from gigraph.pair import Pair
from gigraph.records import tables
from gigraph.records.paths import Results
from gigraph.reporting import log, progress
from gigraph.reserved import CLASSES
from gigraph.subject import Subject
from gigraph.vocabulary import Vocabulary

TERMS = (1, 8)
LAMBDAS = (0.25, 0.5, 2.0, 4.0)
SENSITIVE = 20
"""Images on which the relevances under another lambda are compared."""

Curves = dict[tuple[str, str, str, str], list[np.ndarray]]
"""Of each image, by order, metric (deletion, insertion), output and axis."""


def validate(subject: Subject, root: str | Path, heldout: str | Path, settings: Mapping[str, Any]) -> Measures:
    """Measure one layer's concepts.

    Parameters
    ----------
    subject : Subject
        With the layer and its targets.
    root : path
        The results folder.
    heldout : path
        Table of the images.
    settings : mapping
        Of the stage ``validation``.

    Returns
    -------
    Measures
        Rows of ``measures`` and ``curves``; the orders compared between layers are all attribution methods, exact
        ablation and chance.
    """
    layer = HeldOut(subject, root, heldout, settings)
    reconstruct(layer)
    log.info("%s: the reconstruction is measured", layer.name)
    sensitivity(layer, to_class(layer))
    for target in settings["targets_of"]:
        between(layer, target)
    return layer.measures


class DeletedPair(Pair):
    """A pair whose source concepts are deleted and inserted in an order."""

    def through(self, image: Decomposition) -> Tensor:
        """Return F_ab(X~) of an image: PFVs [P_b, C_b], or logits [classes]."""
        path = self.path
        with torch.no_grad():
            return path.segment(path.start + image.offset(path.vectors)[None])[0]

    def curve(self, reading: Reading, order: np.ndarray, image: Decomposition, at: np.ndarray) -> tuple[Any, Any]:
        """Return deletion and insertion [S, M] of an image's concepts (`gigraph.method.fidelity.curve`)."""
        path, where = self.path, as_device(np.ascontiguousarray(order), image.u.device)
        return curve(path.segment, reading, path.start, image, path.vectors, where, at, path.room)

    def drops_without(self, image: Decomposition, sets: np.ndarray, target: Tensor) -> np.ndarray:
        """Return the fall of a target [1] without each set [S, Q] (`gigraph.method.fidelity.drops_without`)."""
        path = self.path
        return drops_without(path.segment, path.score, path.vectors, path.start, image, sets, target, path.room)


class HeldOut:
    """Held-out images, decomposed into the concepts of a layer.

    Parameters
    ----------
    subject, root, heldout, settings : as in `validate`

    Attributes
    ----------
    name : str
        Of the layer.
    layer : Vocabulary
        Its concepts.
    measures : Measures
        Of the layer.
    ids, labels : lists of int [N]
        Of the images.
    pfvs : dict of str to float32 array [N, P, C]
        Of this layer and of its targets.
    logits : Tensor [N, classes]
    task : str
        How they are read (`gigraph.method.tasks`).
    read : tuple of str
        What is read off a class: its probability, of a regression its value, and whether it is the predicted one.
    images : list of Decomposition [N]
        Of this layer.
    codes : Codes
        Of all their positions.
    """

    def __init__(self, subject: Subject, root: str | Path, heldout: str | Path, settings: Mapping[str, Any]):
        self.settings, self.root, self.name = settings, root, settings["layer"]
        self.subject, self.device, self.task = subject, subject.device, subject.network.task
        self.read = (VALUE if self.task == "regression" else PROBABILITY, "accuracy")
        self.vocabularies = {
            name: Vocabulary(root, settings["method"], name, subject, settings["tolerances"][name])
            for name in [self.name, *settings["targets_of"]]
        }
        self.layer = self.vocabularies[self.name]
        self.measures = Measures(method=settings["method"], layer=self.name)
        rows = tables.read(heldout).to_pylist()
        self.ids = [row["image_id"] for row in rows]
        self.labels = [row["label"] for row in rows]
        layers = subject.layers
        with torch.inference_mode():
            sweep = [
                subject.network.activations(x, list(layers.values()))
                for _, x in subject.images(settings["images"], self.ids, [row["path"] for row in rows])
            ]
            self.pfvs = {
                name: torch.cat([layers[name].to_pfvs(part[name]) for part in sweep]).cpu().numpy()
                for name in self.vocabularies
            }
            self.logits = torch.cat([part[CLASSES] for part in sweep])
        self.images, self.codes = self.layer.decompose(self.pfvs[self.name])

    def pair(self, source: str, target: str) -> DeletedPair:
        """Open a pair of layers."""
        towards = self.vocabularies.get(target)
        return DeletedPair(self.subject, self.vocabularies[source], towards, self.settings["attribution"])

    def generator(self, index: int, *what: int) -> np.random.Generator:
        """Return a random stream of an image."""
        return np.random.Generator(np.random.Philox(int(mix(self.settings["seed"], self.ids[index], *what))))


def reconstruct(held: HeldOut) -> None:
    """Measure the reconstruction of the sampled PFVs of all held-out images (Table 1), and of whole maps."""
    settings, layer, measures = held.settings, held.layer, held.measures
    shards = Results(held.root).shards("pfvs", range(settings["shards"]), layer=held.name)
    table = tables.read(shards, ["image_id", "pfv"])
    among = held_out(tables.numpy(table, "image_id"), settings["seed"], settings["holdout"])
    chosen = among if among.any() else slice(None)
    pfvs, ids = tables.numpy(table, "pfv")[chosen], tables.numpy(table, "image_id")[chosen]
    for factor in (1.0, *(LAMBDAS if layer.has_lambda else ())):
        codes = layer.code(pfvs, factor)
        suffix = "" if factor == 1 else f"_lambda_x_{factor:g}"
        measures.add("rel_l2" + suffix, per_image(codes.rel_l2, ids))
        measures.add("nonzeros" + suffix, per_image(codes.nonzeros(), ids))
        measures.add("l0_ratio" + suffix, per_image(l0_ratio(codes.nonzeros(), layer.k), ids))
    measures.add("concepts", layer.k)
    for terms in TERMS:
        measures.add(f"r2_{terms}_terms", explained(pfvs - layer.beta, layer.vectors, terms))
    maps = (len(held.images), -1)
    measures.add("rel_l2_map", held.codes.rel_l2.reshape(maps).mean(1))
    measures.add("nonzeros_map", held.codes.nonzeros().reshape(maps).mean(1))
    measures.add("unused_map", 1 - len(np.unique(held.codes.indices)) / layer.k)


def to_class(held: HeldOut) -> list[tuple[np.ndarray, np.ndarray]]:
    """Delete and insert concepts by their relevance to the image's class (Eq. 7): Fig. 4, Table 2, C-muFidelity.

    Returns (concepts, relevances) of each image.
    """
    settings, measures, k = held.settings, held.measures, held.layer.k
    pair = held.pair(held.name, CLASSES)
    to = as_device(np.array(held.labels)[:, None], held.device)
    relevance = [
        (one.concepts.cpu().numpy(), one.values[0].cpu().numpy().astype(np.float64))
        for one in pair.attribute(held.images, to)
    ]
    curves: Curves = defaultdict(list)
    areas, correlations = defaultdict(list), []
    for i, image in enumerate(progress(held.images, len(held.images), "class curves")):
        values, generator = relevance[i][1], held.generator(i)
        active, positive = len(values), int((values > 0).sum())
        at = counts(active, settings["points"], positive)
        evenly = over_active(at, active)
        orders = {pair.method: np.argsort(-values, kind="stable"), "random": generator.permutation(active)}
        for order, places in orders.items():
            both = pair.curve(class_reading(held.labels[i], held.task), places, image, at)
            # In a random order the inactive concepts lie anywhere: the two axes coincide.
            ranked = evenly if order == "random" else over_all(at, positive, active, k)
            for axis, x, which in (("active", *evenly), ("all", *ranked)):
                for metric, read in zip(("deletion", "insertion"), both, strict=True):
                    for output, y in zip(held.read, read.T, strict=True):
                        curves[order, metric, output, axis].append(np.interp(GRID, x, y[which]))
                        areas[order, metric, output, axis].append(area(x, y[which]))
        sets = subsets(generator, active, settings["subsets"])
        correlations.append(mu_fidelity(values, sets, pair.drops_without(image, sets, to[i])))
    for (order, metric, output, axis), many in curves.items():
        names: dict[str, Any] = {"target": CLASSES, "order": order}
        measures.add_curves(np.array(many), **names, metric=metric, output=output, axis=axis)
        mine = np.array(areas[order, metric, output, axis])
        measures.add(f"c_{metric}_{output}_{axis}", mine, **names)
        if metric == "insertion":
            measures.add(f"c_difference_{output}_{axis}", mine - areas[order, "deletion", output, axis], **names)
    measures.add("mu_fidelity", correlations, target=CLASSES, order=pair.method)
    _at_ends(held, pair.method, curves, to)
    return relevance


def _at_ends(held: HeldOut, method: str, curves: Curves, to: Tensor) -> None:
    """Add the score at X, at X~ and without any concept: what the curves start from and end at."""
    images = zip(held.labels, held.logits, strict=True)
    at_x = torch.stack([class_reading(label, held.task)(one[None])[0] for label, one in images]).cpu().numpy()
    for output, values in zip(held.read, at_x.T, strict=True):
        ends = np.array(curves[method, "insertion", output, "active"])
        for where, found in (("x", values), ("concepts", ends[:, -1]), ("baseline", ends[:, 0])):
            held.measures.add(f"{output}_at_{where}", found, target=CLASSES)


def sensitivity(held: HeldOut, relevance: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Compare the ranking of all concepts by relevance under other penalties with that under the layer's own."""
    if not held.layer.has_lambda:
        return
    pair = held.pair(held.name, CLASSES)
    to = as_device(np.array(held.labels)[:SENSITIVE, None], held.device)
    for factor in LAMBDAS:
        images, _ = held.layer.decompose(held.pfvs[held.name][:SENSITIVE], factor)
        agreement = []
        for own, other in zip(relevance, pair.attribute(images, to), strict=False):
            both = np.zeros((2, held.layer.k))
            both[0, own[0]], both[1, other.concepts.cpu().numpy()] = own[1], other.values[0].cpu().numpy()
            agreement.append(rank_correlation(*both[:, both.any(0)]))
        metric = f"relevance_agreement_lambda_x_{factor:g}"
        held.measures.add(metric, agreement, target=CLASSES, order=pair.method)


def between(held: HeldOut, target: str) -> None:
    """Delete and insert concepts by what they do for concepts of a later layer (Sec. 4.2.3, Fig. 5)."""
    settings, there = held.settings, held.vocabularies[target]
    count = min(settings["interlayer_images"], len(held.images))
    images, labels = held.images[:count], np.array(held.labels)[:count]
    pair = held.pair(held.name, target)
    originals = [pair.through(image) for image in images]
    chosen = _most_relevant(held, there, originals, labels)
    to = as_device(np.maximum(chosen, 0), held.device)
    found = {method: pair.attribute(images, to, method) for method in MODULES}
    curves, areas = defaultdict(list), defaultdict(list)
    for i, image in enumerate(progress(images, count, f"curves to {target}")):
        scores = {method: some[i].values for method, some in found.items()} | {
            "ablation": pair.ablate(image, image.concepts.tolist(), to[i]).T,
            "random": torch.from_numpy(held.generator(i, 1).random((to.shape[1], len(image.concepts)))),
        }
        there_are = chosen[i] >= 0
        readings = [
            projection_reading(there.directions[concept], there.start, originals[i]) for concept in chosen[i, there_are]
        ]
        values = {order: some.cpu().numpy()[there_are] for order, some in scores.items()}
        at = counts(len(image.concepts), settings["points"])
        x, which = over_active(at, len(image.concepts))
        read = partial(pair.curve, image=image, at=at)
        for (order, metric), both in over_targets(read, readings, values, x, which, GRID).items():
            for output, line, size in zip(("projection", "largest_projection"), *both, strict=True):
                curves[order, metric, output].append(line)
                areas[order, metric, output].append(size)
    for (order, metric, output), many in curves.items():
        names: dict[str, Any] = {"target": target, "order": order}
        held.measures.add_curves(np.array(many), **names, metric=metric, output=output, axis="active")
        held.measures.add(f"{metric}_{output}", areas[order, metric, output], **names)
    difference = differences(areas)
    for metric, rows in (("difference", difference), (f"{pair.method}_gain", gains(difference, pair.method))):
        for (order, output), row in rows.items():
            held.measures.add(f"{metric}_{output}", row, target=target, order=order)


def _most_relevant(held: HeldOut, there: Vocabulary, originals: list[Tensor], labels: np.ndarray) -> np.ndarray:
    """Return the target layer's concepts of the largest relevance to each image's class, int64 [N, targets].

    Those without a clear projection at F(X~) (`originals`) are passed over; -1 where too few are left.
    """
    target, count = there.layer, len(originals)
    images, _ = there.decompose(held.pfvs[target][:count])
    found = held.pair(target, CLASSES).attribute(images, as_device(labels[:, None], held.device))
    chosen, passed = np.full((count, min(held.settings["targets"], there.k)), -1), []
    for row, one, original in zip(chosen, found, originals, strict=True):
        relevance = np.zeros(there.k)
        relevance[one.concepts.cpu().numpy()] = one.values[0].cpu().numpy()
        cosines = largest_projections(original, there.start, there.directions).cpu().numpy()
        clear, more = clear_targets(relevance, cosines, len(row))
        row[: len(clear)] = clear
        passed.append(more)
    log.info("%s: %d more relevant concepts are passed over, %d images", target, sum(passed), count)
    held.measures.add("targets_passed_over", passed, target=target)
    return chosen
