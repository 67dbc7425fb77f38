"""How the concepts of two runs respond to the same images, and which belong together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch

from gigraph.differences.finished import Finished
from gigraph.errors import UserError
from gigraph.method.matching import Matching, match
from gigraph.method.reading import of_families, reading, spread_of
from gigraph.method.tasks import predict, probabilities
from gigraph.method.vectors import unit
from gigraph.records import tables
from gigraph.records.encoders import read_encoder
from gigraph.reserved import CLASSES
from gigraph.subject import Subject, check_finite

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
    """

    subject: Subject
    inputs: list[torch.Tensor]
    predicted: np.ndarray
    scores: np.ndarray

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


def matched(runs: tuple[Finished, Finished], seen: tuple[Seen, Seen], layer: str, seed: int = 0) -> Vocabularies:
    """Match a layer's concepts and families by their responses.

    A concept's response is that of its whitened filter over the PFVs looked at (`gigraph.method.reading`); an
    extractor's own detectors take its place, as on the explorer's cards. Where the maps of the two models differ in
    size, the largest response in each image is compared.

    Parameters
    ----------
    runs : two Finished
    seen : two Seen
        Of the same images.
    layer : str
    seed : int
        Of the permutations that chance is estimated from.
    """
    pfvs = seen[0].pfvs(layer), seen[1].pfvs(layer)
    families = runs[0].families(layer), runs[1].families(layer)
    nodes, singles = zip(*(_responses(run, layer, x) for run, x in zip(runs, pfvs, strict=True)), strict=True)
    same_grid = seen[0].subject.layers[layer].grid == seen[1].subject.layers[layer].grid

    def together(one: np.ndarray, two: np.ndarray) -> Matching:
        if not same_grid:
            one, two = one.max(1, keepdims=True), two.max(1, keepdims=True)
        return match(one, two, seed)

    several = any(one.merged for one in families) and singles[0] is not None and singles[1] is not None
    same = pfvs[0].shape == pfvs[1].shape and np.array_equal(pfvs[0], pfvs[1])
    return Vocabularies(
        together(*nodes),
        (families[0].ids, families[1].ids),
        together(*singles) if several else None,
        _cosines(runs, layer) if same else None,
    )


def _responses(run: Finished, layer: str, pfvs: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the responses of a layer's families [N, P, families], and of its concepts [N, P, K] unless too many."""
    families = run.families(layer)
    file = run.results("concepts", method=run.method, layer=layer)
    vectors = tables.numpy(tables.read(file, ["vector"]), "vector")
    x = pfvs - tables.beta(run.results("centre", layer=layer))
    try:
        spread = spread_of(x.reshape(-1, x.shape[2]))
    except ValueError:
        raise UserError(f"{run.folder}: layer {layer}: all PFVs of the images are the same; give more images") from None
    encoder = read_encoder(file)
    own = reading("filter", vectors, spread, None if encoder is None else encoder.weights)
    whole = reading("filter", families.directions(vectors), spread) if encoder is None else None
    both = of_families(own, families, whole)
    nodes = x @ both.weights[families.ids].T + both.bias[families.ids]
    return nodes, own(x) if len(vectors) <= MOST else None


def _cosines(runs: tuple[Finished, Finished], layer: str) -> np.ndarray:
    found = []
    for run in runs:
        families = run.families(layer)
        file = run.results("concepts", method=run.method, layer=layer)
        vectors = tables.numpy(tables.read(file, ["vector"]), "vector")
        found.append(unit(families.directions(vectors)[families.ids]))
    return found[0] @ found[1].T
