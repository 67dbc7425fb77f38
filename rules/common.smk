"""Validates the configuration first, then offers the names and functions that the other rules use."""

import os
import shlex
import sys
from collections import Counter
from functools import cache
from pathlib import Path

from gigraph.errors import UserError, one_line
from gigraph.planning import resources, standing
from gigraph.planning.config import PROJECT, load, read_yaml, with_defaults
from gigraph.planning.plan import Plan
from gigraph.planning.stages import STAGES, Read
from gigraph.records.paths import FILES
from gigraph.reserved import CLASSES
from gigraph.running import cluster, current, forks, leases, locks, record, session
from gigraph.running.console import WORDS
from gigraph.running.ending import beginning, ending, found, looked, rehearsal, resting
from gigraph.running.progress import duration

SCRIPTS = PROJECT / "workflow" / "scripts"
# Another workflow may have imported this one, as a module of its own name and with a configuration of its own. So does
# this very workflow its control, for which it does all that a run needs besides rules.
ABOVE = getattr(workflow.modifier.parent_modifier, "globals", {})
IS_CONTROL = isinstance(ABOVE.get("PLAN"), Plan)
IMPORTED = not (IS_CONTROL or workflow.modifier.is_main_snakefile())


def stop(error):
    """End Snakemake with one line."""
    session.fail(workflow, f"gigraph: error: {one_line(error)}")
    sys.exit(1)


try:
    if IMPORTED:
        config = with_defaults(config)
        session.check_import(workflow, config["output"])
    elif not IS_CONTROL:
        for file in workflow.configfiles:
            read_yaml(Path(file))
    PLAN = Plan(load(config), SCRIPTS)
    PLAN.check()
except UserError as error:
    stop(error)

METHODS = PLAN.config.methods
CONTROL = "control_"  # what the names of the control's rules begin with
# The plan and the stage of each rule, by the rule's name in the workflow that is called.
RULES = {}
for begins, plan in {"": PLAN, CONTROL: PLAN.control}.items():
    for stage in STAGES if plan else ():
        RULES[workflow.modifier.modify_rulename(begins + stage)] = (plan, stage)
TARGETS = [workflow.modifier.modify_rulename(name) for name in ("all", "evaluation")]
# Priorities: of the jobs that most others wait for, of a shard's first ones, and of those that all others wait for.
# Snakemake starts the jobs with the largest sum.
FIRST, SHARD, START = 1, 2, 3
# How the work is done changes no result: it reaches the jobs by the environment, so that changing it reruns nothing.
# A script ends with the process that started it, which is this one, and reads no table but those of this plan.
environment = {
    "GIGRAPH_SCRIPTS": SCRIPTS,
    "GIGRAPH_COMPUTE": PLAN.config.compute.model_dump_json(),
    "GIGRAPH_PLAN": PLAN.results("plan"),
    "GIGRAPH_CONTROLLER": os.getpid(),
    "GIGRAPH_SCREEN": int(not session.is_muted(workflow)),
}
exports = " ".join(
    f"{name}={shlex.quote(str(value))}" for name, value in environment.items()
)
# Whatever Snakemake was called by: the jobs' python is its own, unless it deploys another one for them.
if not workflow.deployment_settings.deployment_method:
    exports += f" PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
else:
    PACKAGE = session.package_alone(Path(".snakemake"))
    exports += f" PYTHONPATH={shlex.quote(str(PACKAGE))}"


class shell(shell):
    """Snakemake's, with a prefix that is only of the rules in this namespace."""


def prefix(*more):
    """Have every job's shell begin with these commands, too."""
    commands = ["set -euo pipefail", f"export {exports}", *more]
    shell.prefix(
        "".join(f"{one}; " for one in commands).replace("{", "{{").replace("}", "}}")
    )


if IS_CONTROL:
    shell = ABOVE["shell"]
else:
    prefix()


def results(path):
    """Return a path below the results folder."""
    return str(PLAN.root / path)


def made(name, **of):
    """Return where files of a kind lie (a key of `FILES`), with a wildcard for each field that is not given."""
    paths = expand(results(FILES[name].pattern), allow_missing=True, **of)
    return (
        paths
        if any(isinstance(value, (list, tuple)) for value in of.values())
        else paths[0]
    )


def every(name, **of):
    """Return all files of a kind, or all of those with some fields."""
    return files(Read(name, of))


def files(read):
    """Return the files that a `Read` means."""
    plan = PLAN.of(read)
    return [str(plan.results(read.name, **one)) for one in plan.expand(read)]


