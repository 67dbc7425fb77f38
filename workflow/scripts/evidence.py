"""Build the explorer again, now with the evaluation in it."""

import shutil
from argparse import Namespace
from pathlib import Path

from gigraph.explorer import build, inputs_of
from gigraph.explorer.notes import notes_of
from gigraph.records.paths import Results
from gigraph.running.record import receipts
from gigraph.running.runtime import run


def main(args: Namespace) -> None:
    results, site = Results(args.root), Path(args.index).parent
    notes = notes_of(results, args.settings["method"], receipts(results("logs")))
    build(inputs_of(results, args.settings, args.site, args.evaluated, notes), site)
    shutil.copyfile(site / "data" / "evidence.js", args.evidence)


if __name__ == "__main__":
    run(main, "root", "index", "evaluated+", "site", "evidence")
