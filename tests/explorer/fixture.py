"""A small results folder with hostile names: what the workflow would leave for the explorer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from gigraph.explorer import Inputs
from gigraph.images.tiles import face_sheet, faces, sheet
from gigraph.method.families import Families
from gigraph.records import tables
from gigraph.records.families import write_families
from gigraph.records.schemas import SCHEMAS
from gigraph.reserved import CLASSES

HOSTILE = "</script><img src=x onerror=alert(1)>"
RIGHT_TO_LEFT = "زيبرا \u202e(abc)"
NAMES = ["cheetah", "leopard", HOSTILE, RIGHT_TO_LEFT, "🐝 bee & <b>moth</b>\u2028", "ghost"]
LAYERS = {"layer1.0": 16, "layer2.1": 24, "layer3.1": 40, "layer4.0": 48}
SIDES = {"layer1.0": 24, "layer2.1": 12, "layer3.1": 6, "layer4.0": 6}
IMAGES = 8
KEPT = 8
TILE = 48
NEAREST = 10
RELEVANT = 3
PER_SHEET = 8

FAMILIES = {"layer3.1": {0: [30, 31], 5: [32]}, "layer4.0": {2: [40, 41, 42]}}
"""Leader -> its other members, which are kept for no class."""
MEASURED = {
    "concepts": 40, "twins": 3, "mean_cosine": 0.2, "center": "batchnorm", "images": 40, "logit": 0.93,
    "logit_se": 0.01, "agreement": 0.95, "agreement_se": 0.02, "probability": 0.9, "probability_at_concepts": 0.86,
    "probability_at_baseline": 0.1, "unseen_images": 4, "unseen_logit": 0.9, "unseen_logit_se": 0.02,
    "unseen_agreement": 0.75, "unseen_agreement_se": 0.2,
}  # fmt: skip
"""What a reconstruction's row holds besides."""

Painter = Callable[[int, int], Image.Image]  # (class, number) -> square picture


def plain(label: int, number: int) -> Image.Image:
    """Draw a creature-like picture: a spotted body with an eye."""
    rng = np.random.default_rng([label, number])
    picture = Image.new("RGB", (96, 96), tuple(int(v) for v in rng.integers(120, 230, 3)))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((20, 34, 74, 74), fill=tuple(int(v) for v in rng.integers(30, 200, 3)), outline="black")
    draw.ellipse((60, 20, 88, 48), fill=tuple(int(v) for v in rng.integers(30, 200, 3)), outline="black")
    draw.ellipse((76, 28, 82, 34), fill="white", outline="black")
    for x, y in rng.integers((26, 40), (66, 66), (2 + label, 2)):
        draw.ellipse((x, y, x + 5, y + 5), fill="black")
    return picture


