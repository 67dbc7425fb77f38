"""What all figures share: their style, one colour and mark a method, and how they are saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("svg")
import matplotlib.pyplot as plt

from gigraph.evaluation.orders import title
from gigraph.records.files import replacing

# Okabe and Ito's colours, told apart without colour vision; marks and dashes say the same a second time.
BLUE, SKY, GREEN, ORANGE = "#0072B2", "#56B4E9", "#009E73", "#E69F00"
VERMILION, PURPLE, YELLOW, GREY, BLACK = "#D55E00", "#CC79A7", "#F0E442", "#767676", "#000000"
METHODS = {
    "bisecting": (BLUE, "o"), "polished": (BLACK, "*"), "kmeans": (SKY, "s"), "dictionary": (ORANGE, "^"),
    "sae": (VERMILION, "v"), "random": (GREEN, "D"), "channels": (GREY, "P"), "gaussian": (PURPLE, "X"),
}  # fmt: skip
ORDERS = {
    "gig": (BLUE, "-"), "ablation": (ORANGE, "--"), "gradient_x_input": (VERMILION, "-."), "random": (GREEN, ":"),
}  # fmt: skip
NAMES = {
    "bisecting": "bisecting (the paper's)", "polished": "bisecting, polished", "kmeans": "spherical k-means",
    "dictionary": "dictionary learning", "sae": "sparse autoencoder", "random": "random PFVs", "channels": "channels",
    "gaussian": "random vectors",
}  # fmt: skip
MOST = 6
"""Most layers or pairs whose curves are drawn side by side."""

mpl.rcParams |= {
    "font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "gigraph",
    "figure.constrained_layout.use": True, "axes.titlesize": 10, "axes.titleweight": "bold",
    "legend.frameon": False, "lines.linewidth": 1.6, "lines.markersize": 5,
}  # fmt: skip


def method_style(method: str) -> dict[str, Any]:
    """Return colour, mark and label of a method."""
    colour, mark = METHODS.get(method, (YELLOW, "h"))
    return {"color": colour, "marker": mark, "label": NAMES.get(method, method)}


def order_style(order: str) -> dict[str, Any]:
    """Return colour, dashes and label of an order of the concepts."""
    colour, line = ORDERS.get(order, (PURPLE, (0, (5, 1, 1, 1, 1, 1))))
    return {"color": colour, "linestyle": line, "label": title(order)}


def band(axis: Any, x: Any, y: Any, se: Any, **style: Any) -> None:
    """Draw a curve with its standard error as a band."""
    y, se = np.asarray(y, float), np.nan_to_num(np.asarray(se, float))
    axis.plot(x, y, **style)
    axis.fill_between(x, y - se, y + se, color=style.get("color"), alpha=0.18, linewidth=0)


def spaced(count: int, places: int, index: int) -> np.ndarray:
    """Return x positions 0 .. count - 1, moved aside for the index-th of several series."""
    return np.arange(count) + (index - (places - 1) / 2) * min(0.08, 0.6 / max(1, places))


def chosen(names: Sequence[Any], most: int = MOST) -> list[Any]:
    """Return at most `most` of the names, evenly spaced, first and last among them."""
    if len(names) <= most:
        return list(names)
    return [names[i] for i in np.unique(np.round(np.linspace(0, len(names) - 1, most)).astype(int))]


def name_ticks(axis: Any, names: Sequence[str], axis_label: str) -> None:
    """Name the positions of the x axis, slanted where they would not fit."""
    slanted = sum(max(map(len, name.split("\n"))) for name in names) > 48
    axis.set_xticks(range(len(names)), names, rotation=35 if slanted else 0, ha="right" if slanted else "center")
    axis.set_xlabel(axis_label)


def save(figure: Any, path: Path) -> None:
    """Write a figure as SVG, the same bytes for the same numbers."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})
    plt.close(figure)
