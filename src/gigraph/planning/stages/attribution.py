"""Attribution between layers (generalized integrated gradients), its check by ablation, and the graph."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gigraph.attributors.registry import source_of
from gigraph.planning.costs import CIRCUIT, EDGE, REFINED, REFINING, Cost, Run, Sizes, Throughput
from gigraph.planning.stages.stage import Read, Stage, read
from gigraph.reserved import CLASSES

if TYPE_CHECKING:
    from gigraph.planning.plan import Plan


INTEGRAL = ("method", "baseline", "steps", "max_steps", "tolerance", "precision")
"""Keys of the section `attribution` that every attribution rests on; those towards classes on ``class_output``, too."""


BESIDE = "gradient_x_input"
"""The attribution method that the graph's own is compared with, as an order of circuits."""


def of_pairs(plan: Plan, *keys: str) -> dict[str, Any]:
    """Return those keys of the section `attribution` that a result rests on, as `gigraph.pair.Pair` takes them."""
    return plan.config.attribution.model_dump(include=set(keys))


def output_of(target: str) -> list[str]:
    """Return the key of what is attributed for classes; none for other targets."""
    return ["class_output"] * (target == CLASSES)


def attributor(plan: Plan) -> list[Path]:
    """Return the module of the graph's attribution method."""
    return [source_of(plan.config.attribution.method)]


def vocabulary(method: str, layer: str) -> list[Read]:
    """Return what tells a layer's concepts and their origin: its centre, its concept vectors, its encoder."""
    return [
        read("centre", layer=layer),
        read("concepts", method=method, layer=layer),
        read("encoder", method=method, layer=layer),
    ]


def merged(method: str, layer: str) -> list[Read]:
    """Return a layer's vocabulary with its families, as the graph reads it."""
    return [*vocabulary(method, layer), read("families", method=method, layer=layer)]


class Attribution(Stage):
    """Attributes the targets of a shard's images, concepts of a later layer or classes (Eqs. 3 to 7).

    It says the integrals' estimated error, as a share of sum |GIG| of an image and target.
    """

    of = ("method", "source", "target", "shard")
    writes = ("attributions",)
    gpu = torch = model = True

    def settings(self, plan: Plan, method: str, source: str, target: str, shard: int) -> dict[str, Any]:
        # Which targets an image has: classes are chosen by one key, concepts by two others.
        chosen = ("top_classes",) if target == CLASSES else ("class_targets", "top_targets")
        return {
            "layers": [source, target],
            "images": str(plan.image_folder),
            "attribution": of_pairs(plan, *INTEGRAL, *output_of(target)),
            **of_pairs(plan, "top_sources", *chosen),
        }

    def reads(self, plan: Plan, method: str, source: str, target: str, shard: int) -> dict[str, Read | list[Read]]:
        of = {"method": method, "shard": shard}
        towards: list[Read] = []
        if target != CLASSES:
            towards = [
                read("concepts", method=method, layer=target),
                read("kept", method=method, layer=target),
                read("attributions", source=target, target=CLASSES, **of),
                read("families", method=method, layer=target),
            ]
        return {
            "targets": towards,
            "selection": read("selection"),
            "vocabulary": [*merged(method, source)],
            "coefficients": read("coefficients", layer=source, **of),
        }

    def code(self, plan: Plan, method: str, source: str, target: str, shard: int) -> list[Path]:
        return attributor(plan)

    def need(self, sizes: Sizes) -> tuple[float, float]:
        return pair_need(sizes)

    def cost(self, run: Run, rate: Throughput) -> Cost:
        refined = min(REFINED, run.max_steps / run.steps)
        return Cost(
            len(run.pairs) * run.shards * run.methods,
            run.methods
            * sum(
                run.attributed
                * (
                    rate.decode
                    + rate.forward
                    + run.steps * refined * (1 + run.targets(pair)) * rate.segment[pair]
                    + run.targets(pair) * REFINING
                )
                for pair in run.pairs
            ),
            run.memory + max(16 * run.codes(layer) * layer.nonzeros / run.shards for layer in run.layers),
            run.methods * sum(run.attributed * run.targets(pair) * (8 * run.top_sources + 60) for pair in run.pairs),
        )


class Kept(Stage):
    """Ranks a layer's concepts by class (Eq. 7)."""

    of = ("method", "layer")
    writes = ("kept",)

    def settings(self, plan: Plan, method: str, layer: str) -> dict[str, Any]:
        return {"layer": layer, "class_targets": plan.config.attribution.class_targets}

    def reads(self, plan: Plan, method: str, layer: str) -> dict[str, Read | list[Read]]:
        towards = read("attributions", method=method, source=layer, target=CLASSES)
        return {"selection": read("selection"), "attributions": towards}

    def need(self, sizes: Sizes) -> tuple[float, float]:
        return gathering_need(sizes)

    def cost(self, run: Run, rate: Throughput) -> Cost:
        return Cost(len(run.layers) * run.methods, 0, 0, 0)


