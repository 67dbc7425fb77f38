"""Aggregate the attributions of all layer pairs into nodes and edges, with the ablation of each shown edge."""

import re
from argparse import Namespace
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from gigraph import tables
from gigraph.config import CLASSES
from gigraph.graph import aggregate, scopes_of, weights
from gigraph.runtime import log, run


def main(args: Namespace) -> None:
    folder, layers = Path(args.folder), args.settings["layers"]
    images = scopes_of(tables.numpy(tables.read(args.selection), "label"))
    classes = tables.read(args.class_table)["class"].to_pylist()
    kept = {layer: tables.read(folder / "kept" / f"{layer}.parquet") for layer in layers}
    shards = range(args.settings["shards"])
    parts = [_edges(folder, source, target, shards, images, kept) for source, target in args.settings["pairs"]]
    edges = {name: np.concatenate([part[name] for part in parts]) for name in tables.SCHEMAS["edges"].names}
    everything = {
        name: [value for layer in layers for value in kept[layer][name].to_pylist()]
        for name in tables.SCHEMAS["kept"].names
    }
    nodes = _nodes(folder, layers, classes, kept, images)
    tables.write(args.edges, "edges", edges, args.lineage)
    tables.write(args.kept, "kept", everything, args.lineage)
    tables.write(args.nodes, "nodes", nodes, args.lineage)
    with tables.replacing(args.graphml) as path:
        _graphml(path, nodes, edges)
    shown = edges["shown"]
    log.info("%d edges, %d of them shown; %d nodes", len(shown), int(shown.sum()), len(nodes["layer"]))
    checked = shown & np.isfinite(edges["ablation"])
    if checked.sum() > 1:
        log.info(
            "GIG and exact ablation agree in sign on %.0f%% of shown edges, correlation %.3f",
            100 * np.mean(np.sign(edges["mean"][checked]) == np.sign(edges["ablation"][checked])),
            np.corrcoef(edges["mean"][checked], edges["ablation"][checked])[0, 1],
        )


def _edges(folder: Path, source: str, target: str, shards, images, kept) -> dict[str, np.ndarray]:
    """Return the edges of one layer pair over every scope."""
    pair = folder / "attributions" / f"{source}--{target}"
    table = tables.read([pair / f"{shard}.parquet" for shard in shards])
    label, to = tables.numpy(table, "label").astype(np.int64), tables.numpy(table, "target").astype(np.int64)
    indptr, sources = tables.csr(table, "sources")
    values = tables.csr(table, "values")[1]
    row = np.repeat(np.arange(len(table)), np.diff(indptr))
    every = np.arange(len(table))
    row = np.concatenate([row, every, every])
    source_id = np.concatenate(
        [sources, np.full(len(table), tables.ERROR_NODE), np.full(len(table), tables.REMAINDER)]
    ).astype(np.int64)
    value = np.concatenate([values, tables.numpy(table, "error"), tables.numpy(table, "remainder")])
    scope = np.concatenate([label[row], np.full(len(row), tables.DATASET)])
    edges = aggregate(scope, np.tile(source_id, 2), np.tile(to[row], 2), np.tile(value, 2), images)
    from_kept = _pairs(kept[source])
    if target == CLASSES:
        shown = from_kept.contains(edges.scope, edges.source) & (edges.scope == edges.target)
    else:
        shown = from_kept.contains(edges.scope, edges.source) & _pairs(kept[target]).contains(edges.scope, edges.target)
    shown &= edges.scope >= 0
    ablation, ablation_se = _ablations(folder / "ablations" / f"{source}--{target}.parquet", edges)
    weight = weights(edges.scope, edges.mean, edges.source)
    size = len(edges.scope)
    return {
        "scope": edges.scope.astype(np.int32), "source_layer": np.full(size, source, object),
        "source": edges.source.astype(np.int32), "target_layer": np.full(size, target, object),
        "target": edges.target.astype(np.int32), "mean": edges.mean.astype(np.float32),
        "se": edges.se.astype(np.float32), "support": edges.support.astype(np.int32),
        "evaluated": edges.evaluated.astype(np.int32), "images": edges.images.astype(np.int32),
        "weight": weight.astype(np.float32), "shown": shown, "ablation": ablation, "ablation_se": ablation_se,
    }  # fmt: skip


