"""A toy run: small drawn pictures in a folder, the shipped model, two layers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import yaml

from gigraph.worlds import registry
from gigraph.worlds.dataset import write

ROOT = Path(__file__).parents[2]


def configure(folder: Path, name: str = "config", **changes) -> Path:
    """Write a toy configuration; `changes` lie over it section by section."""
    raw = {
        "output": "results",
        "images": {"source": "images", "shards": 2},
        "model": {"source": "menagerie"},
        "layers": ["layer3.1", "layer4.0"],
        "sampling": {"pfvs_per_image": 6},
        "concepts": {"expansion": 0.125},
        "coefficients": {"value": 4, "calibration": 200},
        "attribution": {"images_per_class": 2, "class_targets": 4, "steps": 4, "max_steps": 12, "tolerance": 0.05},
        "graph": {"top": 3},
        "exemplars": {"nearest": 4, "tile": 48, "localised": 2},
        "compute": {"workers": 1},
    }
    for key, value in changes.items():
        raw[key] = {**raw.get(key, {}), **value} if isinstance(value, dict) else value
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def draw(folder: Path, count: int = 60) -> None:
    """Draw a folder of pictures."""
    write(registry.get("menagerie"), folder / "images", "toy", count)
    for table in (folder / "images").glob("*.parquet"):
        table.unlink()


def snakemake(folder: Path, *arguments: str, trace: Path | None = None) -> subprocess.CompletedProcess:
    """Run the workflow in a folder; with `trace`, a folder, each job says there what it loaded."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "2", *arguments]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    if trace is not None:
        path = [str(Path(__file__).with_name("trace")), *filter(None, [os.environ.get("PYTHONPATH")])]
        # A forked job has loaded more than its own script does.
        environment |= {"GIGRAPH_TRACE": str(trace), "PYTHONPATH": os.pathsep.join(path), "GIGRAPH_FORKS": "0"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=3000)


def jobs(output: str) -> dict[str, int]:
    """Return the number of jobs of each rule from `snakemake -n`."""
    counts: dict[str, int] = {}
    lines = iter(output.splitlines())
    for line in lines:
        if line.startswith("job ") and "count" in line:
            next(lines)
            for row in lines:
                if not row.strip():
                    return counts
                rule, count = row.split()
                if rule != "total" and rule != "all":
                    counts[rule] = int(count)
    return counts


def same_tables(one: Path, two: Path) -> int:
    """Assert that two results folders hold the same tables, bit by bit, and lineages; return how many."""
    paths = [sorted(path.relative_to(folder) for path in folder.rglob("*.parquet")) for folder in (one, two)]
    assert paths[0] == paths[1]
    for path in paths[0]:
        left, right = (pq.read_table(folder / path) for folder in (one, two))
        assert left.schema.metadata == right.schema.metadata, path
        assert pl.from_arrow(left).equals(pl.from_arrow(right)), path  # not a number equals itself there
    return len(paths[0])
