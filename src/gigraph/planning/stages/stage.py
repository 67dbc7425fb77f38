"""What a stage is: one kind of job, declared once.

A stage is a script that makes files. Its declaration is all that the workflow knows of it: the rule, the lineage, the
settings that reach the job, the planner, a cluster's scheduler and the GPU lease read it here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from gigraph.worlds.registry import get

if TYPE_CHECKING:
    from gigraph.planning.costs import Cost, Run, Sizes, Throughput
    from gigraph.planning.plan import Plan


@dataclass(frozen=True)
class Read:
    """Files of one kind that a job reads.

    Attributes
    ----------
    name : str
        Key of `gigraph.records.paths.FILES`.
    of : mapping
        Fields of the pattern: a value, or a list of them. Those left out stand for all that there are.
    part : mapping
        What the job rests on of a file that holds more: a layer's row of a table of all layers.
    loosely : bool
        The file is written together with others that are not the job's business. Where the job's own outputs are
        current it takes the file as it lies there, although the job that writes it may run again.
    waits : bool
        The job only waits for the file and reads nothing of it.
    control : bool
        The file is of the same run on the network with its weights shuffled (`Plan.control`).
    """

    name: str
    of: Mapping[str, Any] = field(default_factory=dict)
    part: Mapping[str, Any] = field(default_factory=dict)
    loosely: bool = False
    waits: bool = False
    control: bool = False


def read(name: str, **of: Any) -> Read:
    """Return a `Read` of files with these fields."""
    return Read(name, of)


def loosely(name: str, part: Mapping[str, Any] | None = None, waits: bool = False, **of: Any) -> Read:
    """Return a loose `Read`."""
    return Read(name, of, part or {}, loosely=True, waits=waits)


def planted(plan: Plan) -> dict[str, Any] | None:
    """Return what was planted into the drawn world of the images: part and class, and how often; None without one."""
    if plan.world is None:
        return None
    shortcut = get(plan.world).shortcut
    shares = {"planted": shortcut.rate, "elsewhere": shortcut.elsewhere}
    return {"part": shortcut.part, "class": shortcut.planted, **shares}


class Stage:
    """The declaration of a stage; each subclass is one, named as its script and its rule are.

    The methods take the plan and a job's wildcards.

    Attributes
    ----------
    of : tuple of str
        The wildcards of its jobs.
    parts : tuple of str
        Further fields that its lineages tell apart: where one job writes the tables of all layers, each layer's rests
        on that layer's settings only.
    sweeps : bool
        Whether one job writes the tables of all layers, each under a lineage of its own, and keeps those that are
        current: its settings then say of each layer what `of_layer` does, and its table's lineage.
    writes : tuple of str
        Keys of `gigraph.records.paths.FILES`. Fields that are no wildcards of the job stand for all that there are.
    gpu : bool
        Whether it uses a GPU where there is one.
    torch, kernels : bool
        Whether its process loads torch, the compiled kernels.
    model : bool
        Whether it runs the classifier: then it rests on the model's files and code, and gets the settings ``model``,
        ``preprocessing`` and ``image_size``.
    """

    of: ClassVar[tuple[str, ...]] = ()
    parts: ClassVar[tuple[str, ...]] = ()
    sweeps: ClassVar[bool] = False
    writes: ClassVar[tuple[str, ...]] = ()
    gpu: ClassVar[bool] = False
    torch: ClassVar[bool] = False
    kernels: ClassVar[bool] = False
    model: ClassVar[bool] = False
    name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        cls.name = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
        STAGES[cls.name] = cls()

    def settings(self, plan: Plan, *_: Any, **of: Any) -> dict[str, Any]:
        """Return the settings that the result depends on, and nothing else."""
        return {}

    def of_layer(self, plan: Plan, layer: str) -> dict[str, Any]:
        """Return what of a layer's own settings its table depends on, in a sweep."""
        return {}

    def reads(self, plan: Plan, *_: Any, **of: Any) -> dict[str, Read | list[Read]]:
        """Return the files that a job reads, by the names that its rule gives them."""
        return {}

    def rests_on(self, plan: Plan, *_: Any, **of: Any) -> list[Any]:
        """Return what the result rests on besides the run's files: digests of the user's files and folders."""
        return []

    def code(self, plan: Plan, *_: Any, **of: Any) -> list[Path]:
        """Return the modules that a setting chooses, which the script loads by name."""
        return []

    def need(self, sizes: Sizes) -> tuple[float, float]:
        """Return megabytes and minutes of a job beyond its start, on the safe side, for a scheduler to plan with."""
        return 0.0, 0.0

    def cost(self, run: Run, rate: Throughput) -> Cost | None:
        """Return what all jobs of a run take beyond their start, measured; None where it has no job in the main run."""
        return None


STAGES: dict[str, Stage] = {}
"""Every stage by its name, in the order of the workflow."""
