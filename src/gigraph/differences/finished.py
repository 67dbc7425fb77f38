"""A finished run with its model and images, as two are compared."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import polars as pl

from gigraph.api import Run
from gigraph.errors import UserError
from gigraph.method.families import Families
from gigraph.method.targets import class_output
from gigraph.planning.opening import plan_of
from gigraph.records.families import read_families
from gigraph.records.paths import Results
from gigraph.reserved import CLASSES
from gigraph.subject import Subject


class Finished:
    """A finished run, with its model and images.

    Parameters
    ----------
    folder : path
        Its results.
    method : str, optional
        The concept extractor, as of `gigraph.api.Run`.

    Attributes
    ----------
    run : Run
        Its tables; each is refused if it is left from something else than its last run planned.
    plan : Plan
        Of its configuration, with the folder where it lies now.

    Raises
    ------
    UserError
        If there is no finished graph, or nothing says what it was made with.
    """

    def __init__(self, folder: str | Path, method: str | None = None):
        self.folder = Path(folder)
        self.run = Run(folder, method)
        self.method, self.results = self.run.method, Results(folder)
        self.plan = plan_of(folder)

    # ---- what it is made of ---------------------------------------------------------------------------------

    @cached_property
    def layers(self) -> list[str]:
        """The layers' names, from input to output."""
        return self.run.layers

    @cached_property
    def task(self) -> str:
        """How the model's outputs are read (`gigraph.method.tasks`)."""
        return str(self.run.classes["task"][0])

    @cached_property
    def names(self) -> dict[str, int]:
        """Class name to label; of a name that two classes have, the first."""
        found: dict[str, int] = {}
        for label, name in self.run.classes.sort("label").select("label", "class").iter_rows():
            found.setdefault(name, label)
        return found

    @property
    def unlabelled(self) -> bool:
        """Whether predictions stand for the images' labels: those of a flat folder, and of a regression."""
        return self.plan.grouped or not self.run.images["path"].str.contains("/", literal=True).any()

    @property
    def output(self) -> str:
        """What is attributed for classes: `gigraph.method.targets.class_output`."""
        return class_output(self.plan.config.attribution.class_output, len(self.run.classes), self.task)

    @property
    def attribution(self) -> str:
        """The attribution method."""
        return self.plan.config.attribution.method

    @cached_property
    def images(self) -> pl.DataFrame:
        """The images by id."""
        return self.run.images.sort("image_id")

    @property
    def image_folder(self) -> Path:
        """The folder that the images' paths are relative to."""
        return self.plan.image_folder

    @cache  # noqa: B019 (a handful of runs, each for as long as the process)
    def families(self, layer: str) -> Families:
        """Return a layer's families."""
        return read_families(self.results("families", method=self.method, layer=layer))

    @cache  # noqa: B019
    def attributions(self, source: str, target: str) -> pl.DataFrame | None:
        """Return the attributions of single images of a layer pair; None if it is none of the run's."""
        if (source, target) not in self.plan.pairs:
            return None
        shards = [self.run.table(f"attributions/{source}--{target}/{shard}") for shard in self.plan.shards]
        columns = ["image_id", "label", "target", "sources", "values", "total_absolute"]
        return pl.concat([shard.select(columns) for shard in shards]).sort("image_id", "target")

    @cached_property
    def attributed(self) -> pl.DataFrame:
        """The attributed images: image_id and label."""
        found = [self.attributions(layer, CLASSES) for layer in self.layers]
        tables = [table.select("image_id", "label") for table in found if table is not None]
        return pl.concat(tables).unique().sort("image_id")

    def subject(self, layers: Sequence[str], size: tuple[int, int]) -> Subject:
        """Return the model, for images of a (width, height).

        Raises
        ------
        UserError
            If it cannot be loaded, naming the run.
        """
        settings: dict[str, Any] = {**self._network, "image_size": list(size)}
        try:
            return Subject(settings, self.plan.config.compute, list(layers))
        except UserError as error:
            raise UserError(f"{self.folder}: its model cannot be run: {error}") from None

    @property
    def _network(self) -> dict[str, Any]:
        _ = self.plan.model_files  # refuses a missing one by its key
        return {"model": self.plan.model_settings, "preprocessing": self.plan.config.preprocessing.model_dump()}
