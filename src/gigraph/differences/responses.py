"""How the concepts of two runs respond to the same images, and which belong together."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import torch

from gigraph.differences.finished import Finished
from gigraph.errors import UserError
from gigraph.method.matching import Matching, match
from gigraph.method.reading import reading
from gigraph.method.tasks import predict, probabilities
from gigraph.method.vectors import unit
from gigraph.records import tables
from gigraph.reserved import CLASSES
from gigraph.subject import Subject, check_finite
from gigraph.vocabulary import Vocabulary

POSITIONS = 144
"""Positions of a layer's map that are looked at, at most: every second, third, ... row and column of larger ones."""
MOST = 1024
"""Single concepts that are matched; of more only families are."""
NEAR = 0.02
"""By how much a probability may differ from the one in a run's tables: what rounding on another device may do."""


@dataclass(frozen=True)
class Seen:
    """What one run's model makes of N images.

    Attributes
    ----------
    subject : Subject
        The model.
    inputs : list of Tensor [B, C, H, W]
        The images as it takes them, in batches.
    predicted : int64 array [N]
        The class that each is taken for.
    scores : float64 array [N, classes]
        Probabilities; of a regression how far the value lies below and above the reference.
    maps : dict of str to float32 array [N, P, families]
        Of the layers that were matched so far, for the next match.
    """

    subject: Subject
    inputs: list[torch.Tensor]
    predicted: np.ndarray
    scores: np.ndarray
    maps: dict[str, np.ndarray] = field(default_factory=dict)

    def pfvs(self, layer: str) -> np.ndarray:
        """Return a layer's PFVs at the positions looked at (`places`), float32 [N, P, C]."""
        own, found = self.subject.layers[layer], []
        at = torch.from_numpy(places(*own.grid)).to(self.subject.device)
        for x in self.inputs:
            found.append(self.subject.pfvs(x, layer)[:, at].cpu())
        return torch.cat(found).numpy()


def look(run: Finished, layers: list[str], folder: Path, images: pl.DataFrame, side: str) -> Seen:
    """Run a model on images.

    Parameters
    ----------
    run : Finished
    layers : list of str
        Those that are needed.
    folder : Path
        Of the image files.
    images : DataFrame
        As in `gigraph.differences.images.Common`.
    side : {"a", "b"}
        Which of the two this run is.

    Raises
    ------
    UserError
        If the model cannot be run, or says of the run's own images something else than its tables.
    """
    ids, paths = images["a"].to_list(), images["path"].to_list()
    subject = run.subject(layers, images.select("width", "height").row(0))
    inputs, found = [], []
    for _, x in subject.images(folder, ids, paths):
        with torch.inference_mode():
            logits = subject.network.activations(x, [])[CLASSES]
        check_finite(logits, CLASSES, [])
        inputs.append(x)
        found.append(logits.cpu())
    logits = torch.cat(found)
    labels = torch.from_numpy(images[f"label_{side}"].fill_null(-1).to_numpy().astype(np.int64))
    scores = logits if run.task == "regression" else probabilities(logits, run.task)
    seen = Seen(subject, inputs, predict(logits, labels, run.task).numpy(), scores.double().numpy())
    _check_unchanged(run, images, side, seen)
    return seen


def _check_unchanged(run: Finished, images: pl.DataFrame, side: str, seen: Seen) -> None:
    """Refuse a model that is not the one that the run's tables were made with."""
    told = images.select(image_id=side, path="path").join(run.images, on="image_id", how="left", maintain_order="left")
    certain = seen.scores[np.arange(len(seen.scores)), seen.predicted]
    for row, probability in zip(told.iter_rows(named=True), certain, strict=True):
        if row["probability"] is not None and abs(row["probability"] - probability) > NEAR:
            raise UserError(
                f"{run.folder}: its model gives image {row['path']} the probability {probability:.3f}, its tables say "
                f"{row['probability']:.3f}: the weights or the image have changed since; run snakemake again there"
            )


