"""Concepts made visible: the PFVs nearest to them, cropped to the iERF, and where they are in a class's images.

Notation: N sampled PFVs of C channels, E exemplars; P positions of a layer's map, row by row.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from gigraph.device import as_device
from gigraph.images.decoding import decode
from gigraph.images.tiles import coefficient_map, exemplar_tile
from gigraph.method.vectors import unit
from gigraph.model.contribution import receptive_fields
from gigraph.records.schemas import SCHEMAS
from gigraph.reporting import progress
from gigraph.subject import Subject

PER_SHEET = 32
"""Concepts on a sheet of tiles."""

Columns = dict[str, Any]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Sample:
    """A layer's sampled PFVs, and the images that they are of.

    Attributes
    ----------
    pfvs : float32 array [N, C]
        From the layer's centre.
    image_id, y, x : integer arrays [N]
        Where each is.
    images : mapping
        Image id -> a row with its ``path`` and ``label``.
    folder : Path
        What the paths are relative to.
    """

    pfvs: np.ndarray
    image_id: np.ndarray
    y: np.ndarray
    x: np.ndarray
    images: Mapping[int, Mapping[str, Any]]
    folder: Path

    def images_of(self, rows: np.ndarray) -> list[Mapping[str, Any]]:
        """Return the image of each of these PFVs."""
        return [self.images[image] for image in self.image_id[rows].tolist()]


@dataclass(frozen=True)
class Coded:
    """A layer's coefficients in images [Eq. 2], in CSR with P rows per image; or those of families.

    Attributes
    ----------
    image_id : integer array [images]
    indptr : int64 array [images P + 1]
    concepts, values : arrays [non-zeros]
    positions : int
        P.
    """

    image_id: np.ndarray
    indptr: np.ndarray
    concepts: np.ndarray
    values: np.ndarray
    positions: int

    @cached_property
    def _place(self) -> dict[int, int]:
        return {image: i for i, image in enumerate(self.image_id.tolist())}

    def map(self, image: int, concept: int) -> np.ndarray:
        """Return the coefficients of a concept, or of a family, at an image's positions, float64 [P]."""
        start = self._place[image] * self.positions
        pointer = self.indptr[start : start + self.positions + 1]
        inside = slice(pointer[0], pointer[-1])
        return coefficient_map(pointer - pointer[0], self.concepts[inside], self.values[inside], concept)


