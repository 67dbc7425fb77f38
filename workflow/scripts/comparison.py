"""Compare one extractor's concepts of a layer by reading, size, seed and coder, on a trained and a shuffled network."""

from argparse import Namespace
from functools import partial

from gigraph.errors import UserError
from gigraph.evaluation.comparison import MAPS, Look, compare
from gigraph.evaluation.probes import read_probe
from gigraph.records.paths import NETWORKS, Results
from gigraph.reporting import log
from gigraph.running.runtime import run
from gigraph.subject import Subject


def main(args: Namespace) -> None:
    settings, layer = args.settings, args.settings["layer"]
    results = Results(args.root)
    looks = []
    for network, model in settings["networks"].items():
        subject = Subject({**settings, "model": model}, args.compute, [layer])
        probe = read_probe(partial(results, network=network, layer=layer), MAPS)
        look = None if probe is None else Look.at(network, subject, probe)
        if look is not None:
            looks.append(look)
        elif network == NETWORKS[0]:
            raise UserError(f"layer {layer}: all PFVs are the same, so that there are no concepts to compare")
        else:
            log.info("note: %s: with its weights shuffled all PFVs are the same: no measure is held against it", layer)
    compare(looks, settings).write("comparison", args.comparison, args.lineage)


if __name__ == "__main__":
    run(main, "root", "comparison")
