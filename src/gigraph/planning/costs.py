"""What a run costs before it is run: time, memory and disk of each stage, from sizes and measured throughputs.

The sizes of the problem are counted; only the throughputs are measured, on the machine at hand. Times are those of
one core (or of one GPU), so that a run on several takes a share of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gigraph.menagerie.alignment import SCENES

REFINED = 2.7
"""Path points over `steps`, as the menagerie's graph needed them (half of its pairs 1, a third 3, the rest 9 times)."""
TRIALS = 6
"""Solutions that a calibration of lambda takes."""
COMPILING = 13.0
"""Seconds that compiling the kernels took, the first time; later they are loaded."""
WITH_TORCH = frozenset({"sample", "coefficients", "attribution", "ablation", "exemplars", "alignment"})
"""Stages that load torch and the model."""
WITH_KERNELS = frozenset({"concepts", "calibration", "coefficients"})
"""Stages that load the compiled kernels."""
TILE = 4000
"""Bytes of a small picture."""


@dataclass(frozen=True)
class LayerSize:
    """One layer: C channels, P positions, K concepts, n non-zeros per PFV, PFVs drawn per image."""

    name: str
    channels: int
    positions: int
    concepts: int
    nonzeros: float
    pfvs_per_image: int


@dataclass(frozen=True)
class Throughput:
    """What was measured; seconds of one core, unless said otherwise.

    Attributes
    ----------
    start, light_start, kernels_start : float
        Of a job until its first line of work: with torch and the model, without, and what compiled kernels add.
    draw, decode, forward, sweep : float
        Per image: drawing it, reading it, running the network, a sampling sweep.
    segment : dict of (source, target) to float
        A forward pass of one path point; a backward pass takes as long.
    clustering : float
        Per row, channel and level of the split tree.
    product : float
        Per float32 multiplication and addition.
    lasso : float
        Time of a sample over that of its two unavoidable products with all concepts.
    activations : int
        Bytes that a sweep keeps per image.
    base : int
        Bytes of a job with torch and the model.
    """

    start: float
    light_start: float
    kernels_start: float
    draw: float
    decode: float
    forward: float
    sweep: float
    segment: dict[tuple[str, str], float]
    clustering: float
    product: float
    lasso: float
    activations: int
    base: int


@dataclass(frozen=True)
class Run:
    """The sizes of a configuration.

    Attributes
    ----------
    images, attributed, classes, shards : int
        Images in all, those attributed, classes, shards.
    image_bytes : float
        Of a drawn image; 0 where images are the user's.
    layers : list of LayerSize
    pairs : list of (str, str)
    methods, steps, max_steps, concept_targets, class_targets, kept, top_sources, nearest, localised : int
        As configured; `kept` are the concepts kept per class.
    batch, memory : int
        Images per batch, and bytes of the memory budget.
    """

    images: int
    attributed: int
    classes: int
    shards: int
    image_bytes: float
    layers: list[LayerSize]
    pairs: list[tuple[str, str]]
    methods: int
    steps: int
    max_steps: int
    concept_targets: int
    class_targets: int
    kept: int
    top_sources: int
    nearest: int
    localised: int
    batch: int
    memory: int


@dataclass(frozen=True)
class Stage:
    """A stage's jobs together; memory is that of its largest job."""

    name: str
    jobs: int
    seconds: float
    memory: float
    disk: float


