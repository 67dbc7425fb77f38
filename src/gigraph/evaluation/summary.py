"""The evaluation as one page of Markdown: a table a question, layers across, methods or orders down."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from gigraph.evaluation.compared import FEW, MEASURES, OF_CONCEPTS, leads, over_seeds, own_size, telling, tells, trained
from gigraph.evaluation.orders import arranged, title
from gigraph.evaluation.sanity import TELLS
from gigraph.reserved import CLASSES

RECONSTRUCTION = {
    "rel_l2": "Relative l2 error of held-out PFVs (Table 1; lower is better)",
    "l0_ratio": "l0 ratio, the share of zero coefficients (Table 1)",
    "nonzeros": "Non-zero coefficients per held-out PFV",
    "r2_1_terms": "R2 with the best single concept",
    "r2_8_terms": "R2 with 8 concepts (orthogonal matching pursuit)",
    "rel_l2_map": "Relative l2 error over all positions of held-out images",
    "unused_map": "Share of concepts that no position of the held-out images uses",
    "concepts": "Number of concepts",
}
PROBABILITY, VALUE = "probability", "value"
"""What the curves towards classes show: of a regression the value."""
_TO_CLASSES = {
    "c_deletion_probability_all": "C-Deletion, AUC of the probability over all concepts (Table 2; lower is better)",
    "c_insertion_probability_all": "C-Insertion, AUC of the probability over all concepts (Table 2; higher is better)",
    "c_difference_probability_all": "C-Insertion minus C-Deletion, over all concepts (Fig. 4)",
    "c_difference_probability_active": "C-Insertion minus C-Deletion, over the active concepts",
    "c_difference_accuracy_active": "C-Insertion minus C-Deletion of the accuracy, over the active concepts",
    "mu_fidelity": "C-muFidelity",
    "probability_at_concepts": "Probability of the class at X~",
}
ALL = "all layers"
"""Where a measure stands that has one number in each layer, and is judged over these."""
STABILITY = {
    "stability": "Other seeds",
    "stability_over_concepts": "Half and twice as many concepts",
    "stability_over_pfvs": "Half as many PFVs per image",
    "stability_chance": "As many PFVs at random",
}
_TRUTH = {
    "average_precision": "Average precision of each part's best concept (projections), mean over parts",
    "average_precision_coefficients": "The same of the coefficient maps",
    "average_precision_families": "The same of the families' maps",
    "iou": "IoU of the coefficient maps, mean over parts",
    "iou_families": "IoU of the families' maps, mean over parts",
    "purity": "Purity of the 10 nearest patches",
    "redraw_rank_correlation": "Rank correlation of relevance per part with redrawing without it",
    "{part}_rank": "Rank of the first {part} concept toward {class} (–: there is none)",
    "{part}_concepts": "Number of {part} concepts (average precision at least 0.5)",
    "{part}_concepts_share": "Share of the positive relevance toward {class} that {part} concepts hold",
    "profile_likeness_vs_shared_parts": "Likeness of two classes' relevances against shared parts (rank correlation)",
    "profile_likeness_vs_confusion": "The same against the model's confusion of the two classes",
}


def of_truth(shortcut: Mapping[str, Any]) -> dict[str, str]:
    """Return the metrics of a drawn world's truth with their titles, by the ``part`` and ``class`` of its shortcut."""
    return {key.format_map(shortcut): words.format_map(shortcut) for key, words in _TRUTH.items()}


def shown(names: Iterable[str]) -> str:
    """Return what curves towards classes show, by the names of their outputs or of the metrics."""
    return VALUE if any(VALUE in name.split("_") for name in names) else PROBABILITY


def to_classes(metrics: Iterable[str]) -> dict[str, str]:
    """Return the metrics of the curves towards classes with their titles, by those that there are."""
    what = shown(metrics)
    return {key.replace(PROBABILITY, what): _of(words, what) for key, words in _TO_CLASSES.items()}


def _of(words: str, what: str) -> str:
    return words.replace(PROBABILITY, what).replace(PROBABILITY.capitalize(), what.capitalize())


