"""The configuration: one typed source of defaults, prose and the JSON schema.

`load` validates a whole mapping at once and turns every mistake into one line that names the key and the remedy.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from gigraph.attributors.registry import MODULES as ATTRIBUTORS
from gigraph.errors import UserError, nearest
from gigraph.extractors.registry import ENCODES, MODULES, PLUGGED
from gigraph.images.listing import unnamed
from gigraph.planning.ladder import MOST
from gigraph.records.paths import FILES, Results
from gigraph.reserved import CLASSES
from gigraph.worlds.registry import NAMES as WORLDS

PACKAGE = Path(__file__).resolve().parents[1]
PROJECT = PACKAGE / "_workflow" if (PACKAGE / "_workflow").is_dir() else PACKAGE.parents[1]
"""Where the Snakefile and its config.yaml lie: in the package where it is installed, else at the top of its clone."""
EXAMPLES = ("workflow", "configs")
"""The folder of configurations, and of the networks that they name, which come with the workflow."""
OWN = Path("gigraph.yaml")
"""What the commands take for a configuration file where none is given, if it lies there."""
LAYER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,99}")
"""Layers are parts of paths and of shell commands."""
FOLDER_NAME = re.compile(r"[\w./][\w./+@=,\-]*")
"""So is the output folder; braces would be wildcards to Snakemake, spaces and quotes would end an argument."""

SHEET_ROWS = 32
"""Concepts on one sheet of tiles."""
LARGEST_SHEET = 16383
"""Largest side of a WebP picture, in pixels."""

MOST_OUTPUTS = 10**6
"""Of a classifier."""
MOST_CHANNELS = 16
"""Of an image."""

Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A group of settings; unknown keys are refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse yes and no where a number or a text is needed: they would be 1 and 0."""
        given = value if isinstance(value, list) else [value]
        truth = next((one for one in given if isinstance(one, bool)), None)
        if truth is not None and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError(
                f"{truth} is what YAML makes of {'yes, on or true' if truth else 'no, off or false'}; write a number, "
                "or the name in quotes"
            )
        return value


def _in_order(classes: Any) -> Any:
    """Return the list that a mapping of class folders to outputs stands for."""
    if isinstance(classes, str) and classes != "imagenet":
        raise ValueError(f"{classes!r} is no list of folders; give [a, b], {{a: 0, b: 1}} or imagenet")
    if isinstance(classes, list | Mapping):
        for name in classes:
            if type(name) not in (str, int):
                raise ValueError(f"{name!r} is no name as YAML reads it; write the folder's name in quotes")
    if isinstance(classes, list):
        classes = [str(name) for name in classes]
    if isinstance(classes, list) and all(isinstance(name, str) for name in classes):
        twice = next((name for i, name in enumerate(classes) if name in classes[:i]), None)
        if twice is not None:
            raise ValueError(f"{twice} is listed twice; each output has its own folder")
    if not isinstance(classes, Mapping):
        return classes
    places: dict[int, str] = {}
    for folder, output in classes.items():
        if type(output) is not int or not 0 <= output < MOST_OUTPUTS:
            raise ValueError(f"{folder}: {output!r} is no output; give its number, from 0")
        if output in places:
            raise ValueError(f"{places[output]} and {folder} are both output {output}; each output has one folder")
        places[output] = str(folder)
    names = [places.get(i, unnamed(i)) for i in range(max(places, default=-1) + 1)]
    for i, name in enumerate(names):
        if i not in places and name in places.values():
            raise ValueError(
                f"output {i} has no folder and would be called {name!r}, which is the folder of another output; "
                f"say which folder output {i} is, or rename {name!r}"
            )
    return names


ClassFolders = Annotated[
    list[str] | Literal["imagenet"],
    BeforeValidator(_in_order, json_schema_input_type=list[str] | dict[str, NonNegativeInt] | Literal["imagenet"]),
]


