"""What a job asks of a cluster: memory and time, from the sizes that it works on.

Estimates on the safe side of what was measured, for a scheduler to plan with. An attempt that was not enough is
followed by one that asks for twice as much.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gigraph.running.leases import GPU_STAGES

if TYPE_CHECKING:
    from gigraph.planning.plan import Plan

BASE_MB = {"torch": 2500, "plain": 800}
"""An interpreter with what it imports; the model and its gradients come on top of it (``compute.memory_mb``)."""
BASE_MINUTES = 10
UNKNOWN = (2048, 49)
"""Channels and positions of a layer of which nothing is known yet: ResNet-50's last."""


class Sizes(NamedTuple):
    """What a job's cost depends on."""

    images: int
    """Images of a shard."""
    attributed: int
    """Images of a shard that are attributed, at most."""
    channels: int
    positions: int
    rows: int
    """PFVs of a layer."""
    concepts: int
    """Concepts of a layer."""


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
    sizes = max((_sizes(plan, name) for name in ([layer] if layer else plan.layers)), key=lambda one: one.concepts)
    mb, minutes = need(stage, sizes, plan.config.compute.memory_mb)
    return {"mem_mb": round(mb) << (attempt - 1), "runtime": round(minutes) << (attempt - 1)}


def need(stage: str, sizes: Sizes, memory_mb: int) -> tuple[float, float]:
    """Return megabytes and minutes of a job from its sizes."""
    n, c, k = sizes.rows, sizes.channels, sizes.concepts
    mb = float(BASE_MB["torch"] + 3 * memory_mb if stage in GPU_STAGES else BASE_MB["plain"])
    minutes = float(BASE_MINUTES)
    pfvs = 4e-6 * n * c
    dictionary = 4e-6 * k * c
    coded = 8e-6 * sizes.attributed * sizes.positions * 64  # coefficients: some 64 of 8 bytes for each PFV
    match stage:
        case "sample":
            mb += pfvs
            minutes += sizes.images / 60
        case "concepts" | "exemplars":
            mb += 4 * pfvs + 3 * dictionary
            minutes += n * c * max(1, k).bit_length() / 2e8 + (k / 20 if stage == "exemplars" else 0)
        case "calibration" | "coefficients":
            mb += pfvs + 2 * dictionary + min(4e-6 * k * k, 8000) + coded
            minutes += sizes.attributed * sizes.positions * k * c / 1e11
        case "attribution" | "ablation":
            mb += 2 * dictionary + 4 * coded
            minutes += sizes.attributed / 2
        case "graph" | "figures" | "kept" | "fidelity" | "explorer" | "evidence" | "alignment":
            mb += 8 * coded + 4 * dictionary
        case "draw" | "manifest":
            minutes += sizes.images / 600
    return mb, minutes


def _sizes(plan: Plan, layer: str) -> Sizes:
    config = plan.config
    shards = len(plan.shards)
    channels, positions = _shape(plan, layer)
    own = config.layer(layer)
    rows = plan.image_count * min(own.sampling.pfvs_per_image, positions)
    return Sizes(
        images=-(-plan.image_count // shards),
        attributed=-(-min(config.attribution.images_per_class * _classes(plan), plan.image_count) // shards),
        channels=channels,
        positions=positions,
        rows=rows,
        concepts=min(round(own.concepts.expansion * channels), max(1, rows // own.concepts.min_members)),
    )


def _shape(plan: Plan, layer: str) -> tuple[int, int]:
    """Return channels and positions of a layer; they are known once the first job has written them."""
    for row in _layers(plan.root / "layers.parquet"):
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
    return len(plan.config.images.classes or plan.class_folders) or 10
