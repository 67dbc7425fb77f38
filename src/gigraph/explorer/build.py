"""Build a site: read the tables, write the chunks, copy the scripts and the pictures."""

from __future__ import annotations

import html
import shutil
import tempfile
from pathlib import Path

from gigraph.errors import UserError
from gigraph.explorer import contents
from gigraph.explorer.chunks import write_chunk
from gigraph.explorer.graph import Graph
from gigraph.explorer.inputs import Inputs
from gigraph.explorer.sheets import open_album, small_faces

ASSETS = Path(__file__).parent / "assets"
PARTS = {"index.html", "app", "data", "sheets"}
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
    strangers = sorted({path.name for path in out.iterdir()} - PARTS) if out.is_dir() else []
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
    shutil.copytree(ASSETS, site / "app", ignore=shutil.ignore_patterns("index.html", "__pycache__"))
    page = (ASSETS / "index.html").read_text(encoding="utf-8")
    (site / "index.html").write_text(page.replace("{title}", html.escape(inputs.title)), encoding="utf-8")
    graph = Graph.read(inputs)
    albums = [
        open_album(inputs.exemplars.get(layer, Path()), index, inputs.tile, site)
        for index, layer in enumerate(graph.layers)
    ]
    face = {
        (index, concept): tiles
        for index, album in enumerate(albums)
        for concept, tiles in small_faces(album, index, inputs.tile, site).items()
    }
    kept, edges = (t.partition_by("scope", as_dict=True) for t in (graph.kept, graph.edges))
    for label in sorted(graph.classes["label"].to_list()):
        if (label,) not in kept:
            continue
        own = edges.get((label,), graph.edges.head(0))
        write_chunk(data, f"class/{label}", contents.class_chunk(graph, kept[label,], own, label, face))
        write_chunk(data, f"near/{label}", contents.near_chunk(graph, kept[label,], own, label, albums))
    cards = contents.concept_chunks(graph, inputs, albums)
    for name, chunk in cards.items():
        write_chunk(data, name, chunk)
    write_chunk(data, "meta", contents.meta_chunk(graph, inputs, albums, face, list(cards)))