class Images(Section):
    """Which images are looked at."""

    source: str = "menagerie"
    """A drawn world, such as `menagerie`, or a folder with one sub-folder per class."""
    shards: PositiveInt = 1
    """Parts that the images are divided into by their id; each is one job per step."""
    limit_per_class: PositiveInt | None = None
    """Use at most so many images of each class (those with the smallest ids); null: all."""
    classes: ClassFolders | None = None
    """Folder name of each model output, in the outputs' order, or `{folder: output}`; `imagenet`: by WordNet ids; null:
    the folders sorted by name, one for each output, or some of ImageNet's by their WordNet ids."""
    max_rejected: Share = 0.05
    """Largest share of unreadable images that is skipped; above it the run stops."""
    max_pixels: PositiveInt = 100_000_000
    """Images with more pixels, before or after resizing, are rejected as decompression bombs."""


class Drawn(Section):
    """How a drawn world is drawn, where `images.source` or `model.source` names one."""

    count: PositiveInt = 2000
    """Images drawn; a multiple of the number of classes keeps the classes balanced."""
    size: PositiveInt = 96
    """Side of an image in pixels; the shipped models were trained on 96."""
    seed: int = 0
    """Seed of the scenes."""
    train: bool = False
    """Train the model anew in the workflow (a few minutes) instead of taking the shipped checkpoint."""
    shortcut: Share | None = None
    """With `train`: share of the shortcut's class that has the shortcut in the pictures that the model learns from;
    null: the world's own, 0.95. With 0.02, that of the other classes, it says nothing. The images explained stay."""


class Model(Section):
    """Which classifier is explained."""

    source: str = "menagerie"
    """A drawn world, such as `menagerie`, or `torchvision:NAME`, `timm:NAME`, `path/to/file.py:factory` or
    `package.module:factory`."""
    weights: str | None = None
    """A torchvision weights name (`IMAGENET1K_V2`), or a checkpoint (.safetensors, .pth, .ckpt, ...); null: the
    source's own, a drawn world's or a factory's, if these are not random; `random`, if they are and you mean that."""
    arguments: dict[str, Any] = {}
    """Keyword arguments of the model's constructor or factory."""
    task: Literal["auto", "classes", "labels", "binary", "regression"] = "auto"
    """`classes` that exclude each other (softmax), `labels` that may be true together (a sigmoid each), `binary` (one
    logit: of the second class against the first), `regression` (one value), or `auto`: by the softmax or sigmoid that
    the model ends in; without one several outputs are classes, and of one output the task must be given."""
    output: str | None = None
    """Where the logits are in what the model returns: a key, attribute or index, such as `logits` or `0.logits`; null:
    what alone has their shape, or is called `logits`."""
    reference: FiniteFloat = 0
    """Of a regression: the value that higher and lower are measured from, such as the mean of the data."""
    shuffled: NonNegativeInt | None = None
    """Seed by which the weights of each layer are shuffled, as a control; null: as they are."""


class Preprocessing(Section):
    """From image file to network input; a null key is taken from the weights' own preset where there is one."""

    resize: PositiveInt | None = None
    """Shorter side after resizing, in pixels; null: as the preset says, or no resizing."""
    crop: PositiveInt | None = None
    """Side of the centre crop, in pixels; null: as the preset says, or no crop."""
    channels: Annotated[PositiveInt, Field(le=MOST_CHANNELS)] | None = None
    """Of the network's input: 1 (grey), 3 (RGB), or others, from the pages of a TIFF or from .npy arrays; null: as many
    as `mean` or `std` has numbers, else 3."""
    mean: Annotated[list[float], Field(min_length=1, max_length=MOST_CHANNELS)] | None = None
    """Subtracted per channel, for pixels in [0, 1]."""
    std: Annotated[list[PositiveFloat], Field(min_length=1, max_length=MOST_CHANNELS)] | None = None
    """Divided by per channel."""
    interpolation: Literal["bilinear", "bicubic", "nearest"] | None = None
    """Resampling filter of the resizing."""

    @property
    def depth(self) -> int:
        """Channels of the network's input."""
        return self.channels or len(self.mean or self.std or "rgb")

    @model_validator(mode="after")
    def _one_number_per_channel(self) -> Preprocessing:
        for key in ("mean", "std"):
            numbers = getattr(self, key)
            if numbers is not None and len(numbers) != self.depth:
                raise ValueError(f"{key}: it has {len(numbers)}, where one for each channel is needed ({self.depth})")
        return self


