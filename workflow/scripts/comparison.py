"""Compare one extractor's concepts of a layer by reading, size, seed and coder, on a trained and a shuffled network."""

from argparse import Namespace
from functools import partial

from gigraph.evaluation.comparison import MAPS, Look, compare
from gigraph.evaluation.probes import read_probe
from gigraph.records.paths import NETWORKS, Results
from gigraph.running.runtime import run
from gigraph.subject import Subject


def main(args: Namespace) -> None:
    settings, layer = args.settings, args.settings["layer"]
    results = Results(args.root)
    looks = []
    for network in NETWORKS:
        subject = Subject({**settings, "model": settings["networks"][network]}, args.compute, [layer])
        looks.append(Look.at(network, subject, read_probe(partial(results, network=network, layer=layer), MAPS)))
    compare(looks, settings).write("comparison", args.comparison, args.lineage)


if __name__ == "__main__":
    run(main, "root", "comparison")
