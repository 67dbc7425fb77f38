"""How far the graph can be trusted: reconstruction, the target `evaluation`, and the drawn world's truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gigraph.attributors.registry import MODULES, source_of
from gigraph.extractors.registry import NONZEROS
from gigraph.planning.costs import DRAWN, Cost, Run, Sizes, Throughput
from gigraph.planning.stages.attribution import INTEGRAL, attributor, gathering_need, of_pairs, vocabulary
from gigraph.planning.stages.concepts import Concepts
from gigraph.planning.stages.data import SPREAD, SPREAD_IMAGES
from gigraph.planning.stages.stage import Read, Stage, loosely, planted, read
from gigraph.records.paths import NETWORKS
from gigraph.reserved import CLASSES

if TYPE_CHECKING:
    from gigraph.planning.plan import Plan


FIGURES = ("reconstruction", "quadrature", "ablation")
"""A method's figures in the report."""
PROBED = 400
"""Scenes of a drawn world that extractors are compared on, at most."""
LAYERS = 5
"""Of what a sweep holds of so many layers, a job asks a cluster for the memory."""
COMPARED = 60_000
"""Positions of maps that a comparison looks at, about."""
BASES = 200
"""Scenes of which each factor is changed: some ten factors give 2,000 pairs."""
SHORTER = 8
"""The autoencoders of the comparison, which are many, are trained for one in so many steps."""
PASSES = 2
"""Its dictionaries, nine a layer, pass so often over the PFVs, a third of the run's passes."""
PICTURES = ("reconstruction", "extraction", "interlayer", "edges", "stability", "sensitivity")
"""The evaluation's figures; on the drawn world there is ``truth``, too."""


class Reconstruction(Stage):
    """Measures how well the concepts reconstruct the attributed images (Table 1)."""

    of = ("method",)
    writes = ("reconstruction",)

    def settings(self, plan: Plan, method: str) -> dict[str, Any]:
        c = plan.config
        methods = {name: c.layer(name).coefficients.method for name in plan.layers}
        seen = {"seed": c.seed, "holdout": c.evaluation.holdout}
        return {"layers": plan.layers, "shards": len(plan.shards), "methods": methods, **seen}

    def reads(self, plan: Plan, method: str) -> dict[str, Read | list[Read]]:
        own = ("concepts", "coefficients", "decisions")
        return {"centre": read("centre"), **{name: read(name, method=method) for name in own}}

    def need(self, sizes: Sizes) -> tuple[float, float]:
        return gathering_need(sizes)

    def cost(self, run: Run, rate: Throughput) -> Cost:
        return Cost(run.methods, 0, 0, 0)


class Alignment(Stage):
    """Compares the concepts with the drawn parts."""

    of = ("method",)
    writes = ("alignment",)
    gpu = torch = model = True

    def settings(self, plan: Plan, method: str) -> dict[str, Any]:
        drawn = plan.config.drawn.model_dump(include={"seed", "size"})
        return {"world": plan.world, **drawn, "layers": plan.layers, "shards": len(plan.shards), "method": method}

    def reads(self, plan: Plan, method: str) -> dict[str, Read | list[Read]]:
        own = {name: read(name, method=method) for name in ("concepts", "families")}
        return {"centres": read("centre"), **own, "pfvs": read("pfvs")}

    def code(self, plan: Plan, method: str) -> list[Path]:
        return plan.world_code

    def need(self, sizes: Sizes) -> tuple[float, float]:
        return gathering_need(sizes)

    def cost(self, run: Run, rate: Throughput) -> Cost | None:
        return Cost(run.methods, run.methods * run.scenes * (rate.draw + rate.forward), 0, 0) if run.scenes else None


