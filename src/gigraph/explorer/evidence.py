"""The evidence: how far to trust the run, one chapter a question, each number a row of a table of the run.

The first exhibit of a chapter is its answer; the others are folded away. A table that no chapter knows is shown as it
is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gigraph.evaluation.compared import FEW, MEASURES, OF_CONCEPTS, leads, over_seeds, own_size, trained
from gigraph.evaluation.conclusions import conclusions, head, own_reconstruction
from gigraph.evaluation.orders import title as title_of
from gigraph.evaluation.summary import ALL, explained, judged
from gigraph.evaluation.titles import RECONSTRUCTION, STABILITY, between_layers, of_truth, shown, to_classes
from gigraph.evaluation.verdicts import UNJUDGED, Known, mark, marked, of_comparison, remarks, unseen, verdict
from gigraph.explorer.chunks import numbers, shares
from gigraph.explorer.graph import Graph
from gigraph.explorer.inputs import Inputs
from gigraph.records import tables
from gigraph.reserved import CLASSES

POINTS = 400
"""Edges drawn per panel."""
FAR = 3
"""Dots further out than so many times the 95th percentile are counted, not drawn."""
STEPS = 40
"""Points drawn per curve."""
DECISIVE = (
    "layer", "images", "logit", "agreement", "unseen_images", "unseen_logit", "unseen_agreement", "rel_l2", "nonzeros",
)  # fmt: skip
"""Columns that come first: how much a layer keeps of the decision."""
LAST = ("stationarity", "gap", "twins")
"""Columns that come last: whether the coefficients and the concepts are well made."""
ROWS = 500
"""Rows of a table that is shown as it is."""
TOPICS = {
    "comparison": "extractors on equal terms",
    "classes": "towards classes",
    "interlayer": "between layers",
    "sensitivity": "lambda",
    "truth": "the drawn truth",
}
"""What a topic is called, where not by its name."""

Exhibit = dict[str, Any]
Row = dict[str, Any]


def evidence(graph: Graph, inputs: Inputs) -> list[dict[str, Any]]:
    """Return the chapters of the evidence view.

    Parameters
    ----------
    graph : Graph
        The run's graph.
    inputs : Inputs
        With `evaluation`, `reconstruction`, `alignment` and `attributions`.

    Returns
    -------
    list of dict
        ``title``, ``note`` and ``parts``, or ``empty``, which says what to do. Each of the parts, an exhibit, has
        ``title``, ``note``, ``file`` and a ``kind``: ``lines`` (``series``, ``panels`` [title, [[series, [[x, value,
        se], ...]], ...]]), ``points`` (``panels`` alike) or ``table`` (``head``, ``rows``; a cell [value, se] is a
        number with its standard error).
    """
    topics = {topic: _read(path) for topic, path in inputs.evaluation.items()}
    curves, effects, compared, sane = (
        topics.pop(topic, pl.DataFrame()) for topic in ("curves", "effects", "comparison", "sanity")
    )
    of = {
        topic: topics.pop(topic, pl.DataFrame())
        for topic in ("reconstruction", "classes", "interlayer", "edges", "stability", "sensitivity", "truth")
    }
    there = of["classes"]["metric"].to_list() if len(of["classes"]) else []
    own, name = inputs.attribution, title_of(inputs.attribution)
    told = judged(sane, inputs.method, own, inputs.shortcut)
    sentences = [f"{head(one)}." for one in conclusions({**of, "comparison": compared}, told, inputs.method, own)]
    sentences = sentences or [own_reconstruction(_read(inputs.reconstruction))]
    chapters = [
        (
            "Do few concepts reconstruct a layer?",
            "From the sparse code back to the layer's vectors; what is missed stands in each error node.",
            [
                *_metrics("reconstruction", of["reconstruction"], RECONSTRUCTION, told),
                _plain("reconstruction of the attributed images", inputs.reconstruction, _COLUMNS),
            ],
        ),
        (
            "Do they carry the decision?",
            "Concepts are deleted or inserted in the order of their relevance to the class, on held-out images. "
            + _remarked(told, "classes"),
            [
                *_to_classes(curves, own),
                *_metrics("classes", _pick(of["classes"], order=(own, "")), to_classes(there), told),
            ],
        ),
        (
            f"Does {name} order them well between layers?",
            "The same towards a concept of the next layer, beside other orders and a random one.",
            [*_between(curves, inputs.method), *_orders(of["interlayer"], inputs.method, own, told)],
        ),
        (
            "Are edges causal?",
            f"Each dot is a shown edge of one class: across, its mean {name}; up, the drop of the target when the "
            "source is deleted. On the dotted line both agree; orange dots disagree in sign. "
            + _remarked(told, "edges"),
            [
                *_ablation(graph, name, inputs.method),
                *_edges(of["edges"], inputs.method, name, told),
                *_quadrature(inputs, name),
            ],
        ),
        (
            "Are concepts found again?",
            "Mean cosine of each concept's best match when all of them are found anew; 1 is the same direction.",
            _metrics("stability", of["stability"], STABILITY, told),
        ),
        (
            "Does lambda matter?",
            "The same numbers with the penalty at a quarter to four times its value.",
            _lambdas(of["sensitivity"], inputs.method, told),
        ),
        (
            "Are they true?",
            "The drawn world knows which part is where, and what the model does without it.",
            [
                *_truth(of["truth"], inputs.method, inputs.shortcut, told),
                *([_frame("effects", effects)] if len(effects) else []),
                *([_plain("alignment", inputs.alignment)] if inputs.alignment else []),
            ],
        ),
        (
            "Which extractor, reading and coder?",
            "Concepts found anew with three seeds on the PFVs of at most 1,000 images, autoencoders trained for an "
            "eighth of the run's steps and dictionaries for a third; means with their standard errors. Marked is what "
            "rates an extractor's concepts of a network with shuffled weights alike or better, or not the same way in "
            f"most layers. {_remarked(told, 'comparison')}",
            _compared(compared, sane, told),
        ),
        ("Which measures can be trusted?", explained(sane, inputs.method) if len(told) else "", [*_sanity(told)]),
        ("Further tables", "", [_frame(name, frame) for name, frame in topics.items()]),
    ]  # fmt: skip
    found = [{"title": title, "note": note, "parts": exhibits} for title, note, exhibits in chapters if exhibits]
    if not inputs.evaluation:
        empty = (
            "This run was not evaluated yet. Its curves and tables come here by the target evaluation: gigraph run "
            "evaluation, or in a clone uv run snakemake evaluation, with the configuration that the run had."
        )
        found.insert(0, {"title": "The evaluation", "note": "", "parts": [], "empty": empty})
    if note := "\n".join(filter(None, sentences)):
        found.insert(0, {"title": "What was found", "note": note, "parts": []})
    return found


def _read(path: Path) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(tables.read(path)))


def _pick(frame: pl.DataFrame, **wanted: Sequence[str]) -> pl.DataFrame:
    """Return the rows whose columns have one of the wanted values; a column that is missing decides nothing."""
    return frame.filter(*(pl.col(name).is_in(list(values)) for name, values in wanted.items() if name in frame.columns))


# ---- exhibits -----------------------------------------------------------------------------------------------


def _exhibit(title: str, file: str, kind: str, note: str = "", **data: Any) -> Exhibit:
    return {"title": title, "note": note, "file": file, "kind": kind, **data}


def _grid(title: str, topic: str, frame: pl.DataFrame, down: str, across: str, told: Sequence[Row] = ()) -> Exhibit:
    """Return a table of measures: rows by one column, columns by another; `told`: see `_of`."""
    columns = frame[across].unique(maintain_order=True).to_list()
    rows: dict[str, dict[str, Any]] = {}
    for name, column, value, se in zip(
        frame[down], frame[across], _round(frame["value"]), _round(frame["se"]), strict=True
    ):
        rows.setdefault(name, {})[column] = [value, se]
    known = {name: row for name, row in rows.items() if any(value is not None for value, _ in row.values())}
    cells = [[name, *(row.get(column) for column in columns)] for name, row in known.items()]
    title += mark(topic, told[0]["metric"], told) if told else ""
    return _exhibit(title, f"evaluation/{topic}.parquet", "table", _said(told), head=[down, *columns], rows=cells)


def _round(values: Any) -> list[float | None]:
    return [None if v is None else float(f"{v:.4g}") for v in numbers(values)]


def _metrics(topic: str, frame: pl.DataFrame, titles: Mapping[str, str], told: pl.DataFrame) -> list[Exhibit]:
    """Return one table for each metric: methods down, layers across."""
    found = [(metric, title, _pick(frame, metric=(metric,))) for metric, title in titles.items() if len(frame)]
    return [
        _grid(title, topic, rows, "method", "layer", _of(told, topic, metric))
        for metric, title, rows in found
        if len(rows)
    ]


def _of(told: pl.DataFrame, topic: str, metric: str, *, begins: bool = False) -> list[Row]:
    """Return what `judged` found of a topic's metric, or of all that begin so: a row a layer."""
    if not len(told):
        return []
    name = pl.col("metric")
    return told.filter(pl.col("topic") == topic, name.str.starts_with(metric) if begins else name == metric).to_dicts()


