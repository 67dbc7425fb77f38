"""Circuits of a run, opened from its tables: the network replaced by its concepts, and images as it coded them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyarrow import Table
from torch import Tensor

from gigraph.circuits import Nodes
from gigraph.device import as_device
from gigraph.method.families import Families
from gigraph.method.gig import Decomposition
from gigraph.method.tasks import probabilities
from gigraph.pair import Pair
from gigraph.records import tables
from gigraph.records.paths import Results
from gigraph.replacement import Change, Replacement, Seen
from gigraph.reserved import CLASSES
from gigraph.subject import Subject
from gigraph.vocabulary import Vocabulary

Rows = Sequence[Mapping[str, Any]]
"""Of the table ``selection``."""
BESIDE = "gradient_x_input"
"""The attribution method whose order stands beside the run's own."""


class Coded:
    """The coefficients of a layer in some images, and each concept's mean over all positions of all images.

    Parameters
    ----------
    paths : sequence of Path
        Tables of coefficients.
    subject : Subject
    vocabulary : Vocabulary
        Of the layer.
    wanted : collection of int
        Ids of the images.

    Attributes
    ----------
    mean : float32 array [K]
    """

    def __init__(self, paths: Sequence[Path], subject: Subject, vocabulary: Vocabulary, wanted: Collection[int]):
        positions, sums, rows = subject.layers[vocabulary.layer].positions, np.zeros(vocabulary.k), 0
        self.device = subject.device
        self.parts: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        for path in paths:
            table = tables.read(path, ["image_id", "concepts", "values"])
            (indptr, concepts), values = tables.csr(table, "concepts"), tables.csr(table, "values")[1]
            sums += np.bincount(concepts, weights=values, minlength=vocabulary.k)
            rows += len(indptr) - 1
            for i, image in enumerate(tables.numpy(table, "image_id")[::positions].tolist()):
                if image in wanted:
                    pointer = indptr[i * positions : (i + 1) * positions + 1]
                    inside = slice(pointer[0], pointer[-1])
                    self.parts[image] = pointer - pointer[0], concepts[inside].copy(), values[inside].copy()
        self.mean = (sums / max(1, rows)).astype(np.float32)

    def of(self, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (indptr, concepts, values) of images one after another."""
        pointers, concepts, values = zip(*(self.parts[i] for i in ids), strict=True)
        counts = np.concatenate([np.diff(one) for one in pointers])
        return np.append(0, np.cumsum(counts)), np.concatenate(concepts), np.concatenate(values)

    def decomposition(self, image: int) -> Decomposition:
        """Return an image's decomposition."""
        return Decomposition.from_csr(*(as_device(part, self.device) for part in self.parts[image]))


class CircuitRun:
    """What the circuits of a run are made of, and what they run on.

    Parameters
    ----------
    root : path
        The results folder.
    method : str
        Whose concepts.
    subject : Subject
        With all the layers.
    settings : mapping
        Of the stage ``circuits``.
    images : collection of int
        Ids of the images that are going to be seen.

    Attributes
    ----------
    vocabularies : list of Vocabulary
        Of the layers.
    coded : list of Coded
        Of the layers.
    nodes : Nodes
        Of the graph, or a node for each concept, by ``circuit.of``.
    """

    def __init__(
        self, root: str | Path, method: str, subject: Subject, settings: Mapping[str, Any], images: Collection[int]
    ):
        self.subject, self.settings = subject, settings
        self.vocabularies = [
            Vocabulary(root, method, layer, subject, settings["tolerances"][layer], merge=True)
            for layer in settings["layers"]
        ]
        files = partial(Results(root).shards, "coefficients", range(settings["shards"]), method=method)
        self.coded = [Coded(files(layer=one.layer), subject, one, images) for one in self.vocabularies]
        alone = settings["circuit"]["of"] == "concepts"
        self.nodes = Nodes.of([Families.alone(one.k) if alone else one.families for one in self.vocabularies])

    def replacement(self, edits: Mapping[str, Change] | None = None) -> Replacement:
        """Return the network replaced, edited at some layers."""
        c, baseline = self.settings["circuit"], self.settings["attribution"]["baseline"]
        fill = [one.mean for one in self.coded] if c["deleted"] == "mean" else None
        return Replacement(self.subject, self.vocabularies, fill, c["errors"] == "kept", baseline, edits)

    def inputs(self, rows: Rows) -> Tensor:
        """Return the network's inputs [N, C, H, W] for images."""
        ids, paths = [row["image_id"] for row in rows], [row["path"] for row in rows]
        return torch.cat([x for _, x in self.subject.images(self.settings["images"], ids, paths)])

    def see(self, replacement: Replacement, rows: Rows, x: Tensor | None = None) -> Seen:
        """Run the network on images, whose inputs may be given, with the coefficients that the run has of them."""
        ids = [row["image_id"] for row in rows]
        return replacement.see(self.inputs(rows) if x is None else x, ids, [one.of(ids) for one in self.coded])


def gradient_x_input(run: CircuitRun, rows: Rows, label: int) -> list[np.ndarray]:
    """Return gradient x input's relevance of each layer's concepts to a class, the mean over images: arrays [K].

    Parameters
    ----------
    run : CircuitRun
        That has coded the images.
    rows : sequence of mapping
        Of the table ``selection``: the images.
    label : int
    """
    found = []
    for vocabulary, coded in zip(run.vocabularies, run.coded, strict=True):
        pair = Pair(run.subject, vocabulary, None, run.settings["attribution"])
        images = [coded.decomposition(row["image_id"]) for row in rows]
        to = as_device(np.full((len(images), 1), label), run.subject.device)
        scores = np.zeros(vocabulary.k)
        for image in pair.attribute(images, to, BESIDE):
            scores[image.concepts.cpu().numpy()] += image.values[0].cpu().numpy() / len(images)
        found.append(scores)
    return found


def of_class(selection: Rows, label: int, count: int | None = None) -> list[Mapping[str, Any]]:
    """Return a class's attributed images; the first `count` are those that its circuits run on."""
    return [row for row in selection if row["label"] == label][:count]


def classes_with_most(labels: Sequence[int], most: int | None) -> list[int]:
    """Return the `most` classes with the most attributed images, or all, ascending."""
    found, counts = np.unique([label for label in labels if label >= 0], return_counts=True)
    return np.sort(found[np.lexsort((found, -counts))][:most]).astype(int).tolist()


def outputs_of(subject: Subject, folder: str | Path, rows: Rows) -> np.ndarray:
    """Return the network's mean outputs over images [classes]: probabilities, or a regression's scores.

    Parameters
    ----------
    subject : Subject
    folder : path
        Of the images.
    rows : rows of the table ``selection``
        At least one.
    """
    found = []
    for _, x in subject.images(folder, [row["image_id"] for row in rows], [row["path"] for row in rows]):
        with torch.inference_mode():
            found.append(subject.network.activations(x, [])[CLASSES].double())
    scores, task = torch.cat(found), subject.network.task
    return (scores if task == "regression" else probabilities(scores, task)).mean(0).cpu().numpy()


def likely_others(outputs: np.ndarray, selection: Rows, label: int, count: int) -> Rows:
    """Return images of other classes, those first that the class's images are most readily taken for, one of each.

    Parameters
    ----------
    outputs : array [classes]
        The class's images' mean of each class (`outputs_of`).
    selection : rows of the table ``selection``
    label, count : int
        The class, and how many images.
    """
    by_class: dict[int, list[Mapping[str, Any]]] = {}
    for row in selection:
        if row["label"] != label and row["label"] >= 0:
            by_class.setdefault(row["label"], []).append(row)
    ranked = sorted(by_class, key=lambda other: (-outputs[other], other))
    depth = max(map(len, by_class.values()), default=0)
    return [by_class[other][i] for i in range(depth) for other in ranked if i < len(by_class[other])][:count]


def mean_relevance(table: Table, label: int, families: Families, alone: bool) -> np.ndarray:
    """Return what a layer's concepts do for a class over its images, the mean [K]: the first order of its circuits.

    Parameters
    ----------
    table : Table
        The layer's attributions to classes.
    label : int
    families : Families
    alone : bool
        Whether each concept has its own; else a family's stands in its leader's row.
    """
    rows = np.flatnonzero((tables.numpy(table, "label") == label) & (tables.numpy(table, "target") == label))
    table = table.take(rows)
    sources, values = (tables.csr(table, name)[1] for name in ("sources", "values"))
    if alone:
        single = families.size[sources] == 1
        parts = (tables.csr(table, name)[1] for name in ("members", "member_values"))
        sources, values = (np.concatenate(both) for both in zip((sources[single], values[single]), parts, strict=True))
    return np.bincount(sources, weights=values, minlength=len(families.leader)) / max(1, len(rows))
