"""Train the menagerie's model anew."""

from argparse import Namespace

from gigraph.menagerie import train
from gigraph.running.runtime import run


def main(args: Namespace) -> None:
    train.main(
        [
            "--out",
            args.checkpoint,
            "--size",
            str(args.settings["size"]),
            "--seed",
            str(args.settings["seed"]),
            "--facts",
            "0",
        ]
    )


if __name__ == "__main__":
    run(main, "checkpoint")
