"""Draw the evaluation: reconstruction, Figs. 4 and 5, edges, stability, lambda, and the drawn world's truth."""

from argparse import Namespace

import matplotlib.pyplot as plt
import numpy as np
import polars as pl

from gigraph.evaluation.orders import arranged, title
from gigraph.evaluation.plots import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    SKY,
    VERMILION,
    band,
    chosen,
    method_style,
    name_ticks,
    order_style,
    save,
    spaced,
)
from gigraph.evaluation.titles import PROBABILITY, shown
from gigraph.records.paths import Results
from gigraph.reserved import CLASSES
from gigraph.running.runtime import run

FACTORS = (0.25, 0.5, 1, 2, 4)


def main(args: Namespace) -> None:
    settings, results = args.settings, Results(args.root)
    read = lambda topic: pl.read_parquet(results("topic", topic=topic))  # noqa: E731
    curves, measured = read("curves"), read("reconstruction")
    per_concept = pl.read_parquet(results("stability_of_all"))
    pictures = {
        "reconstruction": reconstruction(measured, settings),
        "extraction": extraction(curves, read("classes"), settings),
        "interlayer": interlayer(curves, read("interlayer"), settings),
        "edges": edges(read("edges"), settings),
        "stability": stability(per_concept, read("stability"), settings),
        "sensitivity": sensitivity(read("sensitivity"), measured, settings),
    }
    if settings["shortcut"]:
        pictures["truth"] = truth(read("truth"), settings)
    for name, figure in pictures.items():
        save(figure, results("evaluation_figure", picture=name))


def by_layer(axis, rows, metric: str, settings, label: str, title: str = "") -> None:
    """Draw one number per layer and method, with its standard error."""
    layers, methods = settings["layers"], settings["methods"]
    rows = rows.filter(pl.col("metric") == metric)
    for index, method in enumerate(methods):
        mine = {row["layer"]: row for row in rows.filter(pl.col("method") == method).iter_rows(named=True)}
        value, se = (np.array([mine[n][key] if n in mine else np.nan for n in layers]) for key in ("value", "se"))
        style = method_style(method)
        axis.errorbar(
            spaced(len(layers), len(methods), index), value, np.nan_to_num(se.astype(float)), linewidth=1, capsize=2,
            linestyle="-", **style,
        )  # fmt: skip
    name_ticks(axis, layers, "layer")
    axis.set_ylabel(label)
    axis.set_title(title)