def _said(told: Sequence[Row]) -> str:
    """Say how well a measure tells this network from a shuffled one, by its probabilities in layers or pairs."""
    if not told:
        return ""
    method, known = told[0]["method"], [row["auc"] for row in told if row["auc"] is not None]
    if not known:
        return f"Not judged: of {method}, one of the networks has no such number."
    least, most = (f"{value:.2f}" for value in (min(known), max(known)))
    span = least if least == most else f"{least} to {most}"
    alone = all(row["layer"] == ALL for row in told)
    how = f"in a share of {span} of the layers or pairs" if alone else f"with a probability of {span}"
    each = ([row for row in told if row["row"] == name] for name in {row["row"] for row in told})
    few = ": too few numbers to judge" * all(verdict(rows) == UNJUDGED for rows in each)
    return f"Of {method}, it rates this network above the same with shuffled weights {how}{few}."


def _remarked(told: pl.DataFrame, topic: str) -> str:
    """Return what is to be known of the verdicts on a topic's measures."""
    return remarks(topic, told.filter(pl.col("topic") == topic)["metric"]) if len(told) else ""


def _frame(name: str, frame: pl.DataFrame, file: str = "", note: str = "") -> Exhibit:
    """Return any table as it is; that of the evaluation with this name unless a file is given."""
    frame = frame.select(pl.exclude(pl.List, pl.Array)).head(ROWS)
    columns = [_round(column) if column.dtype.is_float() else column.to_list() for column in frame.iter_columns()]
    rows = [list(row) for row in zip(*columns, strict=True)]
    file = file or f"evaluation/{name}.parquet"
    return _exhibit(name.capitalize(), file, "table", note, head=frame.columns, rows=rows)


