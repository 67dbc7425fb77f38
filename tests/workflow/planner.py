"""Plan configurations with Snakemake's own dry run, each in a fork of one process that has all imported.

It answers each line of JSON, [what, folder, *configurations], by a line. ``plan``: the jobs that would run, for each
configuration. ``files``: every job of both targets with its rule, wildcards, inputs, outputs, and the rules and
wildcards of the jobs that make its inputs, for each configuration. ``finish``: writes what the jobs of the (one)
configuration would, in name and lineage, and has Snakemake record them as done.
"""

import contextlib
import json
import logging
import multiprocessing
import os
import sys
import traceback
from functools import partial
from pathlib import Path

from snakemake.api import SnakemakeApi
from snakemake.executors.touch import Executor
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, ResourceSettings

import gigraph.planning.resources
import gigraph.records.tables  # noqa: F401
from gigraph.planning import lineage, plan  # noqa: F401

# The Snakefile would import these, and read these files, in each fork anew.
for path in [*lineage.PACKAGE.rglob("*.py"), *(lineage.PACKAGE.parents[1] / "workflow/scripts").glob("*.py")]:
    lineage._syntax(path.read_text())


@contextlib.contextmanager
def executed(folder, config, executor, **dag):
    """Yield the workflow after an execution by `executor`."""
    logging.disable(logging.CRITICAL)
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        SnakemakeApi(OutputSettings(quiet=set())) as api,
    ):
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(configfiles=[Path(config)]),
            snakefile=Path(__file__).resolve().with_name("Snakefile"),
            workdir=Path(folder),
        )
        workflow.dag(dag_settings=DAGSettings(**dag)).execute_workflow(executor=executor)
        yield workflow._workflow


def planned(folder: str, config: str) -> list[str]:
    """Return the jobs as ``rule wildcard wildcard``."""
    with executed(folder, config, "dryrun") as workflow:
        jobs = [job for job in workflow.dag.needrun_jobs(exclude_finished=False) if job.rule.name != "all"]
        return sorted(" ".join([job.rule.name, *map(str, job.wildcards)]) for job in jobs)


def files(folder: str, config: str) -> list[dict]:
    """Return the files of every job of both targets, and whose they are."""

    def named(job):
        return [job.rule.name, dict(job.wildcards_dict)]

    with executed(folder, config, "dryrun", targets={"all", "evaluation"}) as workflow:
        dag = workflow.dag
        return [
            {
                "job": named(job),
                "inputs": sorted(map(str, job.input)),
                "outputs": sorted(map(str, job.output)),
                "makers": [named(one) for one in dag.dependencies[job]],
            }
            for job in dag.jobs
            if job.rule.name not in ("all", "evaluation")
        ]


def write(folder: str, config: str) -> None:
    """Write an empty table, or something short, under the name of every output."""
    from gigraph.records import tables
    from gigraph.running.record import write_receipt

    with executed(folder, config, "dryrun") as workflow:
        for job in workflow.dag.needrun_jobs(exclude_finished=False):
            if job.rule.name == "all":
                continue
            layers = json.loads(job.params.settings)["layers"] if job.rule.name == "sample" else {}
            lineages = {
                f"results/pfvs/{layer}/{job.wildcards.shard}.parquet": layers[layer]["lineage"] for layer in layers
            }
            for path in map(Path, job.output):
                if path.suffix == ".parquet":
                    lineage = lineages.get(str(path), job.params.lineage)
                    tables.write(path, "rejected", {"path": [], "reason": []}, lineage)
                elif path.suffix == ".safetensors":
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes((2).to_bytes(8, "little") + b"{}")
                elif path.suffix:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text("</svg></html></graphml>")
                else:
                    path.mkdir(parents=True)
                    (path / "one.txt").write_text("one")
            write_receipt(Path(job.log[0]).with_suffix(".json"), lineage=job.params.lineage)


def touch(folder: str, config: str) -> None:
    """Have Snakemake take what lies there for its own work, all of it, and record the params that it compares."""
    Executor.SLEEPING_TIME = 0
    with executed(folder, config, "touch", forceall=True):
        pass


def answer(what: str, folder: str, *configs: str) -> list:
    """Return what is asked for."""
    # Not one pool for all: a fork while the main thread reads its input would wait for that lock for ever.
    with multiprocessing.get_context("fork").Pool(os.cpu_count(), maxtasksperchild=1) as pool:
        if what == "finish":
            return [pool.apply(work, (folder, *configs)) for work in (write, touch)]
        return pool.map(partial({"plan": planned, "files": files}[what], folder), configs, chunksize=1)


if __name__ == "__main__":
    for line in sys.stdin:
        try:
            print(json.dumps(answer(*json.loads(line))), flush=True)
        except Exception:
            print(json.dumps({"error": traceback.format_exc()}), flush=True)
