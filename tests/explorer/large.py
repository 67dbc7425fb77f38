"""A results folder of the paper's size and beyond: 16 layers, 121,000 concepts, 1,000 classes.

Pictures take minutes to draw: only the concepts of a few classes have some, more than a reader sees at once.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from explorer.fixture import MEASURED, plain
from gigraph.explorer import Inputs
from gigraph.images.tiles import face_sheet, faces, sheet
from gigraph.records import tables
from gigraph.records.schemas import SCHEMAS
from gigraph.reserved import CLASSES

WIDTHS = [2048] * 3 + [4096] * 4 + [8192] * 6 + [16384] * 3
"""Concepts per layer of a ResNet-50 at eight per channel (App. A), 121 thousand in all."""


def write_large(
    folder: Path, widths: list[int] = WIDTHS, classes: int = 1000, kept: int = 8, sources: int = 24, pictured: int = 0
) -> Inputs:
    """Write the tables and the pictures of so many classes' concepts; return what the explorer is built from."""
    rng = np.random.default_rng(0)
    names = [f"layer{i + 1:02d}" for i in range(len(widths))]
    labels = np.arange(classes)

    def t(name: str, kind: str, columns: dict, **more: str) -> Path:
        tables.write(folder / f"{name}.parquet", kind, columns, "abc", **more)
        return folder / f"{name}.parquet"

    text = [f"class {label:04d}" for label in labels]
    parts, mine = [], []
    for width in widths:
        # A pool of shared concepts, so that classes overlap.
        mine.append(np.stack([rng.choice(width, kept, replace=False) for _ in range(classes + 1)]))

    def block(scopes, index, target_layer, targets, chosen, images):
        size = chosen.size
        mean = rng.normal(0.01, 0.05, size).astype(np.float32)
        if target_layer == CLASSES:
            mean = np.abs(mean)
        parts.append({
            "scope": np.repeat(scopes, size // len(scopes)), "source_layer": np.full(size, names[index], object),
            "source": chosen.ravel(), "target_layer": np.full(size, target_layer, object), "target": targets,
            "mean": mean, "se": np.abs(mean) / 9, "support": np.full(size, images), "evaluated": np.full(size, images),
            "images": np.full(size, images), "weight": np.clip(np.abs(mean) * 5, 0, 1), "shown": np.full(size, True),
            "ablation": mean, "ablation_se": np.abs(mean) / 9,
        })  # fmt: skip

    rows: dict[str, list] = {name: [] for name in SCHEMAS["kept"].names}
    for index, width in enumerate(widths):
        more = [rng.integers(0, width, (classes, sources - kept)), np.tile([-1, -2], (classes, 1))]
        to_class = np.concatenate([mine[index][:classes], *more], axis=1)
        block(labels, index, CLASSES, np.repeat(labels, to_class.shape[1]), to_class, 20)
        relevance = parts[-1]["mean"].reshape(classes, -1)[:, :kept]
        for label in labels:
            order = np.argsort(-relevance[label])
            values = (
                [label] * kept, [names[index]] * kept, range(kept), mine[index][label][order], relevance[label][order],
                relevance[label][order] / 9, [20] * kept,
            )  # fmt: skip
            for column, value in zip(rows.values(), values, strict=True):
                column.extend(value)
        if index + 1 < len(widths):
            # every target has its own sources, the class's kept concepts among them
            from_kept = np.repeat(mine[index][:classes, None], kept, axis=1)
            other = rng.integers(0, width, (classes, kept, sources - kept))
            ends = np.tile([-1, -2], (classes, kept, 1))
            chosen = np.concatenate([from_kept, other, ends], axis=2)
            targets = np.repeat(mine[index + 1][:classes].ravel(), chosen.shape[2])
            block(labels, index, names[index + 1], targets, chosen, 20)
    edges = {key: np.concatenate([part[key] for part in parts]) for key in SCHEMAS["edges"].names}
    concepts = {}
    for name, width in zip(names, widths, strict=True):
        concepts[name] = t(f"concepts/{name}", "concepts", {
            "concept": np.arange(width), "size": rng.integers(2, 90, width), "images": np.full(width, 2),
            "cohesion": rng.uniform(0.4, 0.95, width), "node": np.arange(width),
            "vector": rng.normal(size=(width, 16)).astype(np.float32),
        }, vectors="vector")  # fmt: skip
    nodes = {
        "layer": np.repeat(np.array(names, object), widths), "concept": np.concatenate([np.arange(w) for w in widths]),
        "kind": ["concept"] * sum(widths), "name": [""] * sum(widths), "size": [5] * sum(widths),
        "cohesion": [0.5] * sum(widths), "relevance": [None] * sum(widths), "classes": [0] * sum(widths),
        "shown": [False] * sum(widths), "family": np.concatenate([np.arange(w) for w in widths]),
        "members": [1] * sum(widths), "inner_cosine": [1.0] * sum(widths),
    }  # fmt: skip
    images = np.arange(classes)
    return Inputs(
        images=t("images", "images", {
            "image_id": images, "path": [f"{i}.png" for i in images], "label": labels, "class": text,
            "width": images, "height": images, "predicted": labels, "probability": rng.uniform(size=classes),
            "value": [None] * len(labels),
        }),
        classes=t("classes", "classes", {"label": labels, "class": text, "task": ["classes"] * len(labels)}),
        layers=t("layers", "layers", {
            "layer": names, "node": names, "layout": ["NCHW"] * len(names), "channels": [w // 8 for w in widths],
            "height": [14] * len(names), "width": [14] * len(names), "grid": [[14, 14, 0]] * len(names),
            "beta": [None] * len(names),
        }),
        rejected=t("rejected", "rejected", {"path": [], "reason": []}),
        nodes=t("nodes", "nodes", nodes),
        edges=t("edges", "edges", edges),
        kept=t("kept", "kept", rows),
        concepts=concepts,
        exemplars={
            name: _pictures(folder / "exemplars" / name, np.unique(mine[index][:pictured]))
            for index, name in enumerate(names[: len(names) * bool(pictured)])
        },
        reconstruction=t("reconstruction", "reconstruction", {
            "layer": names, "rel_l2": [0.3] * len(names), "l0_ratio": [0.9] * len(names),
            "nonzeros": [15.0] * len(names), "gap": [1e-5] * len(names),
            "stationarity": [float("nan")] * len(names), "pfvs": [50000] * len(names),
            **{key: [value] * len(names) for key, value in MEASURED.items()},
        }),
    )  # fmt: skip


def _pictures(folder: Path, concepts: np.ndarray, per_sheet: int = 32, nearest: int = 4) -> Path:
    """Write sheets of 96 pixels a tile; a few drawings stand for all."""
    drawn = [plain(number % 9, number) for number in range(40)]
    (folder / "sheets").mkdir(parents=True)
    rows: dict[str, list] = {name: [] for name in SCHEMAS["exemplars"].names}
    for first in range(0, len(concepts), per_sheet):
        group = concepts[first : first + per_sheet]
        page, name = [], f"sheets/concepts-{first // per_sheet:03d}.webp"
        for y, concept in enumerate(group):
            page.append([drawn[(int(concept) * 7 + x * 11) % len(drawn)] for x in range(nearest)])
            for x in range(nearest):
                values = (concept, x, 0, 0, 0, "response", 0.9, 0.9, 0, "0.png", [0, 0, 96, 96], name, y, x)
                for column, value in zip(rows.values(), values, strict=True):
                    column.append(value)
        sheet(page, nearest, 96).save(folder / name, quality=80, method=0)
        faces(page).save(folder / face_sheet(name), quality=80, method=0)
    tables.write(folder / "exemplars.parquet", "exemplars", rows, "abc")
    return folder


__all__ = ["WIDTHS", "write_large"]
