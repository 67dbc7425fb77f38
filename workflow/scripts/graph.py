"""Aggregate the attributions of all layer pairs into nodes and edges, with the ablation of each shown edge."""

from argparse import Namespace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from gigraph.method.graph import Edges, Rows, among, edges_of, edges_of_members, places_of, scopes_of, weights
from gigraph.records import tables
from gigraph.records.families import read_families
from gigraph.records.files import replacing
from gigraph.records.graphml import write_graphml
from gigraph.records.paths import Results
from gigraph.records.schemas import SCHEMAS
from gigraph.reporting import log
from gigraph.reserved import CLASSES, DATASET, ERROR_NODE, REMAINDER
from gigraph.running.runtime import run

ENOUGH, MINDED = 10, 2 / 3
"""Checked edges of a pair of layers from which on it is said if a smaller part have the sign of their ablation."""


def main(args: Namespace) -> None:
    layers = args.settings["layers"]
    files = partial(Results(args.root), method=args.method)
    images = scopes_of(tables.numpy(tables.read(args.selection), "label"))
    classes = tables.read(args.class_table)["class"].to_pylist()
    kept = {layer: tables.read(files("kept", layer=layer)) for layer in layers}
    families = {layer: read_families(files("families", layer=layer)) for layer in layers}
    total, shown = 0, []
    # One layer pair at a time: at 16 layers and 1,000 classes all edges together are tens of millions.
    with (
        tables.writing(args.edges, "edges", args.lineage) as add,
        tables.writing(args.members, "members", args.lineage) as add_members,
    ):
        for source, target in args.settings["pairs"]:
            shards = range(args.settings["shards"])
            table = tables.read([files("attributions", source=source, target=target, shard=shard) for shard in shards])
            edges = _edges(files, source, target, table, images, kept)
            add(edges)
            add_members(_members(source, target, table, edges, families[source].leader, images))
            total += len(edges["shown"])
            shown += [pa.table(edges).filter(pa.array(edges["shown"]))]
    nodes = _nodes(files, layers, classes, kept, families, images)
    everything = pa.concat_tables(kept.values())
    tables.write(args.kept, "kept", {name: everything[name] for name in everything.column_names}, args.lineage)
    tables.write(args.nodes, "nodes", nodes, args.lineage)
    drawn = pa.concat_tables(shown)
    with replacing(args.graphml) as path, path.open("w", encoding="utf-8") as out:
        rows = pa.table(nodes).to_pylist()
        write_graphml(out, (row for row in rows if row["shown"]), drawn.to_pylist())
    log.info("%d edges, %d of them shown; %d nodes", total, len(drawn), len(rows))
    _hold_against_ablation(drawn, args.settings["pairs"])


def _hold_against_ablation(drawn: pa.Table, pairs: list[tuple[str, str]]) -> None:
    """Say how well the shown edges agree with their exact ablations, and between which layers they hardly do."""
    mean, ablation = tables.numpy(drawn, "mean"), tables.numpy(drawn, "ablation")
    checked = np.isfinite(ablation)
    agree = np.sign(mean) == np.sign(ablation)
    sources, targets = (np.array(drawn[name].to_pylist()) for name in ("source_layer", "target_layer"))
    for source, target in pairs:
        own = agree[checked & (sources == source) & (targets == target)]
        if len(own) >= ENOUGH and own.mean() < MINDED:
            log.info(
                "note: %s to %s: only %.0f%% of %d shown edges have the sign of their exact ablation (by chance: 50%%)",
                source, target, 100 * own.mean(), len(own),
            )  # fmt: skip
    if checked.sum() > 1:
        log.info(
            "%.0f%% of shown edges have the sign of their exact ablation, correlation %.3f",
            100 * agree[checked].mean(), np.corrcoef(mean[checked], ablation[checked])[0, 1],
        )  # fmt: skip


