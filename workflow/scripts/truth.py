"""Compare one method's concepts and relevances with a drawn world: parts, the shortcut, redrawing, confusions."""

from argparse import Namespace

from gigraph.evaluation.truth import compare
from gigraph.running.runtime import run
from gigraph.subject import Subject


def main(args: Namespace) -> None:
    subject = Subject(args.settings, args.compute, args.settings["layers"])
    found = compare(subject, args.root, args.effects, args.settings)
    found.write("measures", args.measures, args.lineage)


if __name__ == "__main__":
    run(main, "root", "effects", "measures")
