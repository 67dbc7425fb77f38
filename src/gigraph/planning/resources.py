"""What jobs take: what each asks of a cluster, and what the stages of a run cost in all.

The sizes are counted. What a job asks for is an estimate on the safe side, for a scheduler to plan with, and an attempt
that was not enough is followed by one that asks for twice as much. What stages cost rests on measured throughputs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gigraph.extractors.registry import DENSE
from gigraph.planning.costs import Cost, Run, Sizes, Throughput
from gigraph.planning.stages import STAGES

if TYPE_CHECKING:
    from pathlib import Path

    from gigraph.planning.plan import Plan

BASE_MB = {"torch": 2500, "plain": 800}
"""An interpreter with what it imports; the model and its gradients come on top of it (``compute.memory_mb``)."""
BASE_MINUTES = 10
UNKNOWN = (2048, 49)
"""Channels and positions of a layer of which nothing is known yet: ResNet-50's last."""


def claim(plan: Plan, stage: str, attempt: int, **of: Any) -> dict[str, int]:
    """Return ``mem_mb`` and ``runtime`` (minutes) of a job.

    Parameters
    ----------
    plan : Plan
    stage : str
    attempt : int
        1 for the first; each further one doubles both.
    **of
        The job's wildcards.
    """
    layer = of.get("source") or of.get("layer")
    sizes = max(
        (_sizes(plan, name, of.get("method")) for name in ([layer] if layer else plan.layers)),
        key=lambda one: one.concepts,
    )
    mb, minutes = need(stage, sizes, plan.config.compute.memory_mb)
    return {"mem_mb": round(mb) << (attempt - 1), "runtime": round(minutes) << (attempt - 1)}


def need(stage: str, sizes: Sizes, memory_mb: int) -> tuple[float, float]:
    """Return megabytes and minutes of a job from its sizes."""
    mb, minutes = STAGES[stage].need(sizes)
    torch = STAGES[stage].torch or STAGES[stage].gpu  # or CuPy, which takes as much
    return (BASE_MB["torch"] + 3 * memory_mb if torch else BASE_MB["plain"]) + mb, BASE_MINUTES + minutes


def costs(run: Run, rate: Throughput) -> dict[str, Cost]:
    """Return what each stage of the main run takes, in the order of the workflow."""
    found = {}
    for name, stage in STAGES.items():
        work = stage.cost(run, rate)
        if work is not None:
            start = (rate.start if stage.torch else rate.light_start) + rate.kernels_start * stage.kernels
            found[name] = replace(work, seconds=work.seconds + work.jobs * start, memory=rate.base + work.memory)
    return found


def _sizes(plan: Plan, layer: str, method: str | None) -> Sizes:
    config = plan.config
    shards = len(plan.shards)
    channels, positions = _shape(plan, layer)
    own = config.layer(layer)
    rows = plan.image_count * min(own.sampling.pfvs_per_image, positions)
    return Sizes(
        images=-(-plan.image_count // shards),
        attributed=-(-config.attribution.most_images(_classes(plan), plan.image_count) // shards),
        channels=channels,
        positions=positions,
        rows=rows,
        concepts=min(round(own.concepts.expansion * channels), max(1, rows // own.concepts.min_members)),
        dense=method in DENSE,
    )


def _shape(plan: Plan, layer: str) -> tuple[int, int]:
    """Return channels and positions of a layer; they are known once the first job has written them."""
    for row in _layers(plan.results("layers")):
        if row["layer"] == layer:
            return row["channels"], row["height"] * row["width"]
    return UNKNOWN


def _layers(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, columns=["layer", "channels", "height", "width"]).to_pylist()
    except (OSError, pa.ArrowException):
        return []


def _classes(plan: Plan) -> int:
    return len(plan.listed_classes or plan.class_folders) or 10
