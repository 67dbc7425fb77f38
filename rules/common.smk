"""Validates the configuration first, then offers the names and functions that the other rules use."""

import shlex
import sys
from pathlib import Path

from gigraph.config import CLASSES, load
from gigraph.errors import UserError
from gigraph.plan import Plan

SCRIPTS = Path(workflow.basedir) / "workflow" / "scripts"


def stop(error):
    """End Snakemake with one line."""
    print(f"gigraph: error: {error}", file=sys.stderr)
    sys.exit(1)


try:
    PLAN = Plan(load(config), SCRIPTS)
    PLAN.check()
except UserError as error:
    stop(error)

METHODS = PLAN.config.methods
EVALUATED = PLAN.config.evaluation.methods
LAYERS = PLAN.layers
SHARDS = PLAN.shards
FIGURES = ["fidelity", "completeness", "ablation"]
# How the work is done changes no result: it reaches the jobs by the environment, so that changing it reruns nothing.
compute = (
    shlex.quote(PLAN.config.compute.model_dump_json())
    .replace("{", "{{")
    .replace("}", "}}")
)
shell.prefix(
    f"set -euo pipefail; export GIGRAPH_SCRIPTS={shlex.quote(str(SCRIPTS))} GIGRAPH_COMPUTE={compute}; "
)


def results(path):
    """Return a path below the results folder."""
    return str(PLAN.root / path)


def sharded(path):
    """Return the paths of all shards of a table."""
    return expand(results(path), shard=SHARDS, allow_missing=True)


def settings(stage):
    """Return a params function: the settings that this stage's result depends on, as JSON."""
    return lambda wildcards: PLAN.settings_json(stage, **wildcards)


def lineage(stage):
    """Return a params function: the hash of the stage's settings, code and inputs; a change of it reruns the job."""
    return lambda wildcards: PLAN.lineage(stage, **wildcards)


def unless_current(paths, stage, table):
    """Return an input function for tables that one job writes for many consumers.

    A consumer whose own tables are up to date does not care that the job ran again for another consumer, so its
    input is `ancient`. The check is needed because Snakemake does not look at the parameters of a job
    downstream of one that runs.
    """

    def inputs(wildcards):
        current = all(
            PLAN.current(
                table.format(**{**wildcards, **of}),
                PLAN.lineage(stage, **{**wildcards, **of}),
            )
            for of in (
                [{"layer": layer} for layer in LAYERS] if stage == "sample" else [{}]
            )
        )
        here = [path.format(**wildcards) for path in paths]
        return [ancient(path) for path in here] if current else here

    return inputs


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
