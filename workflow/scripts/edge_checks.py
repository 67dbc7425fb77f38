"""Check edges by exact ablation, shown ones and a random sample of others; and say what attributions are made of."""

from argparse import Namespace

from gigraph.evaluation.checks import check
from gigraph.records import tables
from gigraph.running.runtime import run
from gigraph.subject import Subject


def main(args: Namespace) -> None:
    subject = Subject(args.settings, args.compute, args.settings["layers"])
    checks, measures = check(subject, args.root, args.selection, args.settings)
    tables.write(args.checks, "checks", {name: checks[name].to_list() for name in checks.columns}, args.lineage)
    measures.write("measures", args.measures, args.lineage)


if __name__ == "__main__":
    run(main, "root", "selection", "checks", "measures")