def below(figure, axis, columns: int = 4) -> None:
    """Put one legend below all axes."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(labels)))


def reconstruction(rows, settings):
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.9))
    by_layer(axes[0], rows, "rel_l2", settings, "relative l2 error (0: perfect)", "Error with the sparse code")
    by_layer(axes[1], rows, "nonzeros", settings, "non-zero coefficients per PFV", "Sparsity of that code")
    by_layer(axes[2], rows, "r2_8_terms", settings, "share of |x|² explained (1: all)", "With 8 concepts per PFV")
    axes[1].set_ylim(bottom=0)
    below(figure, axes[0])
    return figure


def extraction(curves, rows, settings):
    layers, methods, own = chosen(settings["layers"]), settings["methods"], settings["attribution"]["method"]
    what = shown(curves["output"].unique())
    curves = curves.filter(
        (pl.col("target") == CLASSES) & (pl.col("output") == what) & (pl.col("axis") == "active")
        & (pl.col("order") == own)
    )  # fmt: skip
    figure = plt.figure(figsize=(max(9, 2.5 * len(layers)), 8.6))
    above, under = figure.subfigures(2, 1, height_ratios=(1.6, 1))
    grid = above.subplots(2, len(layers), sharex=True, sharey=True, squeeze=False)
    for column, layer in enumerate(layers):
        for row, metric in enumerate(("deletion", "insertion")):
            axis = grid[row, column]
            for method in methods:
                one = curves.filter(
                    (pl.col("layer") == layer) & (pl.col("method") == method) & (pl.col("metric") == metric)
                ).sort("x")
                style = method_style(method)
                style |= {"marker": None, "linestyle": "--" if method in ("random", "channels", "gaussian") else "-"}
                band(axis, one["x"], one["value"], one["se"], **style)
            if what == PROBABILITY:
                axis.set_ylim(-0.03, 1.03)
            axis.set_title(layer if row == 0 else "")
            if row == 1:
                axis.set_xlabel("share of active concepts")
            if column == 0:
                axis.set_ylabel(f"{what}, {metric}")
    axes = under.subplots(1, 2)
    for axis, metric, words in (
        (axes[0], f"c_difference_{what}_active", "Insertion − deletion, over the active concepts"),
        (axes[1], f"c_difference_{what}_all", "Insertion − deletion, over all concepts"),
    ):
        mine = rows.filter(pl.col("order") == own)
        by_layer(axis, mine, metric, settings, "AUC difference (higher is better)", words)
    below(under, axes[0])
    return figure


def interlayer(curves, rows, settings):
    method = settings["methods"][0]
    pairs = [(a, b) for a, b in settings["pairs"] if b != CLASSES]
    shown = chosen(pairs)
    curves = curves.filter((pl.col("method") == method) & (pl.col("output") == "projection"))
    figure = plt.figure(figsize=(max(9, 2.7 * len(shown)), 8.6))
    if not pairs:
        figure.text(0.5, 0.5, "one layer only: there is no pair of layers", ha="center")
        return figure
    orders = arranged(rows["order"].to_list(), settings["attribution"]["method"])
    above, under = figure.subfigures(2, 1, height_ratios=(1.6, 1))
    grid = above.subplots(2, len(shown), sharex=True, squeeze=False)
    for column, (source, target) in enumerate(shown):
        for row, metric in enumerate(("deletion", "insertion")):
            axis = grid[row, column]
            here = curves.filter(
                (pl.col("layer") == source) & (pl.col("target") == target) & (pl.col("metric") == metric)
            ).sort("x")
            for order in orders:
                one = here.filter(pl.col("order") == order)
                band(axis, one["x"], one["value"], one["se"], **order_style(order))
            axis.axhline(0 if metric == "deletion" else 1, color="0.75", linewidth=0.8, zorder=0)
            axis.set_title(f"{source} → {target}" if row == 0 else "")
            if row == 1:
                axis.set_xlabel("share of active concepts")
            if column == 0:
                axis.set_ylabel(f"projection score, {metric}")
    names = [f"{a}\n→ {b}" for a, b in pairs]
    axes = under.subplots(1, 2)
    for axis, output, words in (
        (axes[0], "projection", "Followed at the PFV of the largest projection"),
        (axes[1], "largest_projection", "Maximised anew"),
    ):
        for index, order in enumerate(orders):
            mine = rows.filter(
                (pl.col("method") == method) & (pl.col("order") == order) & (pl.col("metric") == f"difference_{output}")
            )
            found = {(row["layer"], row["target"]): row for row in mine.iter_rows(named=True)}
            value, se = (np.array([found[pair][key] for pair in pairs]) for key in ("value", "se"))
            axis.errorbar(
                spaced(len(pairs), len(orders), index), value, np.nan_to_num(se.astype(float)),
                marker="o", capsize=2, linewidth=1.2, **order_style(order),
            )  # fmt: skip
        axis.axhline(0, color="0.75", linewidth=0.8, zorder=0)
        name_ticks(axis, names, "layer pair")
        axis.set_ylabel("insertion − deletion, AUC")
        axis.set_title(words)
    below(under, axes[0])
    return figure


def edges(rows, settings):
    pairs, method, own = settings["pairs"], settings["graphs"][0], title(settings["attribution"]["method"])
    rows = rows.filter(pl.col("method") == method)
    found = {(row["layer"], row["target"], row["metric"]): row["value"] for row in rows.iter_rows(named=True)}
    names = [f"{a} → {b}" for a, b in pairs]
    y = np.arange(len(pairs))
    figure, axes = plt.subplots(1, 2, figsize=(11, 0.42 * len(pairs) + 2), sharey=True)
    for which, colour, mark in (("shown", BLUE, "o"), ("others", ORANGE, "^"), ("all", GREY, "s")):
        values = [found.get((a, b, f"rank_correlation_{which}"), np.nan) for a, b in pairs]
        label = {"shown": "shown edges", "others": "random other edges", "all": "both"}[which]
        axes[0].plot(values, y, mark, color=colour, label=label)
    axes[0].set_yticks(y, names)
    axes[0].invert_yaxis()
    axes[0].set_xlim(min(0, axes[0].get_xlim()[0]), 1.02)
    axes[0].set_xlabel(f"rank correlation of {own} with exact ablation (1: same order)")
    axes[0].grid(axis="y", color="0.9")
    left = np.zeros(len(pairs))
    for part, colour, hatch in (("concepts", SKY, ""), ("remainder", GREEN, "//"), ("error", VERMILION, "..")):
        values = np.array([found.get((a, b, f"share_{part}"), 0) for a, b in pairs])
        label = {"concepts": "kept concepts", "remainder": "remainder", "error": "error node"}[part]
        axes[1].barh(y, values, 0.65, left=left, color=colour, hatch=hatch, edgecolor="white", label=label)
        left += values
    axes[1].set_xlim(0, 1)
    axes[1].set_xlabel(f"share of Σ|{own}| and |error node|, mean over images and targets")
    for axis in axes:
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return figure


def stability(concepts, rows, settings):
    layers = settings["layers"]
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.8))
    series = (
        ("stability", "other seeds", BLUE), ("over_concepts", "half, twice as many concepts", SKY),
        ("over_pfvs", "half as many PFVs per image", ORANGE), ("chance", "as many PFVs at random", GREEN),
    )  # fmt: skip
    for index, (column, label, colour) in enumerate(series):
        data = [concepts.filter(pl.col("layer") == n)[column].drop_nans().drop_nulls().to_numpy() for n in layers]
        place = np.arange(len(layers)) + (index - 1.5) * 0.19
        boxes = axes[0].boxplot(
            data, positions=place, widths=0.15, whis=(5, 95), showfliers=False, patch_artist=True, manage_ticks=False
        )
        for box in boxes["boxes"]:
            box.set(facecolor=colour, edgecolor="0.2", alpha=0.85)
        for median in boxes["medians"]:
            median.set(color="black")
        axes[0].plot([], [], "s", color=colour, label=label)
    name_ticks(axes[0], layers, "layer")
    axes[0].set_ylabel("cosine of the best match (1: found again)")
    axes[0].set_title(f"Each concept, {settings['graphs'][0]}")
    axes[0].legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), fontsize=9, ncols=2)
    by_layer(axes[1], rows, "stability", settings, "mean cosine of the best match", "All methods, other seeds")
    axes[1].legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), fontsize=9, ncols=3)
    return figure


def sensitivity(rows, base, settings):
    method, layers = settings["methods"][0], settings["layers"]
    found = {
        (row["layer"], row["metric"]): row
        for row in pl.concat([rows, base]).filter(pl.col("method") == method).iter_rows(named=True)
    }
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.9))
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.85, len(layers)))
    marks = "os^vDPX*"
    for axis, metric, label in (
        (axes[0], "rel_l2", "relative l2 error"), (axes[1], "nonzeros", "non-zero coefficients per PFV"),
        (axes[2], "relevance_agreement", "rank correlation of the relevances\nwith those under the layer's λ"),
    ):  # fmt: skip
        for index, layer in enumerate(layers):
            keys = [metric if factor == 1 else f"{metric}_lambda_x_{factor:g}" for factor in FACTORS]
            values = [found[layer, key]["value"] if (layer, key) in found else np.nan for key in keys]
            if metric == "relevance_agreement":
                values[FACTORS.index(1)] = 1.0
            axis.plot(FACTORS, values, marker=marks[index % len(marks)], color=colours[index], label=layer)
        axis.set_xscale("log", base=2)
        axis.set_xticks(FACTORS, [f"{factor:g}" for factor in FACTORS])
        axis.set_xlabel("λ over the layer's own")
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
    below(figure, axes[0], 8)
    return figure


def truth(rows, settings):
    mean = rows.group_by("method", "layer", "metric", maintain_order=True).agg(
        pl.col("value").fill_nan(None).mean().fill_null(float("nan")),
        pl.when(pl.len() == 1).then(pl.col("se").first()).otherwise(float("nan")).alias("se"),
    )
    part, planted = settings["shortcut"]["part"], settings["shortcut"]["class"]
    figure, axes = plt.subplots(2, 3, figsize=(13, 7.6))
    for axis, metric, label in zip(
        axes.flat,
        ("average_precision", "iou", "purity", "redraw_rank_correlation", f"{part}_rank",
         f"{part}_concepts_share"),
        (
            "average precision of a part's best concept", "IoU of a part's best concept",
            "purity of the 10 nearest patches", "rank correlation with redrawing",
            f"rank of the first {part} concept for {planted}\n(1: best; no mark: there is none)",
            f"share of {planted}'s relevance in {part} concepts",
        ),
        strict=True,
    ):  # fmt: skip
        by_layer(axis, mean, metric, settings, label)
        if metric == f"{part}_rank":
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter("{x:.0f}")
            axis.yaxis.set_minor_formatter("{x:.0f}")
            axis.invert_yaxis()
    below(figure, axes[0, 0])
    return figure


if __name__ == "__main__":
    run(main, "root")
