"""Check the model, its layers, and that images and settings go together; write what each layer is."""

from argparse import Namespace

from gigraph import tables
from gigraph.centre import batchnorm_shift
from gigraph.errors import UserError
from gigraph.listing import labelled
from gigraph.runtime import log, run
from gigraph.srd import Sweep
from gigraph.subject import Subject


def main(args: Namespace) -> None:
    settings = args.settings
    subject = Subject(settings, args.compute, list(settings["layers"]))
    network = subject.traced
    images = settings["images"]
    classes, count = _classes(images, network.outputs)
    for name, layer in subject.layers.items():
        wanted = settings["layers"][name]
        k, rows = (
            wanted["expansion"] * layer.channels,
            count * min(wanted["pfvs_per_image"], layer.height * layer.width),
        )
        if k > rows:
            raise UserError(
                f"layers.{name}: {wanted['expansion']:g} x {layer.channels} channels are {k:g} concepts, but {count} "
                f"images give {rows} PFVs; lower concepts.expansion or raise sampling.pfvs_per_image"
            )
    if settings["contribution"] == "srd":
        Sweep(subject.network.graph_module, subject.example())
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
            "beta": [batchnorm_shift(network, layer) for layer in layers],
        },
        args.lineage,
    )
    tables.write(args.class_table, "classes", {"label": list(range(len(classes))), "class": classes}, args.lineage)
    for layer in layers:
        log.info("%s: node %s, %d channels, %d x %d", layer.name, layer.node, layer.channels, layer.height, layer.width)


def _classes(images, outputs: int) -> tuple[list[str], int]:
    """Return the name of each output, and the number of images."""
    if images["count"] is not None:
        from gigraph.menagerie.model import CLASSES

        return list(CLASSES), images["count"]
    entries = labelled(images["source"], images["classes"])
    folders = sorted({entry.class_name for entry in entries if entry.class_name})
    names = images["classes"] or folders
    if len(names) > outputs:
        raise UserError(
            f"{images['source']} has {len(names)} class folders, but the model has {outputs} outputs; "
            "remove folders, or take the model that they belong to"
        )
    if len(names) < outputs:
        log.info("note: %d class folders for %d outputs; they are taken for the first outputs", len(names), outputs)
    limit = images["limit_per_class"] or len(entries)
    count = sum(min(limit, sum(entry.class_name == name for entry in entries)) for name in folders or [None])
    return [*names, *(f"class {i}" for i in range(len(names), outputs))], count


if __name__ == "__main__":
    run(main, "layers", "class_table")
