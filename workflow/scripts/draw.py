"""Draw the menagerie: images, part masks and factors."""

from argparse import Namespace
from pathlib import Path

from gigraph.menagerie.dataset import write
from gigraph.running.runtime import run


def main(args: Namespace) -> None:
    settings = args.settings
    write(
        Path(args.folder), "probe", settings["count"], seed=settings["seed"], size=settings["size"],
        workers=int(args.workers),
    )  # fmt: skip


if __name__ == "__main__":
    run(main, "folder", "workers")