class Contribution(Section):
    """How a position's contribution to the output is measured (App. C)."""

    method: Literal["auto", "srd", "lrp", "grad_x_input"] = "auto"
    """`srd`: sharing ratio decomposition (Eq. 10); `lrp`: gradient x input with gates, deviations and attention held
    fixed; `grad_x_input`; `auto`: `srd`, or `grad_x_input` where an operation is none that the first two know."""
    target: Literal["predicted", "label"] = "predicted"
    """The class whose logit is decomposed."""


class Sampling(Section):
    """How PFVs are drawn from each image (Sec. 3.2.1). May differ between layers."""

    pfvs_per_image: PositiveInt = 4
    """Positions drawn per image without replacement, by positive contribution; the paper draws 1 in 50,000 images."""


class Concepts(Section):
    """How PFVs become concept vectors (App. B). May differ between layers."""

    center: Literal["auto", "batchnorm", "mean", "zero"] = "auto"
    """The origin beta: `batchnorm`: the batch norms' net shift (the paper's Eq. 8; the data mean where there is none),
    the `mean`, `zero`, or `auto`: Eq. 8 where it is no farther from the mean than PFVs are (root mean square), else
    the mean."""
    expansion: PositiveFloat = 1
    """Concepts per channel, K / C; the paper's 8 suits 50,000 images."""
    min_members: PositiveInt = 4
    """K is capped so that concepts have at least so many PFVs on average."""
    scale: Literal["mean", "unit"] = "mean"
    """Length of a concept vector: that of its members' mean, or 1."""
    max_iter: PositiveInt = 20
    """Iterations of one 2-means split."""


class Families(Section):
    """Near-parallel concepts, which the graph shows as one. May differ between layers."""

    cosine: Annotated[float, Field(ge=0.01, le=1)] | None = 0.7
    """Least mean cosine at which concepts are merged; null: each concept is its own family (the paper's graph)."""
    linkage: Literal["average", "tree"] = "average"
    """`average` linkage of the concept vectors, or the largest subtrees of the split `tree` (of `bisecting` only)."""


class Coefficients(Section):
    """How PFVs become few coefficients of concepts (Eq. 2). May differ between layers."""

    method: Literal["lasso", "refitted", "pursuit"] = "lasso"
    """`lasso` (the paper's); `refitted`: least squares on its support (relaxed lasso); `pursuit`: orthogonal matching
    pursuit."""
    encoder: bool = True
    """Whether an extractor's own encoder, where it has one, gives the coefficients; false: `method` does."""
    sign: Literal["any", "nonnegative"] = "any"
    """Of the coefficients: either (the paper's), or `nonnegative`."""
    penalty: Literal["nonzeros", "decision", "relative", "absolute"] = "nonzeros"
    """What `value` means: `nonzeros`: their mean per PFV (lambda is calibrated), of a pursuit those of every PFV;
    `decision`: the part of the centred logit to keep, with as few non-zeros as do; `relative`: lambda / lambda_max;
    `absolute`: lambda."""
    value: PositiveFloat = 8
    """The target number of non-zeros, the part to keep, or lambda."""
    most: Annotated[PositiveInt, Field(le=MOST)] = 32
    """Non-zeros that `penalty: decision` may take; never more than half the layer's channels."""
    tolerance: Annotated[float, Field(ge=1e-6)] = 1e-4
    """Largest relative duality gap of any lasso; coefficients are float32, so at least 1e-6."""
    calibration: PositiveInt = 2000
    """PFVs on which lambda is calibrated."""

    @model_validator(mode="after")
    def _possible(self) -> Coefficients:
        if self.penalty == "decision" and self.value > 1:
            raise ValueError(
                f"value: {self.value:g} with penalty: decision: it is the part of the centred logit to keep; "
                "take one of at most 1, such as 0.8"
            )
        if self.penalty == "nonzeros" and self.value < 1:
            raise ValueError(
                f"value: {self.value:g} with penalty: nonzeros: it is a number of non-zeros, at least 1; a part of the "
                "decision to keep is penalty: decision"
            )
        if self.method == "pursuit" and self.penalty not in ("nonzeros", "decision"):
            raise ValueError(
                f"penalty: {self.penalty} with method: pursuit: a pursuit takes a number of concepts, not a lambda; "
                "take penalty: nonzeros, or decision"
            )
        if self.method == "pursuit" and self.penalty == "nonzeros" and not self.value.is_integer():
            raise ValueError(
                f"value: {self.value:g} with method: pursuit: every PFV gets so many concepts; take a whole number"
            )
        return self


