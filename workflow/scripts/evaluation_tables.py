"""Gather the evaluation of all methods into one table a topic, and the main ones into a page to read."""

from argparse import Namespace
from pathlib import Path

import polars as pl

from gigraph.evaluation.summary import summary
from gigraph.records import tables
from gigraph.records.files import replacing
from gigraph.records.schemas import SCHEMAS
from gigraph.reporting import log
from gigraph.running.runtime import run


def main(args: Namespace) -> None:
    settings, root = args.settings, Path(args.root)
    layers, methods = settings["layers"], settings["methods"]

    def gather(pattern: str, methods=methods) -> pl.DataFrame:
        paths = [root / pattern.format(method=method, layer=layer) for method in methods for layer in layers]
        return pl.concat([pl.read_parquet(path) for path in dict.fromkeys(paths)])

    measures = gather("{method}/evaluation/layers/{layer}.measures.parquet")
    lambdas = pl.col("metric").str.contains("_lambda_x_")
    topics = {
        "reconstruction": measures.filter((pl.col("target") == "") & ~lambdas),
        "sensitivity": measures.filter(lambdas),
        "classes": measures.filter((pl.col("target") == "classes") & ~lambdas),
        "interlayer": measures.filter(~pl.col("target").is_in(["", "classes"])),
        "stability": gather("{method}/evaluation/layers/{layer}.stability.measures.parquet"),
        "edges": gather("{method}/evaluation/edges.parquet", settings["graphs"]),
    }
    if settings["drawn"]:
        topics["truth"] = gather("{method}/evaluation/truth.parquet")
    for topic, rows in topics.items():
        _write(root / "evaluation" / f"{topic}.parquet", "measures", rows, args.lineage)
    curves = gather("{method}/evaluation/layers/{layer}.curves.parquet")
    _write(root / "evaluation" / "curves.parquet", "curves", curves, args.lineage)
    for method in methods:
        found = gather("{method}/evaluation/layers/{layer}.stability.parquet", [method])
        _write(root / method / "evaluation" / "stability.parquet", "stability", found, args.lineage)
    text = summary(topics, settings)
    with replacing(root / "evaluation" / "summary.md") as path:
        path.write_text(text)
    log.info(
        "%d numbers of %d methods; read %s",
        sum(map(len, topics.values())),
        len(methods),
        root / "evaluation" / "summary.md",
    )


def _write(path: Path, kind: str, rows: pl.DataFrame, lineage: str) -> None:
    tables.write(path, kind, {name: rows[name].to_list() for name in SCHEMAS[kind].names}, lineage)


if __name__ == "__main__":
    run(main, "root")
