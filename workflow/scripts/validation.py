"""Validate one layer's concepts on held-out images: Tables 1 and 2, Figs. 4 and 5, C-muFidelity, other lambdas."""

from argparse import Namespace
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np
import torch

from gigraph.device import as_device
from gigraph.evaluation.measures import GRID, Measures, per_image
from gigraph.hashing import mix
from gigraph.method.fidelity import (
    area,
    class_reading,
    clear_targets,
    counts,
    curve,
    differences,
    drops_without,
    gains,
    gradient_times_input,
    largest_projections,
    mu_fidelity,
    over_active,
    over_all,
    over_targets,
    projection_reading,
    rank_correlation,
    subsets,
)
from gigraph.method.gig import Batch, ablate, attribute, class_score, concept_score
from gigraph.method.heldout import held_out
from gigraph.method.reconstruction import explained, l0_ratio
from gigraph.records import tables
from gigraph.reporting import log, progress
from gigraph.reserved import CLASSES
from gigraph.running.runtime import run
from gigraph.subject import Subject
from gigraph.vocabulary import Vocabulary

TERMS = (1, 8)
LAMBDAS = (0.25, 0.5, 2.0, 4.0)
SENSITIVE = 20
"""Images on which the relevances under another lambda are compared."""


def main(args: Namespace) -> None:
    job = Job(args)
    measures, layer = job.measures, job.layer
    reconstruct(job)
    log.info("%s: the reconstruction is measured", layer.layer)
    relevance = to_class(job)
    sensitivity(job, relevance)
    for target in job.settings["targets_of"]:
        between(job, target)
    measures.write("measures", args.measures, args.lineage)
    measures.write("curves", args.curves, args.lineage)


class Job:
    """The held-out images of the job, decomposed into the layer's concepts."""

    def __init__(self, args: Namespace):
        self.settings = settings = args.settings
        self.root = Path(args.root)
        wanted = [settings["layer"], *settings["targets_of"]]
        self.subject = Subject(settings, args.compute, wanted)
        self.device = self.subject.device
        self.vocabularies = {
            name: Vocabulary(self.root, settings["method"], name, settings["tolerances"][name], self.subject)
            for name in wanted
        }
        self.layer = self.vocabularies[settings["layer"]]
        self.measures = Measures(method=settings["method"], layer=settings["layer"])
        heldout = tables.read(args.heldout).to_pylist()
        self.ids = [row["image_id"] for row in heldout]
        self.labels = [row["label"] for row in heldout]
        with torch.inference_mode():
            sweep = [
                self.subject.network.activations(x, list(self.subject.layers.values()))
                for _, x in self.subject.images(settings["images"], self.ids, [row["path"] for row in heldout])
            ]
            self.pfvs = {
                name: torch.cat([self.subject.layers[name].to_pfvs(part[name]) for part in sweep]).cpu().numpy()
                for name in wanted
            }
            self.logits = torch.cat([part[CLASSES] for part in sweep])
        self.images, self.codes = self.layer.decompose(self.pfvs[settings["layer"]])
        self.room = {name: Batch(self.subject.path_points(name)) for name in wanted}

    def generator(self, index: int, *what: int) -> np.random.Generator:
        """Return a random stream of an image."""
        return np.random.Generator(np.random.Philox(int(mix(self.settings["seed"], self.ids[index], *what))))

    def attribute(self, segment, score, vocabulary, images, targets):
        """Return GIG of images to their targets [N, T]."""
        steps = {key: self.settings[key] for key in ("steps", "max_steps", "tolerance")}
        room = self.room[vocabulary.layer]
        return attribute(segment, score, vocabulary.directions, vocabulary.start, images, targets, batch=room, **steps)

    def curve(self, segment, reading, order, image, at):
        """Return deletion and insertion [S, M] of an image's concepts in an order."""
        where = as_device(np.ascontiguousarray(order), self.device)
        room = self.room[self.layer.layer]
        return curve(segment, reading, self.layer.start, image, self.layer.directions, where, at, room)