def _edges(files, source: str, target: str, table: pa.Table, images, kept) -> dict:
    """Return the edges of one layer pair over every scope, as columns."""
    label, to = (tables.numpy(table, name).astype(np.int64) for name in ("label", "target"))
    rows = Rows.from_csr(label, to, *tables.csr(table, "sources"), tables.csr(table, "values")[1])
    rows = rows.with_source(ERROR_NODE, label, to, tables.numpy(table, "error"))
    rows = rows.with_source(REMAINDER, label, to, tables.numpy(table, "remainder"))
    edges = edges_of(rows, images)

    def is_kept(layer, concept):
        return among(edges.scope, concept, *(tables.numpy(kept[layer], name) for name in ("scope", "concept")))

    there = edges.scope == edges.target if target == CLASSES else is_kept(target, edges.target)
    shown = (edges.scope >= 0) & there & is_kept(source, edges.source)
    ablation, ablation_se = _ablations(files("ablations", source=source, target=target), edges, shown)
    size = len(edges.scope)
    return {
        "scope": edges.scope.astype(np.int32), "source_layer": pa.repeat(source, size),
        "source": edges.source.astype(np.int32), "target_layer": pa.repeat(target, size),
        "target": edges.target.astype(np.int32), "mean": edges.mean.astype(np.float32),
        "se": tables.nullable(edges.se), "support": edges.support.astype(np.int32),
        "evaluated": edges.evaluated.astype(np.int32), "images": edges.images.astype(np.int32),
        "weight": weights(edges.scope, edges.mean, edges.source).astype(np.float32), "shown": shown,
        "ablation": ablation, "ablation_se": tables.nullable(ablation_se),
    }  # fmt: skip


def _members(source: str, target: str, table: pa.Table, edges: dict, leader: np.ndarray, images) -> dict:
    """Return what the members of families do, for the edges shown and for all to the class of the scope, as columns."""
    label, to = (tables.numpy(table, name).astype(np.int64) for name in ("label", "target"))
    rows = Rows.from_csr(label, to, *tables.csr(table, "members"), tables.csr(table, "member_values")[1])
    own = (edges["scope"] == edges["target"]) & (edges["source"] >= 0) & (target == CLASSES)
    chosen = edges["shown"] | own
    names = ("scope", "source", "target", "mean", "se", "support", "evaluated", "images")
    ends = (np.asarray(edges[name])[chosen] for name in names)
    some = Edges(*(column.astype(np.int64 if column.dtype.kind == "i" else float) for column in ends))
    found = edges_of_members(rows, leader, some, images)
    size = len(found.scope)
    whole = {name: getattr(found, name).astype(np.int32) for name in ("scope", "source", "target", "support", "images")}
    return {
        **whole, "family": leader[found.source].astype(np.int32), "source_layer": pa.repeat(source, size),
        "target_layer": pa.repeat(target, size), "mean": found.mean.astype(np.float32),
        "se": tables.nullable(found.se),
    }  # fmt: skip


def _ablations(path: Path, edges, shown) -> tuple[np.ndarray, np.ndarray]:
    """Return the ablation of each shown edge and its standard error; not a number where there is none."""
    table = tables.read(path)
    ends = ("scope", "source", "target")
    known = [tables.numpy(table, name).astype(np.int64) for name in ends]
    at = places_of([getattr(edges, name)[shown] for name in ends], known)
    measured = np.stack([tables.numpy(table, name).astype(np.float32) for name in ("ablation", "se")], 1)
    found = np.full((len(shown), 2), np.nan, np.float32)
    found[shown] = np.append(measured, [[np.nan] * 2], 0)[at]  # the last row is that of -1
    return found[:, 0], found[:, 1]


def _nodes(files, layers, classes, kept, families, images) -> dict[str, list]:
    columns: dict[str, list] = {name: [] for name in SCHEMAS["nodes"].names}

    def add(**row):
        for name, values in columns.items():
            values.append(row.get(name))

    for layer in layers:
        relevance = {r["concept"]: r["relevance"] for r in kept[layer].to_pylist() if r["scope"] == DATASET}
        scopes: dict[int, int] = {}
        for row in kept[layer].to_pylist():
            if row["scope"] >= 0:
                scopes[row["concept"]] = scopes.get(row["concept"], 0) + 1
        own = families[layer]
        members = zip(own.leader.tolist(), own.size.tolist(), own.inner.tolist(), strict=True)
        concepts = tables.read(files("concepts", layer=layer), ["concept", "size", "cohesion"]).to_pylist()
        for row, (family, count, inner) in zip(concepts, members, strict=True):
            concept = row["concept"]
            add(layer=layer, kind="concept", name=f"{layer}:{concept}", relevance=relevance.get(concept),
                classes=scopes.get(concept, 0), shown=concept in scopes, family=family, members=count,
                inner_cosine=inner, **row)  # fmt: skip
        add(layer=layer, concept=ERROR_NODE, kind="error", name=f"{layer}:unexplained", classes=0, shown=True)
    for label, name in enumerate(classes):
        size = images.get(label, 0)
        add(layer=CLASSES, concept=label, kind="class", name=name, classes=0, size=size, shown=label in images)
    return columns


if __name__ == "__main__":
    run(main, "selection", "class_table", "root", "method", "nodes", "edges", "members", "kept", "graphml")
