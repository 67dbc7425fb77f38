"""Train a drawn world's model anew."""

from argparse import Namespace

from gigraph.running.runtime import run
from gigraph.worlds import train


def main(args: Namespace) -> None:
    options = {"world": args.settings["world"], "out": args.checkpoint, "facts": 0}
    options |= {key: args.settings[key] for key in ("size", "seed", "shortcut") if args.settings[key] is not None}
    train.main([word for key, value in options.items() for word in (f"--{key}", str(value))])


if __name__ == "__main__":
    run(main, "checkpoint")