_COLUMNS = (
    "logit and agreement: what the layer's concepts keep of the score and of the predictions, as on the overview, "
    "with standard errors (se); unseen: of the images that no concept was found on; probability: the mean of the "
    "predicted class, of the network, of what the concepts make of the layer, and of the layer's origin; rel_l2: "
    "relative l2 error of PFVs; l0_ratio: share of zero coefficients; gap and stationarity: how far coefficients "
    "are from the best ones; twins: concepts with another within a cosine of 0.9."
)
"""Of the table of a run's own reconstruction."""


def _plain(name: str, path: Path, note: str = "") -> Exhibit:
    """Return a table without the columns that hold nothing: the certificates of methods that are not in use."""
    frame = _read(path)
    empty = [one.name for one in frame if one.dtype.is_float() and len(one) and one.is_nan().all()]
    frame = frame.drop(empty)
    first, last = ([one for one in some if one in frame.columns] for some in (DECISIVE, LAST))
    frame = frame.select(*first, pl.exclude(*first, *last), *last)
    return _frame(name, frame, f"{path.parent.parent.name}/evaluation/{path.name}", note)


def _lines(title: str, frame: pl.DataFrame, panel: str, series: str) -> Exhibit:
    """Return curves: a panel for each value of one column, in it a line for each of another."""
    names = frame[series].unique(maintain_order=True).to_list()
    panels = []
    for (name,), mine in frame.partition_by(panel, as_dict=True, maintain_order=True).items():
        drawn = []
        for (which,), line in mine.partition_by(series, as_dict=True, maintain_order=True).items():
            line = line.sort("x")
            line = line[np.unique(np.linspace(0, len(line) - 1, STEPS).round().astype(int)).tolist()]
            points = zip(shares(line["x"]), _round(line["value"]), _round(line["se"]), strict=True)
            drawn.append([names.index(which), [list(point) for point in points if point[1] is not None]])
        panels.append([name, drawn])
    note = "Mean over held-out images, with its standard error. Across: the share of the image's concepts."
    words = [name.replace("_", " ") for name in names]
    return _exhibit(title, "evaluation/curves.parquet", "lines", note, series=words, panels=panels)


# ---- chapters -----------------------------------------------------------------------------------------------


def _arrows(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pair=pl.col("layer") + " → " + pl.col("target"))


def _to_classes(curves: pl.DataFrame, own: str) -> Iterator[Exhibit]:
    what = shown(curves["output"].unique() if "output" in curves.columns else [])
    wanted = _pick(curves, target=(CLASSES,), output=(what,), axis=("active",), order=(own,))
    for metric in ("insertion", "deletion"):
        mine = _pick(wanted, metric=(metric,))
        if len(mine):
            yield _lines(f"{metric.capitalize()}: the {what} of the class", mine, "layer", "method")


