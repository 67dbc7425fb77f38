"""Draw a world: images, part masks and factors."""

from argparse import Namespace
from pathlib import Path

from gigraph.running.runtime import run
from gigraph.worlds import registry
from gigraph.worlds.dataset import write


def main(args: Namespace) -> None:
    settings = args.settings
    write(
        registry.get(settings["world"]), Path(args.folder), "probe", settings["count"], seed=settings["seed"],
        size=settings["size"], workers=int(args.workers),
    )  # fmt: skip


if __name__ == "__main__":
    run(main, "folder", "workers")