def between_layers(own: str) -> dict[str, str]:
    """Return the metrics of the curves between layers with their titles, by the graph's attribution method."""
    return {
        "difference_projection": "Insertion minus deletion, AUC of the projection score (Fig. 5)",
        f"{own}_gain_projection": f"{title(own)}'s lead over each order, paired by image",
        f"{own}_gain_largest_projection": "The same, the projection maximised anew",
    }


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
        ``topic``, ``metric``, ``row`` (the measure in words, with its reading or order), ``layer`` (or pair, or all of
        them) and ``auc``.
    """
    mine = sane.filter(pl.col("method") == method) if len(sane) else sane
    if not len(mine):
        return pl.DataFrame()
    mine = mine.filter(pl.col("order").is_in(["", own]) | pl.col("metric").str.contains("_gain_"))
    found = []
    for row in mine.iter_rows(named=True):
        words = _titles(row["topic"], mine["metric"].to_list(), own, shortcut).get(row["metric"], "")
        of = row["reading"] or ("" if row["order"] in ("", own) else f"over {title(row['order'])}")
        name = words.split(" (")[0] or row["metric"].replace("_", " ").capitalize()
        paired = row["target"] not in ("", CLASSES) or row["topic"] == "edges"
        place = f"{row['layer']} → {row['target']}" if paired else row["layer"]
        found.append({"topic": row["topic"], "metric": row["metric"], "row": f"{name}, {of}" if of else name,
                      "layer": place if row["layer"] else ALL, "auc": row["auc"]})  # fmt: skip
    found.sort(key=lambda row: row["layer"] == ALL)
    return pl.DataFrame(
        found, schema={**dict.fromkeys(("topic", "metric", "row", "layer"), pl.Utf8), "auc": pl.Float64}
    )


def _titles(topic: str, metrics: Sequence[str], own: str, shortcut: Mapping[str, Any] | None) -> Mapping[str, str]:
    """Return a topic's metrics with their titles; the others are their own words."""
    known: dict[str, Mapping[str, str]] = {
        "reconstruction": RECONSTRUCTION,
        "classes": to_classes(metrics),
        "interlayer": between_layers(own),
        "stability": STABILITY,
        "comparison": {metric: name for metric, (name, _) in MEASURES.items()},
        "truth": of_truth(shortcut) if shortcut else {},
    }
    return known.get(topic, {})


def summary(topics: Mapping[str, pl.DataFrame], settings: Mapping[str, Any]) -> str:
    """Return the page.

    Parameters
    ----------
    topics : mapping of str to DataFrame
        The tables ``measures`` by topic.
    settings : mapping
        ``layers``, ``pairs``, ``methods``, ``graphs``, the ``method`` of ``attribution``, and of a drawn world the
        ``shortcut``.
    """
    layers, methods, own = settings["layers"], settings["methods"], settings["attribution"]["method"]
    parts = [
        "# Evaluation",
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
    if "sanity" in topics:
        parts += _sanity(judged(topics["sanity"], methods[0], own, settings["shortcut"]), methods[0])
    return "\n\n".join(part for part in parts if part) + "\n"


def _compared(topics: Mapping[str, pl.DataFrame], layers: Sequence[str], methods: Sequence[str]) -> Iterator[str]:
    """Yield the tables of the comparison."""
    if not len(topics.get("comparison", ())):
        return
    yield "## Extractors on equal terms"
    yield (
        "Concepts found anew on the PFVs of at most 1,000 images, as many as the run's rule gives of these; "
        "autoencoders are trained for an eighth of the run's steps, dictionaries for a third of its passes. Means over "
        "three seeds (the coders' over one), "
        "± the standard error over parts, concepts or images; a row is an extractor and its reading, or the coder of "
        "its coefficients. *Tells nothing*: the measure rates its concepts of the same network with shuffled weights "
        "as high."
    )
    rows = trained(over_seeds(topics["comparison"].iter_rows(named=True)))
    known = telling(topics["sanity"].iter_rows(named=True))
    for metric, (name, words) in MEASURES.items():
        mine = own_size([row for row in rows if row["metric"] in (metric, "rel_l2")])
        mine = [row for row in mine if row["metric"] == metric]
        few = {size: [row for row in rows if row["metric"] == metric and row["concepts"] == size] for size in FEW}
        paired = ", paired" * (metric not in OF_CONCEPTS)
        sets = [(f"{name}. {words}", mine), (f"{name}: lead over random PFVs{paired}", leads(mine))]
        for said, some in [*sets, *((f"{name}, of {size} concepts", some) for size, some in few.items())]:
            table = [{**row, "row": _named(row, known)} for row in some]
            names = list(dict.fromkeys(row["row"] for row in table))
            if table:
                columns = ("row", "layer", "value", "se")
                frame = pl.DataFrame([{name: row[name] for name in columns} for row in table])
                yield _table(said, frame, None, "row", names, layers)


def _sanity(sane: pl.DataFrame, method: str) -> Iterator[str]:
    """Yield how well each measure tells the trained network from a shuffled one, a table a topic."""
    if not len(sane):
        return
    yield "## Which measures can be trusted"
    yield (
        "The probability that a measure rates a part, concept or image of this network above one of the same with its "
        f"weights shuffled within each layer (of {method}); below {TELLS} it does not tell them apart."
    )
    for (topic,), mine in sane.partition_by("topic", as_dict=True, maintain_order=True).items():
        rows = mine.rename({"auc": "value"}).with_columns(se=pl.lit(float("nan")))
        down, across = (mine[name].unique(maintain_order=True).to_list() for name in ("row", "layer"))
        yield _table(str(topic).capitalize(), rows, None, "row", down, across)


def _named(row: Mapping[str, Any], known: Mapping[tuple[str, str, str], bool]) -> str:
    return f"{row['method']}, {row['reading']}" + " (*tells nothing*)" * (not tells(known, row))


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
