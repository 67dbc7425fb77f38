"""Concepts made visible: the PFVs that show them, cropped to the iERF, and where they are in a class's images.

By how strongly they respond (the paper's: by cosine), or by what the concept does there for the image's class, as
zennit-crp's relevance maximisation picks them (Achtibat et al., "From attribution maps to human-understandable
explanations through concept relevance propagation", Nature Machine Intelligence 2023).

Notation: N sampled PFVs of C channels, E exemplars; P positions of a layer's map, row by row.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from gigraph.device import as_device
from gigraph.images.decoding import decode, size_of, visible
from gigraph.images.tiles import coefficient_map, exemplar_tile
from gigraph.method.gig import Decomposition, mean_gradients
from gigraph.method.quadrature import midpoint
from gigraph.method.reading import Reading
from gigraph.method.vectors import unit
from gigraph.model.contribution import receptive_fields
from gigraph.pair import Pair
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


@dataclass(frozen=True)
class Pictured:
    """Concepts, or families by their leaders, to be pictured by PFVs of a sample.

    Attributes
    ----------
    sheet : str
        What the names of their sheets begin with.
    directions : array [K, C]
        Their vectors.
    by : {"response", "relevance"}
        What ranks the PFVs.
    rows : mapping of int to integer array [E]
        Concept -> the PFVs that picture it, the first first.
    values : mapping of int to array [E]
        Concept -> what ranked them.
    """

    sheet: str
    directions: np.ndarray
    by: str
    rows: Mapping[int, np.ndarray]
    values: Mapping[int, np.ndarray]


def by_response(
    sheet: str, directions: np.ndarray, concepts: Sequence[int], read: Reading, sample: Sample, count: int
) -> Pictured:
    """Rank PFVs by how strongly a concept responds, at most one per image.

    Parameters
    ----------
    sheet, directions
        As of `Pictured`.
    concepts : sequence of int
        Which of the directions.
    read : Reading
        Of all of them.
    sample : Sample
        The PFVs to choose from.
    count : int
        Exemplars of each; fewer where fewer images were sampled.
    """
    x = unit(sample.pfvs) if read.over_length else sample.pfvs
    rows, values = {}, {}
    for concept in concepts:
        response = x @ read.weights[concept] + read.bias[concept]
        rows[concept] = nearest(response, sample.image_id, count)
        values[concept] = response[rows[concept]]
    return Pictured(sheet, directions, "response", rows, values)


def relevance_maps(
    pair: Pair, images: Sequence[Decomposition], labels: Sequence[int], steps: int
) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Yield each image's concepts [Q], and what each does at every position for the class [P, Q]: Eq. 5 before its sum.

    By one rule of so many steps, as good as a ranking needs: the tables' attributions are refined until their error is
    small, these are not.

    Parameters
    ----------
    pair : Pair
        From the layer to the classes.
    images : sequence of Decomposition
    labels : sequence of int
        The classes.
    steps : int
        Midpoints of the path; 0 for the gradient at X~ alone.
    """
    path = pair.path
    nodes = midpoint(steps)[0] if steps else np.ones(1)

    def gradients(points: int, first: int) -> Tensor:
        # So many images that all their points are one batch: of few points convolutions take twice as long each.
        some = images[first : first + max(1, points // len(nodes))]
        offset = torch.stack([image.offset(path.vectors) for image in some])
        to = torch.tensor(labels[first : first + len(some)], device=offset.device)[:, None]
        return mean_gradients(path.segment, path.score, path.start, offset, to, nodes, points)[:, 0]  # [N, P, C]

    done = 0
    while done < len(images):
        means = path.room.run(gradients, done)
        for image, mean in zip(images[done : done + len(means)], means, strict=True):
            yield image.concepts, (image.u * (mean @ path.vectors[image.concepts].T)).double().cpu().numpy()
        done += len(means)


def matters_in(
    relevance: Mapping[tuple[int, int], Sequence[tuple[float, int]]], concepts: Iterable[int], count: int
) -> dict[int, set[int]]:
    """Return image -> the concepts whose relevance to its class is among their `count` largest and above 0.

    Parameters
    ----------
    relevance : mapping
        (Class, concept) -> (relevance, image) of the class's images, as `relevance_to_own_class` returns it.
    concepts : iterable of int
        Those that are pictured.
    count : int
    """
    found: dict[int, set[int]] = {}
    shown = {*concepts}
    for (_, concept), values in relevance.items():
        for value, image in sorted(values, reverse=True)[: count if concept in shown else 0]:
            if value > 0:
                found.setdefault(image, set()).add(concept)
    return found


def most_relevant(
    maps: Iterable[tuple[int, np.ndarray, np.ndarray]], wanted: Mapping[int, set[int]], count: int
) -> dict[int, list[tuple[float, int, int]]]:
    """Return family -> (relevance, image, position) of the PFVs in which it matters most, one of an image, best first.

    Parameters
    ----------
    maps : iterable
        Image, the family of each of its concepts [Q], and `relevance_maps`' relevance of these [P, Q].
    wanted : mapping
        Image -> families that may be pictured by it.
    count : int
        PFVs of a family at most.
    """
    best: dict[int, list[tuple[float, int, int]]] = {}
    for image, family, relevance in maps:
        for one in sorted(wanted[image]):
            summed = relevance[:, family == one].sum(1)
            at = int(summed.argmax())
            best.setdefault(one, []).append((float(summed[at]), image, at))
    return {one: sorted(found, key=lambda spot: (-spot[0], spot[1]))[:count] for one, found in best.items()}


def enlarged(
    sample: Sample, spots: Iterable[tuple[int, int]], width: int,
    pfvs: Callable[[list[tuple[int, int]]], np.ndarray], images: Mapping[int, Mapping[str, Any]],
) -> tuple[Sample, dict[tuple[int, int], int]]:  # fmt: skip
    """Return a sample with further PFVs, and the row of each (image, position); those that it has stay where they are.

    Parameters
    ----------
    sample : Sample
    spots : iterable of (int, int)
        Image and position of each PFV.
    width : int
        Of the layer's map.
    pfvs : callable
        From a list of spots [E] to their centred PFVs, float32 [E, C].
    images : mapping
        Rows of the spots' images, as of the sample's.
    """
    there = sample.y.astype(np.int64) * width + sample.x
    row_of = {spot: i for i, spot in enumerate(zip(sample.image_id.tolist(), there.tolist(), strict=True))}
    new = sorted({*spots} - row_of.keys())
    row_of |= {spot: len(there) + i for i, spot in enumerate(new)}
    at = np.array([at for _, at in new], np.int64)
    larger = Sample(
        np.concatenate([sample.pfvs, pfvs(new)]) if new else sample.pfvs,
        np.append(sample.image_id, np.array([image for image, _ in new], sample.image_id.dtype)),
        np.append(sample.y, (at // width).astype(sample.y.dtype)),
        np.append(sample.x, (at % width).astype(sample.x.dtype)),
        {**sample.images, **images},
        sample.folder,
    )
    return larger, row_of


def exemplars(
    subject: Subject, layer: str, sample: Sample, pictured: Sequence[Pictured], *, side: int, method: str
) -> tuple[Columns, dict[str, list[list[Image]]]]:
    """Cut the tiles of the PFVs that picture concepts.

    Parameters
    ----------
    subject : Subject
    layer : str
        One of the subject's.
    sample : Sample
        The PFVs.
    pictured : sequence of Pictured
        Which of them picture what.
    side : int
        Of a tile, in pixels.
    method : {"srd", "grad_x_input"}
        How the iERF is found [Eq. 10] (`gigraph.model.contribution.receptive_fields`).

    Returns
    -------
    columns : dict
        Those of the table ``exemplars``, E rows: concept by concept, the first PFV first.
    pages : dict of str to list of list of image
        Sheet -> its concepts' tiles. Names are relative to the table's folder.
    """
    chosen = [(one, concept, rows, one.values[concept]) for one in pictured for concept, rows in one.rows.items()]
    every = [row for _, _, rows, _ in chosen for row in rows.tolist()]
    cut = tiles(subject, layer, sample, np.unique(np.array(every, np.int64)), side, method)
    columns: Columns = {name: [] for name in SCHEMAS["exemplars"].names}
    pages: dict[str, list[list[Image]]] = {}
    done: Counter[str] = Counter()
    for one, concept, rows, values in chosen:
        cosines = unit(sample.pfvs[rows]) @ unit(one.directions[concept])
        number, line = divmod(done[one.sheet], PER_SHEET)
        done[one.sheet] += 1
        name = f"sheets/{one.sheet}-{number:03d}.webp"
        pages.setdefault(name, []).append([cut[row][0] for row in rows.tolist()])
        ranked = zip(rows.tolist(), cosines.tolist(), values.tolist(), strict=True)
        for rank, (row, cosine, value) in enumerate(ranked):
            image = sample.images[int(sample.image_id[row])]
            found = {
                "concept": concept, "rank": rank, "image_id": sample.image_id[row], "y": sample.y[row],
                "x": sample.x[row], "by": one.by, "value": value, "cosine": cosine, "label": image["label"],
                "path": image["path"], "box": cut[row][1], "sheet": name, "row": line, "column": rank,
            }  # fmt: skip
            for column, listed in columns.items():
                listed.append(found[column])
    return columns, pages


def nearest(responses: np.ndarray, image_ids: np.ndarray, count: int) -> np.ndarray:
    """Return the rows of the `count` largest responses, at most one per image, in falling order."""
    order = np.argsort(-responses, kind="stable")
    first = np.unique(image_ids[order], return_index=True)[1]
    return order[np.sort(first)[:count]]


def tiles(
    subject: Subject, layer: str, sample: Sample, rows: np.ndarray, side: int, method: str
) -> dict[int, tuple[Image, list[int]]]:
    """Cut PFVs' images to their iERFs, image by image: what is read and run forward serves all PFVs of an image.

    Parameters
    ----------
    subject, layer, sample, side, method
        As `exemplars`.
    rows : integer array [E]
        Which PFVs of the sample; each once.

    Returns
    -------
    dict of int to tuple
        Row -> the tile, a square of `side` pixels; and its left, top, right, bottom in pixels of the image's file.
    """
    width = subject.layers[layer].width
    of_image: dict[int, list[int]] = {}
    for row in rows.tolist():
        of_image.setdefault(int(sample.image_id[row]), []).append(row)
    # Images with as many PFVs come together: a batch is swept back as often as its fullest image needs.
    images = sorted(of_image, key=lambda image: (len(of_image[image]), image))
    paths = [sample.images[image]["path"] for image in images]
    found = {}
    sweep = subject.images(sample.folder, images, paths)
    for part, batch in progress(sweep, -(-len(images) // subject.images_at_once), "iERF batches"):
        here = [of_image[image] for image in images[part]]
        positions = np.full((len(here), max(map(len, here))), -1, np.int64)
        for line, some in zip(positions, here, strict=True):
            line[: len(some)] = sample.y[some].astype(np.int64) * width + sample.x[some]
        asked = as_device(positions, subject.device)
        fields = receptive_fields(subject.network, subject.layers[layer], batch, asked, method)
        for path, some, own in zip(paths[part], here, fields.cpu().numpy(), strict=True):
            original = decode(sample.folder / path, sys.maxsize, subject.preprocessing.channels)
            seen = visible(subject.preprocessing.display(original))
            size = size_of(original)
            whole = subject.preprocessing.crop_box(size)
            for row, field in zip(some, own, strict=False):
                tile, box = exemplar_tile(seen, field, side)
                found[row] = tile, _original_box(box, field.shape, whole, size)
    return found


def localisation(
    kept: Iterable[Mapping[str, Any]],
    relevance: Mapping[tuple[int, int], Sequence[tuple[float, int]]],
    coded: Coded,
    paths: Mapping[int, str],
    count: int,
    responses: Callable[[int, int], np.ndarray] | None = None,
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
    responses : callable, optional
        ``responses(image, concept)`` is the map [P] that is stored in place of the coefficients.

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
                    "map": (where if responses is None else responses(image, row["concept"])).astype(np.float32),
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


def _original_box(box: Sequence[int], shape: tuple[int, int], seen: Box, size: tuple[int, int]) -> list[int]:
    """Map a box in network pixels to the original image (width, height), of which the network sees the box `seen`."""
    left, top, right, bottom = seen
    sx, sy = (right - left) / shape[1], (bottom - top) / shape[0]
    found = [left + box[0] * sx, top + box[1] * sy, left + box[2] * sx, top + box[3] * sy]
    return [min(max(round(place), 0), size[axis % 2]) for axis, place in enumerate(found)]  # a frame is no part of it