class _pairs:  # noqa: N801
    """The (scope, concept) pairs of a kept table."""

    def __init__(self, kept):
        self.keys = np.unique(self._key(tables.numpy(kept, "scope"), tables.numpy(kept, "concept")))

    @staticmethod
    def _key(scope, concept):
        return scope.astype(np.int64) * (1 << 32) + concept.astype(np.int64)

    def contains(self, scope, concept) -> np.ndarray:
        return np.isin(self._key(scope, concept), self.keys)


def _ablations(path: Path, edges) -> tuple[np.ndarray, np.ndarray]:
    table = tables.read(path).to_pylist()
    known = {(row["scope"], row["source"], row["target"]): (row["ablation"], row["se"]) for row in table}
    keys = zip(edges.scope.tolist(), edges.source.tolist(), edges.target.tolist(), strict=True)
    found = np.array([known.get(key, (np.nan, np.nan)) for key in keys], np.float32).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _nodes(folder: Path, layers, classes, kept, images) -> dict[str, list]:
    columns: dict[str, list] = {name: [] for name in tables.SCHEMAS["nodes"].names}

    def add(**row):
        for name, values in columns.items():
            values.append(row.get(name))

    for layer in layers:
        relevance = {r["concept"]: r["relevance"] for r in kept[layer].to_pylist() if r["scope"] == tables.DATASET}
        scopes: dict[int, int] = {}
        for row in kept[layer].to_pylist():
            if row["scope"] >= 0:
                scopes[row["concept"]] = scopes.get(row["concept"], 0) + 1
        for row in tables.read(folder / "concepts" / f"{layer}.parquet", ["concept", "size", "cohesion"]).to_pylist():
            concept = row["concept"]
            add(layer=layer, kind="concept", name=f"{layer}:{concept}", relevance=relevance.get(concept),
                classes=scopes.get(concept, 0), shown=concept in scopes, **row)  # fmt: skip
        add(layer=layer, concept=tables.ERROR_NODE, kind="error", name=f"{layer}:unexplained", classes=0, shown=True)
    for label, name in enumerate(classes):
        add(
            layer=CLASSES,
            concept=label,
            kind="class",
            name=name,
            classes=0,
            size=images.get(label, 0),
            shown=label in images,
        )
    return columns


def _graphml(path: Path, nodes, edges) -> None:
    """Write the shown edges and their nodes as GraphML, one edge per class, for networkx, Gephi and the like."""
    keys = [
        ("layer", "node", "string"), ("concept", "node", "int"), ("kind", "node", "string"), ("name", "node", "string"),
        ("scope", "edge", "int"), ("mean", "edge", "double"), ("se", "edge", "double"), ("support", "edge", "int"),
        ("weight", "edge", "double"), ("ablation", "edge", "double"),
    ]  # fmt: skip
    with path.open("w", encoding="utf-8") as out:
        out.write('<?xml version="1.0" encoding="UTF-8"?>\n<graphml xmlns="http://graphml.graphdrawing.org/xmlns">\n')
        for name, kind, value in keys:
            out.write(f'<key id="{name}" for="{kind}" attr.name="{name}" attr.type="{value}"/>\n')
        out.write('<graph edgedefault="directed">\n')
        for i, shown in enumerate(nodes["shown"]):
            if shown:
                data = "".join(f'<data key="{k}">{_text(nodes[k][i])}</data>' for k, kind, _ in keys if kind == "node")
                out.write(f'<node id="{_node_id(nodes["layer"][i], nodes["concept"][i])}">{data}</node>\n')
        for i in np.flatnonzero(edges["shown"]):
            ends = [_node_id(edges[f"{end}_layer"][i], edges[end][i]) for end in ("source", "target")]
            data = "".join(f'<data key="{k}">{edges[k][i]}</data>' for k, kind, _ in keys if kind == "edge")
            out.write(f'<edge source="{ends[0]}" target="{ends[1]}">{data}</edge>\n')
        out.write("</graph>\n</graphml>\n")


def _text(value) -> str:
    """Return a value as XML text; characters that XML cannot hold at all are replaced."""
    return escape(re.sub("[^\\t\\n\\r\\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", str(value)))


def _node_id(layer: str, concept: int) -> str:
    return escape(f"{layer}:{concept}", {'"': "&quot;"})


if __name__ == "__main__":
    run(main, "selection", "class_table", "folder", "nodes", "edges", "kept", "graphml")