def exemplars(
    subject: Subject,
    layer: str,
    sample: Sample,
    vectors: np.ndarray,
    concepts: Sequence[int],
    *,
    count: int,
    side: int,
    method: str,
    sheet: str = "concepts",
) -> tuple[Columns, dict[str, list[list[Image]]]]:
    """Find the PFVs nearest to some concepts by cosine, at most one per image, and cut their tiles.

    Parameters
    ----------
    subject : Subject
    layer : str
        One of the subject's.
    sample : Sample
        The PFVs to choose from.
    vectors : array [K, C]
        The layer's concept vectors, or the directions of its families.
    concepts : sequence of int
        Which of them.
    count : int
        Exemplars per concept; fewer where fewer images were sampled.
    side : int
        Of a tile, in pixels.
    method : {"srd", "grad_x_input"}
        How the iERF is found [Eq. 10] (`gigraph.model.contribution.receptive_fields`).
    sheet : str
        What the names of the sheets begin with.

    Returns
    -------
    columns : dict
        Those of the table ``exemplars``, E rows: concept by concept, the nearest PFV first.
    pages : dict of str to list of list of image
        Sheet -> its concepts' tiles. Names are relative to the table's folder.
    """
    which = np.asarray(concepts, np.int64)
    pfvs, directions = unit(sample.pfvs), unit(vectors)[which]
    chosen = [nearest(pfvs @ direction, sample.image_id, count) for direction in directions]
    cosines = [pfvs[rows] @ direction for rows, direction in zip(chosen, directions, strict=True)]
    counts = [len(rows) for rows in chosen]
    rows = np.concatenate([np.empty(0, np.int64), *chosen])
    rank = np.concatenate([np.empty(0, np.int64), *map(np.arange, counts)])
    place = np.repeat(np.arange(len(which)), counts)
    cut, boxes = tiles(subject, layer, sample, rows, side, method)
    images = sample.images_of(rows)
    sheets = [f"sheets/{sheet}-{first // PER_SHEET:03d}.webp" for first in range(0, len(which), PER_SHEET)]
    columns = {
        "concept": which[place],
        "rank": rank,
        "image_id": sample.image_id[rows],
        "y": sample.y[rows],
        "x": sample.x[rows],
        "cosine": np.concatenate([np.empty(0, np.float32), *cosines]),
        "label": [image["label"] for image in images],
        "path": [image["path"] for image in images],
        "box": boxes,
        "sheet": [sheets[i // PER_SHEET] for i in place],
        "row": place % PER_SHEET,
        "column": rank,
    }
    ends = np.cumsum(counts).tolist()
    strips = [cut[end - many : end] for end, many in zip(ends, counts, strict=True)]
    return columns, {name: strips[i * PER_SHEET : (i + 1) * PER_SHEET] for i, name in enumerate(sheets)}


def nearest(cosines: np.ndarray, image_ids: np.ndarray, count: int) -> np.ndarray:
    """Return the rows of the `count` largest cosines, at most one per image, in falling order."""
    order = np.argsort(-cosines, kind="stable")
    first = np.unique(image_ids[order], return_index=True)[1]
    return order[np.sort(first)[:count]]


def tiles(
    subject: Subject, layer: str, sample: Sample, rows: np.ndarray, side: int, method: str
) -> tuple[list[Image], list[list[int]]]:
    """Cut PFVs' images to their iERFs.

    Parameters
    ----------
    subject, layer, sample, side, method
        As `exemplars`.
    rows : integer array [E]
        Which PFVs of the sample.

    Returns
    -------
    tiles : list of image
        Squares of `side` pixels.
    boxes : list of four ints
        Left, top, right, bottom of each in pixels of its image's file.
    """
    width = subject.layers[layer].width
    paths = [image["path"] for image in sample.images_of(rows)]
    cut, boxes = [], []
    sweep = subject.images(sample.folder, sample.image_id[rows], paths)
    for part, batch in progress(sweep, -(-len(rows) // subject.images_at_once), "iERF batches"):
        here = rows[part]
        positions = as_device(sample.y[here].astype(np.int64) * width + sample.x[here], subject.device)
        fields = receptive_fields(subject.network, subject.layers[layer], batch, positions, method).cpu().numpy()
        for path, field in zip(paths[part], fields, strict=True):
            original = decode(sample.folder / path, sys.maxsize)
            tile, box = exemplar_tile(subject.preprocessing.display(original), field, side)
            cut.append(tile)
            boxes.append(_original_box(box, field.shape, subject.preprocessing.crop_box(original.size)))
    return cut, boxes


def localisation(
    kept: Iterable[Mapping[str, Any]],
    relevance: Mapping[tuple[int, int], Sequence[tuple[float, int]]],
    coded: Coded,
    paths: Mapping[int, str],
    count: int,
) -> Columns:
    """Say where each class's kept concepts are in the images of the class that they matter most for.

    Parameters
    ----------
    kept : iterable of mapping
        Rows of the table ``kept``; a negative scope is no class.
    relevance : mapping
        See `relevance_to_own_class`.
    coded : Coded
        The layer's coefficients.
    paths : mapping
        Image id -> path.
    count : int
        Images per class and concept.

    Returns
    -------
    dict
        Columns of the table ``localisation``.
    """
    found = []
    for row in sorted(kept, key=lambda row: (row["scope"], row["rank"])):
        if row["scope"] < 0:
            continue
        ranked = sorted(relevance.get((row["scope"], row["concept"]), []), reverse=True)[:count]
        for rank, (value, image) in enumerate(ranked):
            where = coded.map(image, row["concept"])
            found.append(
                {
                    "scope": row["scope"],
                    "concept": row["concept"],
                    "rank": rank,
                    "image_id": image,
                    "path": paths[image],
                    "coefficient": where.max(),
                    "relevance": value,
                    "map": where.astype(np.float32),
                }
            )
    return {name: [one[name] for one in found] for name in SCHEMAS["localisation"].names}


def relevance_to_own_class(attributions: Iterable[Mapping[str, Any]]) -> dict[tuple[int, int], list[tuple[float, int]]]:
    """Return (class, concept) -> (GIG to the class, image id) of the class's images that have the concept.

    Parameters
    ----------
    attributions : iterable of mapping
        Rows of a layer's tables of attributions to the classes.
    """
    found: dict[tuple[int, int], list[tuple[float, int]]] = {}
    for row in attributions:
        if row["target"] == row["label"]:
            for concept, value in zip(row["sources"], row["values"], strict=True):
                found.setdefault((row["label"], concept), []).append((value, row["image_id"]))
    return found


def _original_box(box: Sequence[int], shape: tuple[int, int], seen: Box) -> list[int]:
    """Map a box in network pixels to the original image, of which the network sees the box `seen`."""
    left, top, right, bottom = seen
    sx, sy = (right - left) / shape[1], (bottom - top) / shape[0]
    return [round(left + box[0] * sx), round(top + box[1] * sy), round(left + box[2] * sx), round(top + box[3] * sy)]