def stages(run: Run, rate: Throughput) -> list[Stage]:
    """Return what each stage of a run takes, in the order of the workflow."""
    size = {layer.name: layer for layer in run.layers}
    rows = {layer.name: run.images * layer.pfvs_per_image for layer in run.layers}
    found: list[Stage] = []

    def add(name: str, jobs: int, seconds: float, memory: float, disk: float) -> None:
        if jobs:
            start = rate.start if name in WITH_TORCH else rate.light_start
            start += rate.kernels_start * (name in WITH_KERNELS)
            found.append(Stage(name, jobs, seconds + jobs * start, rate.base + memory, disk))

    def sample(layer: LayerSize) -> float:
        """Return the seconds that one PFV's coefficients take."""
        return 4 * layer.channels * layer.concepts * rate.product * rate.lasso

    def working(layer: LayerSize) -> float:
        """Return the bytes that the lasso takes besides its samples: concepts, their products, correlations."""
        products = 4 * layer.concepts**2
        return 4 * layer.concepts * layer.channels + (
            min(run.memory, products + 2048 * layer.concepts) if 2 * products <= run.memory else run.memory / 2
        )

    if run.image_bytes:
        add("draw", 1, run.images * rate.draw, 0, run.images * run.image_bytes)
    add("kernels", 1, COMPILING, 0, 0)
    add("manifest", run.shards, run.images * rate.decode, 0, 60 * run.images)
    add(
        "sample",
        run.shards,
        run.images * (rate.decode + rate.sweep),
        run.batch * rate.activations + sum(4 * rows[layer.name] * layer.channels for layer in run.layers) / run.shards,
        sum(rows[layer.name] * (4 * layer.channels + 24) for layer in run.layers),
    )
    for name, jobs in (("centre", len(size)), ("concepts", len(size) * run.methods)):
        clustered = [
            rows[layer.name] * layer.channels * math.log2(max(2, layer.concepts)) * rate.clustering
            for layer in run.layers
        ]
        add(
            name,
            jobs,
            sum(clustered) * run.methods if name == "concepts" else 0,
            max(4 * rows[layer.name] * layer.channels * (4 if name == "concepts" else 2) for layer in run.layers),
            run.methods * sum(4 * layer.concepts * layer.channels for layer in run.layers) if name == "concepts" else 0,
        )
    add(
        "calibration",
        len(size) * run.methods,
        run.methods * sum(TRIALS * 2000 * sample(layer) for layer in run.layers),
        max(working(layer) + 8 * rows[layer.name] * layer.channels for layer in run.layers),
        0,
    )
    codes = {layer.name: run.attributed * layer.positions for layer in run.layers}
    add(
        "coefficients",
        len(size) * run.shards * run.methods,
        run.methods
        * sum(codes[n] * sample(layer) + run.attributed * (rate.decode + rate.forward) for n, layer in size.items()),
        max(
            working(layer) + 12 * run.batch * layer.positions * layer.channels + run.batch * rate.activations / 4
            for layer in run.layers
        ),
        run.methods * sum(codes[n] * (5 * layer.nonzeros + 16) for n, layer in size.items()),
    )
    refined = min(REFINED, run.max_steps / run.steps)
    targets = {pair: run.class_targets if pair[1] not in size else run.concept_targets for pair in run.pairs}
    add(
        "attribution",
        len(run.pairs) * run.shards * run.methods,
        run.methods
        * sum(
            run.attributed
            * (rate.decode + rate.forward + run.steps * refined * (1 + targets[pair]) * rate.segment[pair])
            for pair in run.pairs
        ),
        run.memory + max(16 * codes[n] * layer.nonzeros / run.shards for n, layer in size.items()),
        run.methods * sum(run.attributed * targets[pair] * (8 * run.top_sources + 60) for pair in run.pairs),
    )
    add(
        "ablation",
        len(run.pairs) * run.methods,
        run.methods * sum(run.attributed * (1 + run.kept) * rate.segment[pair] for pair in run.pairs),
        run.memory / 4 + max(16 * codes[n] * layer.nonzeros for n, layer in size.items()),
        0,
    )
    shown = {n: min(layer.concepts, run.classes * run.kept) * run.nearest for n, layer in size.items()}
    placed = run.classes * run.kept * run.localised
    add(
        "exemplars",
        len(size) * run.methods,
        run.methods * sum(shown[n] * (2 * rate.decode + rate.sweep) + placed * rate.decode for n in size),
        run.batch * rate.activations + max(8 * rows[layer.name] * layer.channels for layer in run.layers),
        run.methods * sum((shown[n] + placed) * TILE for n in size),
    )
    if run.image_bytes:
        add("alignment", run.methods, run.methods * SCENES * (rate.draw + rate.forward), 0, 0)
    add("graph, figures, explorer", 5 * run.methods, 0, 0, run.methods * sum(shown[n] + placed for n in size) * TILE)
    return found
