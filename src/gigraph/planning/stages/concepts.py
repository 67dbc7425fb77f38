"""Concept vectors, and the coefficients of PFVs in them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gigraph.extractors.registry import ENCODES, SPREADS, source_of
from gigraph.planning.costs import CALIBRATED, LOADING, TRIED, Cost, LayerSize, Run, Sizes, Throughput
from gigraph.planning.ladder import numbers
from gigraph.planning.stages.stage import Read, Stage, loosely, read
from gigraph.reserved import CLASSES

if TYPE_CHECKING:
    from gigraph.planning.plan import Plan


class Kernels(Stage):
    """Compiles the kernels while the images are drawn and sampled; no job waits for it, no result rests on it."""

    writes = ("kernels",)

    def settings(self, plan: Plan) -> dict[str, Any]:
        return {"kernels": plan.kernels}

    def cost(self, run: Run, rate: Throughput) -> Cost:
        return Cost(1, LOADING * len(run.kernels), 0, 0)


class Centre(Stage):
    """Finds a layer's centre beta (Eq. 8)."""

    of = ("layer",)
    writes = ("centre",)

    def settings(self, plan: Plan, layer: str) -> dict[str, Any]:
        return {"layer": layer, "center": plan.config.layer(layer).concepts.center}

    def reads(self, plan: Plan, layer: str) -> dict[str, Read | list[Read]]:
        return {"layers": loosely("layers", part={"layer": layer}), "pfvs": loosely("pfvs", layer=layer)}

    def need(self, sizes: Sizes) -> tuple[float, float]:
        return 3 * sizes.pfvs_mb, 0

    def cost(self, run: Run, rate: Throughput) -> Cost:
        return Cost(len(run.layers), 0, max(8 * run.rows(layer) * layer.channels for layer in run.layers), 0)


class Concepts(Stage):
    """Finds a layer's concepts (App. B)."""

    of = ("method", "layer")
    writes = ("concepts", "tree", "encoder")
    gpu = True
    kernels = True

    def settings(self, plan: Plan, method: str, layer: str) -> dict[str, Any]:
        c = plan.config
        own = c.layer(layer)
        return {
            "seed": c.seed,
            "layer": layer,
            "method": method,
            "holdout": c.evaluation.holdout,
            **own.concepts.model_dump(exclude={"center"}),
            **plan.extractor_settings(method, own),
            **({"encoder": own.coefficients.encoder} if method in ENCODES else {}),
        }

    def reads(self, plan: Plan, method: str, layer: str) -> dict[str, Read | list[Read]]:
        return {
            "centre": read("centre", layer=layer),
            "pfvs": loosely("pfvs", layer=layer),
            "uniform": read("uniform", layer=layer) if method in SPREADS else [],
        }

    def code(self, plan: Plan, method: str, layer: str) -> list[Path]:
        return [source_of(method)]

    def need(self, sizes: Sizes) -> tuple[float, float]:
        minutes = sizes.rows * sizes.channels * max(1, sizes.concepts).bit_length() / 2e8
        return 4 * sizes.pfvs_mb + 3 * sizes.dictionary_mb + sizes.responses_mb, minutes

    def cost(self, run: Run, rate: Throughput) -> Cost:
        clustered = sum(
            run.rows(layer) * layer.channels * math.log2(max(2, layer.concepts)) * rate.clustering
            for layer in run.layers
        )
        return Cost(
            len(run.layers) * run.methods,
            clustered * run.methods,
            max(16 * run.rows(layer) * layer.channels for layer in run.layers),
            run.methods * sum(4 * layer.concepts * layer.channels for layer in run.layers),
        )


class Families(Stage):
    """Finds a layer's families: near-parallel concepts, which the graph shows as one."""

    of = ("method", "layer")
    writes = ("families",)

    def settings(self, plan: Plan, method: str, layer: str) -> dict[str, Any]:
        own = plan.config.layer(layer).families
        # The tree has the lineage of the concepts, so that what is read does not tell the linkages apart.
        return {"layer": layer, "cosine": own.cosine, "linkage": own.linkage if own.cosine is not None else None}

    def reads(self, plan: Plan, method: str, layer: str) -> dict[str, Read | list[Read]]:
        own = plan.config.layer(layer).families
        by_tree = own.cosine is not None and own.linkage == "tree"
        return {
            "concepts": read("concepts", method=method, layer=layer),
            "tree": read("tree", method=method, layer=layer) if by_tree else [],
        }

    def need(self, sizes: Sizes) -> tuple[float, float]:
        # Twice the distances of all concepts, and the vectors in double precision.
        return 8e-6 * sizes.concepts**2 + 4 * sizes.dictionary_mb, sizes.concepts**2 * sizes.channels / 1e12

    def cost(self, run: Run, rate: Throughput) -> Cost:
        return Cost(
            len(run.layers) * run.methods,
            run.methods * sum(4 * layer.concepts**2 * layer.channels * rate.product for layer in run.layers),
            max(8 * layer.concepts**2 + 20 * layer.concepts * layer.channels for layer in run.layers),
            0,
        )