def reconstruct(job: Job) -> None:
    """Measure the reconstruction of the sampled PFVs of all held-out images (Table 1), and of whole maps."""
    settings, layer, measures = job.settings, job.layer, job.measures
    shards = [job.root / "pfvs" / layer.layer / f"{shard}.parquet" for shard in range(settings["shards"])]
    table = tables.read(shards, ["image_id", "pfv"])
    held = held_out(tables.numpy(table, "image_id"), settings["seed"], settings["holdout"])
    chosen = held if held.any() else slice(None)
    pfvs, ids = tables.numpy(table, "pfv")[chosen], tables.numpy(table, "image_id")[chosen]
    for factor in (1.0, *(() if layer.has_encoder else LAMBDAS)):
        codes = layer.code(pfvs, factor)
        suffix = "" if factor == 1 else f"_lambda_x_{factor:g}"
        measures.add("rel_l2" + suffix, per_image(codes.rel_l2, ids))
        measures.add("nonzeros" + suffix, per_image(codes.nonzeros(), ids))
        measures.add("l0_ratio" + suffix, per_image(l0_ratio(codes.nonzeros(), layer.k), ids))
    measures.add("concepts", layer.k)
    for terms in TERMS:
        measures.add(f"r2_{terms}_terms", explained(pfvs - layer.beta, layer.vectors, terms))
    maps = (len(job.images), -1)
    measures.add("rel_l2_map", job.codes.rel_l2.reshape(maps).mean(1))
    measures.add("nonzeros_map", job.codes.nonzeros().reshape(maps).mean(1))
    measures.add("unused_map", 1 - len(np.unique(job.codes.indices)) / layer.k)


def to_class(job: Job) -> list[tuple[np.ndarray, np.ndarray]]:
    """Delete and insert concepts by their relevance to the image's class (Eq. 7): Fig. 4, Table 2, C-muFidelity.

    Returns (concepts, relevances) of each image.
    """
    settings, measures, k = job.settings, job.measures, job.layer.k
    segment = job.subject.segment(job.layer.layer, CLASSES)
    score = class_score(settings["class_output"])
    to = as_device(np.array(job.labels)[:, None], job.device)
    relevance = [
        (one.concepts.cpu().numpy(), one.values[0].cpu().numpy().astype(np.float64))
        for one in job.attribute(segment, score, job.layer, job.images, to)
    ]
    curves, areas, correlations = defaultdict(list), defaultdict(list), []
    for i, image in enumerate(progress(job.images, len(job.images), "class curves")):
        values, generator = relevance[i][1], job.generator(i)
        active, positive = len(values), int((values > 0).sum())
        at = counts(active, settings["points"], positive)
        evenly = over_active(at, active)
        for order, places in (("gig", np.argsort(-values, kind="stable")), ("random", generator.permutation(active))):
            both = job.curve(segment, class_reading(job.labels[i]), places, image, at)
            # In a random order the inactive concepts lie anywhere: the two axes coincide.
            ranked = over_all(at, positive, active, k) if order == "gig" else evenly
            for axis, x, which in (("active", *evenly), ("all", *ranked)):
                for metric, read in zip(("deletion", "insertion"), both, strict=True):
                    for output, y in zip(("probability", "accuracy"), read.T, strict=True):
                        curves[order, metric, output, axis].append(np.interp(GRID, x, y[which]))
                        areas[order, metric, output, axis].append(area(x, y[which]))
        correlations.append(_mu_fidelity(job, segment, score, image, values, to[i], generator))
    for (order, metric, output, axis), many in curves.items():
        names = {"target": CLASSES, "order": order}
        measures.add_curves(np.array(many), **names, metric=metric, output=output, axis=axis)
        mine = np.array(areas[order, metric, output, axis])
        measures.add(f"c_{metric}_{output}_{axis}", mine, **names)
        if metric == "insertion":
            measures.add(f"c_difference_{output}_{axis}", mine - areas[order, "deletion", output, axis], **names)
    measures.add("mu_fidelity", correlations, target=CLASSES, order="gig")
    _at_ends(job, curves, to)
    return relevance


def _at_ends(job: Job, curves, to) -> None:
    """Add the score at X, at X~ and at the centre: what the curves start from and end at."""
    at_x = {
        "probability": job.logits.softmax(1).gather(1, to)[:, 0].cpu().numpy(),
        "accuracy": (job.logits.argmax(1) == to[:, 0]).double().cpu().numpy(),
    }
    for output, values in at_x.items():
        ends = np.array(curves["gig", "insertion", output, "active"])
        for where, found in (("x", values), ("concepts", ends[:, -1]), ("baseline", ends[:, 0])):
            job.measures.add(f"{output}_at_{where}", found, target=CLASSES)


def _mu_fidelity(job: Job, segment, score, image, values, to, generator) -> float:
    sets = subsets(generator, len(values), job.settings["subsets"])
    layer, room = job.layer, job.room[job.layer.layer]
    drops = drops_without(segment, score, layer.directions, layer.start, image, sets, to, room)
    return mu_fidelity(values, sets, drops)