def _attributor(name: str) -> str:
    if name not in ATTRIBUTORS:
        raise ValueError(f"no attribution method {name!r}{nearest(name, ATTRIBUTORS)}; known: {', '.join(ATTRIBUTORS)}")
    return name


def _names_or_number(classes: Any) -> Any:
    if classes is None or (isinstance(classes, list) and classes) or (type(classes) is int and classes > 0):
        return classes
    raise ValueError("give a list of class names, or how many classes, those with the most images")


AttributedClasses = Annotated[list[str] | PositiveInt, BeforeValidator(_names_or_number)]
Attributor = Annotated[str, AfterValidator(_attributor), Field(json_schema_extra={"enum": [*ATTRIBUTORS]})]


class Attribution(Section):
    """What each concept does for later ones and for classes: generalized integrated gradients (Eqs. 3-7)."""

    method: Attributor = "gig"
    """`gig` (the paper's), or `gradient_x_input`: one gradient at X~ (no integral, no completeness)."""
    classes: AttributedClasses | None = None
    """Classes whose images are attributed: their names, or how many, those with the most images; null: all."""
    images_per_class: PositiveInt = 20
    """Images of each class that are attributed."""
    images: PositiveInt | None = None
    """At most so many images in all, a first one of every class before a second one of any; null: no limit."""
    pairs: list[tuple[str, str]] = []
    """Layer pairs besides consecutive layers and layer -> classes."""
    class_targets: PositiveInt = 8
    """Concepts of each layer kept per class, by mean relevance to it: targets in all of the class's images."""
    top_targets: PositiveInt = 2
    """Further targets per image: its own most relevant concepts."""
    top_classes: NonNegativeInt = 3
    """Classes attributed per image besides its label: the most probable ones; 0: what it is taken for, if another."""
    top_sources: PositiveInt = 64
    """Sources kept per image and target; the rest is summed into one remainder."""
    class_output: Literal["auto", "probability", "logit", "centred_logit"] = "auto"
    """What is attributed for classes: the `probability` (the paper's), the `logit`, the `centred_logit` (minus the mean
    of all; of labels and binary the logit), or `auto`: the probability of up to 50 classes, the centred logit of more,
    the logit of labels and binary. A regression's value is its logit."""
    baseline: Literal["beta", "zero"] = "beta"
    """Where the path starts: the origin of the concept space, or zero (the literal Eq. 3)."""
    steps: PositiveInt = 8
    """Points of the path to start with."""
    max_steps: PositiveInt = 72
    """The path is refined where its gradients change, up to so many points, until the error is within the tolerance."""
    tolerance: PositiveFloat = 0.02
    """Estimated error, summed over the sources, over sum |GIG|."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the gradients; the deviation of bfloat16 is measured on a sample and stored with the attributions."""

    def most_images(self, classes: int, images: int) -> int:
        """Return how many images are attributed at most, of so many classes and images."""
        chosen = len(self.classes) if isinstance(self.classes, list) else self.classes or classes
        return min(self.images_per_class * min(chosen, classes), images, self.images or images)

    @model_validator(mode="after")
    def _steps_in_order(self) -> Attribution:
        if self.max_steps < self.steps:
            raise ValueError(f"max_steps is {self.max_steps}, below steps ({self.steps}); raise max_steps")
        return self


class Graph(Section):
    """What the class graphs show."""

    top: PositiveInt = 5
    """Concepts shown per layer in a class graph."""
    shared: PositiveInt = 3
    """Shared concepts shown per layer when two classes are compared."""


