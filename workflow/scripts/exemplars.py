"""Picture one layer's kept families: by the PFVs in which they respond most, and by those in which they matter most.

Each is cropped to the iERF. The members of a family of several are pictured too, by fewer PFVs; and it is said where
families are in images.
"""

import shutil
from argparse import Namespace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from gigraph.exemplars import (
    Coded,
    Pictured,
    Sample,
    by_response,
    enlarged,
    exemplars,
    localisation,
    matters_in,
    most_relevant,
    relevance_maps,
    relevance_to_own_class,
)
from gigraph.images.tiles import FACE, face_sheet, faces, sheet
from gigraph.method.families import Families
from gigraph.method.reading import Reading, of_families, reading, spread_of
from gigraph.pair import Pair
from gigraph.records import tables
from gigraph.records.attributions import Decompositions
from gigraph.records.encoders import read_encoder
from gigraph.records.families import read_families
from gigraph.records.pfvs import uniform_pfvs
from gigraph.reporting import log, progress
from gigraph.reserved import CLASSES
from gigraph.running.runtime import run
from gigraph.subject import Subject


def main(args: Namespace) -> None:
    settings, name = args.settings, args.settings["layer"]
    subject = Subject(settings, args.compute, [name])
    sheets = Path(args.sheets)
    shutil.rmtree(sheets, ignore_errors=True)
    sheets.mkdir(parents=True)
    kept = tables.read(args.kept).to_pylist()
    concepts = sorted({row["concept"] for row in kept})
    families = read_families(args.families)
    vectors = tables.numpy(tables.read(args.concepts, ["vector"]), "vector")
    directions = families.directions(vectors)
    sample = _sample(args)
    uniform = uniform_pfvs(args.uniform, args.centre)
    spread = None if uniform is None else spread_of(uniform)
    encoder = read_encoder(args.concepts)
    detectors = None if encoder is None else encoder.weights
    own = reading(settings["reading"], vectors, spread, detectors)
    detected = detectors is not None and settings["reading"] == "filter"
    read = of_families(own, families, None if detected else reading(settings["reading"], directions, spread))
    pictured = [by_response("concepts", directions, concepts, read, sample, settings["nearest"])]
    members = [one for family in concepts for one in families.members(family).tolist() if one != family]
    few = min(FACE, settings["nearest"])
    pictured.append(by_response("members", vectors, members, own, sample, few))
    attributions = tables.read(args.attributions, ["image_id", "label", "target", "sources", "values"]).to_pylist()
    relevance = relevance_to_own_class(attributions)
    selection = {row["image_id"]: row for row in tables.read(args.selection).to_pylist()}
    if settings["relevant"]:
        sample, relevant = _relevant(args, subject, sample, families, directions, concepts, relevance, selection)
        pictured.append(relevant)
    shown, pages = exemplars(
        subject,
        name,
        sample,
        pictured,
        side=settings["tile"],
        method=subject.contribution(settings["contribution"]),
    )
    for file, page in pages.items():
        sheet(page, max(map(len, page)), settings["tile"]).save(sheets.parent / file, quality=85, method=4)
        faces(page).save(sheets.parent / face_sheet(file), quality=80, method=4)
    paths = {image: row["path"] for image, row in selection.items()}
    coded = _coded(args, families, subject.layers[name].positions)
    maps = _Responses(args, subject, read, concepts, paths) if settings["maps"] == "reading" else None
    located = localisation(kept, relevance, coded, paths, settings["localised"], maps)
    tables.write(args.exemplars, "exemplars", shown, args.lineage)
    tables.write(args.localisation, "localisation", located, args.lineage)
    log.info(
        "%d concepts, %d exemplars, %d localisations", len(concepts), len(shown["concept"]), len(located["concept"])
    )


