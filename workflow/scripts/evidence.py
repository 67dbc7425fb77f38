"""Build the explorer again, now with the evaluation in it."""

import shutil
from argparse import Namespace
from pathlib import Path

from explorer import inputs_of
from gigraph.explorer import build
from gigraph.running.runtime import run


def main(args: Namespace) -> None:
    site = Path(args.index).parent
    build(inputs_of(args, args.site), site)
    shutil.copyfile(site / "data" / "evidence.js", args.evidence)


if __name__ == "__main__":
    run(main, "root", "index", "evaluated+", "site", "evidence")