def _between(curves: pl.DataFrame, method: str) -> Iterator[Exhibit]:
    wanted = _pick(curves, method=(method,), output=("projection",), axis=("active",))
    for metric in ("insertion", "deletion"):
        mine = _pick(wanted, metric=(metric,))
        if len(mine):
            yield _lines(f"{metric.capitalize()}: the projection on the target", _arrows(mine), "pair", "order")


def _orders(frame: pl.DataFrame, method: str, own: str, told: pl.DataFrame) -> list[Exhibit]:
    titles = between_layers(own)
    mine = [(metric, title, _pick(frame, method=(method,), metric=(metric,))) for metric, title in titles.items()]
    return [
        _grid(title, "interlayer", _arrows(rows), "pair", "order", _of(told, "interlayer", metric))
        for metric, title, rows in mine
        if len(rows)
    ]


def _edges(frame: pl.DataFrame, method: str, name: str, told: pl.DataFrame) -> Iterator[Exhibit]:
    for metric, title in {
        "rank_correlation": "Rank correlation with exact ablation",
        "same_sign": "Share of edges with the sign of their ablation",
        "share": f"What |{name}| into a target is made of",
    }.items():
        mine = _pick(frame, method=(method,))
        if len(mine):
            named = _arrows(mine.filter(pl.col("metric").str.starts_with(metric)))
            named = named.with_columns(of=pl.col("metric").str.slice(len(metric) + 1))
            # Of the shares, that of the error node: the more it holds the less concepts do.
            by = "share_error" if metric == "share" else f"{metric}_"
            yield _grid(title, "edges", named, "pair", "of", _of(told, "edges", by, begins=True))


def _lambdas(frame: pl.DataFrame, method: str, told: pl.DataFrame) -> list[Exhibit]:
    titles = {
        "relevance_agreement": "Rank correlation of the relevances with those at lambda",
        "rel_l2": "Relative l2 error",
        "nonzeros": "Non-zero coefficients",
    }
    if not len(frame):
        return []
    split = frame.filter(pl.col("method") == method).with_columns(
        base=pl.col("metric").str.replace("_lambda_x_.*", ""),
        times=pl.lit("× ") + pl.col("metric").str.extract("_lambda_x_(.*)"),
    )
    found = [(base, title, _pick(split, base=(base,))) for base, title in titles.items()]
    return [
        _grid(title, "sensitivity", rows, "layer", "times", _of(told, "sensitivity", base, begins=True))
        for base, title, rows in found
        if len(rows)
    ]


def _truth(frame: pl.DataFrame, method: str, shortcut: Mapping[str, Any] | None, told: pl.DataFrame) -> list[Exhibit]:
    if shortcut is None or not len(frame):
        return []
    mean = frame.group_by("method", "layer", "metric", maintain_order=True).agg(
        pl.col("value").fill_nan(None).mean(),
        pl.when(pl.len() == 1).then(pl.col("se").first()).alias("se"),
    )
    named = _pick(frame, method=(method,), metric=("average_precision",))
    title = "Average precision of each part's best concept"
    per_part = [_grid(title, "truth", named, "part", "layer")] if len(named) else []
    return [*_metrics("truth", mean, of_truth(shortcut), told), *per_part]


def _compared(frame: pl.DataFrame, sane: pl.DataFrame, told: pl.DataFrame) -> list[Exhibit]:
    """Return tables of the comparison: extractors by reading or coder down, layers across."""
    if not len(frame):
        return []
    rows = trained(over_seeds(frame.iter_rows(named=True)))
    known = of_comparison(sane.iter_rows(named=True))
    found = []
    for metric, (title, meaning) in MEASURES.items():
        mine = [row for row in own_size(rows) if row["metric"] == metric]
        if not mine:
            continue
        words = f"{meaning} {_said(_of(told, 'comparison', metric))}".strip()
        if unseen(known, mine):
            words += " Readings and coders that were not run on the shuffled network are not judged."
        found.append(_by_layer(title, words, mine, known))
        if ahead := leads(mine):
            paired = ", paired" * (metric not in OF_CONCEPTS)
            found.append(_by_layer(f"{title}: lead over random PFVs{paired}", words, ahead, known))
        for few in FEW:
            if some := [row for row in rows if row["metric"] == metric and row["concepts"] == few]:
                found.append(_by_layer(f"{title}, of {few} concepts", words, some, known))
    return found


