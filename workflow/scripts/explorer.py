"""Build the explorer: a static site of the graph that opens by double click."""

from argparse import Namespace
from pathlib import Path

from gigraph.explorer import build, inputs_of
from gigraph.explorer.notes import notes_of
from gigraph.records.paths import Results
from gigraph.running.record import receipts
from gigraph.running.runtime import run


def main(args: Namespace) -> None:
    results = Results(args.root)
    notes = notes_of(results, args.settings["method"], receipts(results("logs")))
    build(inputs_of(results, args.settings, args.lineage, args.evaluated, notes), Path(args.index).parent)


if __name__ == "__main__":
    run(main, "root", "index", "evaluated+")
