"""The pictures: which sheet, row and column shows what, copying the concepts' sheets and writing those of images."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import polars as pl
from PIL import Image

from gigraph.errors import UserError
from gigraph.explorer.inputs import Inputs
from gigraph.images.tiles import FACE, FACE_SIDE, face_sheet
from gigraph.records import tables
from gigraph.records.schemas import SCHEMAS
from gigraph.threads import spread

CLASS_SIDE = 48
"""Side of a class's tiles in pixels."""
CLASSES_PER_SHEET = 64
"""Classes on a sheet."""
IMAGE_SIDE = 128
"""Side of an image's picture in pixels."""
PER_SIDE = 8
"""Images on a side of a sheet."""

Tile = list[int]  # sheet (index into the layer's list), row, column
Place = list[int] | str  # of an image: sheet, row, column; or the name of a picture of its own


@dataclass
class Album:
    """The pictures of one layer.

    Attributes
    ----------
    exemplars, localisation : DataFrame
        The layer's tables, empty where there are none, each sorted by rank.
    sheets : list of [file, columns, rows]
        The sheets in use, paths relative to the site.
    """

    exemplars: pl.DataFrame
    localisation: pl.DataFrame
    sheets: list[list[str | int]] = field(default_factory=list)
    _index: dict[str, int] = field(default_factory=dict)

    def tile(self, sheet: str, row: int, column: int) -> Tile:
        """Return a tile as the page addresses it."""
        return [self._index[sheet], row, column]

    def faces(self) -> dict[int, list[Tile]]:
        """Return where the faces of each concept are."""
        found: dict[int, list[Tile]] = {}
        responds = (pl.col("by") == "response") & (pl.col("rank") < FACE)
        shown = self.exemplars.filter(responds).select("concept", "sheet", "row", "column")
        for concept, sheet, row, column in shown.iter_rows():
            found.setdefault(concept, []).append(self.tile(face_sheet(sheet), row, column))
        return found


def open_album(folder: Path, layer: int, tile: int, site: Path) -> Album:
    """Read one layer's tables and copy its sheets into the site, those of the concepts' faces after the full ones.

    Raises
    ------
    UserError
        If a sheet that the tables name is missing or lies outside the folder.
    """
    album = Album(_read(folder, "exemplars"), _read(folder, "localisation"))
    names = sorted(set(album.exemplars["sheet"].to_list()))
    for name, side in [*((name, tile) for name in names), *((face_sheet(name), FACE_SIDE) for name in names)]:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UserError(f"explorer: sheet {name!r} lies outside {folder}; delete the folder and run again")
        source = folder / name
        target = f"sheets/{layer}/{len(album.sheets):03d}{source.suffix}"
        try:
            with Image.open(source) as image:
                width, height = image.size
            (site / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, site / target)
        except OSError as error:
            raise UserError(
                f"explorer: cannot read the sheet {source}: {error}; delete {folder} and run again"
            ) from None
        album._index[name] = len(album.sheets)
        album.sheets.append([target, max(width // side, 1), max(height // side, 1)])
    return album


def class_faces(album: Album, faces: Mapping[int, list[Tile]], site: Path) -> dict[int, list[Tile]]:
    """Write sheets of each class's faces, side by side, and return where they are.

    The concepts of many classes lie on as many sheets; a list of classes needs one of these.

    Parameters
    ----------
    album : Album
        That the faces lie in; the new sheets are added to it.
    faces : mapping of int to list of Tile
        The tiles of each class, at most `FACE`.
    site : Path
        The folder of the site.
    """
    wanted: dict[int, set[tuple[int, int]]] = {}
    for sheet, row, column in (tile for tiles in faces.values() for tile in tiles):
        wanted.setdefault(sheet, set()).add((row, column))
    small = {}
    for sheet, places in wanted.items():
        with Image.open(site / str(album.sheets[sheet][0])) as image:
            whole = image.convert("RGB")
        for row, column in places:
            left, top = column * FACE_SIDE, row * FACE_SIDE
            crop = whole.crop((left, top, left + FACE_SIDE, top + FACE_SIDE))
            small[sheet, row, column] = crop.resize((CLASS_SIDE, CLASS_SIDE), Image.Resampling.LANCZOS)
    found: dict[int, list[Tile]] = {}
    labels = sorted(faces)
    for first in range(0, len(labels), CLASSES_PER_SHEET):
        group = labels[first : first + CLASSES_PER_SHEET]
        page = Image.new("RGB", (FACE * CLASS_SIDE, len(group) * CLASS_SIDE))
        for y, label in enumerate(group):
            for x, (sheet, row, column) in enumerate(faces[label]):
                page.paste(small[sheet, row, column], (x * CLASS_SIDE, y * CLASS_SIDE))
                found.setdefault(label, []).append([len(album.sheets), y, x])
        name = f"sheets/classes-{first // CLASSES_PER_SHEET:03d}.webp"
        page.save(site / name, quality=80, method=4)
        album.sheets.append([name, FACE, len(group)])
    return found


def write_pictures(inputs: Inputs, paths: Mapping[int, str], site: Path) -> dict[int, Place]:
    """Write sheets of images, and return where each is as [sheet, row, column].

    Parameters
    ----------
    inputs : Inputs
        With `picture`, which opens an image as the network sees it.
    paths : mapping of int to str
        Image id to path.
    site : Path
        The folder of the site.
    """
    picture, order = inputs.picture, sorted(paths)
    if picture is None:
        return {}
    (site / "sheets" / "images").mkdir(parents=True, exist_ok=True)

    def sheet(number: int) -> dict[int, Place]:
        found: dict[int, Place] = {}
        page = Image.new("RGB", (PER_SIDE * IMAGE_SIDE, PER_SIDE * IMAGE_SIDE))
        for at, image in enumerate(order[number * PER_SIDE**2 : (number + 1) * PER_SIDE**2]):
            try:
                opened = picture(paths[image])
            except (OSError, UserError):  # a moved image leaves a gap, not a failed site
                continue
            row, column = divmod(at, PER_SIDE)
            page.paste(thumbnail(opened), (column * IMAGE_SIDE, row * IMAGE_SIDE))
            found[image] = [number, row, column]
        page.save(site / f"sheets/images/{number:03d}.webp", quality=80, method=4)
        return found

    sheets = spread(sheet, range(-(-len(order) // PER_SIDE**2)))
    return {image: place for found in sheets for image, place in found.items()}


def thumbnail(picture: Image.Image) -> Image.Image:
    """Return a picture as the site shows it."""
    return picture.convert("RGB").resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.LANCZOS)


def _read(folder: Path, kind: str) -> pl.DataFrame:
    path = folder / f"{kind}.parquet"
    table = tables.read(path) if path.exists() else SCHEMAS[kind].empty_table()
    keys = ["concept", "rank"] if kind == "exemplars" else ["scope", "concept", "rank"]
    return pl.DataFrame(pl.from_arrow(table)).sort(keys)