class Figures(Stage):
    """Draws the report's figures."""

    of = ("method",)
    writes = ("figure",)

    def settings(self, plan: Plan, method: str) -> dict[str, Any]:
        return {"pairs": plan.pairs, "shards": len(plan.shards), "attribution": of_pairs(plan, "method")}

    def reads(self, plan: Plan, method: str) -> dict[str, Read | list[Read]]:
        return {
            "reconstruction": read("reconstruction", method=method),
            "edges": read("edges", method=method),
            "attributions": [read("attributions", method=method, source=a, target=b) for a, b in plan.pairs],
        }

    def need(self, sizes: Sizes) -> tuple[float, float]:
        return gathering_need(sizes)

    def cost(self, run: Run, rate: Throughput) -> Cost:
        return Cost(run.methods, run.methods * DRAWN, 0, 0)


# ---- the target `evaluation`: everything below, for all of `evaluation.methods` ------------------------------


class Heldout(Stage):
    """Chooses the held-out images that the evaluation looks at."""

    writes = ("heldout",)

    def settings(self, plan: Plan) -> dict[str, Any]:
        return {"seed": plan.config.seed, **plan.config.evaluation.model_dump(include={"holdout", "images"})}

    def reads(self, plan: Plan) -> dict[str, Read | list[Read]]:
        return {"manifests": read("manifest"), "predictions": loosely("predictions") if plan.unlabelled else []}


class Validation(Stage):
    """Validates a layer's concepts on held-out images (Tables 1 and 2, Figs. 4 and 5)."""

    of = ("method", "layer")
    writes = ("measures", "curves")
    gpu = torch = model = True

    def settings(self, plan: Plan, method: str, layer: str) -> dict[str, Any]:
        c = plan.config
        later = [target for target in plan.pairs_from(layer) if target != CLASSES]
        return {
            "seed": c.seed,
            "method": method,
            "layer": layer,
            "targets_of": later,
            "tolerances": plan.tolerances([layer, *later]),
            "images": str(plan.image_folder),
            "shards": len(plan.shards),
            "attribution": of_pairs(plan, *INTEGRAL, "class_output"),
            **c.evaluation.model_dump(include={"holdout", "interlayer_images", "targets", "points", "subsets"}),
        }

    def reads(self, plan: Plan, method: str, layer: str) -> dict[str, Read | list[Read]]:
        wanted = [layer, *(target for target in plan.pairs_from(layer) if target != CLASSES)]
        return {
            "heldout": read("heldout"),
            "pfvs": loosely("pfvs", layer=layer),
            "vocabularies": [one for name in wanted for one in coder(method, name)],
        }

    def code(self, plan: Plan, method: str, layer: str) -> list[Path]:
        return [source_of(name) for name in MODULES]  # it compares all of them


class Stability(Stage):
    """Finds a layer's concepts again, with other seeds, sizes and samples."""

    of = ("method", "layer")
    writes = ("stability", "stability_measures")
    gpu = True

    def settings(self, plan: Plan, method: str, layer: str) -> dict[str, Any]:
        return {**Concepts().settings(plan, method, layer), "seeds": plan.config.evaluation.seeds}

    def reads(self, plan: Plan, method: str, layer: str) -> dict[str, Read | list[Read]]:
        return {
            "concepts": read("concepts", method=method, layer=layer),
            **Concepts().reads(plan, method, layer),
        }

    def code(self, plan: Plan, method: str, layer: str) -> list[Path]:
        return [*Concepts().code(plan, method, layer), *Concepts().code(plan, "random", layer)]


class EdgeChecks(Stage):
    """Checks edges by exact ablation, shown and not."""

    of = ("method",)
    writes = ("checks", "checks_measures")
    gpu = torch = model = True

    def settings(self, plan: Plan, method: str) -> dict[str, Any]:
        c = plan.config
        return {
            "seed": c.seed,
            "method": method,
            "layers": plan.layers,
            "pairs": plan.pairs,
            "tolerances": plan.tolerances(plan.layers),
            "images": str(plan.image_folder),
            "shards": len(plan.shards),
            "edges": c.evaluation.edges,
            "attribution": of_pairs(plan, "method", "baseline", "class_output"),
        }

    def reads(self, plan: Plan, method: str) -> dict[str, Read | list[Read]]:
        return {
            "selection": read("selection"),
            "edges": read("edges", method=method),
            "attributions": [read("attributions", method=method, source=a, target=b) for a, b in plan.pairs],
            "vocabularies": [one for layer in plan.layers for one in coder(method, layer)],
            "families": read("families", method=method),
        }


