"""Build the explorer: a static site of the graph that opens by double click."""

import json
import sys
from argparse import Namespace
from pathlib import Path

from gigraph.evaluation.summary import TOPICS
from gigraph.explorer import Inputs, build
from gigraph.planning.lineage import receipts
from gigraph.records import tables
from gigraph.running.runtime import run


def main(args: Namespace) -> None:
    build(inputs_of(args, args.lineage), Path(args.index).parent)


def inputs_of(args: Namespace, lineage: str) -> Inputs:
    """Return what the site is built from; an evaluation that lies there is shown if it is this configuration's."""
    settings, root = args.settings, Path(args.root)
    method = settings["method"]
    evaluation = evaluation_of(root, settings, args.evaluated)
    graph, layers = root / method / "graph", settings["layers"]
    alignment = root / method / "evaluation" / "alignment.parquet"
    shards = range(settings["shards"])
    return Inputs(
        images=root / "images.parquet",
        classes=root / "classes.parquet",
        layers=root / "layers.parquet",
        rejected=root / "rejected.parquet",
        nodes=graph / "nodes.parquet",
        edges=graph / "edges.parquet",
        kept=graph / "kept.parquet",
        concepts={layer: root / method / "concepts" / f"{layer}.parquet" for layer in layers},
        exemplars={layer: root / method / "exemplars" / layer for layer in layers},
        fidelity=root / method / "evaluation" / "fidelity.parquet",
        alignment=alignment if settings["drawn"] else None,
        method=method,
        title=settings["title"],
        labels=settings["labels"],
        top=settings["top"],
        shared=settings["shared"],
        nearest=settings["nearest"],
        tile=settings["tile"],
        lineage=lineage,
        notes=_notes(root, method),
        selection=root / "selection.parquet",
        attributions={
            (source, target): [
                root / method / "attributions" / f"{source}--{target}" / f"{shard}.parquet" for shard in shards
            ]
            for source, target in settings["pairs"]
        },
        coefficients={
            layer: [root / method / "coefficients" / layer / f"{shard}.parquet" for shard in shards] for layer in layers
        },
        trees={layer: root / method / "concepts" / f"{layer}.tree.parquet" for layer in layers},
        evaluation=evaluation,
        stability=root / method / "evaluation" / "stability.parquet" if evaluation else None,
        picture=_opener(settings),
        images_per_class=settings["images_per_class"],
        explained=root / method / "explained",
        shortcut=_shortcut() if settings["drawn"] else None,
    )


def evaluation_of(root: Path, settings: dict, lineages: list[str]) -> dict[str, Path]:
    """Return the gathered tables of this configuration's evaluation by topic; none if one is missing or of another."""
    folder = root / "evaluation"
    found = {topic: folder / f"{topic}.parquet" for topic in (*TOPICS, "curves", *["truth"] * settings["drawn"])}
    needed = [*found.values(), root / settings["method"] / "evaluation" / "stability.parquet"]
    if any(tables.lineage_of(path) != lineages[0] for path in needed):
        return {}
    effects = folder / "effects.parquet"
    return found | ({"effects": effects} if tables.lineage_of(effects) in lineages[1:] else {})


def _opener(settings):
    """Return a function that opens an image as the network sees it."""
    from gigraph.images.decoding import decode
    from gigraph.images.preprocessing import Preprocessing

    source, preset = settings["model_settings"]["source"], None
    if source.partition(":")[0] in ("torchvision", "timm"):  # no other has one that crops, and torch takes long to load
        from gigraph.model.models import preset_of

        preset = preset_of(source, settings["model_settings"]["weights"])
    preprocessing = Preprocessing.from_preset(preset, **settings["preprocessing"])
    return lambda path: preprocessing.display(decode(Path(settings["images"]) / path, sys.maxsize))


def _shortcut():
    """Return what was planted into the drawn world."""
    from gigraph.menagerie.scene import TAGGED_CHEETAHS, TAGGED_OTHERS

    return {"part": "tag", "class": "cheetah", "planted": TAGGED_CHEETAHS, "elsewhere": TAGGED_OTHERS}


def _notes(root: Path, method: str) -> list[str]:
    """Return the notes that this run's jobs logged, in the order of their names.

    Logs of former configurations and of other methods stay out.
    """
    plan, logs = root / "plan.json", root / "logs"
    planned = set(json.loads(plan.read_text()).values()) if plan.is_file() else None
    found = []
    for name, receipt in receipts(logs).items():
        folder = name.split("/")[0]
        other = folder != method and (root / folder / "concepts").is_dir()
        if not other and (planned is None or receipt["lineage"] in planned):
            lines = (logs / f"{name}.log").read_text().splitlines()
            found += [line.partition("note: ")[2].strip() for line in lines if "note: " in line]
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    run(main, "root", "index", "evaluated+")
