"""What extractors are compared on: of the trained network, and of the same with its weights shuffled.

PFVs that concepts are found on, drawn as in the run; PFVs at positions drawn uniformly; whole maps of images that no
concept is found on; and, of a drawn world, where each part is in these, and pairs of scenes that differ in one factor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gigraph.hashing import mix, text_key
from gigraph.method.heldout import held_out
from gigraph.method.origin import choose
from gigraph.method.sampling import draw_positions
from gigraph.method.tasks import predict
from gigraph.records import tables
from gigraph.reporting import progress
from gigraph.reserved import CLASSES
from gigraph.subject import Subject, check_finite
from gigraph.worlds import registry
from gigraph.worlds.alignment import coverage, positives
from gigraph.worlds.pairs import NUISANCES, pairs

FOUND = 1000
"""Images that concepts are found on, at most."""
CELLS = 4
"""Maps of pairs are averaged over a grid of so many cells a side: what changes is looked for, not where it is."""
AT_ONCE = 200
"""Scenes that are drawn before they are run."""


@dataclass(frozen=True)
class Probe:
    """What one layer of one network is looked at by.

    Attributes
    ----------
    beta : float32 array [C]
        The layer's centre.
    found, found_ids : float32 array [N, C], int64 array [N]
        PFVs that concepts are found on, and what each is.
    uniform : float32 array [M, C]
        PFVs at positions drawn uniformly.
    maps : float32 array [images, P, C]
        Of images that no concept is found on; with `evaluation.holdout: 0` of any.
    labels : int array [images]
        Their classes; of images without labels what the network says of them.
    shown : bool array [images, P, parts] or None
        Where the parts of a drawn world are.
    pairs : float32 array [bases, 1 + factors, cells, C] or None
        Of a drawn world's scenes as they are, and with each factor changed.
    able : int
        The first so many factors are those that a concept can be of.
    """

    beta: np.ndarray
    found: np.ndarray
    found_ids: np.ndarray
    uniform: np.ndarray
    maps: np.ndarray
    labels: np.ndarray
    shown: np.ndarray | None
    pairs: np.ndarray | None
    able: int


def gather(
    subject: Subject,
    shifts: Mapping[str, np.ndarray | None],
    manifest: Any,
    heldout: Any,
    settings: Mapping[str, Any],
) -> Iterator[tuple[str, str, dict[str, Any], str]]:
    """Yield (layer, kind of table, its columns, its column of vectors) of one network.

    Parameters
    ----------
    subject : Subject
        With all layers.
    shifts : mapping of str to float32 array [C] or None
        The net shift of the batch norms that make each layer [Eq. 8].
    manifest, heldout : Table
        Images that concepts may be found on, and the held-out ones.
    settings : mapping
        Of the stage ``probes``.
    """
    layers = subject.layers
    pfvs: dict[str, dict[str, list[np.ndarray]]] = {name: {"found": [], "uniform": []} for name in layers}
    where: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in layers}
    ids, paths, labels = _chosen(manifest, settings)
    method = subject.contribution(settings["contribution"]["method"])
    sweep = subject.images(settings["source"], ids.tolist(), paths)
    for part, x in progress(sweep, -(-len(ids) // subject.images_at_once), "images that concepts are found on"):
        maps, values, _, _ = subject.contributions(x, method, labels[part], settings["contribution"]["target"])
        for name in layers:
            check_finite(values[name], name, ids[part].tolist())
            contribution = maps[name].cpu().numpy()
            given = {"seed": settings["seed"], "image_ids": ids[part]}
            count = settings["layers"][name]["pfvs_per_image"]
            drawn, _ = draw_positions(contribution, count, layer=name, **given)
            pfvs[name]["found"].append(_at(values[name], drawn))
            where[name].append((np.repeat(ids[part], drawn.shape[1]), drawn.ravel()))
            few = np.flatnonzero(np.arange(len(ids))[part] < settings["images"])
            alike = np.ones_like(contribution)
            spread, _ = draw_positions(alike, settings["positions"], layer=f"uniform {name}", **given)
            pfvs[name]["uniform"].append(_at(values[name][torch.from_numpy(few)], spread[few]))
    for name, found in pfvs.items():
        columns = {kind: np.concatenate(many) for kind, many in found.items()}
        beta = choose(columns["found"], shifts[name], settings["layers"][name]["center"])[1]
        for kind, rows in (("centre", beta[None]), *columns.items()):
            known = [np.concatenate(many) for many in zip(*where[name], strict=True)] if kind == "found" else None
            image, position = known or [np.full(len(rows), -1)] * 2
            own = {"image_id": image.astype(np.int64), "position": position.astype(np.int32)}
            yield name, "probes", {"role": [kind] * len(rows), **own, "pfv": rows}, "pfv"
    if settings["world"] is None:
        yield from _of_images(subject, heldout, settings)
    else:
        yield from _of_scenes(subject, settings)


def _chosen(manifest: Any, settings: Mapping[str, Any]) -> tuple[np.ndarray, list[str], np.ndarray]:
    ids, labels = tables.numpy(manifest, "image_id"), tables.numpy(manifest, "label")
    rows = np.flatnonzero(~held_out(ids, settings["seed"], settings["holdout"]))
    key = mix(settings["seed"], text_key("probes"), ids[rows])
    rows = rows[np.argsort(key, kind="stable")[:FOUND]]  # in this order: the first few are no class's, nor a shard's
    every = manifest["path"].to_pylist()
    return ids[rows], [every[i] for i in rows], labels[rows]


def _at(values: Tensor, position: np.ndarray) -> np.ndarray:
    index = torch.as_tensor(position, device=values.device)[..., None].expand(-1, -1, values.shape[2])
    return values.gather(1, index).flatten(0, 1).cpu().numpy()


def _of_images(
    subject: Subject, heldout: Any, settings: Mapping[str, Any]
) -> Iterator[tuple[str, str, dict[str, Any], str]]:
    ids, labels = tables.numpy(heldout, "image_id"), tables.numpy(heldout, "label").copy()
    found: dict[str, list[np.ndarray]] = {name: [] for name in subject.layers}
    for part, x in subject.images(settings["source"], ids.tolist(), heldout["path"].to_pylist()):
        with torch.inference_mode():
            values = subject.network.activations(x, list(subject.layers.values()))
        if settings["unlabelled"]:
            # What stands for a label is what this network decides, as in a run on it: whether a shuffled one decides as
            # the trained one does is no question about its concepts.
            unknown = torch.full((len(x),), -1, device=x.device)
            labels[part] = predict(values[CLASSES], unknown, subject.network.task).cpu().numpy()
        for name, layer in subject.layers.items():
            own = layer.to_pfvs(values[name])
            check_finite(own, name, [])
            found[name].append(own.cpu().numpy())
    for name, many in found.items():
        yield name, "maps", _rows(np.concatenate(many), labels, None), "pfv"
        none = np.empty((0, many[0].shape[2]), np.float32)
        yield name, "pairs", {"base": np.empty(0, np.int32), "factor": [], "pfv": none}, "pfv"


def _of_scenes(subject: Subject, settings: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any], str]]:
    world, size = registry.get(settings["world"]), settings["size"]
    drawn = list(world.scenes(settings["drawn_seed"], "probes", settings["scenes"]))
    painted = [world.paint(one, size) for one in progress(drawn, len(drawn), "scenes")]
    owners = subject.seen_of(np.stack([owner for _, owner in painted]))
    sweep = subject.sweep_arrays(np.stack([image for image, _ in painted]))
    codes = [world.owners.index(part) for part in world.parts]
    for name in subject.layers:
        shown = positives(coverage(owners, codes, subject.places(name)))
        yield name, "maps", _rows(sweep[name], world.numbers(drawn), shown), "pfv"
    every = list(pairs(world, settings["drawn_seed"], settings["bases"]))
    pooled: dict[str, list[np.ndarray]] = {name: [] for name in subject.layers}
    for first in progress(range(0, len(every), AT_ONCE), -(-len(every) // AT_ONCE), "pairs of scenes"):
        some = [world.paint(scene, size)[0] for _, _, scene in every[first : first + AT_ONCE]]
        sweep = subject.sweep_arrays(np.stack(some))
        for name in subject.layers:
            pooled[name].append(averaged(sweep[name], subject.places(name)))
    for name, many in pooled.items():
        cells = np.concatenate(many)  # [scenes, cells, C]
        columns = {
            "base": np.repeat(np.array([base for base, _, _ in every], np.int32), cells.shape[1]),
            "factor": np.repeat([factor for _, factor, _ in every], cells.shape[1]).tolist(),
            "pfv": cells.reshape(-1, cells.shape[2]),
        }
        yield name, "pairs", columns, "pfv"


def averaged(pfvs: np.ndarray, places: tuple[int, int, int]) -> np.ndarray:
    """Return maps [N, P, C] averaged over at most `CELLS` cells a side, float32 [N, cells, C]; `places` is a `grid`."""
    height, width, first = places
    grid = torch.from_numpy(pfvs[:, first:]).unflatten(1, (height, width)).permute(0, 3, 1, 2)
    small = F.adaptive_avg_pool2d(grid, (min(CELLS, height), min(CELLS, width)))
    return small.flatten(2).permute(0, 2, 1).contiguous().numpy()


def _rows(maps: np.ndarray, labels: np.ndarray, shown: np.ndarray | None) -> dict[str, Any]:
    images, positions, channels = maps.shape
    parts = None if shown is None else shown.reshape(images * positions, -1)
    return {
        "image": np.repeat(np.arange(images, dtype=np.int32), positions),
        "label": np.repeat(labels.astype(np.int32), positions),
        "shown": [None] * (images * positions) if parts is None else parts.tolist(),
        "pfv": maps.reshape(-1, channels),
    }


def read_probe(file: Callable[[str], Path], most: int) -> Probe | None:
    """Return a layer's probe from its tables, with at most so many positions of maps; None where they are empty.

    Parameters
    ----------
    file : callable
        Where the table of a kind lies.
    most : int
        Positions of maps; the images come in order, so that the first are taken.
    """
    table = tables.read(file("probes"))
    if not len(table):
        return None
    role, pfvs = np.array(table["role"].to_pylist()), tables.numpy(table, "pfv")
    seen = tables.read(file("maps"))
    image = tables.numpy(seen, "image")
    positions = int((image == image[0]).sum())
    images = min(len(image) // positions, max(2, most // positions))
    rows = images * positions
    maps = tables.numpy(seen, "pfv")[:rows].reshape(images, positions, -1)
    parts = seen["shown"].combine_chunks()
    shown = None
    if parts.null_count < len(parts):
        shown = parts.flatten().to_numpy(zero_copy_only=False).reshape(len(parts), -1)[:rows]
        shown = shown.reshape(images, positions, -1)
    found = role == "found"
    ids = mix(*(tables.numpy(table, name)[found].astype(np.int64) for name in ("image_id", "position")))
    return Probe(
        beta=pfvs[role == "centre"][0],
        found=pfvs[found],
        found_ids=ids,
        uniform=pfvs[role == "uniform"],
        maps=maps,
        labels=tables.numpy(seen, "label")[:rows:positions],
        shown=shown,
        **_pairs(tables.read(file("pairs"))),
    )


def _pairs(table: Any) -> dict[str, Any]:
    if not len(table):
        return {"pairs": None, "able": 0}
    base = tables.numpy(table, "base")
    of_base = int((base == base[0]).sum())
    factors = list(dict.fromkeys(table["factor"].to_pylist()[:of_base]))
    shape = (len(base) // of_base, len(factors), of_base // len(factors), -1)
    able = sum(factor != "" and factor not in NUISANCES for factor in factors)
    return {"pairs": tables.numpy(table, "pfv").reshape(shape), "able": able}
