"""Build a site: read the tables, write the chunks, copy the scripts and the pictures."""

from __future__ import annotations

import html
import json
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from gigraph.errors import UserError
from gigraph.explorer.atlas import atlas_chunk
from gigraph.explorer.card import concept_chunks
from gigraph.explorer.chunks import read_chunk, write_chunk
from gigraph.explorer.circuits import circuits_by_class
from gigraph.explorer.decisions import kept_by_class
from gigraph.explorer.evidence import evidence
from gigraph.explorer.findings import Places
from gigraph.explorer.graph import Graph
from gigraph.explorer.images import entry_of, image_chunks, shown_images
from gigraph.explorer.inputs import Inputs
from gigraph.explorer.overview import first_faces, meta_chunk
from gigraph.explorer.scopes import BLOCK, localised, members_of, near_chunk, neighbours, scope_chunks
from gigraph.explorer.sheets import class_faces, open_album, write_pictures
from gigraph.records import tables
from gigraph.records.files import alone
from gigraph.records.paths import SHOWN
from gigraph.reporting import log

ASSETS = Path(__file__).parent / "assets"
PROGRAM = ("core", "state", "drawing", "card", "overview", "scopes", "atlas", "evidence", "start")
"""The scripts, in the order in which they need each other; they share one scope."""
LISTED = 5
"""Pictures that are named in a remark."""
SITE = {"index.html", "app", "data", "sheets"}
"""Everything that a site consists of."""


