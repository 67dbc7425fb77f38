"""The plan of a run: which tables there are, what each is made from, and where it lies.

A *stage* is a script that makes tables. Its `settings` are the keys of the configuration that its result depends
on and nothing else (`CHECKED_ONLY` are the exceptions); its *lineage* is the hash of those settings, of its code,
and of its inputs' lineages. So a table is up to date exactly if the lineage stored in it is the one planned here.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from gigraph.errors import UserError
from gigraph.extractors import source_of
from gigraph.hashing import digest, file_digest
from gigraph.model.sources import MENAGERIE, WORLDS, checkpoint_of, code_of, is_weights_file, preset_crops
from gigraph.planning.config import PLUGGED, Coefficients, Config, LayerSettings
from gigraph.planning.lineage import code_digest, imported_beside, module_file, modules_digest
from gigraph.reserved import CLASSES

ASSETS = Path(__file__).parents[1] / "explorer" / "assets"
"""The explorer's program."""
BETA = Path(__file__).parents[1] / "model" / "centre.py"
"""What computes a layer's beta [Eq. 8]: the stage `network`, for the stage `centre`."""
CHECKED_ONLY = {"network": {"counts"}}
"""Settings that a stage only checks: they may end a run early, but leave no trace in a table."""


class Plan:
    """The tables of one configuration.

    Parameters
    ----------
    config : Config
        A validated configuration.
    scripts : Path
        Folder of the workflow's scripts, one per stage.
    """

    def __init__(self, config: Config, scripts: Path):
        self.config = config
        self.scripts = scripts
        self.root = Path(config.output)
        self.layers = config.names
        self.shards = list(range(config.images.shards))
        self.pairs = config.pairs()
        # Methods, not functions, so that each plan has its own cache.
        self.lineage = cache(self._lineage)

    # ---- where things lie -----------------------------------------------------------------------------------

    @property
    def drawn(self) -> bool:
        """Whether the images are the drawn world's."""
        return self.config.images.source == MENAGERIE

    @property
    def image_folder(self) -> Path:
        """The folder that image paths are relative to."""
        return self.root / MENAGERIE / "images" if self.drawn else Path(self.config.images.source)

    @property
    def trained(self) -> bool:
        """Whether the workflow trains the drawn world's model itself."""
        return self.config.model.source == MENAGERIE and self.config.menagerie.train

    @property
    def seeds(self) -> dict[str, int]:
        """Every seed that results depend on."""
        drawn = self.drawn or self.config.model.source == MENAGERIE
        return {"seed": self.config.seed} | ({"menagerie.seed": self.config.menagerie.seed} if drawn else {})

    @property
    def model_settings(self) -> dict[str, Any]:
        """What `gigraph.model.models.load_model` needs."""
        settings = self.config.model.model_dump()
        if self.trained:
            settings["weights"] = str(self.root / MENAGERIE / "model.safetensors")
        return settings

    @property
    def model_files(self) -> list[str]:
        """The user's files that define the model: the factory's file and the weights file.

        Raises
        ------
        UserError
            If one of them is missing.
        """
        files = []
        weights = self.config.model.weights
        if weights and is_weights_file(weights):
            files.append(("model.weights", weights))
        source = self.config.model.source
        if ".py:" in source:
            files.append(("model.source", source.rpartition(":")[0]))
        for key, file in files:
            if not Path(file).is_file():
                raise UserError(
                    f"config: {key}: there is no file {file}; correct the path (it is relative to {Path.cwd()})"
                )
        return [file for _, file in files]

    def pairs_from(self, source: str) -> list[str]:
        """Return the targets of a source layer."""
        return [target for a, target in self.pairs if a == source]

    @cached_property
    def unlabelled(self) -> bool:
        """Whether the image folder has no class folders; the predicted class then stands for the label."""
        if self.drawn:
            return False
        return all(entry.class_name is None for entry in self._entries)

    @cached_property
    def class_folders(self) -> list[str]:
        """The names of the class folders, sorted; none in a flat folder and in the drawn world."""
        return [] if self.drawn else sorted({entry.class_name for entry in self._entries if entry.class_name})

    @cached_property
    def image_count(self) -> int:
        """Number of images, the unreadable ones included."""
        return self.config.menagerie.count if self.drawn else len(self._limited)

    @cached_property
    def _limited(self) -> list[Any]:
        from gigraph.images.listing import limited

        return limited(self._entries, self.config.images.limit_per_class)

    @property
    def crops(self) -> bool:
        """Whether images are cropped to one size, by the configuration or by the preset of the model's weights."""
        model = self.config.model
        return preset_crops(model.source, model.weights) or self.config.preprocessing.crop is not None

    @cached_property
    def image_size(self) -> list[int] | None:
        """Width and height of an image, from which the network's input follows; None where a crop fixes it."""
        if self.drawn:
            return [self.config.menagerie.size] * 2
        if self.crops:
            return None
        from gigraph.images.decoding import Unreadable, decode

        for entry in self._entries:
            try:
                return list(decode(self.image_folder / entry.path, self.config.images.max_pixels).size)
            except Unreadable:
                continue
        raise UserError(f"images.source: no image of {self.image_folder} can be decoded; give another folder")

    @cached_property
    def _entries(self) -> list[Any]:
        from gigraph.images.listing import labelled

        return labelled(self.image_folder, self.config.images.classes)

    @cached_property
    def listing(self) -> list[str]:
        """One digest per shard of the image files in it: path, size and time of change.

        Raises
        ------
        UserError
            If the image folder is missing, empty, or has a class without images.
        """
        if self.drawn:
            return [self.lineage("draw")] * len(self.shards)
        from gigraph.images.listing import listing_digests

        return listing_digests(self._limited, len(self.shards))

    @cached_property
    def _model(self) -> list[Any]:
        trained = [self.lineage("train")] if self.trained else []
        files = [Path(file) for file in self.model_files]
        for code in [*(file for file in files if file.suffix == ".py"), *module_file(self.config.model.source)]:
            files += [file for file in imported_beside(code) if file not in files]
        source = self.config.model.source
        if source in WORLDS and self.config.model.weights is None and not self.trained:
            files.append(checkpoint_of(source))
        digests = [file_digest(file) for file in files]
        return [self.config.model.model_dump(), digests, trained, modules_digest(code_of(source))]

    # ---- what things are made from --------------------------------------------------------------------------

    def settings(self, stage: str, **of: Any) -> dict[str, Any]:
        """Return the settings that a stage's result depends on, for one job's wildcards (layer, source, ...)."""
        c = self.config
        images = {"source": str(self.image_folder), **c.images.model_dump(include={"shards", "limit_per_class"})}
        network = {
            "model": self.model_settings,
            "preprocessing": c.preprocessing.model_dump(),
            "image_size": self.image_size,
        }
        attribution = c.attribution.model_dump(exclude={"pairs"})
        layer = c.layer(of["layer"]) if "layer" in of else None
        match stage:
            case "draw":
                return c.menagerie.model_dump(exclude={"train"})
            case "train":
                return c.menagerie.model_dump(include={"size", "seed"})
            case "network":
                per_layer = {
                    name: {
                        "pfvs_per_image": c.layer(name).sampling.pfvs_per_image,
                        "expansion": c.layer(name).concepts.expansion,
                    }
                    for name in self.layers
                }
                return {
                    **network,
                    "images": images["source"],
                    "classes": c.images.classes,
                    "drawn": self.drawn,
                    "contribution": c.contribution.method,
                    "layers": self.layers,
                    "counts": {"images": self.image_count, "layers": per_layer},
                }
            case "manifest":
                return {**images, "classes": c.images.classes, "max_pixels": c.images.max_pixels}
            case "selection":
                return {
                    "seed": c.seed,
                    "images_per_class": c.attribution.images_per_class,
                    "max_rejected": c.images.max_rejected,
                    "uniform": c.preprocessing.resize is None and not self.crops,
                }
            case "sample":
                sampling = {"layer": of["layer"], **layer.sampling.model_dump()} if layer else {}
                return {
                    **network,
                    "seed": c.seed,
                    "contribution": c.contribution.model_dump(),
                    **sampling,
                    "source": images["source"],
                }
            case "images" | "kernels":
                return {}
            case "centre":
                assert layer
                return {"layer": of["layer"], "center": layer.concepts.center}
            case "concepts":
                assert layer
                return {
                    "seed": c.seed,
                    "layer": of["layer"],
                    "method": of["method"],
                    "holdout": c.evaluation.holdout,
                    **layer.concepts.model_dump(exclude={"center"}),
                    **self._extractor_settings(of["method"], layer),
                }
            case "calibration":
                assert layer
                return {
                    "seed": c.seed,
                    "holdout": c.evaluation.holdout,
                    "layer": of["layer"],
                    **layer.coefficients.model_dump(),
                }
            case "coefficients":
                assert layer
                return {
                    **network,
                    "layer": of["layer"],
                    "tolerance": layer.coefficients.tolerance,
                    "source": images["source"],
                }
            case "attribution":
                # Which targets an image has: classes are chosen by one key, concepts by two others.
                unused = (
                    {"class_targets", "top_targets"} if of["target"] == CLASSES else {"top_classes", "class_output"}
                )
                unused.add("images_per_class")
                kept = {key: value for key, value in attribution.items() if key not in unused}
                return {**network, **kept, "layers": [of["source"], of["target"]], "images": images["source"]}
            case "kept":
                return {"layer": of["layer"], "class_targets": c.attribution.class_targets}
            case "ablation":
                return {
                    **network,
                    "layers": [of["source"], of["target"]],
                    "class_output": c.attribution.class_output,
                    "baseline": c.attribution.baseline,
                }
            case "graph":
                return {"layers": self.layers, "pairs": self.pairs, "shards": len(self.shards)}
            case "exemplars":
                return {
                    **network,
                    **c.exemplars.model_dump(),
                    "layer": of["layer"],
                    "images": images["source"],
                    "contribution": c.contribution.method,
                }
            case "fidelity":
                return {"layers": self.layers, "shards": len(self.shards)}
            case "alignment":
                return {
                    **network,
                    "seed": c.menagerie.seed,
                    "size": c.menagerie.size,
                    "layers": self.layers,
                    "shards": len(self.shards),
                    "method": of["method"],
                }
            case "heldout":
                return {"seed": c.seed, **c.evaluation.model_dump(include={"holdout", "images"})}
            case "validation":
                later = [target for target in self.pairs_from(of["layer"]) if target != CLASSES]
                return {
                    **network,
                    "seed": c.seed,
                    "method": of["method"],
                    "layer": of["layer"],
                    "targets_of": later,
                    "tolerances": self._tolerances([of["layer"], *later]),
                    "images": images["source"],
                    "shards": len(self.shards),
                    **c.attribution.model_dump(include={"class_output", "steps", "max_steps", "tolerance"}),
                    **c.evaluation.model_dump(include={"holdout", "interlayer_images", "targets", "points", "subsets"}),
                }
            case "stability":
                graphed = of["method"] in c.methods
                return {
                    **self.settings("concepts", **of),
                    "seeds": c.evaluation.seeds if graphed else 1,
                    "thorough": graphed,
                }
            case "edges":
                return {
                    **network,
                    "seed": c.seed,
                    "method": of["method"],
                    "layers": self.layers,
                    "pairs": self.pairs,
                    "tolerances": self._tolerances(self.layers),
                    "images": images["source"],
                    "shards": len(self.shards),
                    "edges": c.evaluation.edges,
                    "class_output": c.attribution.class_output,
                    "baseline": c.attribution.baseline,
                }
            case "effects":
                scenes = {"scenes": max(10, c.evaluation.scenes // 2)}
                return {**network, **scenes, **c.menagerie.model_dump(include={"size", "seed"})}
            case "truth":
                return {
                    **network,
                    "method": of["method"],
                    "first": of["method"] == c.evaluated[0],
                    "layers": self.layers,
                    "tolerances": self._tolerances(self.layers),
                    "scenes": c.evaluation.scenes,
                    "size": c.menagerie.size,
                    "drawn_seed": c.menagerie.seed,
                    **c.attribution.model_dump(include={"steps", "max_steps", "tolerance"}),
                }
            case "evaluation_tables" | "evaluation_figures":
                return {
                    "layers": self.layers,
                    "pairs": self.pairs,
                    "methods": c.evaluated,
                    "graphs": c.methods,
                    "drawn": self.drawn,
                }
            case "figures":
                return {"pairs": self.pairs, "shards": len(self.shards)}
            case "explorer" | "evidence":
                consecutive = list(itertools.pairwise(self.layers))
                return {
                    **c.explorer.model_dump(),
                    **c.graph.model_dump(),
                    "method": c.methods[0],
                    **c.exemplars.model_dump(),
                    "layers": self.layers,
                    "model": c.model.source,
                    "class_output": c.attribution.class_output,
                    "drawn": self.drawn,
                    "pairs": [pair for pair in self.pairs if pair[1] == CLASSES or pair in consecutive],
                    "shards": len(self.shards),
                    "images": images["source"],
                    "model_settings": self.model_settings,
                    "preprocessing": c.preprocessing.model_dump(),
                }
        raise ValueError(f"no stage {stage!r}")

    def _extractor_settings(self, method: str, layer: LayerSettings) -> dict[str, Any]:
        """Return what an extractor needs besides the settings of the clusterings."""
        c = self.config
        if method.startswith(PLUGGED):
            return {"name": method.removeprefix(PLUGGED)}
        if method not in {"dictionary", "sae"}:
            return {}
        # Where lambda is not calibrated to a number of non-zeros, the schema's default stands for it.
        wanted = layer.coefficients if layer.coefficients.penalty == "nonzeros" else Coefficients()
        return {"nonzeros": wanted.value, **(c.autoencoder.model_dump() if method == "sae" else {})}

    def _tolerances(self, layers: Sequence[str]) -> dict[str, float]:
        return {name: self.config.layer(name).coefficients.tolerance for name in layers}

    def settings_json(self, stage: str, **of: Any) -> str:
        """Return a stage's settings as canonical JSON."""
        return json.dumps(self.settings(stage, **of), sort_keys=True)

    def sweep_json(self, shard: int | str) -> str:
        """Return the settings of one sampling sweep: those of all layers, with the lineage of each layer's table."""
        layers = {
            name: {
                "pfvs_per_image": self.config.layer(name).sampling.pfvs_per_image,
                "lineage": self.lineage("sample", layer=name, shard=shard),
            }
            for name in self.layers
        }
        return json.dumps({**self.settings("sample"), "layers": layers}, sort_keys=True)

    def check(self) -> None:
        """Look at everything that can be judged before the first job: files, folders, class names.

        Raises
        ------
        UserError
            One line that names the key, file or folder and the remedy.
        """
        _ = self.model_files, self.listing, self.image_size

    def inputs(self, stage: str, **of: Any) -> list[Any]:
        """Return the lineages of a stage's inputs, or what stands for them where they are no tables."""
        run = self.lineage
        method = of.get("method")
        match stage:
            case "draw" | "train" | "kernels":
                return []
            case "network":
                # The drawn world's class names are among its model's code, whatever model looks at its images.
                return [*self._model, self.class_folders, modules_digest(code_of(self.config.images.source))]
            case "manifest":
                # A further class folder moves the labels of all those after it, in every shard.
                return [self.listing[int(of["shard"])], self.class_folders]
            case "selection":
                listed = [run("manifest", shard=shard) for shard in self.shards]
                return listed + [run("sample", shard=shard) for shard in self.shards] if self.unlabelled else listed
            case "sample":
                return [*self._model, self.lineage("manifest", shard=of["shard"])]
            case "images":
                return [run(stage, shard=shard) for stage in ("manifest", "sample") for shard in self.shards]
            case "centre":
                center = self.config.layer(of["layer"]).concepts.center
                sampled = [] if center == "zero" else self._sampled(of["layer"])
                # Of the table of layers only this layer's beta: its lineage would move with any other layer's, too.
                beta = [code_digest(BETA)] if center == "batchnorm" else []
                return [*self._model, *sampled, *beta]
            case "concepts":
                code = code_digest(source_of(str(method)))
                return [run("centre", layer=of["layer"]), *self._sampled(of["layer"]), code]
            case "calibration":
                return [run("concepts", method=method, layer=of["layer"])]
            case "coefficients":
                return [*self._model, run("selection"), run("calibration", method=method, layer=of["layer"])]
            case "attribution":
                coded = run("coefficients", method=method, layer=of["source"], shard=of["shard"])
                if of["target"] == CLASSES:
                    return [*self._model, coded]
                return [
                    *self._model,
                    coded,
                    run("concepts", method=method, layer=of["target"]),
                    run("kept", method=method, layer=of["target"]),
                ]
            case "kept":
                return [
                    run("attribution", method=method, source=of["layer"], target=CLASSES, shard=shard)
                    for shard in self.shards
                ]
            case "ablation":
                return [
                    run("attribution", method=method, source=of["source"], target=of["target"], shard=shard)
                    for shard in self.shards
                ] + [run("kept", method=method, layer=of["source"])]
            case "graph" | "figures":
                return [run("network")] + [
                    run("ablation", method=method, source=source, target=target) for source, target in self.pairs
                ]
            case "exemplars":
                return [run("kept", method=method, layer=of["layer"])]
            case "fidelity":
                return [
                    run("coefficients", method=method, layer=layer, shard=shard)
                    for layer in self.layers
                    for shard in self.shards
                ]
            case "alignment":
                return [*self._model, *(run("concepts", method=method, layer=layer) for layer in self.layers)]
            case "heldout":
                predicted = [run("sample", shard=shard) for shard in self.shards] if self.unlabelled else []
                return [*(run("manifest", shard=shard) for shard in self.shards), *predicted]
            case "validation":
                later = [target for target in self.pairs_from(of["layer"]) if target != CLASSES]
                calibrated = [run("calibration", method=method, layer=layer) for layer in [of["layer"], *later]]
                return [*self._model, run("heldout"), *calibrated]
            case "stability":
                return [run("concepts", method=method, layer=of["layer"])]
            case "edges":
                return [run("graph", method=method)]
            case "effects":
                return self._model
            case "truth":
                calibrated = [run("calibration", method=method, layer=layer) for layer in self.layers]
                return [*self._model, run("effects"), *calibrated]
            case "evaluation_figures":
                return [run("evaluation_tables")]
            case "evaluation_tables":
                methods, graphs = self.config.evaluated, self.config.methods
                jobs = [(stage, name) for stage in ("validation", "stability") for name in methods]
                per_layer = [run(stage, method=name, layer=layer) for stage, name in jobs for layer in self.layers]
                true = [run("truth", method=name) for name in methods] if self.drawn else []
                return [*per_layer, *(run("edges", method=name) for name in graphs), *true]
            case "evidence":
                return [run("explorer"), run("evaluation_tables")]
            case "explorer":
                method = self.config.methods[0]
                program = [file_digest(file) for file in sorted(ASSETS.iterdir()) if file.is_file()]
                pictured = [run("exemplars", method=method, layer=layer) for layer in self.layers]
                return [program, run("graph", method=method), *pictured]
        raise ValueError(f"no stage {stage!r}")

    def _sampled(self, layer: str) -> list[str]:
        return [self.lineage("sample", layer=layer, shard=shard) for shard in self.shards]

    def _lineage(self, stage: str, **of: Any) -> str:
        wildcards = {key: str(value) for key, value in of.items()}
        settings = self.settings(stage, **of)
        telling = {key: value for key, value in settings.items() if key not in CHECKED_ONLY.get(stage, ())}
        code = code_digest(self.scripts / f"{stage}.py")
        return digest(stage, wildcards, telling, code, self.inputs(stage, **of))
