"""The demo's network and its PFVs, made here: the menagerie's scenes, drawn, and run through its shipped model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gigraph.method.bisecting import bisect
from gigraph.method.origin import choose
from gigraph.method.sampling import draw_positions
from gigraph.method.vectors import concept_vectors
from gigraph.model.centre import batchnorm_shift
from gigraph.model.contribution import contributions
from gigraph.model.models import load_model
from gigraph.model.network import Network
from gigraph.worlds import dataset, registry

WORLD = "menagerie"
LAYERS = ("layer2.1", "layer3.1", "layer4.0")
IMAGES, PER_IMAGE = 2000, 4
"""Images, and PFVs drawn of each."""
EVERY = 8
"""Of so many images one is kept whole."""
NONZEROS = 8
"""Of a PFV, as the demo's lambda is calibrated to."""


@dataclass(frozen=True)
class Demo:
    """The traced network, and of each layer its centre beta and its PFVs less beta.

    ``drawn`` [N, C] are drawn by their contribution, for concepts to be found of; ``whole`` [I, P, C] are those of
    some images, all positions, which are what the workflow decomposes.
    """

    network: Network
    beta: dict[str, np.ndarray]
    drawn: dict[str, np.ndarray]
    whole: dict[str, np.ndarray]

    def concepts(self, layer: str, k: int) -> np.ndarray:
        """Return the vectors [K, C] of k concepts of a layer."""
        x = self.drawn[layer]
        tree = bisect(x, k)
        return concept_vectors(x, tree.labels, tree.k)


def made(batch: int = 50) -> Demo:
    """Draw the images and run them."""
    network = Network(load_model(WORLD, weights=None, arguments={}), (3, 96, 96), WORLD)
    layers = [network.layer(name) for name in LAYERS]
    folded = network.folded(layers)
    pictures, labels = dataset.labelled(registry.get(WORLD), "probe", IMAGES)
    ids = np.arange(IMAGES)
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in LAYERS}
    whole: dict[str, list[np.ndarray]] = {name: [] for name in LAYERS}
    for first in range(0, IMAGES, batch):
        part = slice(first, first + batch)
        x = registry.model().normalise(pictures[part])
        maps, pfvs, _, _ = contributions(folded, layers, x, "srd", labels[part], "predicted")
        for name in LAYERS:
            found = pfvs[name].numpy()
            position, _ = draw_positions(maps[name].numpy(), PER_IMAGE, seed=0, image_ids=ids[part], layer=name)
            drawn[name].append(np.take_along_axis(found, position[..., None], 1).reshape(-1, found.shape[2]))
            whole[name].append(found[::EVERY].copy())
    sampled, all_of = ({name: np.concatenate(parts) for name, parts in of.items()} for of in (drawn, whole))
    beta = {layer.name: choose(sampled[layer.name], batchnorm_shift(network, layer), "auto")[1] for layer in layers}
    return Demo(network, beta, *({name: x - beta[name] for name, x in of.items()} for of in (sampled, all_of)))
