"""What a site is built from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Inputs:
    """The tables, pictures and options of one site.

    Attributes
    ----------
    images, classes, layers, rejected : Path
        Tables of the run (`gigraph.records.SCHEMAS`).
    nodes, edges, kept : Path
        Tables of the graph.
    concepts : dict of str to Path
        Layer name to its table of concepts, from input to output: the order of the rows on screen.
    exemplars : dict of str to Path
        Layer name to the folder that holds ``exemplars.parquet``, ``localisation.parquet`` and their sheets.
        A folder or table that is missing leaves that layer without pictures.
    fidelity : Path
        Table of reconstruction errors.
    alignment : Path, optional
        Table of the parts that concepts align with, where ground truth is known.
    method, attribution : str
        Names of the concept extractor and of the attribution method.
    title : str
        Heading of the site.
    labels : dict of str to str
        ``layer:concept`` to a name given by the user.
    top, shared : int
        Concepts shown per layer: of a class, and shared by two classes. Readers can change both.
    nearest : int
        Exemplars shown on a concept's card.
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
    trees : mapping of str to Path
        Layer to its split tree; a missing one leaves the layer without hierarchy.
    evaluation : mapping of str to Path
        Topic to its table of the gathered evaluation (`gigraph.evaluation.summary`); all are shown.
    stability : Path, optional
        Table of how well each concept was found again.
    picture : callable, optional
        Opens an image, given its path as in the tables, as a square picture; without it images are not shown.
    images_per_class : int
        Images of each class that get a graph of their own.
    explained : Path, optional
        Folder of images explained on the finished graph (`gigraph.explain`).
    shortcut : mapping, optional
        Of the drawn world: the planted ``part`` and its ``class``, and the shares of the images of this class
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
    fidelity: Path
    alignment: Path | None = None
    method: str = "bisecting"
    attribution: str = "gig"
    title: str = "gigraph"
    labels: dict[str, str] = field(default_factory=dict)
    top: int = 5
    shared: int = 3
    nearest: int = 10
    tile: int = 96
    lineage: str = ""
    notes: list[str] = field(default_factory=list)
    selection: Path | None = None
    attributions: Mapping[tuple[str, str], Sequence[Path]] = field(default_factory=dict)
    coefficients: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    trees: Mapping[str, Path] = field(default_factory=dict)
    evaluation: Mapping[str, Path] = field(default_factory=dict)
    stability: Path | None = None
    picture: Callable[[str], Any] | None = None
    images_per_class: int = 20
    explained: Path | None = None
    shortcut: Mapping[str, Any] | None = None
