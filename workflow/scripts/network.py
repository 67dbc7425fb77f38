"""Check the model, its layers, and that images and settings go together; write what each layer is."""

from argparse import Namespace
from types import SimpleNamespace

from gigraph.images.listing import output_names
from gigraph.model.centre import batchnorm_shift
from gigraph.records import tables
from gigraph.reporting import log
from gigraph.running.runtime import run
from gigraph.subject import Subject
from gigraph.worlds import registry

SAID = {
    "classes": "model.task: classes that exclude each other",
    "labels": "model.task: labels, each by a sigmoid of its own",
    "binary": "model.task: binary, one logit against the first class and for the second",
    "regression": "model.task: regression, the two sides of one value",
}


def main(args: Namespace) -> None:
    settings = args.settings
    compute = SimpleNamespace(**{**vars(args.compute), "device": "cpu"})  # one grey image: no GPU is leased for it
    subject = Subject(settings, compute, list(settings["layers"]))
    network = subject.traced
    model = settings["model"]
    if model["weights"] is None and model["source"].partition(":")[0] in ("torchvision", "timm"):
        log.info("note: model.weights is not given: those of %s are random", model["source"])
    if settings["world"] is not None:
        classes = registry.get(settings["world"]).classes
    else:
        classes = output_names(settings["images"], network.outputs, settings["classes"], network.task)
    network.check_varies()
    log.info("%s: %s", SAID[network.task], ", ".join(classes[:4]) + ", ..." * (len(classes) > 4))
    subject.contribution(settings["contribution"])
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


if __name__ == "__main__":
    run(main, "layers", "class_table")