class Trials(Stage):
    """Tries numbers of concepts a PFV: how much of the decisions about some images each keeps.

    The centred logit is the class's less the mean of all.
    """

    of = ("method", "layer")
    writes = ("trials",)
    gpu = torch = kernels = model = True

    def settings(self, plan: Plan, method: str, layer: str) -> dict[str, Any]:
        c = plan.config
        coefficients = c.layer(layer).coefficients
        own = coefficients.model_dump(exclude={"penalty", "value", "most"}) | {"numbers": numbers(coefficients.most)}
        return {
            "seed": c.seed, "holdout": c.evaluation.holdout, "layer": layer, "source": str(plan.image_folder),
            "baseline": c.attribution.baseline, **own,
        }  # fmt: skip

    def reads(self, plan: Plan, method: str, layer: str) -> dict[str, Read | list[Read]]:
        return {
            "manifests": read("manifest"),
            "centre": read("centre", layer=layer),
            "concepts": read("concepts", method=method, layer=layer),
            "pfvs": loosely("pfvs", layer=layer),
        }

    def need(self, sizes: Sizes) -> tuple[float, float]:
        return coding_need(sizes)

    def cost(self, run: Run, rate: Throughput) -> Cost | None:
        layers = [layer for layer in run.layers if layer.tried]
        if not layers:
            return None

        def seconds(layer: LayerSize) -> float:
            seen = rate.decode + rate.forward + (2 + len(layer.tried)) * rate.segment[layer.name, CLASSES]
            codes = sum(rate.code(layer, number) for number in layer.tried) * layer.positions
            return TRIED * (seen + codes) + len(layer.tried) * rate.settle(layer)

        return Cost(
            len(layers),
            sum(map(seconds, layers)),
            max(run.coding_bytes(layer) + 8 * run.rows(layer) * layer.channels for layer in layers),
            0,
        )


class Calibration(Stage):
    """Fixes a layer's lambda (Eq. 2), or its number of concepts."""

    of = ("method", "layer")
    writes = ("calibration",)
    gpu = True
    kernels = True

    def settings(self, plan: Plan, method: str, layer: str) -> dict[str, Any]:
        c = plan.config
        own = c.layer(layer).coefficients.model_dump(exclude={"most"})
        shuffled = {} if c.model.shuffled is None else {"shuffled": True}
        return {"seed": c.seed, "holdout": c.evaluation.holdout, "layer": layer, **own, **shuffled}

    def reads(self, plan: Plan, method: str, layer: str) -> dict[str, Read | list[Read]]:
        own = plan.config.layer(layer).coefficients
        tried = own.penalty == "decision" and not (method in ENCODES and own.encoder)
        return {
            # All extractors are compared at the number of non-zeros that the first one needs.
            "trials": read("trials", method=plan.config.tried, layer=layer) if tried else [],
            "centre": read("centre", layer=layer),
            "concepts": read("concepts", method=method, layer=layer),
            "encoder": read("encoder", method=method, layer=layer),
            "pfvs": loosely("pfvs", layer=layer),
        }

    def need(self, sizes: Sizes) -> tuple[float, float]:
        return coding_need(sizes)

    def cost(self, run: Run, rate: Throughput) -> Cost:
        return Cost(
            len(run.layers) * run.methods,
            run.methods * sum(rate.settle(layer) + CALIBRATED * rate.code(layer) for layer in run.layers),
            max(run.coding_bytes(layer) + 8 * run.rows(layer) * layer.channels for layer in run.layers),
            0,
        )


class Coefficients(Stage):
    """Decomposes every PFV of the attributed images (Eqs. 1 and 2), and sees what is kept of the decisions."""

    of = ("method", "layer", "shard")
    writes = ("coefficients", "decisions")
    gpu = torch = kernels = model = True

    def settings(self, plan: Plan, method: str, layer: str, shard: int) -> dict[str, Any]:
        tolerance = plan.config.layer(layer).coefficients.tolerance
        own = {"tolerance": tolerance, "baseline": plan.config.attribution.baseline}
        return {"layer": layer, "source": str(plan.image_folder), **own}

    def reads(self, plan: Plan, method: str, layer: str, shard: int) -> dict[str, Read | list[Read]]:
        return {
            "selection": read("selection"),
            "centre": read("centre", layer=layer),
            "concepts": read("concepts", method=method, layer=layer),
            "encoder": read("encoder", method=method, layer=layer),
            "calibration": read("calibration", method=method, layer=layer),
        }

    def need(self, sizes: Sizes) -> tuple[float, float]:
        return coding_need(sizes)

    def cost(self, run: Run, rate: Throughput) -> Cost:
        seen = run.attributed * (rate.decode + rate.forward)
        return Cost(
            len(run.layers) * run.shards * run.methods,
            run.methods
            * sum(
                run.codes(layer) * rate.code(layer) + seen + 2 * run.attributed * rate.segment[layer.name, CLASSES]
                for layer in run.layers
            ),
            max(
                run.coding_bytes(layer)
                + 12 * run.batch * layer.positions * layer.channels
                + run.batch * rate.activations / 4
                for layer in run.layers
            ),
            run.methods * sum(run.codes(layer) * (5 * layer.nonzeros + 16) for layer in run.layers),
        )


def coding_need(sizes: Sizes) -> tuple[float, float]:
    """Return the megabytes and minutes of a job that codes PFVs."""
    gram = min(4e-6 * sizes.concepts**2, 8000)
    minutes = sizes.attributed * sizes.positions * sizes.concepts * sizes.channels / 1e11
    return sizes.pfvs_mb + 2 * sizes.dictionary_mb + gram + sizes.coded_mb, minutes
