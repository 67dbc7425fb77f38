"""A drawn world's jobs without Snakemake: all on the CPU, then those that use a GPU again on one, from the same inputs.

``python tests/gpu/chain.py FILE`` writes the jobs down where there is Snakemake; `rehearse.sh --jobs FILE` runs them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[2]
CONFIG: dict[str, Any] = {
    "output": "results",
    "drawn": {"count": 120},
    "layers": [
        {"name": "layer3.1", "concepts": {"expansion": 1}},
        {
            "name": "layer4.0",
            "coefficients": {"method": "pursuit", "penalty": "decision", "value": 0.9, "sign": "nonnegative"},
        },
    ],
    "attribution": {"images_per_class": 2},
    "evaluation": {
        **{
            "methods": ["bisecting", "sae", "filters", "batchtopk"],
            "images": 10,
            "interlayer_images": 4,
            "seeds": 1,
            "edges": 20,
        },
        **{"scenes": 40, "points": 6, "subsets": 8, "control": False},
    },
    "autoencoder": {"steps": 60},
}
LEFT_OUT = {"images", "explorer", "evidence", "figures", "evaluation_tables", "evaluation_figures"}
"""Stages that others do not need and that use no GPU."""
SPARSE = {"concepts": "values", "sources": "values"}
"""Columns of lists that say what the numbers of another column are of."""


def write(path: Path) -> None:
    """Write what Snakemake would run, in an order in which it may run."""
    import yaml
    from snakemake.api import SnakemakeApi
    from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, ResourceSettings

    jobs: list[dict] = []
    with tempfile.TemporaryDirectory() as folder, SnakemakeApi(OutputSettings(quiet=set())) as api:
        config = Path(folder) / "config.yaml"
        config.write_text(yaml.safe_dump(CONFIG))
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=1), config_settings=ConfigSettings(configfiles=[config]),
            snakefile=ROOT / "Snakefile", workdir=Path(folder),
        )  # fmt: skip
        workflow.dag(dag_settings=DAGSettings(targets={"all", "evaluation"})).execute_workflow(executor="dryrun")
        planned = [job for level in workflow._workflow.dag.toposorted() for job in level]
        for job in planned:
            if job.rule.name not in {"all", "evaluation", *LEFT_OUT}:
                files = {"inputs": list(map(str, job.input)), "outputs": list(map(str, job.output))}
                name = " ".join([job.rule.name, *job.wildcards])
                log = str(job.log[0])
                jobs.append({"name": name, "stage": job.rule.name, "command": job.shellcmd, "log": log, **files})
    made = {output: index for index, job in enumerate(jobs) for output in job["outputs"]}
    for job in jobs:
        job["after"] = sorted({made[path] for path in job["inputs"] if path in made})
    path.write_text(json.dumps(jobs))
    print(f"{len(jobs)} jobs in {path}")


def run(job: dict, folder: Path, device: str) -> dict:
    """Run a job in a folder; return its receipt."""
    compute = {"device": device, "batch_size": 32, "memory_mb": 256, "workers": 2, "jobs_per_gpu": 6}
    environment = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    environment |= {"GIGRAPH_SCRIPTS": str(ROOT / "workflow/scripts"), "GIGRAPH_COMPUTE": json.dumps(compute)}
    environment |= {"OMP_NUM_THREADS": "1"}
    command = job["command"].replace("python ", f"{sys.executable} ", 1)
    began = time.monotonic()
    done = subprocess.run(["sh", "-c", command], cwd=folder, env=environment, capture_output=True, text=True)
    log = folder / job["log"]
    if done.returncode:
        raise RuntimeError(f"{job['name']}: {done.stderr[-2000:]}\n{log.read_text()[-4000:] if log.exists() else ''}")
    return {**json.loads(log.with_suffix(".json").read_text()), "seconds": time.monotonic() - began}


def run_all(jobs: list[dict], folder: Path, workers: int) -> list[Future]:
    """Run jobs on the CPU, each after those that it needs; return what became of them."""
    done: list[Future] = []

    def work(job: dict) -> dict:
        for index in job["after"]:
            done[index].result()
        return run(job, folder, "cpu")

    with ThreadPoolExecutor(workers) as pool:
        for job in jobs:
            done.append(pool.submit(work, job))
    return done


def run_again(jobs: list[dict], folder: Path, device: str, workers: int) -> Iterator[tuple[dict, Future, Path]]:
    """Run each job in a copy of the finished folder, without its own outputs there."""

    def work(job: dict, here: Path) -> dict:
        shutil.copytree(folder, here, symlinks=True, ignore=shutil.ignore_patterns("logs"))
        for output in map(here.joinpath, job["outputs"]):
            shutil.rmtree(output) if output.is_dir() else output.unlink(missing_ok=True)
        return run(job, here, device)

    places = [folder.parent / f"again{index}" for index in range(len(jobs))]
    with ThreadPoolExecutor(workers) as pool:
        done = [pool.submit(work, job, here) for job, here in zip(jobs, places, strict=True)]
        yield from zip(jobs, done, places, strict=True)


def differences(one: Path, other: Path) -> str:
    """Say which columns of two tables differ, and by how much of the largest value."""
    a, b = pq.read_table(one).to_pydict(), pq.read_table(other).to_pydict()
    lists = {field.name for field in pq.read_schema(other) if pa.types.is_list(field.type)}
    key = next((name for name, of in SPARSE.items() if {name, of} <= lists), None)
    if key is not None:
        for table in (a, b):
            table[SPARSE[key]] = [
                dict(zip(*row, strict=True)) for row in zip(table.pop(key), table[SPARSE[key]], strict=True)
            ]
    found = {name: _difference(a[name], b[name]) for name in b}
    return ", ".join(f"{name} {value}" for name, value in found.items() if value) or "equal"


def _difference(a: list, b: list) -> str:
    if a == b:
        return ""
    if len(a) == len(b) and b and isinstance(b[0], dict):
        keys = [sorted(set(p) | set(q)) for p, q in zip(a, b, strict=True)]
        a, b = ([[row.get(k, 0) for k in ks] for row, ks in zip(t, keys, strict=True)] for t in (a, b))
    x, y = list(_flat(a)), list(_flat(b))
    if len(x) != len(y):
        return "of other lengths"
    if not all(isinstance(value, int | float) for value in x + y):
        return f"{sum(p != q for p, q in zip(x, y, strict=True))} of {len(y)} differ"
    p, q = np.asarray(x, float), np.asarray(y, float)
    if not np.array_equal(np.isfinite(p), np.isfinite(q)):
        return "not finite elsewhere"
    p, q = (np.nan_to_num(part, posinf=0, neginf=0) for part in (p, q))
    apart = np.abs(p - q).max(initial=0) / max(np.abs(q).max(initial=0), 1e-30)
    return f"{apart:.1e}" if apart else ""


def _flat(values: list) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list):
            yield from _flat(value)
        else:
            yield value


if __name__ == "__main__":
    write(Path(sys.argv[1]))