def _relevant(args, subject, sample, families, directions, concepts, relevance, selection) -> tuple[Sample, Pictured]:
    """Return a sample with the PFVs in which families matter most for their images' classes, and which these are."""
    settings, name = args.settings, args.settings["layer"]
    count, layer = settings["relevant"], subject.layers[name]
    wanted = matters_in(relevance, concepts, count)
    pair = Pair.open(subject, args.root, args.method, name, CLASSES, settings["attribution"])
    coefficients = tables.read(args.coefficients)
    ids = tables.numpy(coefficients, "image_id")[:: layer.positions].tolist()
    decomposed = Decompositions.of_table(coefficients, layer.positions, subject.device)
    places = [place for place, image in enumerate(ids) if image in wanted]
    images = [decomposed(slice(place, place + 1))[0] for place in places]
    labels = [selection[ids[place]]["label"] for place in places]
    integral = settings["attribution"]
    steps = integral["steps"] if integral["method"] == "gig" else 0
    maps = relevance_maps(pair, images, labels, steps)
    of_images = (
        (ids[place], families.leader[active.cpu().numpy()], where)
        for place, (active, where) in zip(progress(places, len(places), "maps of relevance"), maps, strict=True)
    )
    chosen = most_relevant(of_images, wanted, count)
    spots = {(image, at) for found in chosen.values() for _, image, at in found}
    pfvs = partial(_pfvs_at, args, subject, selection)
    larger, row_of = enlarged(sample, spots, layer.width, pfvs, {image: selection[image] for image, _ in spots})
    rows = {c: np.array([row_of[image, at] for _, image, at in chosen.get(c, [])], np.int64) for c in concepts}
    values = {c: np.array([value for value, _, _ in chosen.get(c, [])]) for c in concepts}
    return larger, Pictured("relevant", directions, "relevance", rows, values)


def _pfvs_at(args, subject, selection, spots) -> np.ndarray:
    """Return the centred PFVs at (image, position), float32 [E, C]."""
    layer = subject.layers[args.settings["layer"]]
    beta = tables.beta(args.centre)
    found = np.empty((len(spots), layer.channels), np.float32)
    of_image: dict[int, list[int]] = {}
    for i, (image, _) in enumerate(spots):
        of_image.setdefault(image, []).append(i)
    images = list(of_image)
    for part, x in subject.images(args.settings["images"], images, [selection[i]["path"] for i in images]):
        pfvs = subject.pfvs(x, layer.name, images[part])
        for image, own in zip(images[part], pfvs, strict=True):
            for i in of_image[image]:
                found[i] = own[spots[i][1]].cpu().numpy() - beta
    return found


class _Responses:
    """Maps of responses of some concepts by a reading, an image run forward when it is first asked for."""

    def __init__(
        self, args: Namespace, subject: Subject, read: Reading, concepts: list[int], paths: dict[int, str]
    ):  # fmt: skip
        self.args, self.subject, self.paths = args, subject, paths
        self.read = Reading(read.weights[concepts], read.bias[concepts], read.over_length)
        self.column = {concept: column for column, concept in enumerate(concepts)}
        self.beta, self.known = tables.beta(args.centre), {}

    def __call__(self, image: int, concept: int) -> np.ndarray:
        if image not in self.known:
            settings = self.args.settings
            ((_, x),) = self.subject.images(settings["images"], [image], [self.paths[image]])
            with torch.inference_mode():
                pfvs = self.subject.pfvs(x, settings["layer"], [image])[0].cpu().numpy()
            self.known[image] = self.read(pfvs - self.beta)
        return self.known[image][:, self.column[concept]]


def _sample(args: Namespace) -> Sample:
    table = tables.read(args.pfvs, ["image_id", "y", "x", "pfv"])
    ids, y, x, pfvs = (tables.numpy(table, column) for column in ("image_id", "y", "x", "pfv"))
    images = {row["image_id"]: row for row in tables.read(args.manifests).to_pylist()}
    return Sample(pfvs - tables.beta(args.centre), ids, y, x, images, Path(args.settings["images"]))


def _coded(args: Namespace, families: Families, positions: int) -> Coded:
    table = tables.read(args.coefficients)
    indptr, concepts = tables.csr(table, "concepts")
    there = families.collect(concepts, tables.csr(table, "values")[1])
    return Coded(tables.numpy(table, "image_id")[::positions], indptr, *there, positions)


if __name__ == "__main__":
    run(
        main, "root", "method", "selection", "manifests+", "centre", "concepts", "families", "kept", "pfvs+",
        "coefficients+", "attributions+", "uniform?", "exemplars", "localisation", "sheets",
    )  # fmt: skip
