"""In what a run's costs are counted: its sizes, the machine's throughputs, and what is known about the work.

The sizes of the problem are counted; only the throughputs are measured, on the machine at hand. Times are those of
one core (or of one GPU), so that a run on several takes a share of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gigraph.reserved import CLASSES

REFINED = 3.4
"""Path points over `steps`, as the menagerie's graph needed them (1.6 to 6.9 times, by the pair)."""
REFINING = 0.001
"""Seconds that the integral of a target of an image took besides its passes."""
TRIALS = 6
"""Solutions that a calibration of lambda takes."""
LOADING = 0.4
"""Seconds that it takes to load a kernel. `gigraph plan` has compiled them by then, to time them."""
CALIBRATED = 2000
"""PFVs that a calibration looks at."""
TRIED = 48
"""Images on which numbers of non-zeros are tried (`workflow/scripts/trials.py`)."""
CIRCUIT = 0.0003
"""Seconds that an image took in a layer of a circuit besides its passes and codes."""
EDGE, SHOWN = 1.1e-6, 5e-6
"""Seconds that an edge of the graph took to be assembled, and the explorer to be read, sorted and written."""
GRAPHED = 0.007
"""Seconds that the explorer took for an image that has a graph."""
DRAWN = 1.0
"""Seconds that the report's figures took."""
TILE = 4000
"""Bytes of a small picture."""
CUT = 0.0025
"""Seconds that cutting one took, and its sheets."""
FAMILIES = 1 / 3
"""Families over concepts, where some are merged: a tenth to a third in the menagerie, more in an ImageNet network."""
REST = 2
"""Sources that every target has besides concepts: the error node and the remainder."""
FACES = 4
"""Tiles of a family's member."""


@dataclass(frozen=True)
class LayerSize:
    """One layer: C channels, P positions, K concepts, n non-zeros per PFV, PFVs drawn per image.

    Attributes
    ----------
    coding : str
        The method of its coefficients.
    tried : tuple of int
        Numbers of non-zeros that are tried.
    merged : bool
        Whether near-parallel concepts are merged into families.
    """

    name: str
    channels: int
    positions: int
    concepts: int
    nonzeros: float
    pfvs_per_image: int
    coding: str = "lasso"
    tried: tuple[int, ...] = ()
    merged: bool = False

    @property
    def nodes(self) -> float:
        """The graph's nodes, families where some are merged."""
        return self.concepts * (FAMILIES if self.merged else 1)


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
    reached, field : dict of str to float
        By the layer: a forward pass that relevance can go back from, per image, and a PFV's receptive field.
    clustering : float
        Per row, channel and level of the split tree.
    product : float
        Per float32 multiplication and addition.
    lasso, pursuit : float
        Time of a sample over that of its two unavoidable products with all concepts, and over that of one and of n
        steps of n products with all concepts.
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
    reached: dict[str, float]
    field: dict[str, float]
    clustering: float
    product: float
    lasso: float
    activations: int
    base: int
    pursuit: float = 1

    def code(self, layer: LayerSize, nonzeros: float | None = None) -> float:
        """Return the seconds that one PFV's coefficients take, of the layer's own number or of another."""
        if layer.coding == "pursuit":
            n = nonzeros or layer.nonzeros
            return 2 * layer.concepts * (layer.channels + n * n) * self.product * self.pursuit
        return 4 * layer.channels * layer.concepts * self.product * self.lasso

    def settle(self, layer: LayerSize) -> float:
        """Return the seconds that it takes to fix what gives a number of non-zeros: those of a pursuit are given."""
        return 0 if layer.coding == "pursuit" else TRIALS * CALIBRATED * self.code(layer)


