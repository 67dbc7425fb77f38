"""The run in a real Slurm: the same tables, GPUs handed out by it, cancelled jobs and killed controllers made good."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gigraph.planning.stages import STAGES
from processes import wait_for
from workflow.cluster import cluster, missing, queue
from workflow.shadow import Shadow
from workflow.toy import ROOT, same_tables

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"Slurm: {missing()}"),
    pytest.mark.timeout(3000),
]
# The profile, with less patience than a cluster's user has.
QUICK = [
    "--workflow-profile", "slurm", "--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "15",
    "--seconds-between-status-checks", "3",
]  # fmt: skip
TARGETS = ["results/selection.parquet", "results/centres/layer3.1.parquet", "results/images.parquet"]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="uv sync --extra slurm")
    with cluster(tmp_path_factory.mktemp("slurm")):
        yield


def running(what=""):
    return [number for number, state, comment in queue() if state == "RUNNING" and what in comment]


def test_a_cancelled_job_and_a_killed_controller(slurm, tmp_path):
    """The same tables as a local run's, after a job is cancelled, and after the controller is killed."""
    shadow = Shadow(tmp_path / "cluster", layers=["layer3.1"], compute={"memory_mb": 100})
    here = Shadow(tmp_path / "here", layers=["layer3.1"], compute={"memory_mb": 100})
    local = here.run(*TARGETS)
    assert local.returncode == 0, local.stderr[-3000:]

    def start():
        with (shadow.folder / "started.txt").open("a") as out:
            return subprocess.Popen(
                shadow.command(*TARGETS, *QUICK), cwd=shadow.folder, stdout=out, stderr=out,
                env=shadow.environment(SHADOW_SECONDS="8"),
            )  # fmt: skip

    # A controller dies while a job of its runs; the cluster goes on with that.
    said = shadow.folder / "started.txt"
    first = start()
    wait_for(running, first, 240, said)
    first.send_signal(signal.SIGKILL)
    first.wait()
    # The second one cancels what the first one left, and loses a job to an impatient operator.
    second = start()
    job, *_ = wait_for(lambda: running("sample"), second, 240, said)
    subprocess.run(["scancel", job], check=True)
    assert second.wait(600) == 0, said.read_text()[-4000:]
    wait_for(lambda: not queue())
    assert shadow.tables() == here.tables()
    assert "orphaned jobs of a killed run" in said.read_text()
    logs = {path.name: path.read_text() for path in (shadow.folder / "results/logs").rglob("*.json")}
    jobs = {re.search(r'"cluster_job": "?(\w+)', text)[1] for text in logs.values()}
    assert "null" not in jobs and len(jobs) == len(logs)
    devices = [re.search(r'"device": "([^"]*)"', path.read_text())[1]
               for path in (shadow.folder / "results/logs/sample").glob("*.json")]  # fmt: skip
    assert set(devices) <= {"cuda:0", "cuda:1"} and devices


def test_the_whole_demo(slurm, tmp_path):
    """The embedded default through Slurm: every job is one of the cluster's, every table is the local run's."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for place, arguments in (("local", ["--cores", str(os.cpu_count())]), ("slurm", QUICK)):
        (tmp_path / place).mkdir()
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), *arguments]
        began = time.monotonic()
        run = subprocess.run(command, cwd=tmp_path / place, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr[-4000:]
        print(f"{place}: {time.monotonic() - began:.0f} s", flush=True)
    assert same_tables(tmp_path / "local/results", tmp_path / "slurm/results") > 50
    jobs = [json.loads(path.read_text()) for path in (tmp_path / "slurm/results/logs").rglob("*.json")]
    assert len({job["cluster_job"] for job in jobs} - {None}) == len(jobs)
    assert {job["device"] for job in jobs if STAGES[job["stage"]].gpu} == {"cuda:0", "cuda:1"}
    assert {job["device"] for job in jobs if not STAGES[job["stage"]].gpu} == {"cpu"}
    print(f"{len(jobs)} jobs, {sum(job['seconds'] for job in jobs):.0f} s of work", flush=True)
