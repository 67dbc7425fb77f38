"""What a site is built from: the tables, pictures and options of a run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gigraph.images.decoding import decode, visible
from gigraph.images.preprocessing import Preprocessing
from gigraph.records import tables
from gigraph.records.paths import TOPICS, Results


@dataclass(frozen=True)
class Inputs:
    """The tables, pictures and options of one site.

    Attributes
    ----------
    images, classes, layers, rejected : Path
        Tables of the run (`gigraph.records.schemas.SCHEMAS`).
    nodes, edges, kept : Path
        Tables of the graph.
    concepts : dict of str to Path
        Layer name to its table of concepts, from input to output: the order of the rows on screen.
    exemplars : dict of str to Path
        Layer name to the folder that holds ``exemplars.parquet``, ``localisation.parquet`` and their sheets.
        A folder or table that is missing leaves that layer without pictures.
    reconstruction : Path
        Table of reconstruction errors, and of what is kept of the decisions.
    decisions : mapping of str to sequence of Path
        Layer to its tables of decisions, one per shard; without them no class says how much of its own is kept.
    alignment : Path, optional
        Table of the parts that concepts align with, where ground truth is known.
    method, attribution, output : str
        Names of the concept extractor, of the attribution method, and of what is attributed for classes
        (``attribution.class_output``).
    title : str
        Heading of the site.
    labels : dict of str to str
        ``layer:concept`` to a name given by the user.
    names : mapping of str to str
        Class to what it is called on the page, given by the user.
    top, shared : int
        Concepts shown per layer: of a class, and shared by two classes. Readers can change both.
    nearest : int
        Exemplars shown on a concept's card.
    reading : str
        What ranks them: ``cosine``, ``projection`` or ``filter``.
    tile : int
        Side of a tile in pixels; a sheet's number of columns is its width over this.
    lineage : str
        Hash of all that the site was made from.
    notes : list of str
        Remarks of the run that readers should see.
    selection : Path, optional
        Table of the attributed images.
    attributions, coefficients : mapping
        (source, target) to the tables of a layer pair, one per shard; layer to its tables. Without them there
        are no graphs of single images.
    families : mapping of str to Path
        Layer to its table of families; in a layer without one each concept stands for itself.
    members : Path, optional
        Table of what the members of families do.
    trees : mapping of str to Path
        Layer to its split tree; a missing one leaves the layer without hierarchy.
    evaluation : mapping of str to Path
        Topic to its table of the gathered evaluation (`gigraph.evaluation.summary`); all are shown.
    circuits : mapping of str to sequence of Path
        Kind of table (``circuits``, ``circuit_curves``, ``circuit_members``) to its shards; without them no class says
        what it carries alone.
    stability : Path, optional
        Table of how well each concept was found again.
    picture : callable, optional
        Opens an image, given its path as in the tables, as a square picture; without it images are not shown.
    images_per_class : int
        Images of each class that get a graph of their own.
    explained : Path, optional
        Folder of images explained on the finished graph (`gigraph.explain`).
    shortcut : mapping, optional
        Of a drawn world: the planted ``part`` and its ``class``, and the shares of the images of this class
        (``planted``) and of the others (``elsewhere``) that show it.
    """

    images: Path
    classes: Path
    layers: Path
    rejected: Path
    nodes: Path
    edges: Path
    kept: Path
    concepts: dict[str, Path]
    exemplars: dict[str, Path]
    reconstruction: Path
    alignment: Path | None = None
    method: str = "bisecting"
    attribution: str = "gig"
    output: str = "auto"
    title: str = "gigraph"
    labels: dict[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    top: int = 5
    shared: int = 3
    nearest: int = 10
    reading: str = "cosine"
    tile: int = 96
    lineage: str = ""
    notes: list[str] = field(default_factory=list)
    selection: Path | None = None
    attributions: Mapping[tuple[str, str], Sequence[Path]] = field(default_factory=dict)
    coefficients: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    families: Mapping[str, Path] = field(default_factory=dict)
    members: Path | None = None
    trees: Mapping[str, Path] = field(default_factory=dict)
    evaluation: Mapping[str, Path] = field(default_factory=dict)
    decisions: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    circuits: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    stability: Path | None = None
    picture: Callable[[str], Any] | None = None
    images_per_class: int = 20
    explained: Path | None = None
    shortcut: Mapping[str, Any] | None = None


def inputs_of(
    results: Results, settings: Mapping[str, Any], lineage: str, evaluated: Sequence[str], notes: Sequence[str]
) -> Inputs:
    """Return what a run's site is built from.

    Parameters
    ----------
    results : Results
        The run's files.
    settings : mapping
        Those of the stage ``explorer``.
    lineage : str
        Of the site.
    evaluated : sequence of str
        Lineages of the evaluation, as `evaluation_of` takes them; one that lies there is shown if it is this
        configuration's.
    notes : sequence of str
        Remarks of the run that readers should see.
    """
    method, layers, shards = settings["method"], settings["layers"], range(settings["shards"])
    evaluation = evaluation_of(results, settings, evaluated)
    return Inputs(
        images=results("images"),
        classes=results("classes"),
        layers=results("layers"),
        rejected=results("rejected"),
        nodes=results("nodes", method=method),
        edges=results("edges", method=method),
        kept=results("kept_of_all", method=method),
        concepts={layer: results("concepts", method=method, layer=layer) for layer in layers},
        exemplars={layer: results("exemplars", method=method, layer=layer).parent for layer in layers},
        reconstruction=results("reconstruction", method=method),
        alignment=results("alignment", method=method) if settings["drawn"] else None,
        method=method,
        attribution=settings["attribution"]["method"],
        output=settings["attribution"]["class_output"],
        title=settings["title"],
        labels=settings["labels"],
        names=settings["names"],
        top=settings["top"],
        shared=settings["shared"],
        nearest=settings["nearest"],
        reading=settings["reading"],
        tile=settings["tile"],
        lineage=lineage,
        notes=list(notes),
        selection=results("selection"),
        attributions={
            (source, target): results.shards("attributions", shards, method=method, source=source, target=target)
            for source, target in settings["pairs"]
        },
        coefficients={layer: results.shards("coefficients", shards, method=method, layer=layer) for layer in layers},
        families={layer: results("families", method=method, layer=layer) for layer in layers},
        members=results("members", method=method),
        trees={layer: results("tree", method=method, layer=layer) for layer in layers},
        evaluation=evaluation,
        decisions={layer: results.shards("decisions", shards, method=method, layer=layer) for layer in layers},
        circuits={
            kind: results.shards(kind, shards, method=method)
            for kind in ("circuits", "circuit_curves", "circuit_members")
        },
        stability=results("stability_of_all") if evaluation else None,
        picture=_opener(settings),
        images_per_class=settings["images_per_class"],
        explained=results("explained", method=method),
        shortcut=settings["shortcut"],
    )


def evaluation_of(results: Results, settings: Mapping[str, Any], lineages: Sequence[str]) -> dict[str, Path]:
    """Return the gathered tables of this configuration's evaluation by topic; none if one is missing or of another.

    Parameters
    ----------
    results : Results
        The run's files.
    settings : mapping
        With ``method`` and ``drawn``, whether the images are a drawn world's.
    lineages : sequence of str
        Of the tables and, on a drawn world, of the effects beside them.
    """
    topics = (*TOPICS, *["truth"] * settings["drawn"])
    found = {topic: results("topic", topic=topic) for topic in topics}
    needed = [*found.values(), results("stability_of_all")]
    if any(tables.lineage_of(path) != lineages[0] for path in needed):
        return {}
    effects = results("effects")
    return found | ({"effects": effects} if tables.lineage_of(effects) in lineages[1:] else {})


def _opener(settings: Mapping[str, Any]) -> Callable[[str], Any]:
    """Return a function that opens an image as the network sees it."""
    source, preset = settings["model_settings"]["source"], None
    if source.partition(":")[0] in ("torchvision", "timm"):  # no other has one that crops, and torch takes long to load
        from gigraph.model.models import preset_of

        preset = preset_of(source, settings["model_settings"]["weights"])
    preprocessing = Preprocessing.from_preset(preset, **settings["preprocessing"])

    def opened(path: str) -> Any:
        return visible(
            preprocessing.display(decode(Path(settings["images"]) / path, sys.maxsize, preprocessing.channels))
        )

    return opened