class Ablation(Stage):
    """Checks the edges that may be shown by exact ablation."""

    of = ("method", "source", "target")
    writes = ("ablations",)
    gpu = torch = model = True

    def settings(self, plan: Plan, method: str, source: str, target: str) -> dict[str, Any]:
        return {"layers": [source, target], "attribution": of_pairs(plan, "baseline", *output_of(target))}

    def reads(self, plan: Plan, method: str, source: str, target: str) -> dict[str, Read | list[Read]]:
        towards: list[Read] = []
        if target != CLASSES:
            own = {"method": method, "layer": target}
            towards = [read("concepts", **own), read("kept", **own), read("families", **own)]
        return {
            "selection": read("selection"),
            "vocabulary": [*merged(method, source)],
            "kept": read("kept", method=method, layer=source),
            "coefficients": read("coefficients", method=method, layer=source),
            "targets": towards,
        }

    def need(self, sizes: Sizes) -> tuple[float, float]:
        return pair_need(sizes)

    def cost(self, run: Run, rate: Throughput) -> Cost:
        return Cost(
            len(run.pairs) * run.methods,
            run.methods * sum(run.attributed * (1 + run.kept) * rate.segment[pair] for pair in run.pairs),
            run.memory / 4 + max(16 * run.codes(layer) * layer.nonzeros for layer in run.layers),
            0,
        )


class Circuits(Stage):
    """Runs the network on circuits of a share of the classes, and looks for the smallest.

    It says how many nodes give which part of the class's probability alone, and what they give other classes' images; 0
    nodes where the network says the class without any concept.
    """

    of = ("method", "shard")
    writes = ("circuits", "circuit_curves", "circuit_members")
    gpu = torch = kernels = model = True

    def settings(self, plan: Plan, method: str, shard: int) -> dict[str, Any]:
        return {
            "layers": plan.layers,
            "shards": len(plan.shards),
            "seed": plan.config.seed,
            "images": str(plan.image_folder),
            "tolerances": plan.tolerances(plan.layers),
            "attribution": of_pairs(plan, "method", "baseline", "class_output"),
            "circuit": plan.config.circuit.model_dump(),
        }

    def reads(self, plan: Plan, method: str, shard: int) -> dict[str, Read | list[Read]]:
        of = {"method": method}
        return {
            "selection": read("selection"),
            "classes": read("classes"),
            "vocabulary": [one for layer in plan.layers for one in merged(method, layer)],
            # Images are coded again in all layers but the first, where their coefficients lie there.
            "calibration": [read("calibration", layer=layer, **of) for layer in plan.layers[1:]],
            "coefficients": [read("coefficients", layer=layer, **of) for layer in plan.layers],
            "attributions": [read("attributions", source=layer, target=CLASSES, **of) for layer in plan.layers],
        }

    def code(self, plan: Plan, method: str, shard: int) -> list[Path]:
        return [source_of(BESIDE)]

    def need(self, sizes: Sizes) -> tuple[float, float]:
        mb, minutes = pair_need(sizes)
        return mb, 4 * minutes

    def cost(self, run: Run, rate: Throughput) -> Cost:
        steps = itertools.pairwise([*(layer.name for layer in run.layers), CLASSES])
        once = sum(rate.segment[pair] for pair in steps)
        once += sum(layer.positions * rate.code(layer) for layer in run.layers[1:]) + CIRCUIT * len(run.layers)
        return Cost(
            run.shards * run.methods,
            run.methods * run.circuits * once,
            run.memory + max(16 * run.codes(layer) * layer.nonzeros for layer in run.layers),
            0,
        )


class Graph(Stage):
    """Assembles nodes and edges."""

    of = ("method",)
    writes = ("nodes", "edges", "members", "kept_of_all", "graphml")

    def settings(self, plan: Plan, method: str) -> dict[str, Any]:
        return {"layers": plan.layers, "pairs": plan.pairs, "shards": len(plan.shards)}

    def reads(self, plan: Plan, method: str) -> dict[str, Read | list[Read]]:
        return {
            "selection": read("selection"),
            "classes": read("classes"),
            "concepts": read("concepts", method=method),
            "families": read("families", method=method),
            "kept": read("kept", method=method),
            "ablations": [read("ablations", method=method, source=a, target=b) for a, b in plan.pairs],
            "attributions": [read("attributions", method=method, source=a, target=b) for a, b in plan.pairs],
        }

    def need(self, sizes: Sizes) -> tuple[float, float]:
        return gathering_need(sizes)

    def cost(self, run: Run, rate: Throughput) -> Cost:
        return Cost(run.methods, run.methods * run.edges * EDGE, 0, 0)


def pair_need(sizes: Sizes) -> tuple[float, float]:
    """Return the megabytes and minutes of a job that runs a segment."""
    return 2 * sizes.dictionary_mb + 4 * sizes.coded_mb, sizes.attributed / 2


def gathering_need(sizes: Sizes) -> tuple[float, float]:
    """Return the megabytes and minutes of a job that gathers the tables of all images."""
    return 8 * sizes.coded_mb + 4 * sizes.dictionary_mb, 0.0