def write_results(
    folder: Path, layers: dict[str, int] = LAYERS, localised: bool = True, painter: Painter = plain
) -> Inputs:
    """Write all tables and sheets of a run, and return what the explorer is built from."""
    rng = np.random.default_rng(7)
    labels = np.arange(len(NAMES) - 1)  # the last class has no image
    truth = np.repeat(labels, IMAGES)
    predicted = truth.copy()
    predicted[1] = 1  # one cheetah is taken for a leopard
    ids = np.arange(len(truth)) + 1000
    paths = [f"{label}/{i:03d}.png" for i, label in enumerate(truth)]

    def t(name: str, kind: str, columns: dict, **more: str) -> None:
        tables.write(folder / f"{name}.parquet", kind, columns, "abc", **more)

    def plain_table(name: str, columns: dict) -> None:
        path = folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)

    write_evaluation(t, plain_table, rng, list(layers))
    t("images", "images", {
        "image_id": ids, "path": paths, "label": truth, "class": [NAMES[k] for k in truth],
        "width": np.full(len(ids), 96),
        "height": np.full(len(ids), 96), "predicted": predicted, "probability": rng.uniform(0.7, 1, len(ids)),
        "value": [None] * len(ids),
    })  # fmt: skip
    t("classes", "classes", {"label": list(range(len(NAMES))), "class": NAMES, "task": ["classes"] * len(NAMES)})
    t("rejected", "rejected", {"path": ["broken.png"], "reason": ["truncated"]})
    names = list(layers)
    t("layers", "layers", {
        "layer": names, "node": names, "layout": ["NCHW"] * len(names), "channels": list(layers.values()),
        "height": [24, 12, 6, 6][: len(names)], "width": [24, 12, 6, 6][: len(names)],
        "grid": [[side, side, 0] for side in [24, 12, 6, 6][: len(names)]], "beta": [None] * len(names),
    })  # fmt: skip
    t("reconstruction", "reconstruction", {
        "layer": names, "rel_l2": [0.31, 0.42, 0.37, 0.29][: len(names)], "l0_ratio": [0.8] * len(names),
        "nonzeros": [8.1, 7.9, 8.0, 8.2][: len(names)], "gap": [1e-5] * len(names),
        "stationarity": [float("nan")] * len(names),
        "pfvs": [4000] * len(names), **{key: [value] * len(names) for key, value in MEASURED.items()},
    })  # fmt: skip
    t("alignment", "alignment", {
        "layer": [names[-1]] * 3, "vectors": ["bisecting", "channels", "families"], "part": ["tag"] * 3,
        "best": [40, 4, 3],
        "average_precision": [0.95, 0.4, 0.93], "prevalence": [0.01] * 3,
        "detectors": [[40, 2, 3], [], [3]], "precisions": [[0.95, 0.94, 0.9], [], [0.93]],
    })  # fmt: skip
    t("selection", "selection", {"image_id": ids, "path": paths, "label": truth, "shard": np.zeros(len(ids))})
    kept = _kept(rng, layers, labels)
    t("kept", "kept", {key: [row[key] for row in kept] for key in SCHEMAS["kept"].names})
    circuits = write_circuits(t, folder, layers, kept)
    edges = _edges(rng, layers, labels, kept)
    t("edges", "edges", {key: [row[key] for row in edges] for key in SCHEMAS["edges"].names})
    _members(t, edges)
    _nodes(t, layers, kept)
    for layer, count in layers.items():
        write_families(folder / f"concepts/{layer}.families.parquet", families_of(layer, count), "abc")
    for layer, count in layers.items():
        t(f"trees/{layer}", "tree", {
            "node": np.arange(2 * count - 1), "size": np.full(2 * count - 1, 5),
            "parent": [None, *(2 * (i // 2) for i in range(2 * count - 2))],
            "concept": [None if i % 2 == 0 and i < 2 * count - 2 else i // 2 for i in range(2 * count - 1)],
        })  # fmt: skip
    for layer, count in layers.items():
        vectors = rng.normal(size=(count, 12)).astype(np.float32)
        vectors[1] = vectors[0] * 1.1 + 0.01  # a duplicate
        sizes = rng.integers(2, 90, count)
        sizes[2] = 1
        columns = {
            "concept": np.arange(count), "size": sizes, "images": np.minimum(sizes, 9),
            "cohesion": rng.uniform(0.4, 0.95, count), "node": np.arange(count), "vector": vectors,
        }  # fmt: skip
        t(f"concepts/{layer}", "concepts", columns, vectors="vector")
        _pictures(folder / "exemplars" / layer, rng, kept, layer, truth, ids, paths, localised, painter)
    return Inputs(
        images=folder / "images.parquet",
        classes=folder / "classes.parquet",
        layers=folder / "layers.parquet",
        rejected=folder / "rejected.parquet",
        nodes=folder / "nodes.parquet",
        edges=folder / "edges.parquet",
        kept=folder / "kept.parquet",
        concepts={layer: folder / f"concepts/{layer}.parquet" for layer in layers},
        exemplars={layer: folder / "exemplars" / layer for layer in layers},
        reconstruction=folder / "reconstruction.parquet",
        alignment=folder / "alignment.parquet",
        method="bisecting",
        title="The menagerie",
        labels={f"{names[0]}:{kept_first(kept, names[0], 0)}": "spots </b>"},
        top=5,
        shared=3,
        nearest=NEAREST,
        tile=TILE,
        lineage="abc",
        selection=folder / "selection.parquet",
        attributions=_attributions(t, folder, rng, layers, ids, truth, predicted),
        coefficients=_coefficients(t, folder, rng, layers, ids),
        families={layer: folder / f"concepts/{layer}.families.parquet" for layer in layers},
        members=folder / "members.parquet",
        trees={layer: folder / f"trees/{layer}.parquet" for layer in layers},
        circuits=circuits,
        evaluation={path.stem: path for path in sorted((folder / "evaluation").glob("*.parquet"))},
        stability=folder / "stability.parquet",
        picture=lambda path: painter(*(int(part) for part in path.removesuffix(".png").split("/"))),
        images_per_class=3,
        explained=folder / "explained",
        shortcut={"part": "tag", "class": "cheetah", "planted": 0.95, "elsewhere": 0.02},
        notes=["layer1.0: K capped at 16 so that concepts keep 4 members on average"],
    )


def _attributions(t, folder, rng, layers, ids, truth, predicted) -> dict:
    """Every image: to its label and its prediction, and to the first ten concepts of the next layer."""
    found = {}
    names = list(layers)
    for index, layer in enumerate(names):
        for target in [CLASSES, *names[index + 1 : index + 2]]:
            columns: dict[str, list] = {name: [] for name in SCHEMAS["attributions"].names}
            for image, label, taken in zip(ids.tolist(), truth.tolist(), predicted.tolist(), strict=True):
                for to in sorted({label, taken}) if target == CLASSES else range(10):
                    sources = rng.permutation(np.unique(families_of(layer, layers[layer]).leader))[:12]
                    values = rng.normal(0.02, 0.05, 12).astype(np.float32)
                    own = FAMILIES.get(layer, {})
                    parts = [(m, v / 2) for q, v in zip(sources, values, strict=True) if q in own
                             for m in (q, own[q][0])]  # fmt: skip
                    row = (
                        image,
                        label,
                        to,
                        sources,
                        values,
                        0.01,
                        -0.02,
                        0.5,
                        0.52,
                        0.1,
                        1e-3,
                        2e-3,
                        np.abs(values).sum(),
                        8,
                        None,
                        [m for m, _ in parts],
                        [v for _, v in parts],
                    )
                    for column, value in zip(columns.values(), row, strict=True):
                        column.append(value)
            t(f"attributions/{layer}--{target}", "attributions", columns)
            found[layer, target] = [folder / f"attributions/{layer}--{target}.parquet"]
    return found


def _coefficients(t, folder, rng, layers, ids) -> dict:
    for layer, count in layers.items():
        side = SIDES[layer]
        n = len(ids) * side**2
        where = np.tile(np.arange(side**2), len(ids))
        t(f"coefficients/{layer}", "coefficients", {
            "image_id": np.repeat(ids, side**2), "y": where // side, "x": where % side,
            "concepts": [rng.permutation(count)[:4] for _ in range(n)],
            "values": [rng.normal(1, 1, 4).astype(np.float32) for _ in range(n)],
            "rel_l2": np.full(n, 0.3), "gap": np.zeros(n),
            "stationarity": np.full(n, np.nan),
        })  # fmt: skip
    return {layer: [folder / f"coefficients/{layer}.parquet"] for layer in layers}


CIRCUIT = {0: 9, 1: None}
"""Classes that have circuits, and the size of the smallest one found."""
CURVE = {0: 0.1, 4: 0.3, 20: 0.75, 122: 0.9}
"""The score of circuits by their size, along the graph's own order."""


def write_circuits(t, folder, layers, kept) -> dict:
    """Circuits of two classes: their kept nodes enter first, layer by layer; in one of them nothing keeps enough."""
    rows, points, members = [], [], []
    for scope, size in CIRCUIT.items():
        nodes = [(layer, int(q)) for layer, count in layers.items()
                 for q in np.unique(families_of(layer, count).leader)]  # fmt: skip
        first = [(row["layer"], row["concept"]) for row in kept if row["scope"] == scope]
        first.sort(key=lambda one: [row["rank"] for row in kept
                                    if (row["scope"], row["layer"], row["concept"]) == (scope, *one)])  # fmt: skip
        order = [*first, *(one for one in nodes if one not in first)]
        whole = {"scope": scope, "images": 3, "others": 3, "deleted": "mean", "errors": "dropped", "nodes": len(nodes)}
        said = {"concepts": 128.0, "score": 0.95, "score_se": 0.01, "margin": 3.0, "margin_se": 0.1, "elsewhere": 0.02}
        rows.append({**whole, "order": "network", "size": len(nodes), **said})
        for name in ("gig", "gradient_x_input", "random", "pruned"):
            own = {"size": size, **said, "score": 0.77, "elsewhere": 0.13, "rest_score": 0.08} if size else {}
            rows.append({**whole, "order": name, **own})
        points += [
            {**said, "scope": scope, "order": name, "size": at, "score": score}
            for name in ("gig", "gradient_x_input", "random") for at, score in CURVE.items()
        ]  # fmt: skip
        members += [
            {"scope": scope, "layer": layer, "concept": concept, "rank": rank, "relevance": 1 / (1 + rank),
             "smallest": size is not None and rank < size}
            for rank, (layer, concept) in enumerate(order)
        ]  # fmt: skip
    found = {}
    for kind, many in (("circuits", rows), ("circuit_curves", points), ("circuit_members", members)):
        t(kind, kind, {key: [row.get(key) for row in many] for key in SCHEMAS[kind].names})
        found[kind] = [folder / f"{kind}.parquet"]
    return found


def write_evaluation(t, plain, rng, names) -> None:
    """Write tables as the evaluation does, and one that the page has never seen."""
    x = np.linspace(0, 1, 11)
    many = 2 * len(x) * len(names)
    t("evaluation/curves", "curves", {
        "method": ["bisecting"] * many, "layer": np.repeat(names, 2 * len(x)).tolist(), "target": [CLASSES] * many,
        "order": ["gig"] * many, "metric": (["insertion"] * 11 + ["deletion"] * 11) * len(names),
        "output": ["probability"] * many, "axis": ["active"] * many, "x": np.tile(x, 2 * len(names)),
        "value": np.tile(np.concatenate([x**0.5, 1 - x**0.5]), len(names)), "se": np.full(many, 0.02),
        "n": np.full(many, 9),
    })  # fmt: skip
    blank = dict.fromkeys(("target", "order", "part"), [""] * 2 * len(names))
    t("evaluation/reconstruction", "measures", {
        **blank, "method": ["bisecting", "random"] * len(names), "layer": np.repeat(names, 2).tolist(),
        "metric": ["rel_l2"] * 2 * len(names), "value": rng.uniform(size=2 * len(names)),
        "se": [0.01] * 2 * len(names), "n": [9] * 2 * len(names),
        "values": [[]] * 2 * len(names),
    })  # fmt: skip
    compared = [
        (method, layer, network, seed, reading, metric, values)
        for layer in names for network in ("trained", "shuffled")
        for method, metric, reading, seeds, values in (
            ("bisecting", "average_precision", "cosine", 2, [0.4, 0.6, 0.8]),
            ("random", "average_precision", "cosine", 2, [0.3, 0.6, 0.6]),
            ("bisecting", "rel_l2", "lasso", 1, [0.2, 0.3]),
            ("random", "rel_l2", "lasso", 1, [0.4, 0.4]),
        )
        for seed in range(seeds)
    ]  # fmt: skip
    keys = ("method", "layer", "network", "seed", "reading", "metric", "values")
    columns = dict(zip(keys, zip(*compared, strict=True), strict=True))
    # Shuffled weights halve the precision, and change the error by nothing.
    halved = [
        [v / 2 if network == "shuffled" and metric != "rel_l2" else v for v in values]
        for _, _, network, _, _, metric, values in compared
    ]
    t("evaluation/comparison", "comparison", {
        **{key: list(column) for key, column in columns.items()}, "values": halved, "concepts": [64] * len(compared),
        "part": [""] * len(compared), "value": [float(np.mean(values)) for values in halved],
        "se": [0.1] * len(compared), "n": [len(values) for values in halved],
    })  # fmt: skip
    told = [(layer, *one) for layer in names for one in (
        ("comparison", "average_precision", "cosine", 0.9, 20, 0.6, 0.3),
        ("comparison", "rel_l2", "lasso", 0.5, 20, 0.25, 0.25),
        ("reconstruction", "rel_l2", "", 0.2, 20, 0.25, 0.2),
        ("classes", "mu_fidelity", "", None, 0, 0.9, None))]  # fmt: skip
    told.append(("", "network", "outputs", "", None, 100, 80.0, 1.0))
    keys = ("layer", "topic", "metric", "reading", "auc", "n", "trained", "shuffled")
    t("evaluation/sanity", "sanity", {
        **{name: [value] * len(told) for name, value in (("method", "bisecting"), ("target", ""), ("order", ""))},
        **{key: list(column) for key, column in zip(keys, zip(*told, strict=True), strict=True)},
    })  # fmt: skip
    plain("evaluation/weather", {"day": ["Monday", "Tuesday"], "rain": [0.25, 0.5]})
    t("stability", "stability", {
        "layer": [names[-1]], "concept": [4], "stability": [0.75], "over_concepts": [0.7], "over_pfvs": [0.7],
        "chance": [0.8],
    })  # fmt: skip


def kept_first(kept: list[dict], layer: str, scope: int) -> int:
    return next(row["concept"] for row in kept if row["layer"] == layer and row["scope"] == scope)


def _kept(rng, layers, labels) -> list[dict]:
    """Each class keeps a window of concepts, so that neighbouring classes share some."""
    rows = []
    for depth, (layer, count) in enumerate(layers.items()):
        for scope in (-1, *labels.tolist()):
            start = 0 if scope < 0 else scope * 4
            concepts = [(start + i) % count for i in range(KEPT)]
            if layer == "layer4.0" and scope == 0:
                concepts[0] = count - 1  # kept and without pictures
            relevance = np.sort(rng.gamma(1.0, 0.06 * (1 + depth), KEPT))[::-1]
            for rank in range(KEPT):
                rows.append({
                    "scope": scope, "layer": layer, "rank": rank, "concept": concepts[rank],
                    "relevance": float(relevance[rank]), "se": float(relevance[rank] / 9), "support": IMAGES,
                })  # fmt: skip
    return rows


def _edges(rng, layers, labels, kept) -> list[dict]:
    rows = []
    names = list(layers)
    relevance = {(row["scope"], row["layer"], row["concept"]): row for row in kept}
    own = {}
    for row in kept:
        own.setdefault((row["scope"], row["layer"]), []).append(row["concept"])

    def add(scope, layer, source, target_layer, target, mean, se, shown, checked):
        rows.append({
            "scope": scope, "source_layer": layer, "source": source, "target_layer": target_layer,
            "target": target,
            "mean": mean, "se": se, "support": IMAGES, "evaluated": IMAGES,
            "images": IMAGES if scope >= 0 else IMAGES * len(labels),
            "weight": 0.0, "shown": shown, "ablation": mean * 0.9 + 0.002 if checked else np.nan,
            "ablation_se": abs(se) if checked else np.nan,
        })  # fmt: skip

    for scope in (-1, *labels.tolist()):
        for i, layer in enumerate(names):
            mine = own[scope, layer]
            for label in labels.tolist():
                for concept in mine:
                    row = relevance[scope, layer, concept]
                    mean = row["relevance"] if label == scope else float(rng.normal(0, 0.01))
                    add(scope, layer, concept, CLASSES, label, mean, row["se"], label == scope, label == scope)
                add(scope, layer, -1, CLASSES, label, float(rng.normal(0, 0.05)), 0.01, False, False)
                add(scope, layer, -2, CLASSES, label, float(rng.normal(0, 0.05)), 0.01, False, False)
            if i + 1 == len(names):
                continue
            for target in own[scope, names[i + 1]]:
                for source in [*mine, *range(20, 24)]:
                    if source >= layers[layer] or (source >= 20 and source in mine):
                        continue
                    size = float(rng.gamma(0.5, 2.0 + 3 * i)) * (1 if rng.random() < 0.75 else -0.6)
                    add(
                        scope,
                        layer,
                        source,
                        names[i + 1],
                        target,
                        size,
                        abs(size) / 8,
                        source in mine and scope >= 0,
                        source in mine,
                    )
                add(scope, layer, -1, names[i + 1], target, float(rng.normal(0, 1.5)), 0.1, False, False)
                add(scope, layer, -2, names[i + 1], target, float(rng.normal(0, 0.5)), 0.1, False, False)
    largest: dict[tuple, float] = {}
    for row in rows:
        key = row["scope"], row["source_layer"], row["target_layer"]
        if row["source"] >= 0:
            largest[key] = max(largest.get(key, 0), abs(row["mean"]))
    for row in rows:
        row["weight"] = min(abs(row["mean"]) / largest[row["scope"], row["source_layer"], row["target_layer"]], 1)
    return rows


def families_of(layer: str, count: int) -> Families:
    """Return a layer's families."""
    leader, one = np.arange(count), np.ones(count, np.float32)
    for first, others in FAMILIES.get(layer, {}).items():
        leader[[i for i in others if i < count]] = first
    several = np.bincount(leader, minlength=count)[leader] > 1
    led = leader == np.arange(count)
    near, weight = np.where(several, np.where(led, 0.95, 0.9), one), np.where(led, one, 2)
    inner, least = (np.where(several, value, one) for value in (0.81, 0.72))
    return Families(leader, *(column.astype(np.float32) for column in (near, weight, inner, least)))


def _members(t, edges) -> None:
    """Split what each family does among its members, the leader first: .5, .25, ... and the last the rest."""
    columns: dict[str, list] = {name: [] for name in SCHEMAS["members"].names}
    for row in edges:
        own = FAMILIES.get(row["source_layer"], {}).get(row["source"])
        to_class = row["target_layer"] == CLASSES and row["target"] == row["scope"]
        if own is None or row["scope"] < 0 or not (row["shown"] or to_class):
            continue
        parts = [0.5 ** (i + 1) for i in range(len(own))]
        for member, part in zip([row["source"], *own], [*parts, parts[-1]], strict=True):
            values = {**row, "family": row["source"], "source": member, "mean": part * row["mean"]}
            for name, column in columns.items():
                column.append(values[name])
    t("members", "members", columns)


def _nodes(t, layers, kept) -> None:
    columns: dict[str, list] = {name: [] for name in SCHEMAS["nodes"].names}
    for layer, count in layers.items():
        families = families_of(layer, count)
        for concept in range(-1, count):
            scopes = {row["scope"] for row in kept if (row["layer"], row["concept"]) == (layer, concept)}
            values = (
                layer,
                concept,
                "concept" if concept >= 0 else "error",
                f"{layer}:{concept}",
                5,
                0.5,
                None,
                len(scopes),
                bool(scopes),
                *(
                    (families.leader[concept], families.size[concept], families.inner[concept])
                    if concept >= 0
                    else (None, None, None)
                ),
            )
            for name, value in zip(columns, values, strict=True):
                columns[name].append(value)
    for label, name in enumerate(NAMES):
        for key, value in zip(columns, (CLASSES, label, "class", name, 8, None, None, 0, True, None, None, None),
                              strict=True):  # fmt: skip
            columns[key].append(value)
    t("nodes", "nodes", columns)


def _pictures(folder, rng, kept, layer, truth, ids, paths, localised, painter) -> None:
    sheets = folder / "sheets"
    sheets.mkdir(parents=True)
    mine = [row for row in kept if row["layer"] == layer]
    concepts = sorted({row["concept"] for row in mine})
    if layer == "layer4.0":
        concepts = concepts[:-1]
    exemplars: dict[str, list] = {name: [] for name in SCHEMAS["exemplars"].names}
    painted: dict[int, Image.Image] = {}

    def tile(image: int) -> Image.Image:
        if image not in painted:
            painted[image] = painter(int(truth[image]), int(image)).convert("RGB")
        return painted[image]

    for first in range(0, len(concepts), PER_SHEET):
        page, name = [], f"sheets/concepts-{first // PER_SHEET:03d}.webp"
        for row, concept in enumerate(concepts[first : first + PER_SHEET]):
            page.append([])
            for rank, image in enumerate(rng.permutation(len(truth))[:NEAREST]):
                x, y = rng.integers(8, 40, 2)
                page[-1].append(tile(image).crop((x, y, x + 48, y + 48)).resize((TILE, TILE)))
                near = 0.95 - 0.03 * rank
                values = (concept, rank, ids[image], 0, 0, "response", near, near, truth[image], paths[image],
                          [x, y, x + 48, y + 48], name, row, rank)  # fmt: skip
                for key, value in zip(exemplars, values, strict=True):
                    exemplars[key].append(value)
        sheet(page, NEAREST, TILE).save(folder / name, quality=80, method=0)
        faces(page).save(folder / face_sheet(name), quality=80, method=0)
    # The first concept's last patches again, as the most relevant ones.
    first = [dict(zip(exemplars, values, strict=True)) for values in zip(*exemplars.values(), strict=True)][:NEAREST]
    for rank, row in enumerate(first[: -RELEVANT - 1 : -1]):
        for key, value in {**row, "rank": rank, "by": "relevance", "value": 0.04 - 0.01 * rank}.items():
            exemplars[key].append(value)
    tables.write(folder / "exemplars.parquet", "exemplars", exemplars, "abc")
    located: dict[str, list] = {name: [] for name in SCHEMAS["localisation"].names}
    for scope in sorted({row["scope"] for row in mine if row["scope"] >= 0}) if localised else []:
        chosen = [row["concept"] for row in mine if row["scope"] == scope]
        for concept in chosen:
            for rank, image in enumerate(np.flatnonzero(truth == scope)[:4]):
                where = np.zeros(SIDES[layer] ** 2, np.float32)
                where[rank] = 1.5 - 0.1 * rank
                values = scope, concept, rank, ids[image], paths[image], where[rank], 0.2 - 0.01 * rank, where
                for key, value in zip(located, values, strict=True):
                    located[key].append(value)
    tables.write(folder / "localisation.parquet", "localisation", located, "abc")
