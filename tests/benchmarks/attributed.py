"""The tables of a run up to its attributions, at any size: drawn at random, with the paper's layers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from gigraph.explorer import Inputs
from gigraph.method.families import Families
from gigraph.records import tables
from gigraph.records.families import write_families
from gigraph.records.paths import Results
from gigraph.records.schemas import SCHEMAS
from gigraph.reserved import CLASSES

WIDTHS = (*[2048] * 3, *[4096] * 4, *[8192] * 6, *[16384] * 3)
"""Concepts per layer of a ResNet-50 at eight per channel (App. A), 121 thousand in all."""
METHOD = "bisecting"
PAIRED = 0.1
"""Share of the concepts that are in families of two."""
KEPT, OWN, FOLLOWING = 8, 2, 3
"""Concepts kept per class, further targets of each image, and classes besides its own."""
POSITIONS, NONZEROS = 4, 8
"""Of a layer, and of a PFV: few, since maps are not what is looked at."""
PER_SHARD = 1000
"""Images of a shard."""


@dataclass(frozen=True)
class Size:
    """Concepts of each layer, classes, attributed images of a class, sources kept of an image and target."""

    widths: tuple[int, ...]
    classes: int
    images: int
    sources: int

    @classmethod
    def share(cls, part: float, images: int, sources: int) -> Size:
        """Return a share of 1,000 classes and 121,000 concepts."""
        return cls(tuple(int(width * part) for width in WIDTHS), int(1000 * part), images, sources)


class Run:
    """Writes the tables below a folder.

    Attributes
    ----------
    pairs : list of (str, str)
        The layer pairs.
    shards : int
        Of the images.
    """

    def __init__(self, root: Path, size: Size):
        self.size, self.rng = size, np.random.default_rng(0)
        self.files = partial(Results(root), method=METHOD)
        self.layers = [f"layer{i + 1:02d}" for i in range(len(size.widths))]
        self.pairs = [*pairwise(self.layers), *((layer, CLASSES) for layer in self.layers)]
        self.label = np.repeat(np.arange(size.classes), size.images)
        self.shards = -(-len(self.label) // PER_SHARD)
        self.families = {layer: _paired(width) for layer, width in zip(self.layers, size.widths, strict=True)}
        # Each class has a pool of families of each layer; a step that is prime makes them different ones.
        self.pool = {}
        for layer in self.layers:
            ids, count = self.families[layer].ids, 2 * size.sources
            if count > len(ids):
                raise ValueError(f"{layer} has {len(ids)} families; {size.sources} sources need {count}")
            first = self.rng.integers(0, len(ids), (size.classes, 1))
            self.pool[layer] = ids[(first + 7919 * np.arange(count)) % len(ids)]

    def _write(self, name: str, columns: dict[str, Any], kind: str = "", vectors: str = "", **which: Any) -> None:
        tables.write(self.files(name, **which), kind or name, columns, "", vectors)

    def begin(self) -> None:
        """Write everything up to the attributions of classes, from which it follows which concepts are kept."""
        classes, images = np.arange(self.size.classes), np.arange(len(self.label))
        names, paths = [f"class {label:04d}" for label in classes], [f"{image}.png" for image in images]
        n, layers = len(images), self.layers
        self._write("classes", {"label": classes, "class": names, "task": ["classes"] * len(classes)})
        shard = images // PER_SHARD
        self._write("selection", {"image_id": images, "path": paths, "label": self.label, "shard": shard})
        self._write("images", {
            "image_id": images, "path": paths, "label": self.label, "class": [names[label] for label in self.label],
            "width": images, "height": images, "predicted": self.label, "probability": self.rng.uniform(size=n),
            "value": [None] * n,
        })  # fmt: skip
        self._write("rejected", {"path": [], "reason": []})
        self._write("layers", {
            "layer": layers, "node": layers, "layout": ["NCHW"] * len(layers),
            "channels": [width // 8 for width in self.size.widths], "height": [2] * len(layers),
            "width": [2] * len(layers), "grid": [[2, 2, 0]] * len(layers), "beta": [None] * len(layers),
        })  # fmt: skip
        known = {"layer": layers, "center": ["mean"] * len(layers)}
        measured = {name: [1] * len(layers) for name in SCHEMAS["reconstruction"].names if name not in known}
        self._write("reconstruction", known | measured)
        for layer, width in zip(layers, self.size.widths, strict=True):
            self._write("concepts", {
                "concept": np.arange(width), "size": self.rng.integers(2, 90, width), "images": np.full(width, 2),
                "cohesion": self.rng.uniform(0.4, 0.95, width), "node": np.arange(width),
                "vector": self.rng.normal(size=(width, 16)).astype(np.float32),
            }, vectors="vector", layer=layer)  # fmt: skip
            write_families(self.files("families", layer=layer), self.families[layer], "")
            for shard in range(self.shards):
                self._decompose(layer, np.flatnonzero(images // PER_SHARD == shard), shard)
            others = self.rng.integers(1, self.size.classes - FOLLOWING, (n, 1)) + np.arange(FOLLOWING)
            to = (self.label[:, None] + np.append(np.zeros((n, 1), int), others, axis=1)) % self.size.classes
            self._attribute(layer, CLASSES, to)

    def go_on(self) -> None:
        """Write the attributions between layers and the ablations, now that it is known which concepts are kept."""
        kept = {}
        for layer in self.layers:
            table = tables.read(self.files("kept", layer=layer))
            scope, concept = (tables.numpy(table, name) for name in ("scope", "concept"))
            kept[layer] = concept[scope >= 0].reshape(self.size.classes, KEPT)
        for source, target in self.pairs:
            scope = np.arange(self.size.classes)[:, None]
            to = scope
            if target != CLASSES:
                to, own = kept[target], self.pool[target][self.label]
                more = np.stack([own[:, -1 - at] for at in range(OWN)], axis=1)
                self._attribute(source, target, np.concatenate([to[self.label], more], axis=1))
            ends = np.broadcast_arrays(scope[:, None], kept[source][:, :, None], to[:, None])
            columns = dict(zip(("scope", "source", "target"), (end.ravel() for end in ends), strict=True))
            drop = self.rng.normal(size=ends[0].size)
            more = {"ablation": drop, "se": np.abs(drop) / 9, "images": np.full(len(drop), self.size.images)}
            self._write("ablations", columns | more, "ablation", source=source, target=target)

    def _decompose(self, layer: str, images: np.ndarray, shard: int) -> None:
        """Write coefficients of the first concepts of each class's pool, and the decisions."""
        rows = np.repeat(images, POSITIONS)
        concepts = np.sort(self.pool[layer][self.label[rows], :NONZEROS], axis=1)
        pointer = NONZEROS * np.arange(len(rows) + 1)
        ones = np.ones(len(rows))
        self._write("coefficients", {
            "image_id": rows, "y": rows % 2, "x": rows % 2, "concepts": tables.ragged(pointer, concepts.ravel()),
            "values": tables.ragged(pointer, self.rng.uniform(size=concepts.size).astype(np.float32)),
            "rel_l2": ones, "gap": ones, "stationarity": ones,
        }, layer=layer, shard=shard)  # fmt: skip
        said = {name: self.label[images] for name in SCHEMAS["decisions"].names if name.startswith("predicted")}
        sure = {name: self.rng.uniform(size=len(images)) for name in SCHEMAS["decisions"].names if name not in said}
        own = {"image_id": images, "label": self.label[images]}
        self._write("decisions", {**sure, **said, **own}, layer=layer, shard=shard)

    def _attribute(self, source: str, target: str, targets: np.ndarray) -> None:
        """Write attributions of targets [images, T]: a stretch of the class's pool, of which the first count most."""
        count, several = self.size.sources, targets.shape[1]
        for shard in range(self.shards):
            images = np.arange(len(self.label))[shard * PER_SHARD : (shard + 1) * PER_SHARD]
            rows = np.repeat(images, several)
            # The first families of the pool, so that a class keeps as many, and a stretch of the others.
            first, rest = self.rng.integers(0, 2 * count, (len(rows), 1)), 2 * count - KEPT
            place = np.broadcast_to(np.arange(count), (len(rows), count)).copy()
            place[:, KEPT:] = KEPT + (first + place[:, KEPT:]) % rest
            sources = self.pool[source][self.label[rows][:, None], place]
            values = self.rng.normal(0.01, 0.05, sources.shape).astype(np.float32)
            values[:, :KEPT] = np.abs(values[:, :KEPT]) + np.float32(0.2)
            own = self.families[source]
            paired = own.size[sources] > 1
            both = np.stack([sources[paired], sources[paired] + 1], axis=1).ravel()
            members = np.append(0, 2 * paired.sum(1).cumsum())
            pointer, ones = count * np.arange(len(rows) + 1), np.ones(len(rows))
            columns = {
                "image_id": rows, "label": self.label[rows], "target": targets[images].ravel(),
                "sources": tables.ragged(pointer, sources.ravel().astype(np.int32)),
                "values": tables.ragged(pointer, values.ravel()),
                "remainder": 0.01 * ones, "error": 0.02 * ones, "at_x": ones, "at_concepts": ones, "at_baseline": ones,
                "completeness_error": 1e-3 * ones, "quadrature_error": 1e-3 * ones,
                "total_absolute": np.abs(values).sum(1), "steps": 8 * ones.astype(np.int32), "deviation": ones,
                "members": tables.ragged(members, both.astype(np.int32)),
                "member_values": tables.ragged(members, np.repeat(values[paired] / 2, 2)),
            }  # fmt: skip
            self._write("attributions", columns, source=source, target=target, shard=shard)

    def inputs(self) -> Inputs:
        """Return what the explorer is built from."""
        of = range(self.shards)
        return Inputs(
            **{name: self.files(name) for name in ("images", "classes", "layers", "rejected", "nodes", "edges")},
            **{name: self.files(name) for name in ("reconstruction", "selection", "members")},
            kept=self.files("kept_of_all"),
            concepts={layer: self.files("concepts", layer=layer) for layer in self.layers},
            families={layer: self.files("families", layer=layer) for layer in self.layers},
            exemplars={},
            decisions={layer: [self.files("decisions", layer=layer, shard=at) for at in of] for layer in self.layers},
            attributions={
                (a, b): [self.files("attributions", source=a, target=b, shard=at) for at in of] for a, b in self.pairs
            },
            coefficients={
                layer: [self.files("coefficients", layer=layer, shard=at) for at in of] for layer in self.layers
            },
        )


def _paired(width: int) -> Families:
    """Return families of which some are of two neighbours."""
    alone = Families.alone(width)
    leader = np.arange(width)
    leader[1 : int(width * PAIRED) : 2] -= 1
    return Families(leader, alone.cosine, alone.weight, alone.inner, alone.least)
