"""The page of a difference of two runs: what differs, ranked, with the concepts' pictures and links into both sites."""

from __future__ import annotations

import html
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl

from gigraph.explorer.build import ASSETS, shortened
from gigraph.images.tiles import FACE, face_sheet
from gigraph.records import tables

PAGES = Path(__file__).parent / "pages"
SHOWN, FIRST = 300, 12
"""Rows of a list, at most and, where there are so many, at least; the tables beside the page hold all."""
TILE = 40
"""Side of a picture in pixels; the style knows it, too."""
WIDTH, HEIGHT, EDGE = 190, 26, 8
"""Of the drawing of an effect, in pixels, and what is left free at its sides."""
UNESCAPED = "!~*'():,"
"""What the explorer leaves as it is in its addresses, besides letters, digits and -_. ."""
NUMBER = "#"
"""Before the name of a column of numbers."""
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
    (folder / "app" / "app.css").write_text(shortened("text/css", style), encoding="utf-8")
    for name in ("difference.css", "difference.js"):
        shutil.copyfile(PAGES / name, folder / "app" / name)
    page = (PAGES / "difference.html").read_text(encoding="utf-8")
    ends = [_End(end, side, folder) for end, side in zip("ab", sides, strict=True)]
    parts = {"{runs}": "".join(end.title() for end in ends), "{main}": _Body(ends, shown).text()}
    for mark, text in parts.items():
        page = page.replace(mark, text)
    target = folder / "index.html"
    target.write_text(page, encoding="utf-8")
    return target


