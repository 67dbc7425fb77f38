"""The record of a run: what each job did, where, with which versions, and all of it in ``run.json``."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gigraph.records.files import replacing
from gigraph.records.notes import notes_in
from gigraph.records.paths import Results

PACKAGES = (
    "gigraph", "torch", "torchvision", "numpy", "numba", "cupy-cuda13x", "scikit-learn", "pyarrow", "polars", "pillow",
    "safetensors", "snakemake", "timm",
)  # fmt: skip


def write_receipt(path: Path, **numbers: Any) -> None:
    """Write what a job did, in numbers, beside its log."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(numbers, indent=1) + "\n")


def read_receipt(path: Path) -> dict[str, Any]:
    """Return what a job wrote at its end; nothing if it did not come to that."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def receipts(logs: Path) -> dict[str, dict[str, Any]]:
    """Return the receipts below a folder of logs by their names."""
    found = {str(path.relative_to(logs).with_suffix("")): read_receipt(path) for path in sorted(logs.rglob("*.json"))}
    return {name: receipt for name, receipt in found.items() if "stage" in receipt}


def machine() -> dict[str, Any]:
    """Return what this machine is, as far as it says so without loading anything."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "gpus": [
            line.partition(":")[2].strip()
            for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
            for line in path.read_text().splitlines()
            if line.startswith("Model:")
        ],
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def versions() -> dict[str, str]:
    """Return the versions of Python, gigraph, and the packages that its results rest on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def write_run(
    root: Path, config: Mapping[str, Any], seeds: Mapping[str, Any], found: Sequence[str] = ()
) -> dict[str, list[str]]:
    """Write ``run.json``: what a paper's appendix says about how its numbers were made.

    Return the remarks of each job that had any.

    Parameters
    ----------
    root : Path
        The results folder.
    config : mapping
        The whole configuration, defaults included.
    seeds : mapping
        Every seed that it holds.
    found : sequence of str, optional
        What the run says at its end.
    """
    results = Results(root)
    jobs = receipts(results("logs"))
    stages: dict[str, dict[str, float]] = {}
    for job in jobs.values():
        stage = stages.setdefault(job["stage"], {"jobs": 0, "seconds": 0.0, "peak_memory_mb": 0.0})
        stage["jobs"] += 1
        stage["seconds"] = round(stage["seconds"] + job["seconds"], 2)
        stage["peak_memory_mb"] = max(stage["peak_memory_mb"], job["peak_memory_mb"])
    notes = {name: some for name in jobs if (some := notes_in(results("logs") / f"{name}.log"))}
    text = {
        "versions": versions(),
        "commit": _commit(),
        "config": config,
        "seeds": seeds,
        "machine": machine(),
        "hosts": sorted({job["host"] for job in jobs.values()}),
        "started": min((job["started"] for job in jobs.values()), default=None),
        "ended": max((job["ended"] for job in jobs.values()), default=None),
        "seconds_of_work": round(sum(job["seconds"] for job in jobs.values()), 1),
        "stages": stages,
        "found": list(found),
        "notes": notes,
        "jobs": jobs,
    }
    with replacing(results("run")) as temporary:
        temporary.write_text(json.dumps(text, indent=1, ensure_ascii=False) + "\n")
    return notes


def _commit() -> str | None:
    """Return the commit of the clone that gigraph runs from, with a plus where it has changes."""
    from gigraph.planning.config import PROJECT  # not for jobs, to which it would cost half of their start

    if not (PROJECT / ".git").exists():  # another project's may lie above an installed one
        return None
    git = ["git", "-C", str(PROJECT), "describe", "--always", "--dirty=+", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, timeout=10, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