def build(inputs: Inputs, out: Path) -> None:
    """Write a static site; its entry is ``out/index.html``.

    Parameters
    ----------
    inputs : Inputs
        What it is built from.
    out : Path
        The folder of the site. An earlier site there is replaced whole: a half-written one is never seen.

    Raises
    ------
    UserError
        If a table or sheet cannot be read, or `out` holds anything but a site.
    """
    out = Path(out)
    strangers = sorted({path.name for path in out.iterdir()} - SITE) if out.is_dir() else []
    if strangers:
        raise UserError(f"explorer: {out} holds {strangers[0]}, which is no part of a site; choose another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    # Beside the site, so that the renaming stays within one file system.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
        fresh, old = Path(scratch) / "new", Path(scratch) / "old"
        fresh.mkdir()
        _write(inputs, fresh)
        if out.exists():
            out.rename(old)
        fresh.rename(out)


def _write(inputs: Inputs, site: Path) -> None:
    data = site / "data"
    data.mkdir()
    write_app(site, inputs.title)
    graph = Graph.read(inputs)
    albums = [
        open_album(inputs.exemplars.get(layer, Path()), index, inputs.tile, site)
        for index, layer in enumerate(graph.layers)
    ]
    face = {(index, concept): tiles for index, album in enumerate(albums) for concept, tiles in album.faces().items()}
    first = class_faces(albums[-1], first_faces(graph, face), site)
    shapes = shapes_of(inputs.layers)
    images = shown_images(inputs)
    paths = dict(images.select("image_id", "path").iter_rows())
    for album in albums:
        paths |= dict(album.localisation.select("image_id", "path").iter_rows())
    places = write_pictures(inputs, paths, site)
    located = localised(graph, albums, shapes, places)
    kept, edges = (t.partition_by("scope", as_dict=True) for t in (graph.kept, graph.edges))
    labels = [label for label in sorted(graph.classes["label"].to_list()) if (label,) in kept]
    none = graph.edges.head(0)
    keeps, circuits = kept_by_class(inputs.decisions, graph.layers), circuits_by_class(graph, inputs)
    for at in range(0, len(labels), BLOCK):
        some = labels[at : at + BLOCK]
        mine = pl.concat([kept[label,] for label in some])
        among = pl.concat([edges.get((label,), none) for label in some])
        parts = graph.members.filter(pl.col("scope").is_in(some))
        graphs = scope_chunks(graph, mine, among, dict(zip(some, some, strict=True)), face, parts)
        members, lists = members_of(graph, mine, parts), neighbours(graph, mine, among)
        for label in some:
            own = located.get(label, {}), members.get(label, {})
            near = near_chunk(lists[label], *own)
            alone = {"circuit": circuits[label]} if label in circuits else {}
            write_chunk(data, f"class/{label}", {**graphs[label], "keeps": keeps.get(label, []), **alone})
            write_chunk(data, f"near/{label}", near)
    listed: dict[int, list[Any]] = defaultdict(list)
    where = Places()
    for row, chunk in image_chunks(graph, images, inputs.attributions, inputs.coefficients, shapes, face):
        place = places.get(row["image_id"])
        write_chunk(data, f"image/{row['image_id']}", {**chunk, "picture": place})
        listed[row["label"]].append(entry_of(row, place))
        where.add(row, chunk)
    place_of = {str(image): place for place, image in enumerate(images["image_id"].to_list())}
    for label, entries in listed.items():
        entries.sort(key=lambda entry: place_of[entry[0]])  # they came shard by shard
        write_chunk(data, f"images/{label}", entries)
    for index, layer in enumerate(graph.layers):
        write_chunk(data, f"atlas/{index}", atlas_chunk(graph, inputs, layer))
    cards = concept_chunks(graph, inputs, albums, face, shapes)
    for name, chunk in cards.items():
        write_chunk(data, name, chunk)
    write_chunk(data, "evidence", evidence(graph, inputs))
    write_chunk(data, "faces", {f"{index}:{concept}": tiles for (index, concept), tiles in face.items()})
    meta = meta_chunk(graph, inputs, albums, face, first, list(cards), set(listed), where)
    write_chunk(data, "meta", meta)
    (data / SHOWN).write_text(json.dumps(meta["evaluation"]))
    write_chunk(data, "explained", [])
    if inputs.explained is not None and inputs.explained.is_dir():
        here = tables.lineage_of(inputs.edges)
        made = {folder: tables.lineage_of(folder / "image.parquet") for folder in sorted(inputs.explained.iterdir())}
        add_explained(site, graph, [folder for folder, graph_of in made.items() if graph_of == here], shapes)
        _note_left_out([folder for folder, graph_of in made.items() if graph_of not in (here, None)])


def _note_left_out(folders: Sequence[Path]) -> None:
    """Say which explained images the site does not show, as their graph is not this one any more."""
    names = [tables.read(folder / "image.parquet", ["path"])["path"][0].as_py() for folder in folders]
    if names:
        log.info(
            "note: the explorer leaves out what was explained on an earlier graph (%s); gigraph explain adds it anew",
            ", ".join(names[:LISTED]) + ", ..." * (len(names) > LISTED),
        )


def write_app(site: Path, title: str) -> None:
    """Write the page, its style and its program, without comments and white space, local names shortened."""
    page, style, *scripts = (
        (ASSETS / name).read_text(encoding="utf-8")
        for name in ("index.html", "app.css", *(f"{name}.js" for name in PROGRAM))
    )
    program = "(() => {\n" + "".join(['"use strict";\n', *scripts]) + "})();\n"
    files = {
        "index.html": shortened("text/html", page).replace("{title}", html.escape(title)),
        "app/app.css": shortened("text/css", style),
        "app/app.js": shortened("application/javascript", program),
    }
    (site / "app").mkdir()
    for name, text in files.items():
        (site / name).write_text(text, encoding="utf-8")


def shortened(kind: str, text: str) -> str:
    """Return a text of a kind without what only people read, where the minifier is there."""
    try:
        import minify
    except ImportError:  # there is no wheel of it for macOS; what is longer works as well
        return text
    minify.config({"html-keep-document-tags": True})  # `gigraph.running.current.whole` looks for the end of a page
    return str(minify.string(kind, text))


def shapes_of(layers: Path) -> dict[str, tuple[int, ...]]:
    """Return each layer's grid: height and width, and the number of positions before it."""
    rows = tables.read(layers, ["layer", "grid"]).to_pylist()
    return {row["layer"]: tuple(row["grid"]) for row in rows}


def add_explained(site: Path, graph: Graph, folders: Sequence[Path], shapes: dict[str, tuple[int, ...]]) -> None:
    """Add images that were explained on the finished graph to a site, without building it again.

    Parameters
    ----------
    site : Path
        The folder of the site.
    graph : Graph
        The run's layers.
    folders : sequence of Path
        One folder per image, as `gigraph.explain` writes them.
    shapes : dict
        Grid of each layer in the run's images, as `shapes_of` returns; an image of another size has its own.
    """
    with alone(site.parent):  # or of two commands at once one would lose the other's
        _add_explained(site, graph, folders, shapes)


def _add_explained(site: Path, graph: Graph, folders: Sequence[Path], shapes: dict[str, tuple[int, ...]]) -> None:
    data = site / "data"
    face = {
        (int(layer), int(concept)): tiles
        for key, tiles in read_chunk(data, "faces").items()
        for layer, _, concept in [key.partition(":")]
    }
    entries = {entry[0]: entry for entry in read_chunk(data, "explained")}
    (site / "sheets" / "images").mkdir(parents=True, exist_ok=True)
    for folder in folders:
        images = pl.DataFrame(pl.from_arrow(tables.read(folder / "image.parquet")))
        attributions = {
            (source, target): [path]
            for path in sorted((folder / "attributions").iterdir())
            for source, target in [path.stem.split("--")]
        }
        coefficients = {path.stem: [path] for path in sorted((folder / "coefficients").iterdir())}
        own = folder / "grids.parquet"
        grids = shapes_of(own) if own.is_file() else shapes
        for row, chunk in image_chunks(graph, images, attributions, coefficients, grids, face):
            name = str(row["image_id"])
            shutil.copyfile(folder / "picture.webp", site / "sheets" / "images" / f"{name}.webp")
            write_chunk(data, f"image/{name}", {**chunk, "picture": name})
            entries[name] = entry_of(row, name)
    write_chunk(data, "explained", list(entries.values()))