def needs(stage):
    """Return a rule's inputs: the files that the stage says it reads.

    And have Snakemake run every job whose outputs are not current. By itself it finds a changed lineage, but it misses
    an output that lies upstream of finished ones and is gone or cut short, and its records may be lost, or of another
    job than the one that made what lies there: so they are overlooked.

    A job whose own tables are current takes the files that it reads loosely as they lie there, even if another job
    is going to write them again. (`ancient` alone would not do: Snakemake does not look at changes downstream of a
    job that runs, and relies on it to pass them on.)
    """

    # As whoever imports this workflow calls the rule; one whose inputs they replace is left to Snakemake.
    own = workflow.modifier.modify_rulename(stage)

    def inputs(wildcards):
        if workflow.is_main_process:
            session.overlook_records(workflow, own)
        if stage == "concepts":
            try:
                PLAN.check_method(wildcards.method)
            except UserError as error:
                stop(error)
        is_done = is_current(stage, **wildcards)
        if workflow.is_main_process and not is_done:
            workflow.dag.forcefiles.update(PLAN.outputs(stage, **wildcards))
        found = {}
        for name, reads in PLAN.reads(stage, **wildcards).items():
            paths = [(path, read) for read in reads for path in files(read)]
            as_it_lies = is_done and all(Path(path).exists() for path, _ in paths)
            # What is done is made from what is planned, whatever the times of its inputs say: `cp -r` makes them new.
            found[name] = [
                (
                    path
                    if not is_done
                    else (
                        ancient(before_update(path))
                        if read.loosely and as_it_lies
                        else ancient(path)
                    )
                )
                for path, read in paths
            ]
        return found

    return unpack(inputs)


def root(wildcards, input):
    """Return the results folder; not compared with that of the last run (hence `input`, as in `settings`)."""
    return str(PLAN.root)


def settings(stage):
    """Return a params function: the settings of this stage as JSON.

    It takes `input` only so that Snakemake does not compare them with those of the last run: the lineage says
    whether a job must run.
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
        for stage in STAGES["explorer"].shows
        if PLAN.drawn or stage != "effects"
    ]


def lineage(stage):
    """Return a params function: the hash of the stage's settings, code and inputs; a change of it reruns the job."""
    return lambda wildcards: PLAN.lineage(stage, **wildcards)


@cache
def is_current(stage, **wildcards):
    """Whether all outputs of a job are there, whole, and made from what is planned.

    The explorer is not if it shows an evaluation of another configuration, and the evidence not if it shows none.
    """
    if stage in ("explorer", "evidence"):
        shown = current.shown_evaluation(PLAN.results("explorer").parent)
        own = PLAN.lineage("evaluation_tables")
        if shown != own and (shown or stage == "evidence"):
            return False
    (log,) = expand(getattr(rules, stage).log, **wildcards)
    outputs = PLAN.outputs(stage, **wildcards)
    return current.current(outputs, Path(log).with_suffix(".json"))


def claims(stage):
    """Return what a job asks of a cluster: memory and time by its sizes, more at each attempt, and a GPU if it uses one."""

    def amount(key):
        return lambda wildcards, attempt: resources.claim(
            PLAN, stage, attempt, **wildcards
        )[key]

    return {
        "mem_mb": amount("mem_mb"),
        "runtime": amount("runtime"),
        "gpu": int(STAGES[stage].gpu and PLAN.config.compute.device != "cpu"),
    }


wildcard_constraints:
    method="|".join(PLAN.values("method")),
    layer="|".join(map(re.escape, PLAN.layers)),
    source="|".join(map(re.escape, PLAN.layers)),
    target="|".join(map(re.escape, [*PLAN.layers, CLASSES])),
    shard=r"\d+",


