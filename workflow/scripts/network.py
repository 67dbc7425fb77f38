"""Check the model, its layers, and that images and settings go together; write what each layer is."""

from argparse import Namespace

from gigraph.model.centre import batchnorm_shift
from gigraph.model.sources import RANDOM
from gigraph.network_check import checked
from gigraph.records import tables
from gigraph.reporting import log
from gigraph.running.runtime import run

SAID = {
    "classes": "model.task: classes that exclude each other",
    "labels": "model.task: labels, each by a sigmoid of its own",
    "binary": "model.task: binary, one logit against the first class and for the second",
    "regression": "model.task: regression, the two sides of one value",
}


def main(args: Namespace) -> None:
    model = args.settings["model"]
    if model["weights"] == RANDOM:
        log.info("note: the weights of %s are random: a graph of them says nothing", model["source"])
    subject, classes = checked(args.settings, args.compute)
    network = subject.traced
    log.info("%s: %s", SAID[network.task], ", ".join(classes[:4]) + ", ..." * (len(classes) > 4))
    layers = list(subject.layers.values())
    tables.write(
        args.layers,
        "layers",
        {
            **{
                key: [getattr(layer, key) for layer in layers]
                for key in ("node", "layout", "channels", "height", "width")
            },
            "layer": [layer.name for layer in layers],
            "grid": [list(layer.grid) for layer in layers],
            "beta": [batchnorm_shift(network, layer) for layer in layers],
        },
        args.lineage,
    )
    names = {"label": range(len(classes)), "class": classes, "task": [network.task] * len(classes)}
    tables.write(args.class_table, "classes", names, args.lineage)
    for layer in layers:
        log.info("%s: node %s, %d channels, %d x %d", layer.name, layer.node, layer.channels, layer.height, layer.width)
    least, most = (of(layer.channels for layer in layers) for of in (min, max))
    log.info("%d layers of %d to %d channels; %d outputs", len(layers), least, most, len(classes))


if __name__ == "__main__":
    run(main, "layers", "class_table")