def sensitivity(job: Job, relevance: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Compare the ranking of all concepts by relevance under other penalties with that under the layer's own."""
    if job.layer.has_encoder:
        return
    name = job.layer.layer
    segment, score = job.subject.segment(name, CLASSES), class_score(job.settings["class_output"])
    to = as_device(np.array(job.labels)[:SENSITIVE, None], job.device)
    for factor in LAMBDAS:
        images, _ = job.layer.decompose(job.pfvs[name][:SENSITIVE], factor)
        agreement = []
        for own, other in zip(relevance, job.attribute(segment, score, job.layer, images, to), strict=False):
            both = np.zeros((2, job.layer.k))
            both[0, own[0]], both[1, other.concepts.cpu().numpy()] = own[1], other.values[0].cpu().numpy()
            agreement.append(rank_correlation(*both[:, both.any(0)]))
        job.measures.add(f"relevance_agreement_lambda_x_{factor:g}", agreement, target=CLASSES, order="gig")


def between(job: Job, target: str) -> None:
    """Delete and insert concepts by what they do for concepts of a later layer (Sec. 4.2.3, Fig. 5)."""
    settings, there = job.settings, job.vocabularies[target]
    count = min(settings["interlayer_images"], len(job.images))
    images, labels = job.images[:count], np.array(job.labels)[:count]
    segment, score = job.subject.segment(job.layer.layer, target), concept_score(there.directions)
    room, path = job.room[job.layer.layer], (job.layer.directions, job.layer.start)
    with torch.no_grad():
        originals = [segment(job.layer.start + image.offset(job.layer.directions)[None])[0] for image in images]
    chosen = _most_relevant(job, there, originals, labels)
    to = as_device(np.maximum(chosen, 0), job.device)
    found = job.attribute(segment, score, job.layer, images, to)
    gradients = gradient_times_input(segment, score, *path, images, to, room)
    curves, areas = defaultdict(list), defaultdict(list)
    for i, image in enumerate(progress(images, count, f"curves to {target}")):
        scores = {
            "gig": found[i].values,
            "gradient_x_input": gradients[i],
            "ablation": ablate(segment, score, *path, image, image.concepts.tolist(), to[i], room).T,
            "random": torch.from_numpy(job.generator(i, 1).random((to.shape[1], len(image.concepts)))),
        }
        there_are = chosen[i] >= 0
        readings = [
            projection_reading(there.directions[concept], there.start, originals[i]) for concept in chosen[i, there_are]
        ]
        values = {order: some.cpu().numpy()[there_are] for order, some in scores.items()}
        at = counts(len(image.concepts), settings["points"])
        x, which = over_active(at, len(image.concepts))
        read = partial(job.curve, segment, image=image, at=at)
        for (order, metric), both in over_targets(read, readings, values, x, which, GRID).items():
            for output, line, size in zip(("projection", "largest_projection"), *both, strict=True):
                curves[order, metric, output].append(line)
                areas[order, metric, output].append(size)
    for (order, metric, output), many in curves.items():
        names = {"target": target, "order": order}
        job.measures.add_curves(np.array(many), **names, metric=metric, output=output, axis="active")
        job.measures.add(f"{metric}_{output}", areas[order, metric, output], **names)
    difference = differences(areas)
    for metric, rows in (("difference", difference), ("gig_gain", gains(difference))):
        for (order, output), many in rows.items():
            job.measures.add(f"{metric}_{output}", many, target=target, order=order)


def _most_relevant(job: Job, there: Vocabulary, originals: list[torch.Tensor], labels: np.ndarray) -> np.ndarray:
    """Return the target layer's concepts of the largest relevance to each image's class, int64 [N, targets].

    Those without a clear projection at F(X~) (`originals`) are passed over; -1 where too few are left.
    """
    target, count = there.layer, len(originals)
    images, _ = there.decompose(job.pfvs[target][:count])
    segment, score = job.subject.segment(target, CLASSES), class_score(job.settings["class_output"])
    found = job.attribute(segment, score, there, images, as_device(labels[:, None], job.device))
    chosen, passed = np.full((count, min(job.settings["targets"], there.k)), -1), []
    for row, one, original in zip(chosen, found, originals, strict=True):
        relevance = np.zeros(there.k)
        relevance[one.concepts.cpu().numpy()] = one.values[0].cpu().numpy()
        cosines = largest_projections(original, there.start, there.directions).cpu().numpy()
        clear, more = clear_targets(relevance, cosines, len(row))
        row[: len(clear)] = clear
        passed.append(more)
    log.info("%s: %d more relevant concepts are passed over, %d images", target, sum(passed), count)
    job.measures.add("targets_passed_over", passed, target=target)
    return chosen


if __name__ == "__main__":
    run(main, "root", "heldout", "measures", "curves")
