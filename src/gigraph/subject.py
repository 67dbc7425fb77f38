"""The subject of a run: the model, its layers and its images, opened from a stage's settings."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gigraph.device import room, torch_device
from gigraph.errors import UserError
from gigraph.images.preprocessing import Preprocessing, batches
from gigraph.model.contribution import contributions, method_for
from gigraph.model.models import load_model, preset_of
from gigraph.model.network import Layer, Network
from gigraph.reserved import CLASSES

if TYPE_CHECKING:
    from gigraph.planning.config import Compute

CACHE_MB = 96
"""Of path points at once on a CPU."""
FEW_POINTS = 16
"""Of fewer path points at once each takes longer."""


class Subject:
    """A traced model with its preprocessing.

    Parameters
    ----------
    settings : dict
        With the keys ``model`` and ``preprocessing`` of the configuration, and ``image_size``, the (width, height)
        of an image.
    compute : Compute
        Device, batch size and threads.
    layers : sequence of str
        The layers that are needed; ``classes`` is always there.

    Attributes
    ----------
    traced : Network
        The model as it is written.
    network : Network
        The same with its batch norms folded: what every stage runs, for half the time of a sweep or a gradient.
    layers : dict of str to Layer
        Valid in both.
    memory : int
        Bytes that one job may hold at once; on a GPU see `gigraph.device.room`.
    images_at_once : int
        The configured batch size, or as many images as a sweep may hold within the memory budget.
    """

    def __init__(self, settings: dict[str, Any], compute: Compute, layers: Sequence[str]):
        model = settings["model"]
        self.compute = compute
        self.device = torch_device(compute)
        budget = compute.memory_mb * 10**6
        self.memory = room(budget) if self.device.type == "cuda" else budget
        given = {key: model[key] for key in ("weights", "arguments")}
        module = load_model(model["source"], **given, shuffled=model.get("shuffled"))
        preset = preset_of(model["source"], model["weights"])
        self.preprocessing = Preprocessing.from_preset(preset, **settings["preprocessing"])
        width, height = self.preprocessing.output_size(tuple(settings["image_size"] or (1, 1)))
        shape = (self.preprocessing.channels, height, width)
        read = {key: model[key] for key in ("task", "output", "reference")}
        self.traced = Network(module.to(self.device), shape, model["source"], **read)
        self.layers: dict[str, Layer] = {layer.name: layer for layer in self.traced.check_order(layers)}
        self.network = self.traced.folded(self.layers.values())
        # Its maps, and about as much again for what the operations need meanwhile.
        fit = int(self.memory / (2 * 4 * self.network.numbers))
        self.images_at_once = max(1, min(compute.batch_size, fit))

    def example(self) -> Tensor:
        """Return a batch of one grey image, for checks."""
        return torch.zeros(1, *self.network.image_shape, device=self.device)

    def images(self, folder: str | Path, ids: Sequence[int], paths: Sequence[str]) -> Iterator[tuple[slice, Tensor]]:
        """Yield (rows, batch [B, C, H, W]) over image files, decoded ahead of use."""
        files = [(int(i), Path(folder) / path) for i, path in zip(ids, paths, strict=True)]
        done = 0
        # The manifest holds only images within images.max_pixels.
        decoded = batches(files, self.preprocessing, self.images_at_once, self.compute.workers, max_pixels=sys.maxsize)
        for chunk, x in decoded:
            yield slice(done, done + len(chunk)), self._moved(x)
            done += len(chunk)

    def inputs(self, pictures: Sequence[Any]) -> Tensor:
        """Return the network's inputs [N, C, H, W] for pictures as it sees them, PIL images or uint8 [H, W, C]."""
        return self._moved(self.preprocessing.stack(pictures))

    def _moved(self, x: Tensor) -> Tensor:
        # A CPU convolves and pools faster with channels last, as they come; and PFVs are then views of maps.
        layout = torch.preserve_format if self.device.type == "cpu" else torch.contiguous_format
        return x.to(self.device, non_blocking=True, memory_format=layout)

    def sweep_arrays(self, images: np.ndarray, batch: int = 50) -> dict[str, np.ndarray]:
        """Run images that are in memory.

        Parameters
        ----------
        images : array of uint8 [N, H, W, 3]
        batch : int
            Images per forward pass.

        Returns
        -------
        dict of str to array
            Layer name -> PFVs [N, P, C], and ``classes`` -> logits [N, classes].

        Raises
        ------
        UserError
            If an activation is not finite.
        """
        from PIL import Image

        layers = list(self.layers.values())
        found: dict[str, list[Tensor]] = {}
        for first in range(0, len(images), batch):
            some = [self.preprocessing.display(Image.fromarray(image)) for image in images[first : first + batch]]
            with torch.inference_mode():
                values = self.network.activations(self.inputs(some), layers)
            for name, value in values.items():
                check_finite(value, name, [])
                found.setdefault(name, []).append(value if name == CLASSES else self.layers[name].to_pfvs(value))
        return {name: torch.cat(parts).cpu().numpy() for name, parts in found.items()}

    def seen_of(self, maps: np.ndarray) -> np.ndarray:
        """Return maps of whole numbers [N, H, W], such as masks, as the network sees their images."""
        from PIL import Image

        nearest = replace(self.preprocessing, interpolation="nearest")
        return np.stack([np.asarray(nearest.display(Image.fromarray(one))) for one in maps])

    def pfvs(self, x: Tensor, layer: str, ids: Sequence[int] = ()) -> Tensor:
        """Return one layer's PFVs [B, P, C] of a batch.

        Raises
        ------
        UserError
            If one of them is not finite, naming layer and image.
        """
        with torch.inference_mode():
            found = self.layers[layer].to_pfvs(self.network.activations(x, [self.layers[layer]])[layer])
        check_finite(found, layer, ids)
        return found

    def contribution(self, method: str) -> str:
        """Return how contributions are found in this network: `gigraph.model.contribution.method_for`."""
        return method_for(self.network, list(self.layers.values()), self.example(), method)

    def contributions(self, x: Tensor, method: str, labels: np.ndarray, target: str) -> tuple[Any, Any, Tensor, Tensor]:
        """Return contributions to a logit, and PFVs, of all layers: `gigraph.model.contribution.contributions`."""
        return contributions(self.network, list(self.layers.values()), x, method, labels, target)

    def places(self, layer: str) -> tuple[int, int, int]:
        """Return the grid of a layer's places in the image, and how many other positions come before: `Layer.grid`.

        Raises
        ------
        UserError
            If its positions are no places in the image.
        """
        own = self.layers[layer]
        if own.layout == "tokens" and own.patches is None:
            raise UserError(
                f"layer {layer}: its tokens are no places in the image, so that no part of a drawn world can be looked "
                "for in it; take other layers, or other images"
            )
        return own.grid

    def segment(self, source: str, target: str) -> Callable[[Tensor], Tensor]:
        """Return F_ab as a function of PFVs [N, P, C] to PFVs [N, P_b, C_b], or to logits [N, classes]."""
        return self.network.pfv_segment(self.layers[source], None if target == CLASSES else self.layers[target])

    def path_points(self, source: str) -> int:
        """Return how many inputs of the segments from a layer fit the memory, at some 24 maps of the largest's size.

        On a CPU no more than what its caches hold: larger batches were three times slower. But some, where the memory
        holds as many at 24 maps of the layer's own size.
        """
        layer = self.layers[source]
        own = 4 * 24 * layer.positions * layer.channels
        largest = max(own, 4 * 24 * self.network.largest(layer))
        if self.device.type == "cuda":
            return max(1, self.memory // largest)
        return max(1, min(self.memory, CACHE_MB * 10**6) // largest, min(FEW_POINTS, self.memory // own))


def check_finite(values: Tensor, layer: str, ids: Sequence[int]) -> None:
    """Raise a `UserError` that names layer and image if a value is NaN or infinite."""
    bad = ~torch.isfinite(values.flatten(1)).all(1)
    if bad.any():
        which = int(bad.nonzero()[0, 0])
        name = f"image {int(ids[which])}" if len(ids) else f"image {which} of a batch"
        raise UserError(f"layer {layer}: the activations of {name} are not finite; check the weights and the image")
