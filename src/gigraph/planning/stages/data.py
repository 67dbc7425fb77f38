"""Images, the model, and the PFVs drawn from them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gigraph.planning.costs import Cost, Run, Sizes, Throughput
from gigraph.planning.lineage import module_files
from gigraph.planning.stages.stage import Read, Stage, loosely, read
from gigraph.worlds.registry import code_of

if TYPE_CHECKING:
    from gigraph.planning.plan import Plan


LARGEST_PRESET = 1024
"""Pixels of the shorter side after resizing by any preset of torchvision and timm, about."""


SPREAD_IMAGES, SPREAD = 555, 36
"""Images and positions of each, drawn uniformly, that the spread of a layer's PFVs is taken from: 20,000."""


class Draw(Stage):
    """Draws a world."""

    writes = ("drawn",)

    def settings(self, plan: Plan) -> dict[str, Any]:
        return {"world": plan.world, **plan.config.drawn.model_dump(exclude={"train", "shortcut"})}

    def code(self, plan: Plan) -> list[Path]:
        return plan.world_code

    def need(self, sizes: Sizes) -> tuple[float, float]:
        return 0.0, sizes.images / 600

    def cost(self, run: Run, rate: Throughput) -> Cost | None:
        return Cost(1, run.images * rate.draw, 0, run.images * run.image_bytes) if run.image_bytes else None


class Train(Stage):
    """Trains the drawn world's model anew."""

    writes = ("checkpoint",)
    torch = True

    def settings(self, plan: Plan) -> dict[str, Any]:
        drawn = plan.config.drawn.model_dump(include={"size", "seed", "shortcut"})
        return {"world": plan.config.model.source, **drawn}

    def code(self, plan: Plan) -> list[Path]:
        return module_files(code_of(plan.config.model.source))


class Network(Stage):
    """Checks the model, its layers and the class folders; writes what each layer is."""

    parts = ("layer",)
    writes = ("layers", "classes")
    torch = model = True

    def settings(self, plan: Plan, layer: str | None = None) -> dict[str, Any]:
        if layer is not None:  # its row
            return {"layers": [layer]}
        c = plan.config
        return {
            "images": str(plan.image_folder),
            "classes": c.images.classes,
            "world": plan.world,
            "contribution": c.contribution.method,
            "layers": plan.layers,
        }

    def reads(self, plan: Plan, layer: str | None = None) -> dict[str, Read | list[Read]]:
        # For the other stages that run the model it is there once this one is done; their lineages name the training.
        return {"checkpoint": read("checkpoint") if plan.trained else []}

    def rests_on(self, plan: Plan, layer: str | None = None) -> list[Any]:
        return [] if layer is not None else [plan.class_folders]

    def code(self, plan: Plan, layer: str | None = None) -> list[Path]:
        return plan.world_code  # it says what the classes are called

    def cost(self, run: Run, rate: Throughput) -> Cost:
        return Cost(1, rate.start, 0, 0)  # what the model says of a few images; of no job before it there is a fork


class Manifest(Stage):
    """Lists and decodes the images of a shard; what cannot be decoded is rejected."""

    of = ("shard",)
    writes = ("manifest", "unreadable")

    def settings(self, plan: Plan, shard: int) -> dict[str, Any]:
        images = plan.config.images
        return {
            "source": str(plan.image_folder),
            **images.model_dump(include={"shards", "limit_per_class", "max_pixels"}),
            "classes": plan.listed_classes,
            "grouped": plan.grouped,
            "channels": plan.config.preprocessing.depth,
            "resize": plan.config.preprocessing.resize or (LARGEST_PRESET if plan.crops else None),
        }

    def reads(self, plan: Plan, shard: int) -> dict[str, Read | list[Read]]:
        return {
            "drawn": read("drawn") if plan.drawn else [],
            "classes": read("classes") if plan.labelled_by_outputs else [],
        }

    def rests_on(self, plan: Plan, shard: int) -> list[Any]:
        # A further class folder moves the labels of all those after it, in every shard.
        return [] if plan.drawn else [plan.listing[int(shard)], plan.class_folders]

    def need(self, sizes: Sizes) -> tuple[float, float]:
        return 0.0, sizes.images / 600

    def cost(self, run: Run, rate: Throughput) -> Cost:
        return Cost(run.shards, run.images * rate.decode, 0, 60 * run.images)


