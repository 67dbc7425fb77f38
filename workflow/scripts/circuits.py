"""Run the network on circuits of a share of the classes, and look for the smallest of each."""

import time
from argparse import Namespace
from functools import partial

import numpy as np

from gigraph.circuit_run import (
    BESIDE,
    CircuitRun,
    classes_with_most,
    gradient_x_input,
    likely_others,
    mean_relevance,
    of_class,
    outputs_of,
)
from gigraph.circuits import Circuits, Said, Search
from gigraph.hashing import mix
from gigraph.method.circuit import joint_order
from gigraph.records import tables
from gigraph.records.paths import Results
from gigraph.records.schemas import SCHEMAS
from gigraph.reporting import log, progress
from gigraph.reserved import CLASSES
from gigraph.running.runtime import run
from gigraph.subject import Subject

SAID = ("size", "concepts", "score", "score_se", "margin", "margin_se")


def main(args: Namespace) -> None:
    settings, layers = args.settings, args.settings["layers"]
    c, subject = settings["circuit"], Subject(settings, args.compute, layers)
    selection = tables.read(args.selection).to_pylist()
    mine = classes_with_most([row["label"] for row in selection], c["classes"])[int(args.shard) :: settings["shards"]]
    files, shards = partial(Results(args.root).shards, method=args.method), range(settings["shards"])
    attributed = [tables.read(files("attributions", shards, source=layer, target=CLASSES)) for layer in layers]
    own = {label: of_class(selection, label) for label in mine}
    said = {label: outputs_of(subject, settings["images"], rows) for label, rows in own.items()}
    others = {label: likely_others(said[label], selection, label, c["images"]) for label in mine}
    wanted = {row["image_id"] for some in (own, others) for rows in some.values() for row in rows}
    opened = CircuitRun(args.root, args.method, subject, settings, wanted)
    nodes, replacement = opened.nodes, opened.replacement()
    families = [one.families for one in opened.vocabularies]
    search = Search(c["share"], c["points"], c["passes"], c["random"])
    names = tables.read(args.classes)["class"].to_pylist()
    read = "value" if subject.network.task == "regression" else "probability"

    rows = {name: [] for name in ("circuits", "circuit_curves", "circuit_members")}
    for label in progress(mine, len(mine), "classes"):
        began = time.perf_counter()
        alone, both = c["of"] == "concepts", zip(attributed, families, strict=True)
        relevance = nodes.gathered([mean_relevance(table, label, one, alone) for table, one in both])
        orders = {settings["attribution"]["method"]: joint_order(relevance)}
        if BESIDE not in orders:
            orders[BESIDE] = joint_order(nodes.gathered(gradient_x_input(opened, own[label], label)))
        seen = opened.see(replacement, of_class(selection, label, c["images"]))
        elsewhere = opened.see(replacement, others[label]) if others[label] else None
        generator = np.random.Generator(np.random.Philox(int(mix(settings["seed"], label))))
        found = Circuits(replacement, seen, label, nodes, elsewhere).find(orders, search, generator)
        shared = {
            "scope": label, "images": len(seen), "others": len(others[label]), "nodes": len(nodes),
            "deleted": c["deleted"], "errors": c["errors"],
        }  # fmt: skip
        rows["circuits"] += [{**shared, **row} for row in _rows(found, layers)]
        for order, curve in found.curves.items():
            for said, f in zip(curve.points, curve.faithfulness, strict=True):
                point = {key: getattr(said, key) for key in SAID}
                rows["circuit_curves"].append({"scope": label, "order": order, **point, "faithfulness": f})
        rows["circuit_members"] += _members(found, nodes, layers, label, np.concatenate(relevance))
        _report(names[label], read, found, len(nodes), time.perf_counter() - began)
    for path, (kind, some) in zip((args.circuits, args.curves, args.members), rows.items(), strict=True):
        tables.write(path, kind, {name: _column(kind, name, some) for name in SCHEMAS[kind].names}, args.lineage)


def _rows(found, layers):
    """Yield the rows of the table ``circuits``."""
    yield {"order": "network", **_said(found.real)}
    for layer, said in zip(layers, found.layers, strict=True):
        yield {"order": "layer", "layer": layer, **_said(said)}
    for order, curve in found.curves.items():
        names = ("cpr", "cmd", "margin_cpr", "margin_cmd")
        areas = dict(zip(names, (*curve.areas, *curve.margin_areas), strict=True))
        yield {"order": order, **_said(curve.smallest), **_rest(curve.rest), **areas}
    tried = {"tried": found.pruned.tried, "minimal": found.pruned.minimal} if found.pruned else {}
    yield {"order": "pruned", **_said(found.smallest), **_rest(found.rest), **tried}


def _said(said: Said | None):
    return {} if said is None else said._asdict()


def _rest(said: Said | None):
    return {} if said is None else {f"rest_{key}": getattr(said, key) for key in ("score", "margin", "elsewhere")}


def _members(found, nodes, layers, label, relevance):
    rank = np.argsort(found.order)
    return [
        {
            "scope": label, "layer": layers[nodes.layer[i]], "concept": int(nodes.node[i]), "rank": int(rank[i]),
            "relevance": relevance[i], "smallest": bool(found.pruned is not None and found.pruned.kept[i]),
        }
        for i in found.order
    ]  # fmt: skip


def _column(kind, name, rows):
    """Return a column; numbers that are missing or NaN are null."""
    values = [row.get(name, "" if name == "layer" else None) for row in rows]
    is_number = str(SCHEMAS[kind].field(name).type) == "float"
    return tables.nullable([np.nan if value is None else value for value in values]) if is_number else values


def _report(name, read, found, n, seconds):
    if found.smallest is None:
        said = "%s: no circuit of its %d nodes alone keeps the wanted share of %.3f; %.1f s"
        log.info(said, name, n, found.real.score, seconds)
        return
    log.info(
        "%s: %d of %d nodes alone give %s %.2f of %.2f, %.2f elsewhere; %d concepts; all others %.2f; %d circuits, "
        "%.1f s",
        name, found.smallest.size, n, read, found.smallest.score, found.real.score, found.smallest.elsewhere,
        found.smallest.concepts, found.rest.score, found.measured, seconds,
    )  # fmt: skip


if __name__ == "__main__":
    run(main, "root", "method", "selection", "classes", "circuits", "curves", "members", "shard")
