"""The pictures of the concepts, and the explorer."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from gigraph.hashing import file_digest
from gigraph.planning.costs import CUT, GRAPHED, SHOWN, TILE, Cost, Run, Sizes, Throughput
from gigraph.planning.stages.attribution import INTEGRAL, gathering_need, of_pairs
from gigraph.planning.stages.stage import Read, Stage, loosely, planted, read
from gigraph.reserved import CLASSES

if TYPE_CHECKING:
    from gigraph.planning.plan import Plan


class Exemplars(Stage):
    """Pictures a layer's kept concepts (iERFs by Eq. 10), and says where they are in images."""

    of = ("method", "layer")
    writes = ("exemplars", "localisation", "sheets")
    gpu = torch = model = True

    def settings(self, plan: Plan, method: str, layer: str) -> dict[str, Any]:
        c = plan.config
        own = {"layer": layer, "images": str(plan.image_folder), "contribution": c.contribution.method}
        relevant = {"attribution": of_pairs(plan, *INTEGRAL, "class_output")} if c.exemplars.relevant else {}
        return {**c.exemplars.model_dump(), **own, **relevant}

    def reads(self, plan: Plan, method: str, layer: str) -> dict[str, Read | list[Read]]:
        return {
            "selection": read("selection"),
            "manifests": read("manifest"),
            "centre": read("centre", layer=layer),
            "concepts": read("concepts", method=method, layer=layer),
            "families": read("families", method=method, layer=layer),
            "kept": read("kept", method=method, layer=layer),
            "pfvs": loosely("pfvs", layer=layer),
            "coefficients": read("coefficients", method=method, layer=layer),
            "attributions": read("attributions", method=method, source=layer, target=CLASSES),
            # The vocabulary is opened by its root; here so that the job waits for it.
            "encoder": read("encoder", method=method, layer=layer),
            "uniform": read("uniform", layer=layer) if plan.config.exemplars.reading == "filter" else [],
        }

    def need(self, sizes: Sizes) -> tuple[float, float]:
        minutes = sizes.rows * sizes.channels * max(1, sizes.concepts).bit_length() / 2e8 + sizes.concepts / 20
        return 4 * sizes.pfvs_mb + 3 * sizes.dictionary_mb, minutes

    def cost(self, run: Run, rate: Throughput) -> Cost:
        work = 0.0
        for layer in run.layers:
            # A PFV is cut once, and an image is read and run forward once, however many concepts they picture.
            tiles = run.fields(layer)
            images = min(tiles, run.images)
            work += images * (2 * rate.decode + rate.reached[layer.name]) + tiles * (rate.field[layer.name] + CUT)
            if run.relevant:  # the maps of relevance, and the PFVs that they lead to
                maps = 2 * run.steps * rate.segment[layer.name, CLASSES]
                work += run.attributed * (maps + rate.decode + rate.forward)
        return Cost(
            len(run.layers) * run.methods,
            run.methods * work,
            run.batch * rate.activations + max(8 * run.rows(layer) * layer.channels for layer in run.layers),
            run.methods * sum((run.pictured(layer) + run.placed) * TILE for layer in run.layers),
        )


class Explorer(Stage):
    """Builds the explorer. It shows an evaluation that lies there, and does not wait for one."""

    writes = ("explorer",)
    shows = ("evaluation_tables", "effects")

    def settings(self, plan: Plan) -> dict[str, Any]:
        c = plan.config
        consecutive = list(itertools.pairwise(plan.layers))
        return {
            **c.explorer.model_dump(),
            "title": plan.title,
            **c.graph.model_dump(),
            "method": c.methods[0],
            **c.exemplars.model_dump(),
            "layers": plan.layers,
            "model": c.model.source,
            "attribution": of_pairs(plan, "method", "class_output"),
            "drawn": plan.drawn,
            "shortcut": planted(plan),
            "pairs": [pair for pair in plan.pairs if pair[1] == CLASSES or pair in consecutive],
            "shards": len(plan.shards),
            "images": str(plan.image_folder),
            "model_settings": plan.model_settings,
            "preprocessing": c.preprocessing.model_dump(),
        }

    def reads(self, plan: Plan) -> dict[str, Read | list[Read]]:
        method = plan.config.methods[0]
        once = ("images", "classes", "layers", "rejected", "selection")
        graph = ("nodes", "edges", "members", "kept_of_all")
        own = (*graph, "reconstruction", "decisions", "concepts", "tree", "coefficients")
        pictures = ("exemplars", "localisation", "sheets")
        circuits = ("circuits", "circuit_curves", "circuit_members")
        pairs = self.settings(plan)["pairs"]
        return {
            **{name: read(name) for name in once},
            **{name: read(name, method=method) for name in (*own, "families", *pictures, *circuits)},
            "alignment": read("alignment", method=method) if plan.drawn else [],
            "attributions": [read("attributions", method=method, source=a, target=b) for a, b in pairs],
        }

    def rests_on(self, plan: Plan) -> list[Any]:
        return [file_digest(file) for file in plan.explorer_program]

    def need(self, sizes: Sizes) -> tuple[float, float]:
        return gathering_need(sizes)

    def cost(self, run: Run, rate: Throughput) -> Cost | None:
        tiles = sum(run.pictured(layer) + run.placed for layer in run.layers)
        return Cost(1, SHOWN * run.edges + GRAPHED * run.attributed, 0, run.methods * tiles * TILE)


class Evidence(Explorer):
    """Builds the explorer again, now with the evaluation in it."""

    writes = ("evidence",)

    def reads(self, plan: Plan) -> dict[str, Read | list[Read]]:
        return {
            **super().reads(plan),
            "index": read("explorer"),
            "topics": read("topic"),
            "stability": read("stability_of_all"),
            "effects": read("effects") if plan.drawn else [],
        }

    def cost(self, run: Run, rate: Throughput) -> Cost | None:
        return None
