"""Gather the evaluation of all methods into one table a topic, and the main ones into a page to read."""

from argparse import Namespace
from pathlib import Path

import polars as pl

from gigraph.evaluation.sanity import separation
from gigraph.evaluation.summary import summary
from gigraph.records import tables
from gigraph.records.files import replacing
from gigraph.records.paths import Results
from gigraph.records.schemas import SCHEMAS
from gigraph.reporting import log
from gigraph.running.runtime import run


def main(args: Namespace) -> None:
    settings, results = args.settings, Results(args.root)
    layers, methods = settings["layers"], settings["methods"]

    def gather(name: str, methods=methods) -> pl.DataFrame:
        paths = [results(name, method=method, layer=layer) for method in methods for layer in layers]
        return pl.concat([pl.read_parquet(path) for path in dict.fromkeys(paths)])

    measures = gather("measures")
    lambdas = pl.col("metric").str.contains("_lambda_x_")
    topics = {
        "reconstruction": measures.filter((pl.col("target") == "") & ~lambdas),
        "sensitivity": measures.filter(lambdas),
        "classes": measures.filter((pl.col("target") == "classes") & ~lambdas),
        "interlayer": measures.filter(~pl.col("target").is_in(["", "classes"])),
        "stability": gather("stability_measures", settings["graphs"]),
        "edges": gather("checks_measures", settings["graphs"]),
    }
    if settings["shortcut"]:
        topics["truth"] = gather("truth")
    for topic, rows in topics.items():
        _write(results("topic", topic=topic), "measures", rows, args.lineage)
    compared = gather("comparison")
    found = separation(compared.iter_rows(named=True))
    sane = pl.DataFrame(found, schema=dict.fromkeys(SCHEMAS["sanity"].names)) if found else pl.DataFrame()
    _write(results("topic", topic="comparison"), "comparison", compared, args.lineage)
    _write(results("topic", topic="sanity"), "sanity", sane, args.lineage)
    curves = gather("curves")
    _write(results("topic", topic="curves"), "curves", curves, args.lineage)
    found = gather("stability", settings["graphs"][:1])
    _write(results("stability_of_all"), "stability", found, args.lineage)
    text = summary({**topics, "comparison": compared, "sanity": sane}, settings)
    with replacing(results("summary")) as path:
        path.write_text(text)
    log.info(
        "%d numbers of %d methods; read %s",
        sum(map(len, topics.values())),
        len(methods),
        results("summary"),
    )


def _write(path: Path, kind: str, rows: pl.DataFrame, lineage: str) -> None:
    tables.write(path, kind, {name: rows[name].to_list() for name in SCHEMAS[kind].names}, lineage)


if __name__ == "__main__":
    run(main, "root")
