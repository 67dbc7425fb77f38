"""Draw the figures of the report: reconstruction, integrals, and edges beside exact ablation."""

from argparse import Namespace
from functools import partial

import matplotlib.pyplot as plt
import numpy as np

from gigraph.evaluation.orders import title
from gigraph.evaluation.plots import BLUE, GREEN, VERMILION, save
from gigraph.records import tables
from gigraph.records.paths import Results
from gigraph.reserved import CLASSES
from gigraph.running.runtime import run


def main(args: Namespace) -> None:
    files = partial(Results(args.root), method=args.method)
    figures = {
        "reconstruction": _reconstruction(tables.read(files("reconstruction")).to_pylist()),
        "quadrature": _quadrature(files, args.settings),
        "ablation": _ablation(files("edges"), args.settings),
    }
    for name, figure in figures.items():
        save(figure, files("figure", figure=name))


def _reconstruction(rows):
    layers = [row["layer"] for row in rows]
    figure, axes = plt.subplots(1, 2, figsize=(8, 3))
    for axis, key, label, colour in (
        (axes[0], "rel_l2", "relative l2 error (mean)", VERMILION),
        (axes[1], "nonzeros", "non-zero coefficients per PFV (mean)", BLUE),
    ):
        bars = axis.bar(layers, [row[key] for row in rows], color=colour, width=0.6)
        axis.bar_label(bars, fmt="%.3g", padding=2)
        axis.set_ylabel(label)
        axis.set_xlabel("layer")
        axis.tick_params(axis="x", rotation=30 if len(layers) > 6 else 0)
    return figure


def _quadrature(files, settings):
    figure, axis = plt.subplots(figsize=(8, 0.5 * len(settings["pairs"]) + 1.4))
    names, errors = [], []
    for source, target in settings["pairs"]:
        shards = range(settings["shards"])
        paths = [files("attributions", source=source, target=target, shard=shard) for shard in shards]
        table = tables.read(paths, ["quadrature_error", "completeness_error", "total_absolute"])
        scale = np.maximum(tables.numpy(table, "total_absolute"), 1e-30)
        names.append(f"{source} → {target}")
        known = "completeness_error" if table["quadrature_error"].null_count else "quadrature_error"
        errors.append(np.maximum(np.abs(tables.numpy(table, known)) / scale, 1e-9))
    parts = axis.boxplot(
        errors, orientation="horizontal", whis=(1, 99), showfliers=False, patch_artist=True, tick_labels=names
    )
    for box in parts["boxes"]:
        box.set(facecolor="#BFDDEE", edgecolor=BLUE)
    for median in parts["medians"]:
        median.set(color=VERMILION, linewidth=2)
    axis.set_xscale("log")
    axis.invert_yaxis()
    own = title(settings["attribution"]["method"])
    axis.set_xlabel(f"estimated error / Σ|{own}|, per image and target (box: quartiles, whiskers: 1 to 99 %)")
    return figure


def _ablation(path, settings):
    pairs = settings["pairs"]
    # A pair at a time: all edges together are tens of millions, those that are shown some thousand.
    shown = {}
    for ends, edges in tables.read_groups(path, ("source_layer", "target_layer")):
        where = tables.numpy(edges, "shown") & np.isfinite(tables.numpy(edges, "ablation"))
        shown[ends] = [tables.numpy(edges, name)[where] for name in ("ablation", "mean")]
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3 * columns, 2.8 * rows), squeeze=False)
    for axis in axes.flat[len(pairs) :]:
        axis.set_visible(False)
    for axis, (a, b) in zip(axes.flat, pairs, strict=False):
        x, y = shown.get((a, b), [np.empty(0)] * 2)
        axis.scatter(x, y, s=10, color=GREEN if b == CLASSES else BLUE, alpha=0.6, linewidths=0)
        if len(x):
            ends = [min(x.min(), y.min()), max(x.max(), y.max())]
            axis.plot(ends, ends, color="0.5", linewidth=1, zorder=0)
        correlation = np.corrcoef(x, y)[0, 1] if len(x) > 2 else float("nan")
        axis.set_title(f"{a} → {b}  (r = {correlation:.2f})")
        axis.set_xlabel("exact ablation")
        axis.set_ylabel(title(settings["attribution"]["method"]))
    return figure


if __name__ == "__main__":
    run(main, "root", "method")
