"""Validates the configuration first, then offers the names and functions that the other rules use."""

import os
import shlex
import sys
from functools import cache
from pathlib import Path

from gigraph.planning import lineage as provenance, resources
from gigraph.running.cluster import cancel_orphans
from gigraph.planning.config import load
from gigraph.reserved import CLASSES
from gigraph.errors import UserError, one_line
from gigraph.running.leases import GPU_STAGES
from gigraph.planning.plan import Plan
from gigraph.running.progress import Overall

SCRIPTS = Path(workflow.basedir) / "workflow" / "scripts"


def stop(error):
    """End Snakemake with one line."""
    print(f"gigraph: error: {one_line(error)}", file=sys.stderr)
    sys.exit(1)


try:
    PLAN = Plan(load(config), SCRIPTS)
    PLAN.check()
except UserError as error:
    stop(error)

METHODS = PLAN.config.methods
EVALUATED = PLAN.config.evaluated
LAYERS = PLAN.layers
SHARDS = PLAN.shards
# Priorities: of the jobs that most others wait for, of a shard's first ones, and of those that all others wait for.
# Snakemake starts the jobs with the largest sum.
FIRST, SHARD, START = 1, 2, 3
# Rules that only name files: no job, no lineage.
TARGETS = {"all", "evaluation"}
FIGURES = ["fidelity", "completeness", "ablation"]
# How the work is done changes no result: it reaches the jobs by the environment, so that changing it reruns nothing.
# A script ends with the process that started it, which is this one, and reads no table but those of this plan.
environment = {
    "GIGRAPH_SCRIPTS": SCRIPTS,
    "GIGRAPH_COMPUTE": PLAN.config.compute.model_dump_json(),
    "GIGRAPH_PLAN": PLAN.root / "plan.json",
    "GIGRAPH_CONTROLLER": os.getpid(),
}
exports = " ".join(
    f"{name}={shlex.quote(str(value))}" for name, value in environment.items()
)
shell.prefix(
    f"set -euo pipefail; export {exports}; ".replace("{", "{{").replace("}", "}}")
)


def results(path):
    """Return a path below the results folder."""
    return str(PLAN.root / path)


def sharded(path):
    """Return the paths of all shards of a table."""
    return expand(results(path), shard=SHARDS, allow_missing=True)


def settings(stage):
    """Return a params function: the settings of this stage as JSON.

    It takes `input` only so that Snakemake does not compare them with those of the last run: the lineage says
    whether a job must run, and some settings are only checked.
    """
    return lambda wildcards, input: PLAN.settings_json(stage, **wildcards)


def evaluated(wildcards, input):
    """Return the lineage of this configuration's evaluation, and of the drawn world's effects beside it.

    The explorer shows an evaluation that is there, and does not wait for one: it is no input, and a change of it is no
    reason to run (hence `input`, as in `settings`). The target `evaluation` ends with `evidence`, which builds the same
    site again.
    """
    return [
        PLAN.lineage(stage)
        for stage in ("evaluation_tables", *["effects"] * PLAN.drawn)
    ]


def lineage(stage):
    """Return a params function: the hash of the stage's settings, code and inputs; a change of it reruns the job."""
    return lambda wildcards: PLAN.lineage(stage, **wildcards)


def lineages(stage, wildcards):
    """Return {output: lineage} of one job. A sweep's tables have one each; all other jobs have one for all."""
    paths = expand(getattr(rules, stage).output, **wildcards)
    found = dict.fromkeys(paths, PLAN.lineage(stage, **wildcards))
    if stage == "sample":
        for layer in LAYERS:
            path = results(f"pfvs/{layer}/{wildcards['shard']}.parquet")
            found[path] = PLAN.lineage(stage, layer=layer, **wildcards)
    return found