class Circuit(Section):
    """How few nodes of the graph compute a class by themselves, and how faithfully."""

    classes: NonNegativeInt | None = None
    """At most so many classes, those with the most attributed images; null: all; 0: none."""
    images: PositiveInt = 3
    """Attributed images of each class that its circuits run on, and as many of others that it may be taken for."""
    of: Literal["nodes", "concepts"] = "nodes"
    """What circuits are made of: the graph's `nodes`, which are families, or single `concepts`."""
    deleted: Literal["mean", "zero"] = "mean"
    """The coefficient of a deleted concept: its `mean` over the attributed images, or `zero`."""
    errors: Literal["dropped", "kept"] = "dropped"
    """Whether what the concepts leave out of an image is dropped, or kept as it is in that image."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Of the class's probability by the network itself, what the smallest circuit keeps."""
    points: Annotated[int, Field(ge=3)] = 10
    """Most sizes at which curves are read."""
    passes: NonNegativeInt = 48
    """Most circuits that the greedy search for the smallest one measures; more find smaller ones."""
    random: PositiveInt = 1
    """Random orders beside the graph's own and that of gradient x input."""

    def runs(self, classes: int, attributed: int) -> int:
        """Return about how many images run through circuits, each once for every circuit, of so many classes."""
        chosen = classes if self.classes is None else min(self.classes, classes)
        # Curves, and what bisections take; the circuits found run on other images, too.
        circuits = (2 + self.random) * (self.points + 6) + self.passes
        each = min(self.images, -(-attributed // max(1, classes)))
        return min(chosen * each, attributed) * circuits


class Exemplars(Section):
    """The pictures of a concept."""

    nearest: PositiveInt = 10
    """PFVs shown per concept, those in which it responds most."""
    reading: Literal["cosine", "projection", "filter"] = "cosine"
    """How the response is read: the `cosine` to the concept vector (the paper's), the `projection` on it, or by a
    whitened `filter`, which looks past what else lies along the vector."""
    relevant: NonNegativeInt = 5
    """PFVs shown beside them, those in which the concept is most relevant to the image's class; 0: none."""
    maps: Literal["coefficients", "reading"] = "coefficients"
    """What locates a concept in the images on its card: its coefficients, or its responses."""
    tile: PositiveInt = 96
    """Side of a tile in pixels."""
    localised: PositiveInt = 4
    """Images per class and concept on which the concept is located."""

    @model_validator(mode="after")
    def _fits_a_sheet(self) -> Exemplars:
        for key, tiles in (("nearest", max(self.nearest, SHEET_ROWS)), ("localised", self.localised)):
            if tiles * self.tile > LARGEST_SHEET:
                raise ValueError(
                    f"{key} x tile: a sheet of {tiles} tiles of {self.tile} pixels is larger than a WebP picture can "
                    f"be ({LARGEST_SHEET}); lower exemplars.tile or exemplars.{key}"
                )
        return self


EXTRACTORS = tuple(MODULES)


def _extractor(name: str) -> str:
    if name not in EXTRACTORS and not name.startswith(PLUGGED):
        raise ValueError(
            f"no extractor {name!r}{nearest(name, EXTRACTORS)}; known: {', '.join(EXTRACTORS)}, "
            f"and {PLUGGED}NAME for a dictionary of the package overcomplete"
        )
    return name


Extractor = Annotated[str, AfterValidator(_extractor), Field(pattern=r"^[A-Za-z0-9-]+$")]


class Autoencoder(Section):
    """Training of the methods `sae` (Eq. 11), `topk` and `batchtopk`."""

    steps: PositiveInt = 4000
    """Gradient steps of the training."""
    batch_size: PositiveInt = 512
    """PFVs per step."""
    learning_rate: PositiveFloat = 3e-3
    """Of Adam; it falls to 0 over the last fifth of the steps."""
    decoder_bias: bool = False
    """Whether the decoder has a bias (Eq. 11), which moves what concepts and attributions are measured from."""


class Evaluation(Section):
    """The target `evaluation`: how far concepts and graph can be trusted, beside other extractors."""

    methods: Annotated[list[Extractor], Field(min_length=1)] = list(EXTRACTORS)
    """Extractors that are compared."""
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the images that no concept is found on, chosen by their ids; the evaluation looks at these."""
    images: Annotated[int, Field(ge=2)] = 60
    """Held-out images that decompositions and class curves are measured on, balanced over the classes."""
    interlayer_images: PositiveInt = 20
    """Of these, the images of the curves between layers."""
    targets: PositiveInt = 5
    """Concepts of the next layer that these curves follow per image, the most relevant to its class."""
    points: PositiveInt = 32
    """Most points at which a curve is computed exactly."""
    subsets: PositiveInt = 64
    """Random sets of concepts that C-muFidelity deletes per image."""
    seeds: PositiveInt = 3
    """Further seeds that a graph's concepts are found with again, for their stability."""
    edges: PositiveInt = 200
    """Edges per layer pair that are not shown and yet checked by exact ablation."""
    scenes: Annotated[int, Field(ge=2)] = 800
    """Scenes of the drawn world's ground truth; half of them choose, the others score."""
    control: bool = True
    """Whether the whole evaluation of the graph's extractor is done on the same network with its weights shuffled, too:
    what a measure says of that network it says of nothing. It takes a run more."""


class Explorer(Section):
    """The explorer's texts."""

    title: str | None = None
    """Shown as the page's title; null: the drawn world's, or the names of model and images."""
    labels: dict[str, str] = {}
    """Names of concepts, as `layer:concept: name`; the explorer exports them as such a file."""
    names: dict[str, str] = {}
    """What classes are called on the page, as `class: name`; tables, links and exports keep their own names. Without:
    underscores become spaces, and codes that all names begin with (n01440764_) are left out."""
    images_per_class: NonNegativeInt = 20
    """Images of each class that get a graph of their own."""


class Compute(Section):
    """How the work is done; none of these changes a result, so a change of them reruns nothing."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a CUDA device where there is one."""
    batch_size: PositiveInt = 32
    """Images per forward pass; fewer where memory_mb does not hold as many."""
    memory_mb: PositiveInt = 256
    """Budget for the activations that one job holds at once; on a GPU at least a quarter of its free memory."""
    workers: PositiveInt = 2
    """Decoding threads of a job."""
    jobs_per_gpu: PositiveInt = 1
    """Jobs that share a GPU of this machine; a cluster's scheduler has its own say."""


class LayerEntry(Section):
    """A layer, and its settings that differ from the defaults of the sections below."""

    name: str
    """A module's path, or an fx node's name."""
    sampling: dict[str, Any] = {}
    """Keys of `sampling`."""
    concepts: dict[str, Any] = {}
    """Keys of `concepts`."""
    families: dict[str, Any] = {}
    """Keys of `families`."""
    coefficients: dict[str, Any] = {}
    """Keys of `coefficients`."""


class LayerSettings(Section):
    """The settings of one layer, defaults and overrides merged."""

    sampling: Sampling
    concepts: Concepts
    families: Families
    coefficients: Coefficients


class Config(Section):
    """Everything that a run is made from."""

    output: str = "results"
    """Folder of the results."""
    seed: int = 0
    """Seed of the sampling and the clustering."""
    images: Images = Images()
    drawn: Drawn = Drawn()
    model: Model = Model()
    preprocessing: Preprocessing = Preprocessing()
    layers: list[LayerEntry] = Field(min_length=1)
    """Layers from input to output: names, or `{name: ..., concepts: {...}}` for one with settings of its own."""
    methods: list[Extractor] = Field(["bisecting"], min_length=1)
    """Concept extractors that graphs are made from: bisecting (the paper's), kmeans, dictionary, sae, random, ..."""
    contribution: Contribution = Contribution()
    sampling: Sampling = Sampling()
    concepts: Concepts = Concepts()
    families: Families = Families()
    coefficients: Coefficients = Coefficients()
    attribution: Attribution = Attribution()
    graph: Graph = Graph()
    circuit: Circuit = Circuit()
    exemplars: Exemplars = Exemplars()
    explorer: Explorer = Explorer()
    autoencoder: Autoencoder = Autoencoder()
    evaluation: Evaluation = Evaluation()
    compute: Compute = Compute()

    @model_validator(mode="before")
    @classmethod
    def _plain_names(cls, raw: Any) -> Any:
        """Accept a layer's name for a layer without settings of its own."""
        if isinstance(raw, Mapping) and isinstance(raw.get("layers"), list):
            raw = {**raw, "layers": [{"name": entry} if isinstance(entry, str) else entry for entry in raw["layers"]]}
        if isinstance(raw, Mapping) and "menagerie" in raw:
            raise ValueError("menagerie: this section is called drawn now, for all drawn worlds; rename it")
        return raw

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if not FOLDER_NAME.fullmatch(self.output):
            raise ValueError(
                f"output: {self.output!r} holds characters that a path in a shell command must not; "
                "use letters, digits and . / _ - + @ = ,"
            )
        looked, known = self.images.source, self.model.source
        if looked in WORLDS and known in WORLDS and looked != known:
            raise ValueError(
                f"model.source: the model of {known} knows nothing of images.source, {looked}; give both the same world"
            )
        if self.drawn.shortcut is not None and not (self.drawn.train and known in WORLDS):
            raise ValueError(
                "drawn.shortcut: only a drawn world's model that is trained anew learns from another share; set "
                "drawn.train: true, or leave drawn.shortcut out"
            )
        for name in self.names:
            if self.names.count(name) > 1:
                raise ValueError(f"layers: {name} is listed twice; remove one")
            if name == CLASSES or "--" in name or not LAYER_NAME.fullmatch(name):
                raise ValueError(f"layers: {name!r} cannot name a layer; use a module's or an fx node's name")
            self.layer(name)
        _check_files_apart(self.names)
        order = [*self.names, CLASSES]
        for source, target in self.attribution.pairs:
            for end in (source, target):
                if end not in order:
                    raise ValueError(
                        f"attribution.pairs: layer {end!r} is not listed under layers{nearest(end, order)}"
                    )
            if order.index(source) >= order.index(target):
                raise ValueError(f"attribution.pairs: {source} does not come before {target}; swap them")
        if self.model.task == "regression" and self.attribution.class_output == "probability":
            raise ValueError("attribution.class_output: a regression has no probability; take auto")
        if self.graph.top > self.attribution.class_targets:
            raise ValueError(
                f"graph.top is {self.graph.top}, above attribution.class_targets "
                f"({self.attribution.class_targets}); raise class_targets"
            )
        return self

    @property
    def evaluated(self) -> list[str]:
        """The methods that the evaluation compares, with the graph's own."""
        return list(dict.fromkeys([*self.evaluation.methods, *self.methods]))

    @property
    def tried(self) -> str:
        """The method for which numbers of non-zeros are tried: the first that no encoder of its own codes."""
        encoded = ENCODES if self.coefficients.encoder else ()
        return next((name for name in (*self.methods, *self.evaluated) if name not in encoded), self.methods[0])

    @property
    def names(self) -> list[str]:
        """The layers' names, from input to output."""
        return [entry.name for entry in self.layers]

    def layer(self, name: str) -> LayerSettings:
        """Return one layer's settings, its own merged over the defaults."""
        own = self.layers[self.names.index(name)]
        merged = {
            section: {**getattr(self, section).model_dump(), **getattr(own, section)}
            for section in ("sampling", "concepts", "families", "coefficients")
        }
        try:
            return LayerSettings.model_validate(merged)
        except ValidationError as error:
            raise ValueError(_line(error, f"layers.{name}", LayerSettings)) from None

    def pairs(self) -> list[tuple[str, str]]:
        """Return every (source, target): consecutive layers, each layer -> classes, and the config's own."""
        names = self.names
        wanted = [*itertools.pairwise(names), *((name, CLASSES) for name in names), *self.attribution.pairs]
        return list(dict.fromkeys(wanted))


def _check_files_apart(layers: Sequence[str]) -> None:
    """Refuse two layers of which a file of one has the name of another of the other's, such as a and a.tree."""
    results = Results("")
    taken: dict[Path, str] = {}
    for kind, file in FILES.items():
        for layer in layers if "layer" in file.fields else ():
            path = results(kind, **dict.fromkeys(file.fields, "") | {"layer": layer})
            other = taken.setdefault(path, layer)
            if other != layer:
                raise ValueError(
                    f"layers: {other} and {layer} would both write a file {path.name}; name one of them by its fx node"
                )


def load(raw: Mapping[str, Any]) -> Config:
    """Validate a raw configuration.

    Raises
    ------
    UserError
        One line that names the first offending key and what to do.
    """
    try:
        config = Config.model_validate(dict(raw))
    except ValidationError as error:
        raise UserError(_line(error, "", Config)) from None
    file, is_file, factory = config.model.source.partition(".py:")
    if is_file:
        there = shipped(Path(f"{file}.py"))
        config = config.model_copy(
            update={"model": config.model.model_copy(update={"source": f"{there}:{factory}"})},
        )
    return config


def shipped(path: Path) -> Path:
    """Return a path as it is, or where it lies beside the Snakefile if it is of a file that comes with the workflow."""
    if not path.exists() and path.parts[:2] == EXAMPLES and (PROJECT / path).is_file():
        return PROJECT / path
    return path


def chosen(files: Sequence[Path]) -> list[Path]:
    """Return the configuration files that are given; if none are, ``gigraph.yaml`` where it lies in this folder."""
    return list(files) or [OWN] * OWN.is_file()


def with_defaults(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings laid over those of ``config.yaml`` beside the Snakefile, section by section."""
    return _laid_over(yaml.safe_load((PROJECT / "config.yaml").read_text(encoding="utf-8")), raw)


def read(files: Sequence[Path]) -> dict[str, Any]:
    """Return ``config.yaml`` beside the Snakefile with files laid over it, section by section, as Snakemake does.

    Raises
    ------
    UserError
        If a file is missing or holds no settings.
    """
    merged: Any = with_defaults({})
    for path in map(shipped, files):
        if not path.is_file():
            raise UserError(f"--configfile: there is no file {path}; correct the path")
        own = read_yaml(path)
        if not isinstance(own, Mapping):
            raise UserError(f"--configfile: {path} holds no settings; it needs lines such as `output: results-own`")
        merged = _laid_over(merged, own)
    return merged


class _Loader(yaml.SafeLoader):
    """Refuses a key that is written twice, of which the second would win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                raise UserError(f"line {node.value[index][0].start_mark.line + 1}: {key} is written twice; remove one")
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """Return what a configuration file holds.

    Raises
    ------
    UserError
        If it is no YAML, or a key is written twice in a section.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except UserError as error:
        raise UserError(f"--configfile: {path}, {error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        why = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"--configfile: {path}{where} is no YAML: {why}") from None


CONFIGFILES = ("--configfile=", "--configfiles=")
"""How a configuration file is named in one word."""


def configfiles(given: list[str]) -> list[Path]:
    """Return the configuration files among Snakemake's arguments: all that follows the option up to the next one."""
    found, takes = [], False
    for one in given:
        option, _, value = one.partition("=")
        if one.startswith("-"):
            takes = f"{option}=" in CONFIGFILES
            found += [value] * (takes and bool(value))
            takes = takes and not value
        elif takes:
            found.append(one)
    return [Path(one) for one in found]


def _laid_over(base: Any, own: Any) -> Any:
    if isinstance(base, Mapping) and isinstance(own, Mapping):
        return {**base, **{key: _laid_over(base.get(key), value) for key, value in own.items()}}
    return own


def schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of the configuration."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


def write_schema(path: Path) -> None:
    """Write the JSON schema; a test keeps the committed file equal to it."""
    path.write_text(json.dumps(schema(), indent=2) + "\n")


def _line(error: ValidationError, prefix: str, model: type[BaseModel]) -> str:
    """Turn the first of pydantic's errors into one line."""
    first = error.errors()[0]
    key = ".".join([prefix, *map(str, first["loc"])] if prefix else map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        known = _known_keys(model, first["loc"][:-1])
        return f"unknown key {key}{nearest(str(first['loc'][-1]), known)} (known here: {', '.join(known)})"
    if first["type"] == "missing":
        return f"key {key} is missing; add it (config.yaml shows how)"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "model_type":
        message = f"it is a section; write its keys below it, indented, or leave it out (given: {first['input']!r})"
        return f"{key}: {message}"
    message = message[:1].lower() + message[1:]
    given = first.get("input")
    shown = "" if first["type"] == "value_error" or isinstance(given, dict) else f" (given: {given!r})"
    line = f"{key + ': ' if key else ''}{message}{shown}"
    return " ".join(line.split())


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that are allowed where an unknown one stood."""
    fields: Any = model
    for step in location:
        field = (
            fields.model_fields.get(str(step)) if isinstance(fields, type) and issubclass(fields, BaseModel) else None
        )
        fields = field.annotation if field is not None else LayerEntry
    return list(fields.model_fields) if isinstance(fields, type) and issubclass(fields, BaseModel) else []


if __name__ == "__main__":
    write_schema(PROJECT / "workflow" / "schemas" / "config.schema.json")