class Probes(Stage):
    """Gathers what extractors are compared on, of the trained network and of the same with its weights shuffled."""

    parts = ("layer",)
    sweeps = True
    writes = ("probes", "maps", "pairs")
    gpu = torch = model = True

    def settings(self, plan: Plan, layer: str | None = None) -> dict[str, Any]:
        c = plan.config
        own = {"layer": layer, **self.of_layer(plan, layer)} if layer is not None else {}
        drawn: dict[str, Any] = {"world": plan.world}
        if plan.drawn:
            scenes = min(PROBED, c.evaluation.scenes)
            drawn |= {"scenes": scenes, "bases": BASES, "size": c.drawn.size, "drawn_seed": c.drawn.seed}
        return {
            "seed": c.seed,
            "holdout": c.evaluation.holdout,
            **own,
            "contribution": c.contribution.model_dump(),
            "source": str(plan.image_folder),
            "unlabelled": plan.unlabelled,
            "networks": networks(plan),
            "images": SPREAD_IMAGES,
            "positions": SPREAD,
            **drawn,
        }

    def of_layer(self, plan: Plan, layer: str) -> dict[str, Any]:
        own = plan.config.layer(layer)
        return {"pfvs_per_image": own.sampling.pfvs_per_image, "center": own.concepts.center}

    def reads(self, plan: Plan, layer: str | None = None) -> dict[str, Read | list[Read]]:
        checked = loosely("layers", waits=True)
        return {"checked": checked, "manifests": read("manifest"), "heldout": read("heldout")}

    def need(self, sizes: Sizes) -> tuple[float, float]:
        # Maps of all layers, as found and joined; a layer has about as many numbers as any other.
        return 4e-6 * 4 * LAYERS * PROBED * sizes.positions * sizes.channels, 30

    def code(self, plan: Plan, layer: str | None = None) -> list[Path]:
        return plan.world_code