def places(height: int, width: int, others: int = 0) -> np.ndarray:
    """Return which positions of a layer's map are looked at, int64 [P], P at most `POSITIONS` and `others`.

    Parameters
    ----------
    height, width : int
        Of the map; every second, third, ... of its rows and columns is taken where it has too many.
    others : int
        Positions before it, such as a class token; all are taken.
    """
    step = next(s for s in range(1, height + width) if -(-height // s) * -(-width // s) <= POSITIONS)
    grid = np.arange(height * width).reshape(height, width)[::step, ::step]
    return np.concatenate([np.arange(others), others + grid.ravel()])


@dataclass(frozen=True)
class Vocabularies:
    """The concepts of one layer in both runs, matched.

    Attributes
    ----------
    nodes : Matching
        Of the graphs' nodes: families, or concepts where neither run merges any.
    ids : two int64 arrays
        The ids that positions in it stand for: the families' leaders.
    single : Matching or None
        Of single concepts, where any run merges some and there are not too many.
    cosines : float32 array [families, families] or None
        Cosines of the nodes' directions, where both models have the same PFVs of all images looked at.
    """

    nodes: Matching
    ids: tuple[np.ndarray, np.ndarray]
    single: Matching | None
    cosines: np.ndarray | None


def matched(
    runs: tuple[Finished, Finished], seen: tuple[Seen, Seen], layer: str, whole: bool = True, seed: int = 0
) -> Vocabularies:
    """Match a layer's concepts and families by their responses.

    A node responds where its map is: the coefficients of its concepts, by weight (`Families.maps`), which is what
    attributions rest on. Of single near-parallel concepts a sparse code takes now one, now another; they respond by the
    projection on their vectors. Where the maps of the two models differ in size, the largest response in each image is
    compared.

    Parameters
    ----------
    runs : two Finished
    seen : two Seen
        Of the same images.
    layer : str
    whole : bool
        Match single concepts, and compare directions, besides the graphs' nodes.
    seed : int
        Of the permutations that chance is estimated from.
    """
    families = runs[0].families(layer), runs[1].families(layer)
    nodes = [_maps(run, one, layer) for run, one in zip(runs, seen, strict=True)]
    same_grid = seen[0].subject.layers[layer].grid == seen[1].subject.layers[layer].grid

    def together(one: np.ndarray, two: np.ndarray) -> Matching:
        if not same_grid:
            one, two = one.max(1, keepdims=True), two.max(1, keepdims=True)
        return match(one, two, seed)

    ids = families[0].ids, families[1].ids
    if not whole:
        return Vocabularies(together(nodes[0], nodes[1]), ids, None, None)
    pfvs = seen[0].pfvs(layer), seen[1].pfvs(layer)
    several = any(one.merged for one in families) and max(len(one.leader) for one in families) <= MOST
    same = pfvs[0].shape == pfvs[1].shape and np.array_equal(pfvs[0], pfvs[1])
    return Vocabularies(
        together(nodes[0], nodes[1]),
        ids,
        together(*(_projections(run, layer, x) for run, x in zip(runs, pfvs, strict=True))) if several else None,
        _cosines(runs, layer) if same else None,
    )


def _maps(run: Finished, seen: Seen, layer: str) -> np.ndarray:
    """Return the maps of a layer's families in the images seen, float32 [N, P, families]."""
    if layer in seen.maps:
        return seen.maps[layer]
    tolerance = run.plan.config.layer(layer).coefficients.tolerance
    vocabulary = Vocabulary(run.folder, run.method, layer, seen.subject, tolerance, merge=True)
    pfvs = seen.pfvs(layer)
    n, p, c = pfvs.shape
    codes, families = vocabulary.code(pfvs.reshape(n * p, c)), vocabulary.families
    found = np.zeros((n * p, len(families.ids)), np.float32)
    rows = np.repeat(np.arange(n * p), np.diff(codes.indptr))
    leaders, values = families.collect(codes.indices, codes.values)
    np.add.at(found, (rows, np.searchsorted(families.ids, leaders)), values)
    seen.maps[layer] = found.reshape(n, p, -1)
    return seen.maps[layer]


def _projections(run: Finished, layer: str, pfvs: np.ndarray) -> np.ndarray:
    """Return the projections of PFVs on a layer's concept vectors, float32 [N, P, K]."""
    read = reading("projection", _vectors(run, layer))
    return read(pfvs - tables.beta(run.results("centre", layer=layer)))


def _vectors(run: Finished, layer: str) -> np.ndarray:
    file = run.results("concepts", method=run.method, layer=layer)
    return tables.numpy(tables.read(file, ["vector"]), "vector")


def _cosines(runs: tuple[Finished, Finished], layer: str) -> np.ndarray:
    one, two = (unit(run.families(layer).directions(_vectors(run, layer))[run.families(layer).ids]) for run in runs)
    return one @ two.T
