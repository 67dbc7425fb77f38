"""The plan of a run: which files there are, what each is made from, and where it lies.

What each stage reads, writes and rests on stands in its declaration (`gigraph.planning.stages`). Its *lineage* is the
hash of its settings, its code, the schemas of its tables, and the lineages of what it reads. So a table is up to date
exactly if the lineage stored in it is the one planned here.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from gigraph.errors import UserError, install
from gigraph.extractors.registry import NONZEROS, PLUGGED, SPREADS, WANTS
from gigraph.extractors.registry import PACKAGE as PACKAGE_PLUGGED
from gigraph.hashing import digest, file_digest
from gigraph.images.imagenet import IMAGENET, named_by_wordnet
from gigraph.model.sources import RANDOM, check_weights, code_of, is_weights_file, preset_crops, short_name
from gigraph.planning.config import Config, LayerSettings
from gigraph.planning.lineage import PACKAGE, code_digest, imported_beside, installed, module_file, module_files
from gigraph.planning.stages import STAGES, Read
from gigraph.planning.stages.evaluation import FIGURES, PICTURES
from gigraph.records.paths import CONTROL, FILES, NETWORKS, TOPICS, Results
from gigraph.records.schemas import SCHEMAS
from gigraph.worlds import registry as worlds

ASSETS = PACKAGE / "explorer" / "assets"
"""The explorer's program."""
ENLARGED = 1.5
"""Times their size from which on pictures are enlarged more than a training would."""
LARGEST_STD = 4
"""Of pixels in [0, 1] the standard deviation is at most a half; what is larger is a scale of 255."""
MAKERS = {name: stage.name for stage in STAGES.values() for name in stage.writes}
"""The stage that writes each kind of file."""


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
        self.results = Results(config.output)
        self.layers = config.names
        self.shards = list(range(config.images.shards))
        self.pairs = config.pairs()
        # A method, not a function, so that each plan has its own cache.
        self._lineage = cache(self._made)

    # ---- where things lie -----------------------------------------------------------------------------------

    @property
    def drawn(self) -> bool:
        """Whether the images are a drawn world's."""
        return self.config.images.source in worlds.NAMES

    @property
    def world(self) -> str | None:
        """The drawn world of the images; None where they are the user's."""
        return self.config.images.source if self.drawn else None

    @property
    def image_folder(self) -> Path:
        """The folder that image paths are relative to."""
        return self.results("drawn") if self.drawn else Path(self.config.images.source)

    @property
    def title(self) -> str:
        """What the explorer's page is called."""
        config = self.config
        if config.explorer.title is not None:
            return config.explorer.title
        if self.drawn:
            return worlds.get(config.images.source).title
        return f"{short_name(config.model.source)} on {self.image_folder.resolve().name}"

    @property
    def trained(self) -> bool:
        """Whether the workflow trains the drawn world's model itself."""
        return self.config.model.source in worlds.NAMES and self.config.drawn.train

    @property
    def untrained(self) -> bool:
        """Whether the model's weights are random, as was asked for."""
        return self.config.model.weights == RANDOM

    @property
    def takes_plain_pixels(self) -> bool:
        """Whether pictures reach the model as they are: neither settings nor weights say how it normalised them."""
        model, settings = self.config.model, self.config.preprocessing
        told = model.source in worlds.NAMES or preset_crops(model.source, model.weights)
        given = settings.mean is not None or settings.std is not None
        return not (told or given or self.drawn or self._has_arrays)

    @property
    def _has_arrays(self) -> bool:
        """Whether the user's images are arrays of real numbers."""
        return any(entry.path.lower().endswith(".npy") for entry in self._entries)

    @property
    def seeds(self) -> dict[str, int]:
        """Every seed that results depend on."""
        drawn = self.drawn or self.config.model.source in worlds.NAMES
        return {"seed": self.config.seed} | ({"drawn.seed": self.config.drawn.seed} if drawn else {})

    @property
    def model_settings(self) -> dict[str, Any]:
        """What `gigraph.model.models.load_model` needs."""
        settings = self.config.model.model_dump()
        if self.trained:
            settings["weights"] = str(self.results("checkpoint"))
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
            if Path(file).is_dir():
                raise UserError(f"{key}: {file} is a folder; give the file in it")
            if not Path(file).is_file():
                raise UserError(f"{key}: there is no file {file}; correct the path (it is relative to {Path.cwd()})")
        return [file for _, file in files]

    def pairs_from(self, source: str) -> list[str]:
        """Return the targets of a source layer."""
        return [target for a, target in self.pairs if a == source]

    @cached_property
    def unlabelled(self) -> bool:
        """Whether the images have no labels: no class folders, or a regression; the prediction then stands for them."""
        if self.grouped:
            return True
        if self.drawn:
            return False
        return all(entry.class_name is None for entry in self._entries)

    @property
    def grouped(self) -> bool:
        """Whether the folders of the images are groups rather than classes."""
        return self.config.model.task == "regression"

    @cached_property
    def class_folders(self) -> list[str]:
        """The names of the class folders, sorted; none in a flat folder, of a regression and in the drawn world."""
        if self.drawn or self.grouped:
            return []
        return sorted({entry.class_name for entry in self._entries if entry.class_name})

    @property
    def listed_classes(self) -> list[str] | None:
        """The class folders in the outputs' order, where the configuration lists them."""
        classes = self.config.images.classes
        return None if isinstance(classes, str) else classes

    @cached_property
    def labelled_by_outputs(self) -> bool:
        """Whether labels come from the outputs' names, once these are known: folders of some of ImageNet's classes."""
        classes = self.config.images.classes
        return bool(self.class_folders) and (
            classes == IMAGENET or (classes is None and named_by_wordnet(self.class_folders))
        )

    @cached_property
    def image_count(self) -> int:
        """Number of images, the unreadable ones included."""
        return self.config.drawn.count if self.drawn else len(self._limited)

    @cached_property
    def _limited(self) -> list[Any]:
        from gigraph.images.listing import limited

        return limited(self._entries, self.config.images.limit_per_class)

    @property
    def scenes(self) -> int:
        """Scenes of the drawn world that the concepts are compared with; 0 where images are the user's."""
        if not self.drawn:
            return 0
        from gigraph.worlds.alignment import SCENES

        return SCENES

    @property
    def crops(self) -> bool:
        """Whether images are cropped to one size, by the configuration or by the preset of the model's weights."""
        model = self.config.model
        return preset_crops(model.source, model.weights) or self.config.preprocessing.crop is not None

    @cached_property
    def image_size(self) -> list[int] | None:
        """Width and height of an image, from which the network's input follows; None where a crop fixes it."""
        if self.drawn:
            return [self.config.drawn.size] * 2
        return None if self.crops else self.first_size

    @property
    def enlarges(self) -> tuple[list[int], int] | None:
        """Size of the first picture and the side that it is enlarged to, if that is much; None otherwise."""
        side = self.config.preprocessing.resize
        if self.drawn or side is None or self._has_arrays:
            return None
        try:
            size = self.first_size
        except UserError:  # no warning's business
            return None
        return (size, side) if side > ENLARGED * min(size) else None

    @cached_property
    def first_size(self) -> list[int]:
        """Width and height of the first of the user's images.

        Raises
        ------
        UserError
            If none can be decoded.
        """
        from gigraph.images.decoding import Unreadable, decode, size_of

        depth, first = self.config.preprocessing.depth, ""
        for entry in self._entries:
            try:
                return list(size_of(decode(self.image_folder / entry.path, self.config.images.max_pixels, depth)))
            except Unreadable as reason:
                first = first or f"{entry.path}: {reason}"
        raise UserError(
            f"images.source: no image of {self.image_folder} can be decoded (the first is {first}); mend that, or give "
            "another folder"
        )

    @cached_property
    def left_out(self) -> list[tuple[str, str]]:
        """What of the image folder is passed over, and why; nothing of the drawn world, which keeps its truth there."""
        if self.drawn:
            return []
        from gigraph.images.listing import left_out

        return left_out(self.image_folder)

    @cached_property
    def _entries(self) -> list[Any]:
        from gigraph.images.listing import labelled

        return labelled(self.image_folder, self.listed_classes, self.grouped)

    @cached_property
    def listing(self) -> list[str]:
        """One digest per shard of the image files in it (path, size, time of change); none of the drawn world.

        Raises
        ------
        UserError
            If the image folder is missing, empty, or has a class without images.
        """
        if self.drawn:
            return []
        from gigraph.images.listing import listing_digests

        return listing_digests(self._limited, len(self.shards))

    @cached_property
    def model_state(self) -> dict[str, str]:
        """The digests of the files that define the model, code of the user's that they import among them."""
        files = [Path(file) for file in self.model_files]
        for code in [*(file for file in files if file.suffix == ".py"), *module_file(self.config.model.source)]:
            files += [file for file in imported_beside(code) if file not in files]
        source = self.config.model.source
        if source in worlds.NAMES and self.config.model.weights is None and not self.trained:
            files.append(worlds.checkpoint_of(source))
        return {str(file): file_digest(file) for file in files}

    @cached_property
    def model_digests(self) -> list[str]:
        """What the model is made from besides settings: the digests of its files, or the lineage of its training."""
        return [*self.model_state.values(), *([self.lineage("train")] if self.trained else [])]

    @property
    def model_code(self) -> list[Path]:
        """The modules of this package that make the model; none but of a drawn world's."""
        return module_files(code_of(self.config.model.source))

    @property
    def world_code(self) -> list[Path]:
        """The modules that say what the images' drawn world is; none where they are the user's."""
        return module_files(worlds.code_of(self.config.images.source))

    def check(self) -> None:
        """Look at everything that can be judged before the first job: files, folders, class names.

        Raises
        ------
        UserError
            One line that names the key, file or folder and the remedy.
        """
        self._check_apart()
        _ = self.model_files, self.listing, self.image_size
        self._check_scale()
        self._check_extras()
        check_weights(self.config.model.source, self.config.model.weights, self.config.model.arguments)

    def _check_apart(self) -> None:
        """Refuse results among the images, of which their pictures would be the next time."""
        home, results = self.image_folder.resolve(), self.root.resolve()
        if self.drawn or not results.is_relative_to(home):
            return
        from gigraph.images.listing import is_passed_over

        if not any(map(is_passed_over, results.relative_to(home).parts)):
            raise UserError(
                f"images.source: {self.image_folder} also holds the folder of the results ({self.root.resolve()}), "
                "which would be taken for a class; give the images a folder of their own, or set output outside of it"
            )

    def _check_extras(self) -> None:
        """Refuse what a package is needed for that is not installed, before a job of hours would."""
        if self.config.model.source.startswith("timm:") and not installed("timm"):
            raise UserError(f"model.source: timm is not installed; run: {install('timm')}")
        for method in self.config.methods:
            self.check_method(method)

    def check_method(self, method: str) -> None:
        """Refuse an extractor whose package is not installed; of those only evaluated, before a job of theirs is due.

        Raises
        ------
        UserError
            With the key and the package.
        """
        if method.startswith(PLUGGED) and not installed(PACKAGE_PLUGGED):
            key = "methods" if method in self.config.methods else "evaluation.methods"
            raise UserError(
                f"{key}: {method} needs the package {PACKAGE_PLUGGED}, which is not installed; run: "
                f"{install(PACKAGE_PLUGGED)}"
            )

    def _check_scale(self) -> None:
        """Refuse mean and std for pixels of 0 to 255; arrays of real numbers may be of any size."""
        if not self.drawn and self._has_arrays:
            return
        settings = self.config.preprocessing
        for key, numbers, largest in (("mean", settings.mean, 1), ("std", settings.std, LARGEST_STD)):
            if numbers and max(map(abs, numbers)) > largest:
                raise UserError(
                    f"preprocessing.{key}: {max(numbers, key=abs):g} is for pixels of 0 to 255, but here "
                    "they are 0 to 1; divide mean and std by 255"
                )

    # ---- what the declarations of several stages share ------------------------------------------------------

    @cached_property
    def network(self) -> dict[str, Any]:
        """The settings of every stage that runs the classifier."""
        return {
            "model": self.model_settings,
            "preprocessing": self.config.preprocessing.model_dump(),
            "image_size": self.image_size,
        }

    @property
    def explorer_program(self) -> list[Path]:
        """The files of the explorer's program."""
        return [file for file in sorted(ASSETS.iterdir()) if file.is_file()]

    def extractor_settings(self, method: str, layer: LayerSettings) -> dict[str, Any]:
        """Return what an extractor needs besides the settings of the clusterings."""
        if method.startswith(PLUGGED):
            return {"name": method.removeprefix(PLUGGED)}
        found: dict[str, Any] = {}
        for name in WANTS.get(method, ()):
            if name == "nonzeros":
                given = layer.coefficients.penalty == "nonzeros"
                found[name] = layer.coefficients.value if given else NONZEROS
            else:
                found |= getattr(self.config, name).model_dump()
        return found

    @property
    def kernels(self) -> tuple[str, ...]:
        """The kernels that the run's jobs need compiled; a refit takes the lasso's and the pursuit's."""
        methods = {self.config.layer(name).coefficients.method for name in self.layers}
        lasso, pursuit = methods != {"pursuit"}, methods != {"lasso"}
        return ("clustering", *["lasso"] * lasso, *["pursuit"] * pursuit)

    @property
    def spread(self) -> bool:
        """Whether a graph or its pictures look at PFVs at positions drawn uniformly."""
        return self.config.exemplars.reading == "filter" or bool(SPREADS & {*self.config.methods})

    def tolerances(self, layers: Sequence[str]) -> dict[str, float]:
        """Return the largest duality gap of each layer's coefficients."""
        return {name: self.config.layer(name).coefficients.tolerance for name in layers}

    @cached_property
    def control(self) -> Plan | None:
        """The plan of the same run on the network with its weights shuffled, below this one's folder.

        It has the first graph's extractor only; None where it is not asked for, or this run is shuffled itself.
        """
        if self.config.model.shuffled is not None or not self.config.evaluation.control:
            return None
        methods = self.config.methods[:1]
        changed = {
            "output": str(self.root / CONTROL),
            "model": self.config.model.model_copy(update={"shuffled": self.config.seed}),
            "methods": methods,
            "evaluation": self.config.evaluation.model_copy(update={"methods": methods}),
        }
        return Plan(self.config.model_copy(update=changed), self.scripts)

    def of(self, one: Read) -> Plan:
        """Return the plan that a `Read` is of: this one, or its control's.

        Raises
        ------
        LookupError
            If there is no control.
        """
        if not one.control:
            return self
        if self.control is None:
            raise LookupError(f"{one.name}: this plan has no control")
        return self.control

    # ---- what things are made from --------------------------------------------------------------------------

    def settings(self, stage: str, **of: Any) -> dict[str, Any]:
        """Return the settings that a stage's result depends on, for one job's wildcards (layer, source, ...)."""
        declared = STAGES[stage]
        return {**(self.network if declared.model else {}), **declared.settings(self, **of)}

    def settings_json(self, stage: str, **of: Any) -> str:
        """Return a job's settings as JSON; for a sweep those of all layers, with each table's lineage."""
        settings = self.settings(stage, **of)
        if STAGES[stage].sweeps:
            settings["layers"] = {
                name: {**STAGES[stage].of_layer(self, name), "lineage": self.lineage(stage, layer=name, **of)}
                for name in self.layers
            }
        return json.dumps(settings)  # in this order: layers are listed from input to output

    def reads(self, stage: str, **of: Any) -> dict[str, list[Read]]:
        """Return what a job reads, by the names that its rule gives them."""
        found = STAGES[stage].reads(self, **of)
        return {name: one if isinstance(one, list) else [one] for name, one in found.items()}

    def expand(self, one: Read) -> list[dict[str, Any]]:
        """Return the fields of each file that a `Read` means, in order."""
        choices = [one.of[field] if field in one.of else self.values(field) for field in FILES[one.name].fields]
        many = [choice if isinstance(choice, list) else [choice] for choice in choices]
        return [dict(zip(FILES[one.name].fields, values, strict=True)) for values in itertools.product(*many)]

    def values(self, field: str) -> list[Any]:
        """Return all that a field of a path may be."""
        known: dict[str, list[Any]] = {
            "layer": self.layers,
            "shard": self.shards,
            "method": self.config.evaluated,
            "topic": [*TOPICS, *["truth"] * self.drawn],
            "figure": [*FIGURES],
            "picture": [*PICTURES, *["truth"] * self.drawn],
            # Of a run that is shuffled itself there is no trained network to compare with.
            "network": [*NETWORKS[: 1 if self.config.model.shuffled is not None else None]],
        }
        return known[field]

    def outputs(self, stage: str, **of: Any) -> dict[str, str]:
        """Return {path: lineage} of all that a job writes."""
        found = {}
        for name in STAGES[stage].writes:
            for one in self.expand(Read(name, of)):
                found[str(self.results(name, **one))] = self.lineage(stage, **{**of, **one})
        return found

    def inputs(self, stage: str, **of: Any) -> list[str]:
        """Return the lineages of the tables that a result rests on."""
        found: dict[str, None] = {}
        for many in self.reads(stage, **of).values():
            for one in many:
                if not one.waits:
                    maker, plan = MAKERS[one.name], self.of(one)
                    found |= dict.fromkeys(plan.lineage(maker, **given, **one.part) for given in plan.expand(one))
        return list(found)

    def lineage(self, stage: str, **of: Any) -> str:
        """Return the hash of all that a result is made from.

        Parameters
        ----------
        stage : str
        **of
            The job's wildcards, and its `parts`; other fields of a path do not tell one lineage from another.
        """
        known = (*STAGES[stage].of, *STAGES[stage].parts)
        return self._lineage(stage, **{name: str(of[name]) for name in known if name in of})

    def _made(self, stage: str, **of: str) -> str:
        declared = STAGES[stage]
        settings = self.settings(stage, **of)
        files = declared.rests_on(self, **of) + (self.model_digests if declared.model else [])
        parts = set(declared.parts)
        own = [name for name in declared.writes if parts & {*FILES[name].fields} == parts & {*of}] or declared.writes
        schemas = [str(SCHEMAS[kind]) for name in own for kind in FILES[name].kinds]
        settings = self._named(settings)
        return digest(stage, of, settings, self.code(stage, **of), schemas, files, self.inputs(stage, **of))

    def _named(self, value: Any) -> Any:
        """Return settings with paths as what they lead to, which a lineage knows by its content, wherever it lies.

        The run's own files are named as below its folder, the user's images, weights and factory by what they are.
        """
        if isinstance(value, str):
            return self._places.get(value, value.removeprefix(f"{self.root}/"))
        if isinstance(value, list | tuple):
            return [self._named(one) for one in value]
        return {key: self._named(one) for key, one in value.items()} if isinstance(value, dict) else value

    @cached_property
    def _places(self) -> dict[str, str]:
        """The user's paths in settings, and what stands for them in lineages."""
        model, places = self.config.model, {}
        if not self.drawn:
            places[str(self.image_folder)] = "the images"
            if self.config.explorer.title is None:  # which the folder's name is part of
                places[self.title] = "the title"
        if model.weights and is_weights_file(model.weights):
            places[model.weights] = "the weights"
        file, _, factory = model.source.rpartition(":")
        if file.endswith(".py"):
            places[model.source] = f"{Path(file).name}:{factory}"
        return places

    def code(self, stage: str, **of: str) -> str:
        """Return the digest of the code that a stage's jobs run."""
        return code_digest(*self.sources(stage, **of))

    def sources(self, stage: str, **of: str) -> list[Path]:
        """Return the files that a stage's code starts from: its script, and what its settings choose."""
        declared = STAGES[stage]
        chosen = declared.code(self, **of) + (self.model_code if declared.model else [])
        return [self.scripts / f"{stage}.py", *chosen]