class Comparison(Stage):
    """Compares one extractor's concepts of a layer by reading, size, seed and coder, on both networks."""

    of = ("method", "layer")
    writes = ("comparison",)
    gpu = torch = kernels = model = True

    def settings(self, plan: Plan, method: str, layer: str) -> dict[str, Any]:
        own = plan.config.layer(layer).coefficients
        given = own.penalty == "nonzeros"
        coded = {"method": own.method, "sign": own.sign, "nonzeros": round(own.value) if given else round(NONZEROS)}
        found = Concepts().settings(plan, method, layer)
        if "steps" in found:
            found["steps"] = max(1, found["steps"] // SHORTER)
        if method == "dictionary":
            found["passes"] = PASSES
        attribution = of_pairs(plan, *INTEGRAL, "class_output")
        return {
            **found, "coder": coded, "tolerance": own.tolerance, "attribution": attribution, "networks": networks(plan),
        }  # fmt: skip

    def reads(self, plan: Plan, method: str, layer: str) -> dict[str, Read | list[Read]]:
        return {name: read(name, layer=layer) for name in Probes.writes}

    def need(self, sizes: Sizes) -> tuple[float, float]:
        mb, minutes = Concepts().need(sizes)
        # Maps and their coefficients, of both networks; concepts are found nine times.
        return mb + 8e-6 * COMPARED * (sizes.channels + 3 * sizes.concepts), 30 + 9 * minutes

    def code(self, plan: Plan, method: str, layer: str) -> list[Path]:
        return [*Concepts().code(plan, method, layer), *attributor(plan)]


def networks(plan: Plan) -> dict[str, Any]:
    """Return the settings ``model`` of the networks that extractors are compared on."""
    trained, shuffled = NETWORKS
    known = {trained: plan.model_settings, shuffled: {**plan.model_settings, "shuffled": plan.config.seed}}
    return {name: known[name] for name in plan.values("network")}


class Effects(Stage):
    """Redraws the drawn world's scenes without each part."""

    writes = ("effects",)
    torch = model = True

    def settings(self, plan: Plan) -> dict[str, Any]:
        c = plan.config
        drawn = c.drawn.model_dump(include={"size", "seed"})
        return {"world": plan.world, "scenes": max(10, c.evaluation.scenes // 2), **drawn}

    def reads(self, plan: Plan) -> dict[str, Read | list[Read]]:
        return {"checkpoint": read("checkpoint") if plan.trained else []}

    def code(self, plan: Plan) -> list[Path]:
        return plan.world_code


class Truth(Stage):
    """Compares a method's concepts with the drawn world's truth."""

    of = ("method",)
    writes = ("truth",)
    gpu = torch = model = True

    def settings(self, plan: Plan, method: str) -> dict[str, Any]:
        c = plan.config
        return {
            "method": method,
            "first": method == c.evaluated[0],
            "layers": plan.layers,
            "tolerances": plan.tolerances(plan.layers),
            "scenes": c.evaluation.scenes,
            "world": plan.world,
            "size": c.drawn.size,
            "drawn_seed": c.drawn.seed,
            "attribution": of_pairs(plan, *INTEGRAL),
        }

    def reads(self, plan: Plan, method: str) -> dict[str, Read | list[Read]]:
        vocabularies = [one for layer in plan.layers for one in coder(method, layer)]
        families = read("families", method=method)
        return {"effects": read("effects"), "vocabularies": vocabularies, "families": families}

    def code(self, plan: Plan, method: str) -> list[Path]:
        return [*attributor(plan), *plan.world_code]


def coder(method: str, layer: str) -> list[Read]:
    """Return what puts a PFV into a layer's concepts: its vocabulary and its calibrated penalty."""
    return [*vocabulary(method, layer), read("calibration", method=method, layer=layer)]


def shown(plan: Plan) -> dict[str, Any]:
    """Return what the evaluation's tables and figures are over."""
    c = plan.config
    return {
        "layers": plan.layers,
        "pairs": plan.pairs,
        "methods": c.evaluated,
        "graphs": c.methods,
        "shortcut": planted(plan),
        "attribution": of_pairs(plan, "method"),
    }


class EvaluationTables(Stage):
    """Gathers the evaluation of all methods into one table a topic."""

    writes = ("topic", "stability_of_all", "summary")

    def settings(self, plan: Plan) -> dict[str, Any]:
        return {**shown(plan), "shards": len(plan.shards), "control": plan.control is not None}

    def reads(self, plan: Plan) -> dict[str, Read | list[Read]]:
        evaluated, graphed = plan.config.evaluated, plan.config.methods
        return {
            **{name: read(name, method=evaluated) for name in ("measures", "curves")},
            **{name: read(name, method=graphed) for name in ("stability", "stability_measures")},
            "checks": read("checks_measures", method=graphed),
            "comparison": read("comparison", method=evaluated),
            "truth": read("truth", method=evaluated) if plan.drawn else [],
            "predictions": loosely("predictions") if plan.control is not None else [],
            "control": controlled(plan),
        }


def controlled(plan: Plan) -> list[Read]:
    """Return what is held against a network with shuffled weights: every measure of the first graph's extractor."""
    if plan.control is None:
        return []
    names = ("measures", "stability_measures", "checks_measures", *["truth"] * plan.drawn)
    return [*(Read(name, control=True) for name in names), Read("predictions", loosely=True, control=True)]


PICTURED = ("reconstruction", "curves", "classes", "interlayer", "edges", "stability", "sensitivity")
"""Topics that there are figures of; of a drawn world with a shortcut, its truth, too."""


class EvaluationFigures(Stage):
    """Draws the evaluation's figures."""

    writes = ("evaluation_figure",)

    def settings(self, plan: Plan) -> dict[str, Any]:
        return shown(plan)

    def reads(self, plan: Plan) -> dict[str, Read | list[Read]]:
        topics = [*PICTURED, *["truth"] * bool(shown(plan)["shortcut"])]
        return {"topics": read("topic", topic=topics), "stability": read("stability_of_all")}
