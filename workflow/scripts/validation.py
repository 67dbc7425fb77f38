"""Validate one layer's concepts on held-out images: Tables 1 and 2, Figs. 4 and 5, C-muFidelity, other lambdas."""

from argparse import Namespace

from gigraph.evaluation.validation import validate
from gigraph.running.runtime import run
from gigraph.subject import Subject


def main(args: Namespace) -> None:
    settings = args.settings
    subject = Subject(settings, args.compute, [settings["layer"], *settings["targets_of"]])
    found = validate(subject, args.root, args.heldout, settings)
    found.write("measures", args.measures, args.lineage)
    found.write("curves", args.curves, args.lineage)


if __name__ == "__main__":
    run(main, "root", "heldout", "measures", "curves")