@cache
def is_current(stage, **wildcards):
    """Whether all outputs of a job are there, whole, and made from what is planned.

    The explorer is not if it shows an evaluation of another configuration, and the evidence not if it shows none.
    """
    if stage in ("explorer", "evidence"):
        shown = provenance.shown_evaluation(PLAN.root / "explorer")
        own = PLAN.lineage("evaluation_tables")
        if shown != own and (shown or stage == "evidence"):
            return False
    (log,) = expand(getattr(rules, stage).log, **wildcards)
    return provenance.current(
        lineages(stage, wildcards), Path(log).with_suffix(".json")
    )


def due(stage):
    """Return an input function without files: it has Snakemake run every job whose outputs are not current.

    Snakemake by itself finds a changed lineage, but it misses an output that lies upstream of finished ones and is
    gone or cut short, and it knows no lineage where its own records are lost.
    """

    def inputs(wildcards):
        if workflow.is_main_process and not is_current(stage, **wildcards):
            workflow.dag.forcefiles.update(lineages(stage, wildcards))
        return []

    return inputs


def unless_current(paths, stage):
    """Return an input function for tables whose making says nothing about this job's: they are written together.

    A sweep writes the tables of all layers, one check those of all consumers. Where a job's own tables are current it
    does not care that such a job runs again for another one: it takes the files as they lie there. (`ancient` alone
    would not do: Snakemake does not look at changes downstream of a job that runs, and relies on it to pass them on.)
    """

    def inputs(wildcards):
        here = [path.format(**wildcards) for path in paths]
        if is_current(stage, **wildcards) and all(Path(path).exists() for path in here):
            return [ancient(before_update(path)) for path in here]
        return here

    return inputs


def claims(stage):
    """Return what a job asks of a cluster: memory and time by its sizes, more at each attempt, and a GPU if it uses one."""
    device = PLAN.config.compute.device

    def amount(key):
        return lambda wildcards, attempt: resources.claim(
            PLAN, stage, attempt, **wildcards
        )[key]

    return {
        "mem_mb": amount("mem_mb"),
        "runtime": amount("runtime"),
        "gpu": int(stage in GPU_STAGES and device != "cpu"),
    }


def attribution_targets(wildcards):
    """Return the further inputs of an attribution whose targets are concepts."""
    if wildcards.target == CLASSES:
        return []
    target = f"{wildcards.method}/{{}}/{wildcards.target}"
    return [
        results(f"{wildcards.method}/concepts/{wildcards.target}.parquet"),
        results(f"{wildcards.method}/kept/{wildcards.target}.parquet"),
        results(
            f"{wildcards.method}/attributions/{wildcards.target}--{CLASSES}/{wildcards.shard}.parquet"
        ),
    ]


wildcard_constraints:
    method="|".join(dict.fromkeys([*METHODS, *EVALUATED])),
    layer="|".join(map(re.escape, LAYERS)),
    source="|".join(map(re.escape, LAYERS)),
    target="|".join(map(re.escape, [*LAYERS, CLASSES])),
    shard=r"\d+",


if workflow.is_main_process:
    ALONE = provenance.release_stale_locks(Path(".snakemake"), PLAN.root)
    OVERALL = Overall(PLAN.root / "logs")


onstart:
    orphans = cancel_orphans(Path.cwd()) if ALONE else []
    if orphans:
        print(
            f"gigraph: cancelled {len(orphans)} orphaned jobs of a killed run: {', '.join(orphans)}",
            file=sys.stderr,
        )
    every = {}
    for job in workflow.dag.jobs:
        if job.rule.name not in TARGETS:
            every |= lineages(job.rule.name, job.wildcards_dict)
    try:
        provenance.write_plan(PLAN.root / "plan.json", every)
    except OSError as error:
        stop(
            f"{PLAN.root} cannot be written: {error.strerror or error}; mend that and run again"
        )
    OVERALL.start(
        {
            job.jobid: job.rule.name
            for job in workflow.dag.needrun_jobs()
            if job.rule.name not in TARGETS
        }
    )


onsuccess:
    provenance.write_run(PLAN.root, PLAN.config.model_dump(mode="json"), PLAN.seeds)


onerror:
    print(
        "gigraph: the run is not complete; nothing of it is lost: mend what is named above and run the same command again",
        file=sys.stderr,
    )