def begin(run):
    """Prepare the first job: what is left of killed runs, the plan that jobs hold to, and what they are forked from."""
    if ORPHANS:
        cluster.cancel(ORPHANS, Path.cwd())
        WORDS.info(
            f"gigraph: cancelled {len(ORPHANS)} orphaned jobs of a killed run: {', '.join(ORPHANS)}"
        )
    # Snakemake deletes what a job has made before it runs again: a mistake must not cost a finished run its tables.
    due = {RULES[job.rule.name] for job in run.due}
    if (
        (PLAN, "network") in due
        and PLAN.results("layers").exists()
        and not PLAN.trained
    ):
        look()
    planned = standing.everything(PLAN)
    if PLAN.control is not None:
        planned |= standing.everything(PLAN.control)
    for job in run.jobs:
        plan, stage = RULES[job.rule.name]
        planned |= plan.outputs(stage, **job.wildcards_dict)
    try:
        locks.hold_results(PLAN.root, Path.cwd())
        current.write_plan(PLAN.results("plan"), planned)
        standing.write_asked(PLAN)
    except UserError as error:
        stop(error)
    except OSError as error:
        stop(
            f"{PLAN.root} cannot be written: {error.strerror or error}; mend that and run again"
        )
    if workflow.local_exec:
        # Of its limit on submissions a second, which is meant for clusters, Snakemake keeps a timer for every job that it
        # has started, and looks for jobs anew whenever one ends: after 200 jobs that takes a fifth of a core.
        workflow.scheduler.job_rate_limiter = None
        heavy = [job for job in run.due if STAGES[RULES[job.rule.name][1]].torch]
        if not workflow.deployment_settings.deployment_method:
            devices = PLAN.config.compute.device != "cpu" and leases.devices()
            prefix(*forks.start(len(heavy), bool(devices)))
    WORDS.info(
        beginning(PLAN, len(run.due), workflow.logger_manager.get_logfile()),
        extra={
            "gigraph": {
                "names": run.names,
                "retries": {
                    job.rule.name: job.restart_times
                    for job in workflow.dag.needrun_jobs()
                },
                "targets": TARGETS,
                "logs": PLAN.results("logs"),
            }
        },
    )


def look():
    """Look at the model as its first job does; end Snakemake with one line if something is wrong with it."""
    from gigraph.network_check import checked

    try:
        return checked(PLAN.settings("network"), PLAN.config.compute)
    except UserError as error:
        stop(error)
    except KeyboardInterrupt:
        session.fail(workflow, "gigraph: interrupted")
        sys.exit(130)


def rehearse(run):
    """Say what would run, and look at the model already if a job is going to."""
    due = Counter(RULES[job.rule.name] for job in run.due)
    own = {stage: due[PLAN, stage] for stage in STAGES}
    control = sum(due.values()) - sum(own.values())
    around = [
        job
        for job in workflow.dag.needrun_jobs()
        if job.rule.name not in run.names and job.rule.name not in TARGETS
    ]
    jobs = len(run.jobs)
    if IMPORTED and around:
        own["(jobs of the workflow around it)"] = len(around)
        jobs += len(around)
    seen = []
    if own["network"] and session.is_muted(workflow) and not PLAN.trained:
        seen = looked(*look())
    WORDS.info(
        "\n".join([rehearsal(PLAN, own, control, jobs), *seen]),
        extra={"gigraph": {"names": run.names}},
    )
    cost = (
        "gigraph plan says how long the graph takes, the documentation what an evaluation took"
        if own["evaluation_tables"]
        else "gigraph plan says how long it takes"
    )
    WORDS.info(f"nothing was run; {cost}, --verbose shows every job")


def end(run):
    """Write what was done, and say what was found."""
    told = found(PLAN)
    notes = record.write_run(
        PLAN.root, PLAN.config.model_dump(mode="json"), PLAN.seeds, told
    )
    WORDS.info("\n".join(ending(PLAN, told, notes, duration(run.seconds))))


def rest(run):
    """Say where to look, instead of Snakemake that there is nothing to be done."""
    if session.is_muted(workflow):
        WORDS.info(resting(PLAN))


if workflow.is_main_process and not IS_CONTROL:
    ALONE = locks.release_stale_locks(Path(".snakemake"), PLAN.root)
    # Snakemake itself does not know yet, while it reads this.
    IS_DRY = workflow.logger_manager.settings.dryrun
    ORPHANS = cluster.orphans(Path.cwd()) if ALONE and not IS_DRY else []
    RUN = session.attend(
        workflow,
        str(PLAN.root),
        {
            name: stage if plan is PLAN else f"control's {stage}"
            for name, (plan, stage) in RULES.items()
        },
        begin=begin,
        end=end,
        rehearse=rehearse,
        rest=rest,
    )


onsuccess:
    RUN.finish()


onerror:
    if any(RULES[name][0] is not PLAN for name in RUN.failed if name in RULES):
        WORDS.error(
            "gigraph: a job of the control has failed: the network with its weights shuffled, which may say nothing of any "
            "image; evaluation.control: false leaves it out"
        )
    WORDS.error(
        "gigraph: the run is not complete; nothing of it is lost: mend what is named above and run the same command again"
    )
