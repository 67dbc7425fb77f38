"""How each kernel's time grows with the size of its problem, one size at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from gigraph.method.bisecting import bisect
from gigraph.method.gig import Decomposition, attribute, class_score
from gigraph.method.lasso import calibrate, lasso
from gigraph.method.vectors import concept_vectors
from gigraph.model.network import Network

from .data import mixtures
from .measure import timed


def curves(traced: Network, full: bool) -> list[dict[str, Any]]:
    """Return rows of (kernel, size, value, seconds)."""
    rows: list[dict[str, Any]] = []

    def add(kernel: str, size: str, value: int, seconds: float) -> None:
        rows.append({"kernel": kernel, "size": size, "value": value, "seconds": seconds})

    scale = 4 if full else 1
    small = mixtures(200, 8)
    lasso(small, small[:20], 1.0, backend="numba")
    bisect(small, 10)  # both compiled
    for n in (2500, 5000, 10_000, 20_000 * scale):
        x = mixtures(n, 128)
        add("clustering", "N", n, timed(lambda x=x: bisect(x, 512), 1)[1])
    for channels in (32, 128, 512 * scale):
        x = mixtures(5000, channels)
        add("clustering", "C", channels, timed(lambda x=x: bisect(x, 512), 1)[1])
    x = mixtures(10_000 * scale, 64)
    for k in (64, 256, 1024, 4096 * scale):
        add("clustering", "K", k, timed(lambda k=k: bisect(x, k), 1)[1])
    for size, sizes in (("C", (64, 128, 256 * scale)), ("K", (256, 512, 1024, 2048 * scale))):
        for value in sizes:
            channels, k = (value, 1024) if size == "C" else (128, value)
            x = mixtures(max(4000, 2 * k), channels)
            x -= x.mean(axis=0)
            tree = bisect(x, k)
            v = concept_vectors(x, tree.labels, tree.k)
            x = x[:2000]
            lam = calibrate(x[:400], v, 8).lam
            add("lasso", size, value, timed(lambda x=x, v=v, lam=lam: lasso(x, v, lam), 1)[1])
            if size == "K" and value == 1024:
                for n in (500, 1000, 2000):
                    add("lasso", "N", n, timed(lambda x=x[:n], v=v, lam=lam: lasso(x, v, lam), 1)[1])
    layer = traced.layer("layer4.1")
    forward = traced.folded([layer]).pfv_segment(layer, None)
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(16, layer.channels, generator=generator)

    def attributed(images: int, targets: int) -> float:
        codes = [
            Decomposition(torch.arange(16), torch.randn(layer.positions, 16, generator=generator))
            for _ in range(images)
        ]
        to = torch.arange(targets).repeat(images, 1)
        start = torch.zeros(layer.channels)
        return timed(
            lambda: attribute(
                forward, class_score("logit"), vectors, start, codes, to,
                steps=4, max_steps=4, batch=8,
            ), 1,
        )[1]  # fmt: skip

    attributed(1, 1)  # warms up
    for images in (1, 2, 4 * scale):
        add("gig", "images", images, attributed(images, 4))
    for targets in (1, 2, 4, 8 * scale):
        add("gig", "targets", targets, attributed(1, targets))
    return rows


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the curves, doubly logarithmic, beside a dotted line of slope one."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = list(dict.fromkeys((row["kernel"], row["size"]) for row in rows))
    figure, axes = plt.subplots(2, (len(panels) + 1) // 2, figsize=(11, 5), layout="constrained")
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for (kernel, size), axis in zip(panels, axes.flat, strict=False):
        here = sorted((row["value"], row["seconds"]) for row in rows if (row["kernel"], row["size"]) == (kernel, size))
        value, seconds = np.array(here).T
        axis.loglog(value, seconds, "o-", color="#0b5fa5")
        axis.loglog(value, seconds[0] * value / value[0], ":", color="#888888", linewidth=1)
        axis.set_title(kernel, fontsize=10)
        axis.set_xlabel(size)
        axis.set_xticks(value, [f"{v:,.0f}" for v in value], fontsize=8)
        axis.set_yticks([seconds.min(), seconds.max()], [f"{1000 * v:.3g}" for v in (seconds.min(), seconds.max())])
        axis.minorticks_off()
        axis.grid(color="#e5e5e5")
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("milliseconds")
    figure.savefig(path)
