"""Explain new images on a finished graph and add them to its explorer.

The data set's concepts in each image, where they are, and how they lead to the prediction. Nothing is built again.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="image files")
    parser.add_argument(
        "--configfile", nargs="*", type=Path, default=[], help="as given to snakemake when the graph was built"
    )
    parser.add_argument("--method", help="concept extractor; the first of the configuration if not given")


def main(args: argparse.Namespace) -> None:
    """Explain the images, and say where each graph is."""
    from urllib.parse import quote

    import polars as pl

    from gigraph.errors import UserError, one_line
    from gigraph.explain import explain, opened, unexplained
    from gigraph.explorer.build import add_explained, shapes_of
    from gigraph.explorer.chunks import read_chunk
    from gigraph.explorer.graph import Graph, merged
    from gigraph.planning.config import chosen
    from gigraph.records import tables
    from gigraph.reporting import log

    if not args.images:
        raise UserError("no image is given; images come first: gigraph explain IMAGE ... --configfile FILE ...")
    plan = opened(chosen(args.configfile))
    method = args.method or plan.config.methods[0]
    folders = explain(plan, method, args.images)
    page = plan.results("explorer")
    site = page.parent
    built = method == plan.config.methods[0] and (site / "data" / "faces.js").is_file()
    # An explorer that was not built again since is another graph's.
    shown = built and read_chunk(site / "data", "meta")["graph"] == plan.lineage("graph", method=method)[:16]
    names = {row["label"]: row["class"] for row in tables.read(plan.results("classes")).to_pylist()}
    if shown:
        empty = pl.DataFrame()
        families = merged({layer: plan.results("families", method=method, layer=layer) for layer in plan.layers})
        graph = Graph(plan.layers, empty, empty, empty, families)
        add_explained(site, graph, folders, shapes_of(plan.results("layers")))
    for folder in folders:
        (image,) = tables.read(folder / "image.parquet").to_pylist()
        where = f"{page}#/image/{quote('~-1')}/{image['image_id']}" if shown else str(folder)
        said = image["value"] if image["probability"] is None else image["probability"]
        left = unexplained(folder, plan.layers, image["predicted"])
        told = f"{said:.3f}; of that unexplained: {', '.join(f'{layer} {share:.0%}' for layer, share in left.items())}"
        print(f"{one_line(image['path'])}: {names.get(image['predicted'])} ({told})  {where}", flush=True)
        if little := [layer for layer, share in left.items() if share > 0.5]:
            log.info("note: more than half of what %s does for it lies in no concept of the run", ", ".join(little))
