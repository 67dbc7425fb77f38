"""Gather the evaluation of all methods into one table a topic, and the main ones into a page to read."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from gigraph.evaluation.sanity import outputs, separation, separation_of
from gigraph.evaluation.summary import summary
from gigraph.evaluation.titles import VALUE, shown
from gigraph.records import tables
from gigraph.records.files import replacing
from gigraph.records.paths import CONTROL, Results
from gigraph.records.schemas import SCHEMAS
from gigraph.reporting import log
from gigraph.reserved import CLASSES
from gigraph.running.runtime import run


def main(args: Namespace) -> None:
    settings, results = args.settings, Results(args.root)
    layers, methods, graphs = settings["layers"], settings["methods"], settings["graphs"]
    drawn = bool(settings["shortcut"])
    topics = _topics(results, methods, graphs, layers, drawn)
    for topic, rows in topics.items():
        _write(results("topic", topic=topic), "measures", rows, args.lineage)
    compared = _gather(results, "comparison", methods, layers)
    regression = shown(topics["classes"]["metric"]) == VALUE
    found = separation(compared.iter_rows(named=True), regression)
    if settings["control"]:
        beside = Results(results.root / CONTROL)
        control = _topics(beside, graphs[:1], graphs[:1], layers, drawn)
        for topic, rows in topics.items():
            found += separation_of(topic, rows.iter_rows(named=True), control[topic].iter_rows(named=True))
        said = (_read(one.shards("predictions", range(settings["shards"]))) for one in (results, beside))
        found.append({**outputs(*(one.iter_rows(named=True) for one in said)), "method": graphs[0]})
    sane = pl.DataFrame(found, schema=dict.fromkeys(SCHEMAS["sanity"].names), infer_schema_length=None)
    _write(results("topic", topic="comparison"), "comparison", compared, args.lineage)
    _write(results("topic", topic="sanity"), "sanity", sane, args.lineage)
    curves = _gather(results, "curves", methods, layers)
    _write(results("topic", topic="curves"), "curves", curves, args.lineage)
    again = _gather(results, "stability", graphs[:1], layers)
    _write(results("stability_of_all"), "stability", again, args.lineage)
    text = summary({**topics, "comparison": compared, "sanity": sane}, settings)
    with replacing(results("summary")) as path:
        path.write_text(text)
    log.info(
        "%d numbers of %d methods; read %s",
        sum(map(len, topics.values())),
        len(methods),
        results("summary"),
    )


def _gather(results: Results, name: str, methods: Sequence[str], layers: Sequence[str]) -> pl.DataFrame:
    paths = [results(name, method=method, layer=layer) for method in methods for layer in layers]
    return _read(list(dict.fromkeys(paths)))


def _read(paths: Sequence[Path]) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(tables.read(paths)))


def _topics(
    results: Results, methods: Sequence[str], graphs: Sequence[str], layers: Sequence[str], drawn: bool
) -> dict[str, pl.DataFrame]:
    """Return the measures of a run by topic."""
    measures = _gather(results, "measures", methods, layers)
    lambdas = pl.col("metric").str.contains("_lambda_x_")
    topics = {
        "reconstruction": measures.filter((pl.col("target") == "") & ~lambdas),
        "sensitivity": measures.filter(lambdas),
        "classes": measures.filter((pl.col("target") == CLASSES) & ~lambdas),
        "interlayer": measures.filter(~pl.col("target").is_in(["", CLASSES])),
        "stability": _gather(results, "stability_measures", graphs, layers),
        "edges": _gather(results, "checks_measures", graphs, layers),
    }
    return topics | ({"truth": _gather(results, "truth", methods, layers)} if drawn else {})


def _write(path: Path, kind: str, rows: pl.DataFrame, lineage: str) -> None:
    tables.write(path, kind, {name: rows[name].to_list() for name in SCHEMAS[kind].names}, lineage)


if __name__ == "__main__":
    run(main, "root")
