"""The page of a difference of two runs: what differs, ranked, with the concepts' pictures and links into both sites."""

from __future__ import annotations

import html
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl

from gigraph.explorer.build import ASSETS, _shortened
from gigraph.images.tiles import FACE, face_sheet
from gigraph.records import tables

PAGES = Path(__file__).parent / "pages"
SHOWN = 300
"""Rows of a list; the tables beside the page hold all."""
TILE = 40
"""Side of a picture in pixels; the style knows it, too."""
WIDTH, HEIGHT, EDGE = 190, 26, 8
"""Of the drawing of an effect, in pixels, and what is left free at its sides."""
UNESCAPED = "!~*'():,"
"""What the explorer leaves as it is in its addresses, besides letters, digits and -_. ."""
UNITS = {
    "probability": "of the class's probability", "logit": "of the class's logit",
    "centred_logit": "of the class's centred logit",
}  # fmt: skip


@dataclass(frozen=True)
class Side:
    """One of the two runs.

    Attributes
    ----------
    folder : Path
        Its results.
    method : str
        Whose concepts.
    exemplars : dict of str to Path
        Layer to the folder of its pictures.
    labels : mapping of str to str
        ``layer:concept`` to a name that the user gave.
    classes : list of str
        Their names, of each label.
    site : Path or None
        Its explorer's page, where that shows these concepts.
    """

    folder: Path
    method: str
    exemplars: dict[str, Path]
    labels: Mapping[str, str]
    classes: list[str]
    site: Path | None


@dataclass(frozen=True)
class Shown:
    """What the page shows; frames and facts as those of `gigraph.diff`."""

    said: str
    equal: bool
    facts: Mapping[str, Any]
    notes: Sequence[str]
    concepts: pl.DataFrame
    only_a: pl.DataFrame
    only_b: pl.DataFrame
    relevances: pl.DataFrame
    edges: pl.DataFrame
    classes: pl.DataFrame


