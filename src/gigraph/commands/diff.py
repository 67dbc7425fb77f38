"""Compare two finished runs: which concepts both have, and what decides otherwise.

Two checkpoints, two trainings, two data sets, before and after an edit. Concepts are matched by how they respond to the
same images; relevances and edges are compared with their standard errors and ranked at a false discovery rate. Two
trainings of one network differ in much: give further trainings of A and of B, and what these change is no difference.
"""

from __future__ import annotations

import argparse
from pathlib import Path

FDR, IMAGES = 0.05, 200
FIRST = 5
"""Differences that are said."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("a", type=Path, metavar="A", help="results folder of the one run")
    parser.add_argument("b", type=Path, metavar="B", help="results folder of the other")
    parser.add_argument("--out", type=Path, default=Path("difference"), help="folder of the tables and the page")
    parser.add_argument(
        "--method", nargs="+", help="concept extractor of both, or of either; each run's first otherwise"
    )
    parser.add_argument("--fdr", type=float, default=FDR, help=f"false discovery rate of what is ranked ({FDR})")
    parser.add_argument(
        "--images", type=int, default=IMAGES, help=f"images that both models run on, at most ({IMAGES})"
    )

    for end in ("A", "B"):
        parser.add_argument(
            "--noise" if end == "A" else "--noise-b", nargs="+", action="extend", type=Path, default=[], metavar="RUN",
            help=f"further trainings of {end}, each alike but for its seed; what they change is no difference",
        )  # fmt: skip


def main(args: argparse.Namespace) -> None:
    """Compare, write, and say the result in a few lines."""
    import polars as pl

    from gigraph.differences.difference import checked, difference
    from gigraph.errors import one_line

    checked(args.out)
    found = difference(args.a, args.b, args.method, args.fdr, args.images, args.noise, args.noise_b)
    page = found.save(args.out)
    for note in found.notes:
        print(f"note: {one_line(note)}")
    print(one_line(found.said()))
    rows = found.differs if len(found.differs) else found.relevances.filter(pl.col("rank").is_not_null())
    if len(rows) > len(found.differs):
        print("no relevance is told from chance; the first are")
    for row in rows.head(FIRST).iter_rows(named=True):
        ends = " / ".join("none" if row[end] is None else f"#{row[end]}" for end in ("a", "b"))
        print(
            f"{row['rank']:3d}. {one_line(row['class'])}: {row['layer']} {ends}: {row['mean_a']:.3f} -> "
            f"{row['mean_b']:.3f} ({row['difference']:+.3f} +- {row['se']:.3f}, q {row['q']:.2g})"
        )
    print(page)
