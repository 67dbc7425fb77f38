"""The evaluation as one page of Markdown: a table a question, layers across, methods or orders down."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from gigraph.evaluation.compared import FEW, MEASURES, OF_CONCEPTS, leads, over_seeds, own_size, trained
from gigraph.evaluation.conclusions import conclusions, section
from gigraph.evaluation.orders import arranged, title
from gigraph.evaluation.sanity import NETWORK
from gigraph.evaluation.titles import RECONSTRUCTION, STABILITY, of_truth, short, shown, to_classes
from gigraph.evaluation.verdicts import (
    ALIKE,
    BETTER,
    MIXED,
    TELLS,
    WORSE,
    constant,
    marked,
    of_comparison,
    remarks,
    verdict,
)
from gigraph.evaluation.verdicts import FEW as TOO_FEW
from gigraph.reserved import CLASSES

ALL = "all layers"
"""Where a measure stands that has one number in each layer, and is judged over these."""


def judged(sane: pl.DataFrame, method: str, own: str, shortcut: Mapping[str, Any] | None) -> pl.DataFrame:
    """Return how well each measure tells the network from a shuffled one, to be shown.

    Parameters
    ----------
    sane : DataFrame
        The table ``sanity``.
    method : str
        The extractor whose concepts are looked at.
    own : str
        The graph's attribution method: measures by other orders are left out, but for its lead over them.
    shortcut : mapping or None
        The drawn world's.

    Returns
    -------
    DataFrame
        ``method``, ``topic``, ``metric``, ``row`` (the measure in words, with its reading or order), ``layer`` (or
        pair, or all of them), ``auc`` and ``n``.
    """
    mine = sane.filter(pl.col("method") == method, pl.col("topic") != NETWORK) if len(sane) else sane
    if not len(mine):
        return pl.DataFrame()
    mine = mine.filter(pl.col("order").is_in(["", own]) | pl.col("metric").str.contains("_gain_"))
    found = []
    for row in mine.iter_rows(named=True):
        of = row["reading"] or ("" if row["order"] in ("", own) else f"over {title(row['order'])}")
        name = short(row["topic"], row["metric"], own, shortcut)
        paired = row["target"] not in ("", CLASSES) or row["topic"] == "edges"
        place = f"{row['layer']} → {row['target']}" if paired else row["layer"]
        same = {key: row[key] for key in ("method", "topic", "metric", "auc", "n")}
        found.append({**same, "row": f"{name}, {of}" if of else name, "layer": place if row["layer"] else ALL})
    found.sort(key=lambda row: row["layer"] == ALL)
    words = dict.fromkeys(("method", "topic", "metric", "row", "layer"), pl.Utf8)
    return pl.DataFrame(found, schema={**words, "auc": pl.Float64, "n": pl.Int64})


def explained(sane: pl.DataFrame, method: str) -> str:
    """Return what the probabilities of `judged` mean, and what the verdicts are."""
    words = (
        "The probability that a measure rates a part, factor, concept or image of this network above one of the same "
        f"with its weights shuffled within each layer, by the concepts of {method}. A measure with one number in each "
        f"layer has one probability, of {ALL}: the share of them (or of pairs) in which it rates this network higher. "
        f"From {TELLS:.1f} it is “{BETTER}”; to {1 - TELLS:.1f} “{WORSE}”: it separates the two, but is no sign of "
        f"what is learned; between them “{ALIKE}”: it says nothing of that. Most layers decide; where there is no most "
        f"it “{MIXED}”. Of fewer than {TOO_FEW} values in all, or none in one of the networks, nothing is judged."
    )
    return f"{words} {constant(sane.iter_rows(named=True))}".strip()


def summary(topics: Mapping[str, pl.DataFrame], settings: Mapping[str, Any]) -> str:
    """Return the page.

    Parameters
    ----------
    topics : mapping of str to DataFrame
        The tables ``measures`` by topic, ``comparison`` and ``sanity``.
    settings : mapping
        ``layers``, ``pairs``, ``methods``, ``graphs``, the ``method`` of ``attribution``, and of a drawn world the
        ``shortcut``.
    """
    layers, methods, own = settings["layers"], settings["methods"], settings["attribution"]["method"]
    graphed = settings["graphs"][0]  # whose concepts the control has
    sane = topics.get("sanity", pl.DataFrame())
    told = judged(sane, graphed, own, settings.get("shortcut"))
    parts = [
        "# Evaluation",
        *section(conclusions(topics, told, graphed, own)),
        "Mean ± standard error over images. Reconstruction, curves and the drawn truth are of held-out images, on "
        "which no concept and no lambda was found (of all, with `evaluation.holdout: 0`); edges are the graph's, and "
        "stability is that of the concepts' own images.",
    ]
    parts += ["## Reconstruction"]
    for metric, words in RECONSTRUCTION.items():
        parts.append(_table(words, topics["reconstruction"], metric, "method", methods, layers))
    parts += ["## Concepts deleted and inserted by their relevance to the class"]
    there = topics["classes"]["metric"].to_list()
    for metric, words in to_classes(there).items():
        mine = topics["classes"].filter(pl.col("order").is_in([own, ""]))
        parts.append(_table(words, mine, metric, "method", methods, layers))
    at_x = f"{shown(there)}_at_x"
    ends = topics["classes"].filter(pl.col("metric") == at_x)
    words = f"{shown(there).capitalize()} of the class at X"
    parts.append(_table(words, ends, at_x, "method", methods[:1], layers))
    parts += ["## Between layers (insertion minus deletion, AUC of the projection score; Fig. 5)"]
    pairs = [(a, b) for a, b in settings["pairs"] if b != CLASSES]
    arrows = topics["interlayer"].with_columns(layer=pl.col("layer") + " → " + pl.col("target"))
    across = [f"{a} → {b}" for a, b in pairs]
    orders = arranged(topics["interlayer"]["order"].to_list(), own)
    for method in methods:
        mine = arrows.filter(pl.col("method") == method)
        parts.append(_table(f"{method}", mine, "difference_projection", "order", orders, across))
    first = arrows.filter(pl.col("method") == methods[0])
    for metric, words in (
        (f"{own}_gain_projection", f"{title(own)}'s lead over each order, paired by image"),
        (f"{own}_gain_largest_projection", "the same, maximised anew"),
    ):
        parts.append(_table(f"{methods[0]}: {words}", first, metric, "order", orders[1:], across))
    parts += ["## Stability (mean cosine of each concept's best match)"]
    for metric, words in STABILITY.items():
        parts.append(_table(words, topics["stability"], metric, "method", methods, layers))
    parts += [
        f"## Edges: {title(own)} against exact ablation",
        "The source is deleted from X~, what the concepts make of the layer; `at_x`: shown edges, deleted from X, the "
        "layer itself, of which X~ says little where little of the decision is kept.",
    ]
    checked = topics["edges"].with_columns(layer=pl.col("layer") + " → " + pl.col("target"))
    names = [
        f"{metric}_{which}"
        for metric in ("rank_correlation", "correlation", "same_sign")
        for which in ("shown", "at_x", "others", "all")
    ]
    names += [f"share_{part}" for part in ("concepts", "remainder", "error")]
    across = [f"{a} → {b}" for a, b in settings["pairs"]]
    for method in settings["graphs"]:
        mine = checked.filter(pl.col("method") == method)
        parts.append(_table(method, mine, None, "metric", names, across))
    factors = sorted(set(topics["sensitivity"]["metric"].to_list()))
    first = topics["sensitivity"].filter(pl.col("method") == methods[0])
    if len(first):  # where the layers have a lambda
        parts += ["## Sensitivity to lambda", _table(methods[0], first, None, "metric", factors, layers)]
    if "truth" in topics:
        parts += ["## The drawn world's truth"]
        mean = (
            topics["truth"]
            .group_by("method", "layer", "metric", maintain_order=True)
            .agg(
                pl.col("value").fill_nan(None).mean().fill_null(float("nan")),
                pl.col("se").first(),
                pl.len().alias("rows"),
            )
            .with_columns(se=pl.when(pl.col("rows") == 1).then(pl.col("se")).otherwise(float("nan")))
        )
        for metric, words in of_truth(settings["shortcut"]).items():
            parts.append(_table(words, mean, metric, "method", methods, layers))
        named = sorted(set(topics["truth"].filter(pl.col("metric") == "iou")["part"].to_list()))
        for method in methods[:1]:
            mine = topics["truth"].filter(pl.col("method") == method)
            parts.append(_table(f"{method}: average precision", mine, "average_precision", "part", named, layers))
            parts.append(_table(f"{method}: IoU of coefficient maps", mine, "iou", "part", named, layers))
    parts += _compared(topics, layers, methods)
    parts += _sanity(told, explained(sane, graphed))
    return "\n\n".join(part for part in parts if part) + "\n"


def _compared(topics: Mapping[str, pl.DataFrame], layers: Sequence[str], methods: Sequence[str]) -> Iterator[str]:
    """Yield the tables of the comparison."""
    if not len(topics.get("comparison", ())):
        return
    known = of_comparison(topics["sanity"].iter_rows(named=True))
    yield "## Extractors on equal terms"
    yield (
        "Concepts found anew on the PFVs of at most 1,000 images, as many as the run's rule gives of these; "
        "autoencoders are trained for an eighth of the run's steps, dictionaries for a third of its passes. Means over "
        "three seeds (the coders' over one), "
        "± the standard error over parts, concepts or images; a row is an extractor and its reading, or the coder of "
        f"its coefficients. “{ALIKE.capitalize()}”, “{WORSE}”, “{MIXED}”: so the measure rates its concepts of the "
        "same network with shuffled weights. Without a mark: it rates them higher here, or was not looked at or not "
        "judged on that network. " + remarks("comparison", [metric for _, metric, _ in known])
    )
    rows = trained(over_seeds(topics["comparison"].iter_rows(named=True)))
    for metric, (name, words) in MEASURES.items():
        mine = own_size([row for row in rows if row["metric"] in (metric, "rel_l2")])
        mine = [row for row in mine if row["metric"] == metric]
        few = {size: [row for row in rows if row["metric"] == metric and row["concepts"] == size] for size in FEW}
        paired = ", paired" * (metric not in OF_CONCEPTS)
        sets = [(f"{name}. {words}", mine), (f"{name}: lead over random PFVs{paired}", leads(mine))]
        for said, some in [*sets, *((f"{name}, of {size} concepts", some) for size, some in few.items())]:
            table = [{**row, "row": f"{row['method']}, {marked(known, row)}"} for row in some]
            names = list(dict.fromkeys(row["row"] for row in table))
            if table:
                columns = ("row", "layer", "value", "se")
                frame = pl.DataFrame([{name: row[name] for name in columns} for row in table])
                yield _table(said, frame, None, "row", names, layers)


def _sanity(told: pl.DataFrame, words: str) -> Iterator[str]:
    """Yield how well each measure tells the trained network from a shuffled one, a table a topic."""
    if not len(told):
        return
    yield "## Which measures can be trusted"
    yield words
    for (topic,), mine in told.partition_by("topic", as_dict=True, maintain_order=True).items():
        across = mine["layer"].unique(maintain_order=True).to_list()
        yield remarks(str(topic), mine["metric"])
        lines = [f"**{str(topic).capitalize()}**", "", f"| | verdict | {' | '.join(across)} |"]
        lines.append(f"|---|---|{'---|' * len(across)}")
        for (name,), of in mine.partition_by("row", as_dict=True, maintain_order=True).items():
            rows = of.to_dicts()
            numbers = {row["layer"]: "–" if row["auc"] is None else f"{row['auc']:.3f}" for row in rows}
            cells = [str(name), verdict(rows), *(numbers.get(layer, "") for layer in across)]
            lines.append(f"| {' | '.join(cells)} |")
        yield "\n".join(lines)


def _table(
    words: str, rows: pl.DataFrame, metric: str | None, down: str, names: Sequence[str], across: Sequence[str]
) -> str:
    """Return one Markdown table; rows and columns without a number are left out."""
    if metric is not None:
        rows = rows.filter(pl.col("metric") == metric)
    numbers = {(row[down], row["layer"]): (row["value"], row["se"]) for row in rows.iter_rows(named=True)}
    known = {place for place, (value, _) in numbers.items() if not math.isnan(value)}
    names = [name for name in names if any((name, column) in known for column in across)]
    across = [column for column in across if any((name, column) in numbers for name in names)]
    if not names:
        return ""
    counts = all(float(numbers[place][0]).is_integer() for place in known)

    def cell(place: tuple[str, str]) -> str:
        if place not in known:
            return "–" if place in numbers else ""
        value, se = numbers[place]
        text = f"{value:.0f}" if counts else f"{value:.3f}"
        return text if se is None or math.isnan(se) else f"{text} ± {se:.3f}"

    lines = [f"**{words}**", "", f"| | {' | '.join(across)} |", f"|---|{'---|' * len(across)}"]
    lines += [f"| {name} | {' | '.join(cell((name, column)) for column in across)} |" for name in names]
    return "\n".join(lines)