class Selection(Stage):
    """Chooses the images to attribute."""

    writes = ("selection",)

    def settings(self, plan: Plan) -> dict[str, Any]:
        c = plan.config
        return {
            "seed": c.seed,
            **c.attribution.model_dump(include={"classes", "images_per_class", "images"}),
            "max_rejected": c.images.max_rejected,
            "uniform": c.preprocessing.resize is None and not plan.crops,
        }

    def reads(self, plan: Plan) -> dict[str, Read | list[Read]]:
        return {
            "manifests": read("manifest"),
            "rejected": read("unreadable"),
            "predictions": loosely("predictions") if plan.unlabelled else [],
            "classes": read("classes") if isinstance(plan.config.attribution.classes, list) else [],
        }

    def cost(self, run: Run, rate: Throughput) -> Cost:
        return Cost(1, 0, 0, 0)


class Sample(Stage):
    """Draws a shard's PFVs of every layer in one sweep; the tables of layers that are up to date are kept.

    It says how much of the logit the relevances R of a layer's positions leave to the biases of later layers.
    """

    of = ("shard",)
    parts = ("layer",)
    sweeps = True
    writes = ("pfvs", "predictions")
    gpu = torch = model = True

    def settings(self, plan: Plan, shard: int, layer: str | None = None) -> dict[str, Any]:
        c = plan.config
        own = {"layer": layer, **self.of_layer(plan, layer)} if layer is not None else {}
        return {
            "seed": c.seed,
            "contribution": c.contribution.model_dump(),
            **own,
            "source": str(plan.image_folder),
        }

    def of_layer(self, plan: Plan, layer: str) -> dict[str, Any]:
        return plan.config.layer(layer).sampling.model_dump()

    def reads(self, plan: Plan, shard: int, layer: str | None = None) -> dict[str, Read | list[Read]]:
        # The model's check comes first: it says in one line what a sweep of hours would stumble over.
        return {"checked": loosely("layers", waits=True), "manifest": read("manifest", shard=shard)}

    def need(self, sizes: Sizes) -> tuple[float, float]:
        return sizes.pfvs_mb, sizes.images / 60

    def cost(self, run: Run, rate: Throughput) -> Cost:
        return Cost(
            run.shards,
            run.images * (rate.decode + rate.sweep),
            run.batch * rate.activations
            + sum(4 * run.rows(layer) * layer.channels for layer in run.layers) / run.shards,
            sum(run.rows(layer) * (4 * layer.channels + 24) for layer in run.layers),
        )


class Uniform(Stage):
    """Draws a layer's PFVs at positions drawn uniformly; only where an extractor or a reading looks at them."""

    of = ("layer",)
    writes = ("uniform",)
    gpu = torch = model = True

    def settings(self, plan: Plan, layer: str) -> dict[str, Any]:
        c = plan.config
        return {
            "seed": c.seed,
            "holdout": c.evaluation.holdout,
            "layer": layer,
            "source": str(plan.image_folder),
            "images": SPREAD_IMAGES,
            "positions": SPREAD,
        }

    def reads(self, plan: Plan, layer: str) -> dict[str, Read | list[Read]]:
        return {"checked": loosely("layers", waits=True), "manifests": read("manifest")}

    def need(self, sizes: Sizes) -> tuple[float, float]:
        return 8e-6 * SPREAD_IMAGES * SPREAD * sizes.channels, SPREAD_IMAGES / 60

    def cost(self, run: Run, rate: Throughput) -> Cost | None:
        if not run.spread:
            return None
        images = min(run.images, SPREAD_IMAGES)
        drawn = [4 * images * SPREAD * layer.channels for layer in run.layers]
        seconds = len(drawn) * images * (rate.decode + rate.forward)
        return Cost(len(drawn), seconds, run.batch * rate.activations + 2 * max(drawn), sum(drawn))


class Images(Stage):
    """Gathers the manifest and the predictions of all shards, and all that is left out."""

    writes = ("images", "rejected")

    def settings(self, plan: Plan) -> dict[str, Any]:
        return {"source": str(plan.image_folder), "drawn": plan.drawn}

    def reads(self, plan: Plan) -> dict[str, Read | list[Read]]:
        return {
            "manifests": read("manifest"),
            "rejected": read("unreadable"),
            "predictions": loosely("predictions"),
        }

    def rests_on(self, plan: Plan) -> list[Any]:
        return [plan.left_out]

    def cost(self, run: Run, rate: Throughput) -> Cost:
        return Cost(1, 0, 0, 0)
