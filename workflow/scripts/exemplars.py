"""Picture one layer's kept concepts: their nearest PFVs cropped to the iERF; and say where they are in images."""

import shutil
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np

from gigraph.device import as_device
from gigraph.images.decoding import decode
from gigraph.images.tiles import coefficient_map, exemplar_tile, face_sheet, faces, sheet
from gigraph.model.contribution import receptive_fields
from gigraph.records import tables
from gigraph.records.schemas import SCHEMAS
from gigraph.reporting import log, progress
from gigraph.running.runtime import run
from gigraph.subject import Subject

PER_SHEET = 32


def main(args: Namespace) -> None:
    settings = args.settings
    subject = Subject(settings, args.compute, [settings["layer"]])
    sheets = Path(args.sheets)
    shutil.rmtree(sheets, ignore_errors=True)
    sheets.mkdir(parents=True)
    kept = tables.read(args.kept).to_pylist()
    concepts = sorted({row["concept"] for row in kept})
    exemplars = _exemplars(args, subject, concepts, sheets)
    localisation = _localisation(args, subject, kept)
    tables.write(args.exemplars, "exemplars", exemplars, args.lineage)
    tables.write(args.localisation, "localisation", localisation, args.lineage)
    log.info(
        "%d concepts, %d exemplars, %d localisations",
        len(concepts),
        len(exemplars["concept"]),
        len(localisation["concept"]),
    )


def nearest(cosines: np.ndarray, image_ids: np.ndarray, count: int) -> np.ndarray:
    """Return the rows of the `count` largest cosines, at most one per image, in falling order."""
    order = np.argsort(-cosines, kind="stable")
    first = np.unique(image_ids[order], return_index=True)[1]
    return order[np.sort(first)[:count]]


def _exemplars(args, subject, concepts, sheets):
    settings, layer = args.settings, subject.layers[args.settings["layer"]]
    side, folder = settings["tile"], Path(settings["images"])
    pfvs = tables.read(args.pfvs, ["image_id", "y", "x", "pfv"])
    ids, y, x = (tables.numpy(pfvs, name) for name in ("image_id", "y", "x"))
    manifest = {row["image_id"]: row for row in tables.read(args.manifests).to_pylist()}
    unit = _unit(tables.numpy(pfvs, "pfv") - tables.beta(args.centre))
    vectors = _unit(tables.numpy(tables.read(args.concepts, ["vector"]), "vector"))[concepts]
    chosen = [nearest(unit @ vector, ids, settings["nearest"]) for vector in vectors]
    cosine = [unit[rows] @ vector for rows, vector in zip(chosen, vectors, strict=True)]
    flat = np.concatenate(chosen) if chosen else np.empty(0, np.int64)
    tiles, boxes = [], []
    sweep = subject.images(folder, ids[flat], [manifest[i]["path"] for i in ids[flat].tolist()])
    for part, batch in progress(sweep, -(-len(flat) // subject.images_at_once), "iERF batches"):
        rows = flat[part]
        positions = as_device(y[rows].astype(np.int64) * layer.width + x[rows], subject.device)
        fields = receptive_fields(subject.network, layer, batch, positions, settings["contribution"]).cpu().numpy()
        for row, field in zip(rows, fields, strict=True):
            original = decode(folder / manifest[int(ids[row])]["path"], sys.maxsize)
            tile, box = exemplar_tile(subject.preprocessing.display(original), field, side)
            tiles.append(tile)
            boxes.append(_original_box(box, field.shape, subject.preprocessing.crop_box(original.size)))
    columns = {name: [] for name in SCHEMAS["exemplars"].names}
    at = 0
    for first in range(0, len(concepts), PER_SHEET):
        page, name = [], f"sheets/concepts-{first // PER_SHEET:03d}.webp"
        for index in range(first, min(first + PER_SHEET, len(concepts))):
            count = len(chosen[index])
            page.append(tiles[at : at + count])
            for rank in range(count):
                row = chosen[index][rank]
                image = manifest[int(ids[row])]
                values = {
                    "concept": concepts[index], "rank": rank, "image_id": image["image_id"], "y": y[row], "x": x[row],
                    "cosine": cosine[index][rank], "label": image["label"], "path": image["path"],
                    "box": boxes[at + rank], "sheet": name, "row": index - first, "column": rank,
                }  # fmt: skip
                for key, value in values.items():
                    columns[key].append(value)
            at += count
        sheet(page, settings["nearest"], side).save(sheets.parent / name, quality=85, method=4)
        faces(page).save(sheets.parent / face_sheet(name), quality=80, method=4)
    return columns


def _localisation(args, subject, kept):
    """Say where each class's kept concepts are in the images of the class where they matter most."""
    settings, layer = args.settings, subject.layers[args.settings["layer"]]
    relevance = _relevance(args.attributions)
    paths = {row["image_id"]: row["path"] for row in tables.read(args.selection, ["image_id", "path"]).to_pylist()}
    coefficients = tables.read(args.coefficients)
    start = {
        image: i * layer.positions
        for i, image in enumerate(tables.numpy(coefficients, "image_id")[:: layer.positions].tolist())
    }
    indptr, active = tables.csr(coefficients, "concepts")
    values = tables.csr(coefficients, "values")[1]
    columns = {name: [] for name in SCHEMAS["localisation"].names}
    for row in sorted(kept, key=lambda row: (row["scope"], row["rank"])):
        if row["scope"] < 0:
            continue
        ranked = sorted(relevance.get((row["scope"], row["concept"]), []), reverse=True)[: settings["localised"]]
        for rank, (value, image) in enumerate(ranked):
            pointer = indptr[start[image] : start[image] + layer.positions + 1]
            inside = slice(pointer[0], pointer[-1])
            where = coefficient_map(pointer - pointer[0], active[inside], values[inside], row["concept"])
            values_of = {
                "scope": row["scope"], "concept": row["concept"], "rank": rank, "image_id": image,
                "path": paths[image], "coefficient": where.max(), "relevance": value, "map": where.astype(np.float32),
            }  # fmt: skip
            for key, one in values_of.items():
                columns[key].append(one)
    return columns


def _relevance(paths):
    """Return {(class, concept): [(GIG to the class, image), ...]} over the images of each class."""
    found: dict[tuple[int, int], list[tuple[float, int]]] = {}
    for row in tables.read(paths, ["image_id", "label", "target", "sources", "values"]).to_pylist():
        if row["target"] == row["label"]:
            for concept, value in zip(row["sources"], row["values"], strict=True):
                found.setdefault((row["label"], concept), []).append((value, row["image_id"]))
    return found


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-30)


def _original_box(box, shape, seen) -> list[int]:
    """Map a box in network pixels to the original image, of which the network sees the box `seen`."""
    left, top, right, bottom = seen
    sx, sy = (right - left) / shape[1], (bottom - top) / shape[0]
    return [round(left + box[0] * sx), round(top + box[1] * sy), round(left + box[2] * sx), round(top + box[3] * sy)]


if __name__ == "__main__":
    run(
        main, "selection", "manifests+", "centre", "concepts", "kept", "pfvs+", "coefficients+", "attributions+",
        "exemplars", "localisation", "sheets",
    )  # fmt: skip