def write_page(folder: Path, sides: tuple[Side, Side], shown: Shown) -> Path:
    """Write the page, its style and program, and the pictures that it needs; return where it is."""
    for name in ("app", "pictures"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()
    style = (ASSETS / "app.css").read_text(encoding="utf-8")
    (folder / "app" / "app.css").write_text(_shortened("text/css", style), encoding="utf-8")
    for name in ("difference.css", "difference.js"):
        shutil.copyfile(PAGES / name, folder / "app" / name)
    page = (PAGES / "difference.html").read_text(encoding="utf-8")
    ends = tuple(_End(end, side, folder) for end, side in zip("ab", sides, strict=True))
    body = _Body(ends, shown).text()
    runs = "".join(
        f'<a href="{_attribute(end.site)}"><span class="letter">{end.end.upper()}</span><bdi>{_text(end.name)}</bdi></a>'
        if end.site
        else f'<span class="link"><span class="letter">{end.end.upper()}</span><bdi>{_text(end.name)}</bdi></span>'
        for end in ends
    )
    target = folder / "index.html"
    target.write_text(page.replace("{runs}", runs).replace("{main}", body), encoding="utf-8")
    return target


class _End:
    """One run's links and pictures, as seen from the page's folder."""

    def __init__(self, end: str, side: Side, folder: Path):
        self.end, self.side, self.folder = end, side, folder
        self.name = f"{side.folder} ({side.method})"
        self.site = None if side.site is None else _relative(side.site, folder)
        self._rows: dict[str, dict[int, tuple[str, int, int]]] = {}
        self._sheets: dict[tuple[str, str], str | None] = {}

    def link(self, name: str, layer: str, concept: int) -> str | None:
        """Return the address of a concept on a class's page in the run's explorer."""
        if self.site is None:
            return None
        label = self.side.classes.index(name)
        odd = not name or name.startswith("~") or self.side.classes.count(name) > 1
        slug = f"~{label}" if odd else name
        return f"{self.site}#/class/{quote(slug, safe=UNESCAPED)}?sel={quote(layer, safe=UNESCAPED)}:{concept}"

    def faces(self, layer: str, concept: int) -> str:
        """Return the pictures of a concept, the same as its face in the explorer."""
        sheet, row, count = self._layer(layer).get(concept, ("", 0, 0))
        file = self._copied(layer, sheet) if sheet else None
        if file is None:
            return '<span class="missing">no picture</span>'
        where = f"background-image:url({file});background-position:0 -{row * TILE}px;width:{count * TILE}px"
        return f'<span class="strip-4" style="{where}"></span>'

    def called(self, layer: str, concept: int) -> str:
        """Return the user's name of a concept, or its number."""
        name = self.side.labels.get(f"{layer}:{concept}")
        return f"<bdi>{_text(name)}</bdi> #{concept}" if name else f"#{concept}"

    def _layer(self, layer: str) -> dict[int, tuple[str, int, int]]:
        """Return the sheet and row of each concept's face, and its number of tiles."""
        if layer not in self._rows:
            table = self.side.exemplars.get(layer, Path()) / "exemplars.parquet"
            rows: list[Any] = []
            if table.is_file():
                frame = pl.DataFrame(pl.from_arrow(tables.read(table)))
                own = frame.filter((pl.col("by") == "response") & (pl.col("rank") < FACE))
                rows = own.group_by("concept", "sheet", "row").len().sort("concept", "sheet", descending=True).rows()
            self._rows[layer] = {concept: (face_sheet(sheet), row, count) for concept, sheet, row, count in rows}
        return self._rows[layer]

    def _copied(self, layer: str, sheet: str) -> str | None:
        """Copy a sheet beside the page, once, and return its name there."""
        if (layer, sheet) not in self._sheets:
            source, name = self.side.exemplars[layer] / sheet, None
            if source.is_file() and ".." not in Path(sheet).parts:
                name = f"pictures/{self.end}-{len(self._sheets):03d}{source.suffix}"
                shutil.copyfile(source, self.folder / name)
            self._sheets[layer, sheet] = name
        return self._sheets[layer, sheet]


class _Body:
    """The page's content."""

    def __init__(self, ends: tuple[_End, ...], shown: Shown):
        self.ends, self.shown = ends, shown
        rows = pl.concat([shown.relevances.select("class", "layer")])
        self.classes = [name for name in shown.facts["classes"] if name in set(rows["class"])]
        self.layers = [*shown.facts["layers"]]

    def text(self) -> str:
        shown, facts = self.shown, self.shown.facts
        if shown.equal:
            said = "Nothing differs"
        else:
            said = "What differs"
        images = f"{facts['images']:,} images that both have" if facts["shared"] else "images of A, seen by both"
        compared = facts["compared"]
        lede = (
            f"Concepts are matched by how they respond to {facts['looked_at']:,} of the {images}; "
            f"{compared['relevances']:,} relevances and {compared['edges']:,} edges are compared."
        )
        parts = [f'<section class="lede"><h1>{said}</h1><p>{lede}</p>{self._numbers()}{self._notes()}</section>']
        if not shown.equal:
            parts += [self._tools(), self._relevances(), self._edges(), self._only(), self._classes()]
        parts.append(self._matched())
        rate = f"{100 * facts['fdr']:g}%"
        parts.append(
            f'<footer><p class="note">Ranked are differences at a false discovery rate of {rate}, by what each at least '
            "is: the end nearest zero of its confidence interval at that rate. Standard errors are over images; two "
            "trainings of one network differ by more than that. All numbers are in the tables beside this page.</p></footer>"
        )
        return "\n".join(parts)

    def _numbers(self) -> str:
        shown = self.shown
        nodes = [len(_nodes(frame, shown.facts)) for frame in (shown.concepts, shown.only_a, shown.only_b)]
        pairs = [
            ("relevances differ", _kept(shown.relevances)),
            ("edges differ", _kept(shown.edges)),
            ("concepts in both", nodes[0]), ("only in A", nodes[1]), ("only in B", nodes[2]),
        ]  # fmt: skip
        items = "".join(f"<div><dt>{name}</dt><dd>{value:,}</dd></div>" for name, value in pairs)
        return f'<dl class="numbers">{items}</dl>'

    def _notes(self) -> str:
        return "".join(f'<p class="note"><bdi>{_text(note)}</bdi></p>' for note in self.shown.notes)

    def _tools(self) -> str:
        def choice(key: str, title: str, names: Iterable[str]) -> str:
            options = "".join(f'<option value="{_attribute(name)}">{_text(name)}</option>' for name in names)
            return f'<label>{title} <select id="{key}"><option value="">all</option>{options}</select></label>'

        return (
            f'<div class="tools">{choice("class", "Class", self.classes)}{choice("layer", "Layer", self.layers)}</div>'
        )

    # ---- lists ----------------------------------------------------------------------------------------------

    def _relevances(self) -> str:
        unit = UNITS.get(self.shown.facts["output"], "of the class's score")
        head = ("", "class", "layer", "in A", "in B", f"relevance, {unit}", "difference", "q")
        kept = self.shown.relevances.filter(pl.col("rank").is_not_null())
        scale = _scale(kept)
        rows = []
        for row in kept.head(SHOWN).iter_rows(named=True):
            name, layer = row["class"], row["layer"]
            cells = [
                f'<td class="rank">{row["rank"]}</td><th scope="row"><bdi>{_text(name)}</bdi></th><td>{_text(layer)}</td>',
                *(f"<td>{self._concept(end, name, layer, row[end.end], link=True)}</td>" for end in self.ends),
                _effect(row, scale),
            ]
            rows.append(_row(f"r{row['rank']}", name, [layer], "".join(cells)))
        return _list("What decides the classes", head, rows, len(kept))

    def _edges(self) -> str:
        head = ("", "class", "source in A", "source in B", "target in A", "target in B", "share of the target", "difference", "q")  # fmt: skip
        kept = self.shown.edges.filter(pl.col("rank").is_not_null())
        scale = _scale(kept)
        rows = []
        for row in kept.head(SHOWN).iter_rows(named=True):
            name, layers = row["class"], [row["source_layer"], row["target_layer"]]
            cells = [f'<td class="rank">{row["rank"]}</td><th scope="row"><bdi>{_text(name)}</bdi></th>']
            for what, layer in zip(("source", "target"), layers, strict=True):
                for end in self.ends:
                    drawn = self._concept(end, name, layer, row[f"{what}_{end.end}"], link=what == "source")
                    cells.append(f'<td>{drawn}<br><span class="id">{_text(layer)}</span></td>')
            rows.append(_row(f"e{row['rank']}", name, layers, "".join([*cells, _effect(row, scale)])))
        return _list("What builds the concepts", head, rows, len(kept))

    def _concept(self, end: _End, name: str, layer: str, concept: int | None, link: bool = False) -> str:
        if concept is None:
            return '<span class="missing">none</span>'
        inside = f'{end.faces(layer, concept)}<span class="id">{end.called(layer, concept)}</span>'
        address = end.link(name, layer, concept)
        if address is None:
            return f'<span class="end">{inside}</span>'
        key = f' data-end="{end.end}"' if link else ""
        return f'<a class="end" href="{_attribute(address)}"{key}>{inside}</a>'

    def _only(self) -> str:
        columns = []
        for end, frame in zip(self.ends, (self.shown.only_a, self.shown.only_b), strict=True):
            rows = _nodes(frame, self.shown.facts)
            items = [self._lone(end, row) for row in rows.head(SHOWN).iter_rows(named=True)]
            body = f'<ul class="lone">{"".join(items)}</ul>' if items else '<p class="note">None.</p>'
            columns.append(
                f'<div><h2><span class="letter">{end.end.upper()}</span>Only in {end.end.upper()}: {len(rows)}</h2>{body}</div>'
            )
        return f'<section><div class="sides">{"".join(columns)}</div></section>'

    def _lone(self, end: _End, row: Mapping[str, Any]) -> str:
        mean, layer, concept = f"mean_{end.end}", row["layer"], row["concept"]
        mine = self.shown.relevances.filter((pl.col("layer") == layer) & (pl.col(end.end) == concept))
        said, name = "decides no class", self.classes[0] if self.classes else ""
        if len(mine):
            best = mine.sort(pl.col(mean).abs(), descending=True).row(0, named=True)
            name = best["class"]
            said = f"<bdi>{_text(name)}</bdi> {best[mean]:+.3f}"
        near = "" if row["best"] is None else f"; nearest {row['best']:.2f}"
        drawn = self._concept(end, name, layer, concept) if name else end.faces(layer, concept)
        return f'<li data-row id="{end.end}-{_attribute(layer)}-{concept}" data-class="{_attribute(name)}" data-layer="{_attribute(layer)}" tabindex="-1">{drawn}<p>{said}</p><p class="note">{_text(layer)}{near}</p></li>'  # noqa: E501

    def _matched(self) -> str:
        found = _nodes(self.shown.concepts, self.shown.facts)
        parts = []
        for layer in self.layers:
            rows = found.filter(pl.col("layer") == layer).sort("similarity", descending=True)
            if not len(rows):
                continue
            body = "".join(
                f"<tr>{''.join(self._face_cell(end, row) for end in self.ends)}"
                f'<td class="value">{row["similarity"]:.2f}</td><td class="value">{row["members_a"]}</td>'
                f'<td class="value">{row["members_b"]}</td></tr>'
                for row in rows.head(SHOWN).iter_rows(named=True)
            )
            chance = self.shown.facts["chance"][layer]
            parts.append(
                f"<details><summary>{_text(layer)}: {len(rows)} concepts in both, "
                f"correlations {rows['similarity'].min():.2f} to {rows['similarity'].max():.2f}, chance {chance:.2f}</summary>"
                '<div class="table"><table><thead><tr><th>in A</th><th>in B</th><th>correlation</th>'
                f"<th>members in A</th><th>in B</th></tr></thead><tbody>{body}</tbody></table></div></details>"
            )
        body = "".join(parts) or '<p class="note">No concept responds alike in both.</p>'
        return f"<section><h2>Concepts in both</h2>{body}</section>"

    def _face_cell(self, end: _End, row: Mapping[str, Any]) -> str:
        layer, concept = row["layer"], row[end.end]
        return f'<td><span class="end">{end.faces(layer, concept)}<span class="id">{end.called(layer, concept)}</span></span></td>'  # noqa: E501

    def _classes(self) -> str:
        rows = []
        for row in self.shown.classes.iter_rows(named=True):
            accuracy = "".join(
                f'<td class="value">{"" if row[key] is None else f"{100 * row[key]:.1f}%"}</td>'
                for key in ("accuracy_a", "accuracy_b")
            )
            score = "".join(
                f'<td class="value">{"" if row[key] is None else f"{row[key]:.3f}"}</td>'
                for key in ("score_a", "score_b")
            )
            rows.append(
                f'<tr><th scope="row"><bdi>{_text(row["class"])}</bdi></th><td class="value">{row["images"]:,}</td>{accuracy}'
                f'<td class="value">{_q(row["accuracy_q"])}</td><td class="value">{100 * row["same_prediction"]:.1f}%</td>'
                f'{score}{_signed(row)}<td class="value">{_q(row["q"])}</td></tr>'
            )
        what = "probability" if self.shown.facts["task"] != "regression" else "value"
        head = "".join(
            f"<th>{name}</th>"
            for name in (
                "class",
                "images",
                "right, A",
                "right, B",
                "q",
                "said the same",
                f"{what}, A",
                f"{what}, B",
                "difference",
                "q",
            )  # fmt: skip
        )
        return (
            '<section><h2>What the models say</h2><div class="table"><table>'
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
        )


def _list(title: str, head: Sequence[str], rows: Sequence[str], total: int) -> str:
    columns = "".join(f"<th>{name}</th>" for name in head)
    more = f'<p class="note">The first {len(rows):,} of {total:,}.</p>' if total > len(rows) else ""
    return (
        f'<section><h2>{title}</h2><p class="note nothing"{" hidden" if rows else ""}>No difference is large enough to be '
        f'told from chance.</p><div class="table"><table class="changes"><thead><tr>{columns}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{more}</section>"
    )


def _row(key: str, name: str, layers: Sequence[str], cells: str) -> str:
    where = _attribute("\n".join(layers))
    return f'<tr data-row id="{key}" data-class="{_attribute(name)}" data-layer="{where}" tabindex="-1">{cells}</tr>'


def _scale(kept: pl.DataFrame) -> tuple[float, float]:
    """Return the smallest and largest number that the drawings of a list must hold."""
    if not len(kept):
        return 0.0, 1.0
    ends = [kept["mean_a"], kept["mean_b"], kept["mean_b"] - kept["se"], kept["mean_b"] + kept["se"]]
    low, high = min(0.0, *(float(end.min()) for end in ends)), max(0.0, *(float(end.max()) for end in ends))  # type: ignore[arg-type]
    return low, high if high > low else low + 1


def _effect(row: Mapping[str, Any], scale: tuple[float, float]) -> str:
    """Return the drawing of a change from A (open) to B (full), whose whisker is the standard error; and its numbers."""
    low, high = scale

    def x(value: float) -> str:
        return f"{EDGE + (WIDTH - 2 * EDGE) * (value - low) / (high - low):.1f}"

    a, b, se, y = row["mean_a"], row["mean_b"], row["se"] or 0.0, HEIGHT // 2
    way = "up" if b >= a else "down"
    drawing = (
        f'<svg class="effect" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{a:.3f} in A, {b:.3f} in B">'
        f'<line x1="{x(0)}" x2="{x(0)}" y1="0" y2="{HEIGHT}"/><line class="{way}" x1="{x(a)}" x2="{x(b)}" y1="{y}" y2="{y}"/>'
        f'<path class="whisker" d="M{x(b - se)} {y}H{x(b + se)}"/><circle class="{way}" cx="{x(b)}" cy="{y}" r="4.5"/>'
        f'<circle class="from" cx="{x(a)}" cy="{y}" r="4"/></svg>'
    )
    return f'<td>{drawing}</td>{_signed(row)}<td class="value">{_q(row["q"])}</td>'


def _signed(row: Mapping[str, Any]) -> str:
    if row["difference"] is None:
        return "<td></td>"
    sign = "plus" if row["difference"] >= 0 else "minus"
    error = "" if row["se"] is None else f' <span class="note">± {row["se"]:.3f}</span>'
    return f'<td class="value"><span class="{sign}">{row["difference"]:+.3f}</span>{error}</td>'


def _q(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}" if value >= 1e-4 else "< 0.0001"


def _nodes(frame: pl.DataFrame, facts: Mapping[str, Any]) -> pl.DataFrame:
    """Return the rows of a frame of concepts that are nodes of the graphs."""
    return frame.filter((pl.col("level") == "family") | ~pl.col("layer").is_in([*facts["families"]]))


def _kept(frame: pl.DataFrame) -> int:
    return int(frame["rank"].is_not_null().sum())


def _relative(path: Path, folder: Path) -> str:
    return quote(os.path.relpath(path.resolve(), folder.resolve()), safe="/" + UNESCAPED)


def _text(value: object) -> str:
    return html.escape(str(value), quote=False)


def _attribute(value: object) -> str:
    return html.escape(str(value))