@dataclass(frozen=True)
class Run:
    """The sizes of a configuration.

    Attributes
    ----------
    images, attributed, classes, shards : int
        Images in all, those attributed, classes, shards.
    image_bytes : float
        Of a drawn image; 0 where images are the user's.
    scenes : int
        Scenes that the concepts are compared with; 0 where images are the user's.
    layers : list of LayerSize
    pairs : list of (str, str)
    methods, steps, max_steps, concept_targets, kept, top_sources, nearest, relevant, localised : int
        As configured; `kept` are the concepts kept per class.
    class_targets : float
        Classes attributed per image, the mean.
    batch, memory : int
        Images per batch, and bytes of the memory budget.
    circuits : int
        Images that run through circuits, each once for every circuit.
    kernels : tuple of str
        What is compiled.
    spread : bool
        Whether PFVs are drawn uniformly, too.
    """

    images: int
    attributed: int
    classes: int
    shards: int
    image_bytes: float
    scenes: int
    layers: list[LayerSize]
    pairs: list[tuple[str, str]]
    methods: int
    steps: int
    max_steps: int
    concept_targets: int
    class_targets: float
    kept: int
    top_sources: int
    nearest: int
    relevant: int
    localised: int
    batch: int
    memory: int
    kernels: tuple[str, ...] = ("clustering", "lasso")
    spread: bool = False
    circuits: int = 0

    def rows(self, layer: LayerSize) -> int:
        """Return the PFVs drawn in a layer."""
        return self.images * layer.pfvs_per_image

    def codes(self, layer: LayerSize) -> int:
        """Return the PFVs of a layer that are decomposed."""
        return self.attributed * layer.positions

    def targets(self, pair: tuple[str, str]) -> float:
        """Return the targets of a pair in each image."""
        return self.class_targets if pair[1] == CLASSES else self.concept_targets

    def pictured(self, layer: LayerSize) -> int:
        """Return the tiles of a layer."""
        return min(layer.concepts, self.classes * self.kept) * (self.nearest + self.relevant)

    def fields(self, layer: LayerSize) -> int:
        """Return the PFVs of a layer whose receptive fields are needed: of those drawn each once, and relevant ones.

        As if families and members took theirs of those drawn at random, each by itself.
        """
        shown = min(layer.nodes, self.classes * self.kept)
        picked = shown * self.nearest + (layer.concepts - shown) * FACES * layer.merged
        drawn = self.rows(layer)
        return round(drawn * -math.expm1(-picked / drawn) + min(shown * self.relevant, self.codes(layer)))

    @property
    def edges(self) -> int:
        """The graph's edges: of each class and of the dataset, the sources of the targets that its images have.

        N images have some sqrt(N) times as many targets of their own as one, and a target that N of them have as many
        times its sources: between once, were all images the same, and N times.
        """
        scopes = min(self.attributed, self.classes)
        alike = math.sqrt(self.attributed / max(1, scopes))
        nodes = {layer.name: layer.nodes for layer in self.layers}
        total = 0.0
        for source, target in self.pairs:
            ends, every = nodes[source], nodes.get(target, self.classes)
            common = min(self.kept if target in nodes else 1, every)
            own = min((self.targets((source, target)) - common) * alike, every - common)
            alone, shared = (min(ends, self.top_sources * some) + REST for some in (1, alike))
            total += scopes * (common * shared + own * alone)
            seen = min(every, scopes * (common + own))  # of the dataset
            images = self.attributed * self.targets((source, target)) / max(1, seen)
            total += seen * (min(ends, self.top_sources * math.sqrt(max(1, images))) + REST)
        return round(total)

    @property
    def placed(self) -> int:
        """The images on which a layer's concepts are located."""
        return self.classes * self.kept * self.localised

    def coding_bytes(self, layer: LayerSize) -> float:
        """Return the bytes that coding takes besides its samples: concepts, their products, correlations."""
        products = 4 * layer.concepts**2
        return 4 * layer.concepts * layer.channels + (
            min(self.memory, products + 2048 * layer.concepts) if 2 * products <= self.memory else self.memory / 2
        )


@dataclass(frozen=True)
class Cost:
    """What a stage's jobs take together; `memory` is that of the largest one.

    Attributes
    ----------
    jobs : int
    seconds : float
        Of one core.
    memory, disk : float
        Bytes.
    """

    jobs: int
    seconds: float
    memory: float
    disk: float


@dataclass(frozen=True)
class Sizes:
    """What one job's cost depends on.

    Attributes
    ----------
    images, attributed : int
        Of a shard: images, and those that are attributed at most.
    channels, positions, rows, concepts : int
        Of a layer; `rows` are its PFVs.
    dense : bool
        Whether the job's extractor holds what every PFV has of every concept.
    """

    images: int
    attributed: int
    channels: int
    positions: int
    rows: int
    concepts: int
    dense: bool = False

    @property
    def pfvs_mb(self) -> float:
        """Megabytes of the layer's PFVs."""
        return 4e-6 * self.rows * self.channels

    @property
    def dictionary_mb(self) -> float:
        """Megabytes of its concept vectors."""
        return 4e-6 * self.concepts * self.channels

    @property
    def responses_mb(self) -> float:
        """Megabytes of what an extractor holds of every PFV and concept, with copies in double precision."""
        return 8 * 4e-6 * self.rows * self.concepts if self.dense else 0.0

    @property
    def coded_mb(self) -> float:
        """Megabytes of a shard's coefficients: some 64 of 8 bytes for each PFV."""
        return 8e-6 * self.attributed * self.positions * 64