def _by_layer(title: str, words: str, rows: list[dict[str, Any]], known: Known) -> Exhibit:
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    cells: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        name = (row["method"], marked(known, row))
        cells.setdefault(name, {})[row["layer"]] = [*_round([row["value"], row["se"]])]
    table = [[*name, *(of.get(layer) for layer in layers)] for name, of in cells.items()]
    head = ["method", "reading", *layers]
    return _exhibit(title, "evaluation/comparison.parquet", "table", words, head=head, rows=table)


def _sanity(told: pl.DataFrame) -> Iterator[Exhibit]:
    """Show all measures' probabilities, a table a topic: measures down, layers or pairs across."""
    topics = told.partition_by("topic", as_dict=True, maintain_order=True) if len(told) else {}
    for (topic,), mine in topics.items():
        layers = mine["layer"].unique(maintain_order=True).to_list()
        rows = []
        for (name,), of in mine.partition_by("row", as_dict=True, maintain_order=True).items():
            known = dict(zip(of["layer"], of["auc"], strict=True))
            rows.append([name, verdict(of.to_dicts()), *_round([known.get(layer) for layer in layers])])
        title = f"Trained against shuffled weights: {TOPICS.get(topic, topic)}"
        words, head = remarks(topic, mine["metric"]), ["measure", "verdict", *layers]
        yield _exhibit(title, "evaluation/sanity.parquet", "table", words, head=head, rows=rows)


def _ablation(graph: Graph, name: str, method: str) -> list[Exhibit]:
    """Compare the shown edges with the exact ablation, pair by pair."""
    checked = graph.edges.filter(pl.col("shown") & pl.col("ablation").is_not_null() & pl.col("ablation").is_not_nan())
    panels, rows = [], []
    pairs = checked.partition_by("source_layer", "target_layer", as_dict=True, maintain_order=True)
    for (source, target), mine in pairs.items():
        gig, ablation = mine["mean"].to_numpy().astype(float), mine["ablation"].to_numpy().astype(float)
        agree = float(np.mean(np.sign(gig) == np.sign(ablation)))
        varied = len(mine) > 2 and gig.std() > 0 and ablation.std() > 0
        r = float(np.corrcoef(gig, ablation)[0, 1]) if varied else None
        title = f"{source} → {target}"
        rows.append([title, len(mine), *shares([agree]), None if r is None else round(r, 4)])
        # A single outlier would squeeze all others into one spot.
        near = np.all([np.abs(v) <= (FAR * np.quantile(np.abs(v), 0.95) or np.inf) for v in (gig, ablation)], axis=0)
        step = max(1, int(near.sum()) // POINTS)
        dots = [list(pair) for pair in zip(_round(gig[near][::step]), _round(ablation[near][::step]), strict=True)]
        panels.append([title if near.all() else f"{title} ({int((~near).sum())} further out)", [[0, dots]]])
    if not rows:
        return []
    file, title = f"{method}/graph/edges.parquet", f"{name} beside exact ablation"
    return [
        _exhibit(title, file, "points", panels=panels),
        _exhibit(f"{title}, summed up", file, "table", head=["pair", "edges", "same sign", "correlation"], rows=rows),
    ]


def _quadrature(inputs: Inputs, name: str) -> Iterator[Exhibit]:
    """Sum up the errors of the path integrals, and how far attributions miss S(X~) - S(baseline)."""
    rows = []
    for (source, target), paths in inputs.attributions.items():
        columns = ["quadrature_error", "completeness_error", "total_absolute", "steps"]
        shards = [tables.read(path, columns) for path in paths]
        error, missed, total, steps = (
            np.concatenate([shard[name].to_numpy() for shard in shards]).astype(float) for name in columns
        )
        if not len(error):
            continue
        row: list[Any] = [f"{source} → {target}", len(error)]
        for ratio in (error / np.maximum(total, 1e-30), np.abs(missed) / np.maximum(total, 1e-30)):
            known = ratio[np.isfinite(ratio)]
            found = (np.median(known), np.quantile(known, 0.9), known.max()) if len(known) else (None,) * 3
            row += [None if v is None else float(f"{v:.4g}") for v in found]
        rows.append([*row, float(f"{steps.mean():.4g}")])
    if rows:
        head = [
            "pair",
            "images × targets",
            "error: median",
            "90%",
            "largest",
            "sum's: median",
            "90%",
            "largest",
            "steps",
        ]
        note = (
            f"The integral's estimated error, summed over the sources, over the sum of |{name}|; and |sum of {name} − "
            "(S(X̃) − S(baseline))| over the same, in which errors of either sign cancel."
        )
        yield _exhibit("Errors of the integrals", f"{inputs.method}/attributions", "table", note, head=head, rows=rows)