def tag(kind: str, *children: str, **attributes: object) -> str:
    """Return an element; children are HTML, attributes are escaped here, and those that are None or False left out.

    ``class_`` and ``data_end`` stand for ``class`` and ``data-end``.
    """
    said = "".join(
        f" {name.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{html.escape(str(value))}"')
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    return f"<{kind}{said}>{''.join(children)}</{kind}>"


def text(value: object) -> str:
    """Return a text as HTML."""
    return html.escape(str(value), quote=False)


def bdi(value: object) -> str:
    """Return a text of the user's, whose direction does not touch its neighbours."""
    return tag("bdi", text(value))


number = partial(tag, "td", class_="value")
note = partial(tag, "p", class_="note")
missing = partial(tag, "span", class_="missing")


class _End:
    """One run's links and pictures, as seen from the page's folder."""

    def __init__(self, end: str, side: Side, folder: Path):
        self.end, self.side, self.folder = end, side, folder
        self.letter = tag("span", end.upper(), class_="letter")
        self.site = None if side.site is None else _relative(side.site, folder)
        self._rows: dict[str, dict[int, tuple[str, int, int]]] = {}
        self._sheets: dict[tuple[str, str], str | None] = {}

    def title(self) -> str:
        """Return the run's name, which leads to its explorer."""
        name = self.letter + bdi(f"{self.side.folder} ({self.side.method})")
        return tag("a", name, href=self.site) if self.site else tag("span", name, class_="link")

    def link(self, name: str, layer: str, concept: int) -> str | None:
        """Return the address of a concept on a class's page in the run's explorer."""
        if self.site is None or name not in self.side.classes:
            return None
        odd = not name or name.startswith("~") or self.side.classes.count(name) > 1
        slug = f"~{self.side.classes.index(name)}" if odd else name
        return f"{self.site}#/class/{quote(slug, safe=UNESCAPED)}?sel={quote(layer, safe=UNESCAPED)}:{concept}"

    def concept(self, name: str, layer: str, concept: int | None, key: bool = False) -> str:
        """Return a concept's pictures and number, which lead to it on a class's page; by a key, too."""
        if concept is None:
            return missing("none")
        called = self.side.labels.get(f"{layer}:{concept}")
        number = tag("span", (bdi(called) + " " if called else "") + f"#{concept}", class_="id")
        inside, address = self.faces(layer, concept) + number, self.link(name, layer, concept)
        if address is None:
            return tag("span", inside, class_="end")
        return tag("a", inside, class_="end", href=address, data_end=self.end if key else None)

    def others(self, concepts: Sequence[int]) -> str:
        """Return what counts with a concept."""
        return tag("div", "with " + ", ".join(f"#{one}" for one in concepts), class_="id") if concepts else ""

    def faces(self, layer: str, concept: int) -> str:
        """Return the pictures of a concept, the same as its face in the explorer."""
        sheet, row, count = self._layer(layer).get(concept, ("", 0, 0))
        file = self._copied(layer, sheet) if sheet else None
        if file is None:
            return missing("no picture")
        where = f"background-image:url({file});background-position:0 -{row * TILE}px;width:{count * TILE}px"
        return tag("span", class_="strip-4", style=where)

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

    def __init__(self, ends: Sequence[_End], shown: Shown):
        self.ends, self.shown, self.facts = ends, shown, shown.facts
        self.both, self.only_a, self.only_b = (
            _nodes(frame, shown.facts) for frame in (shown.concepts, shown.only_a, shown.only_b)
        )
        self.counts = [len(frame.filter(pl.col("split_from").is_null())) for frame in (self.only_a, self.only_b)]
        seen = {*shown.relevances["class"], *shown.edges["class"]}
        self.classes = [name for name in shown.facts["classes"] if name in seen]

    def text(self) -> str:
        """Return all of it."""
        parts = [self._lede()]
        if not self.shown.equal:
            parts += [self._tools(), self._relevances(), self._edges(), self._only(), self._classes()]
        return "\n".join([*parts, self._matched(), self._footer()])

    def _lede(self) -> str:
        facts, compared = self.facts, self.facts["compared"]
        said = "Nothing differs" if self.shown.equal else "What differs"
        images = f"{facts['images']:,} images that both have" if facts["shared"] else "images of A, seen by both"
        told = (
            f"Concepts are matched by how they respond to {facts['looked_at']:,} of the {images}; "
            f"{compared['relevances']:,} relevances and {compared['edges']:,} edges are compared."
        )
        counts = {
            "relevances differ": _kept(self.shown.relevances), "edges differ": _kept(self.shown.edges),
            "concepts in both": len(self.both), "only in A": self.counts[0], "only in B": self.counts[1],
        }  # fmt: skip
        numbers = "".join(tag("div", tag("dt", name), tag("dd", f"{count:,}")) for name, count in counts.items())
        notes = "".join(note(bdi(one)) for one in self.shown.notes)
        numbers = tag("dl", numbers, class_="numbers")
        return tag("section", tag("h1", said), tag("p", told), numbers, notes, class_="lede")

    def _footer(self) -> str:
        told = (
            "What both runs have and what only one has is one list, by what each difference at least is: the end "
            f"nearest zero of its confidence interval at a false discovery rate of {100 * self.facts['fdr']:g}%. "
            f"{self._noise()} All numbers are in the tables beside this page."
        )
        return tag("footer", note(told))

    def _noise(self) -> str:
        counts = {end.upper(): len(runs) for end, runs in self.facts["noise"].items() if runs}
        if not counts:
            return (
                "Errors are over images: two trainings of one network differ by more, which --noise and --noise-b "
                "account for."
            )
        given = " and ".join(f"{count} further training{'s' * (count > 1)} of {end}" for end, count in counts.items())
        levels = self.facts["deviations"]
        said = [
            f"{levels[kind]:.3f} in {what}"
            for kind, what in (("both", "what both have"), ("only", "what only one has"))
            if kind in levels
        ]
        return (
            f"Noise is what differs between trainings alike, told by {given}: a standard deviation of "
            f"{' and '.join(said) or 'nothing'} of the relevances, with {self.facts['freedom']} degrees of freedom. "
            "The order and q are of what a difference is beyond that; with few trainings only the largest can be told "
            "from it."
        )

    def _tools(self) -> str:
        def choice(key: str, title: str, names: Iterable[str]) -> str:
            options = "".join(tag("option", text(name), value=name) for name in names)
            return tag("label", title, tag("select", tag("option", "all", value=""), options, id=key))

        own = choice("class", "Class", self.classes), choice("layer", "Layer", self.facts["layers"])
        return tag("div", *own, class_="tools")

    # ---- lists ----------------------------------------------------------------------------------------------

    def _relevances(self) -> str:
        unit = UNITS.get(self.facts["output"], "of the class's score")
        head = ["", "class", "layer", "in A", "in B", f"relevance, {unit}", "#difference", "#q"]
        kept, listed = _listed(self.shown.relevances)
        rows, scale = [], _scale(listed)
        for row in listed.iter_rows(named=True):
            name, layer = row["class"], row["layer"]
            ends = (
                tag("td", end.concept(name, layer, row[end.end], key=True), end.others(row[f"with_{end.end}"]))
                for end in self.ends
            )
            cells = tag("th", bdi(name), scope="row"), tag("td", text(layer)), *ends, _effect(row, scale)
            rows.append(_row(row["rank"], "r", name, [layer], cells))
        return _list("What decides the classes", head, rows, len(kept))

    def _edges(self) -> str:
        targets = [f"{what} in {end}" for what in ("source", "target") for end in ("A", "B")]
        head = ["", "class", *targets, "share of the target", "#difference", "#q"]
        kept, listed = _listed(self.shown.edges)
        rows, scale = [], _scale(listed)
        for row in listed.iter_rows(named=True):
            name, layers = row["class"], [row["source_layer"], row["target_layer"]]
            ends = (
                tag("td", end.concept(name, layer, row[f"{what}_{end.end}"], key=what == "source"),
                    end.others(row[f"source_with_{end.end}"]) if what == "source" else "",
                    tag("div", text(layer), class_="id"))
                for what, layer in zip(("source", "target"), layers, strict=True) for end in self.ends
            )  # fmt: skip
            cells = tag("th", bdi(name), scope="row"), *ends, _effect(row, scale)
            rows.append(_row(row["rank"], "e", name, layers, cells))
        return _list("What builds the concepts", head, rows, len(kept))

    def _only(self) -> str:
        columns = []
        for end, frame, count in zip(self.ends, (self.only_a, self.only_b), self.counts, strict=True):
            rows = sorted((self._most(end, row) for row in frame.iter_rows(named=True)), key=lambda row: -row["size"])
            whole = [self._lone(end, row) for row in rows if row["split_from"] is None]
            split = [self._lone(end, row) for row in rows if row["split_from"] is not None]
            title = tag("h2", end.letter, f"Only in {end.end.upper()}: {count}")
            more = ""
            if split:
                said = tag("summary", f"Split otherwise in {end.end.upper()}: {len(split)}")
                why = note(
                    "Like a concept of the other run that has a nearer partner: the two runs cut one thing in other "
                    "ways. They count with that partner."
                )
                more = tag("details", said, why, _lone_list(split))
            columns.append(tag("div", title, _lone_list(whole) or note("None."), more))
        return tag("section", tag("div", *columns, class_="sides"))

    def _most(self, end: _End, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a concept that one run has, with the class that it does most for, its relevance and error."""
        mean, mine = f"mean_{end.end}", self.shown.relevances.filter(pl.col("layer") == row["layer"])
        mine = mine.filter((pl.col(end.end) == row["concept"]) & (pl.col("kind") == "only"))
        best = mine.sort(pl.col(mean).abs(), descending=True).head(1).to_dicts()
        if not best:
            return {**row, "class": "", "mean": None, "size": 0.0}
        return {
            **row,
            "class": best[0]["class"],
            "mean": best[0][mean],
            "se": best[0]["se"],
            "size": abs(best[0][mean]),
        }

    def _lone(self, end: _End, row: Mapping[str, Any]) -> str:
        """Return a concept that one run has."""
        layer, concept, name = row["layer"], row["concept"], row["class"]
        said = "decides no class" if row["split_from"] is None else f"cut from #{row['split_from']}"
        if row["mean"] is not None:
            said = f"{bdi(name)} {_number(row['mean'])}" + (
                "" if row["se"] is None else f" \N{PLUS-MINUS SIGN} {row['se']:.3f}"
            )
        near = "" if row["best"] is None else f"; the nearest correlates by {row['best']:.2f}"
        inside = end.concept(name, layer, concept), tag("p", said), note(text(layer) + near)
        mark = {"data_class": name, "data_layer": layer, "id": f"{end.end}-{layer}-{concept}"}
        return tag("li", *inside, data_row=True, tabindex=-1, **mark)

    def _matched(self) -> str:
        parts = []
        for layer in self.facts["layers"]:
            rows = self.both.filter(pl.col("layer") == layer).sort("similarity", descending=True)
            if not len(rows):
                continue
            body = "".join(
                tag(
                    "tr",
                    *(tag("td", end.concept("", layer, row[end.end])) for end in self.ends),
                    *(number(text(row[key])) for key in ("members_a", "members_b")),
                    number(f"{row['similarity']:.2f}"),
                )
                for row in rows.head(SHOWN).iter_rows(named=True)
            )
            found, chance = (sorted(rows[name].to_list()) for name in ("similarity", "chance"))
            said = f"{text(layer)}: {len(rows)} in both, correlations {found[0]:.2f} to {found[-1]:.2f}"
            said += f", chance {chance[0]:.2f} to {chance[-1]:.2f}"
            table = _table(["in A", "in B", "#members in A", "#in B", "#correlation"], body)
            parts.append(tag("details", tag("summary", said), table))
        lists = "".join(parts) or note("No concept responds alike in both.")
        return tag("section", tag("h2", "Concepts in both"), lists)

    def _classes(self) -> str:
        rows = []
        for row in self.shown.classes.iter_rows(named=True):
            cells = [tag("th", bdi(row["class"]), scope="row"), number(f"{row['images']:,}")]
            cells += [number(_share(row[key])) for key in ("accuracy_a", "accuracy_b")]
            cells += [number(_q(row["accuracy_q"])), number(_share(row["same_prediction"]))]
            cells += [number("" if row[key] is None else f"{row[key]:.3f}") for key in ("score_a", "score_b")]
            rows.append(tag("tr", *cells, _signed(row), number(_q(row["q"]))))
        what = "value" if self.facts["task"] == "regression" else "probability"
        scores = f"#{what} in A", "#in B", "#difference", "#q"
        head = ["class", "#images", "#right in A", "#in B", "#q", "#said the same", *scores]
        return tag("section", tag("h2", "What the models say"), _table(head, "".join(rows)))


def _listed(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return what is kept, and the rows of a list: that, and if it is little the next by rank."""
    kept = frame.filter("kept")
    tested = frame.filter(pl.col("rank").is_not_null())
    return kept, tested.head(min(max(len(kept), FIRST), SHOWN))


def _list(title: str, head: Sequence[str], rows: Sequence[str], kept: int) -> str:
    none = tag("p", "No difference.", class_="note nothing", hidden=bool(rows))
    more = note(f"The first {len(rows):,} of {kept:,}.") if kept > len(rows) else ""
    doubtful = []
    if kept < len(rows):
        said = "Not told from chance" if kept else "None is told from chance; the first are"
        doubtful = [tag("tr", tag("td", said, colspan=len(head), class_="note"), class_="doubt"), *rows[kept:]]
    return tag("section", tag("h2", title), none, _table(head, "".join([*rows[:kept], *doubtful]), "changes"), more)


def _lone_list(items: Sequence[str]) -> str:
    return tag("ul", *items[:SHOWN], class_="lone") if items else ""


def _table(head: Sequence[str], body: str, kind: str | None = None) -> str:
    columns = "".join(
        tag("th", text(name.removeprefix(NUMBER)), class_="value" if name.startswith(NUMBER) else None) for name in head
    )
    inside = tag("thead", tag("tr", columns)), tag("tbody", body)
    return tag("div", tag("table", *inside, class_=kind), class_="table")


def _row(rank: int, kind: str, name: str, layers: Sequence[str], cells: Iterable[str]) -> str:
    mark = {"data_class": name, "data_layer": "\n".join(layers), "id": f"{kind}{rank}"}
    return tag("tr", tag("td", str(rank), class_="rank"), *cells, data_row=True, tabindex=-1, **mark)


def _scale(kept: pl.DataFrame) -> tuple[float, float]:
    """Return the smallest and largest number that the drawings of a list must hold; zero is among them."""
    se = kept["se"].fill_null(0)
    ends = pl.concat([kept["mean_a"], kept["mean_b"] - se, kept["mean_b"] + se]).to_list()
    low, high = min(ends, default=0.0), max(ends, default=0.0)
    return min(low, 0.0), max(high, 0.0) or 1.0


def _effect(row: Mapping[str, Any], scale: tuple[float, float]) -> str:
    """Return the cells of a change: drawn from A (open) to B (full) with its standard error, in numbers, and its q."""
    low, high = scale
    a, b, se, y = row["mean_a"], row["mean_b"], row["se"] or 0.0, HEIGHT // 2
    way = "up" if b >= a else "down"

    def x(value: float) -> str:
        return f"{EDGE + (WIDTH - 2 * EDGE) * (value - low) / (high - low):.1f}"

    drawing = tag(
        "svg",
        tag("line", x1=x(0), x2=x(0), y1=0, y2=HEIGHT),
        tag("line", class_=way, x1=x(a), x2=x(b), y1=y, y2=y),
        tag("path", class_="whisker", d=f"M{x(b - se)} {y}H{x(b + se)}"),
        tag("circle", class_=way, cx=x(b), cy=y, r=4.5),
        tag("circle", class_="from", cx=x(a), cy=y, r=4),
        class_="effect", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=f"{a:.3f} in A, {b:.3f} in B",
    )  # fmt: skip
    return tag("td", drawing) + _signed(row) + number(_q(row["q"]))


def _signed(row: Mapping[str, Any]) -> str:
    if not row["difference"]:
        return number("" if row["difference"] is None else "0")
    sign = tag("span", _number(row["difference"]), class_="plus" if row["difference"] >= 0 else "minus")
    return number(sign, "" if row["se"] is None else tag("span", f" ± {row['se']:.3f}", class_="note"))


def _number(value: float) -> str:
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}%"


def _q(value: float | None) -> str:
    return "" if value is None else "&lt; 0.0001" if value < 1e-4 else f"{value:.2g}"


def _nodes(frame: pl.DataFrame, facts: Mapping[str, Any]) -> pl.DataFrame:
    """Return the rows of a frame of concepts that are nodes of the graphs."""
    return frame.filter((pl.col("level") == "family") | ~pl.col("layer").is_in([*facts["families"]]))


def _kept(frame: pl.DataFrame) -> int:
    return int(frame["kept"].sum())


def _relative(path: Path, folder: Path) -> str:
    return quote(os.path.relpath(path.resolve(), folder.resolve()), safe="/" + UNESCAPED)
