"""The run in a real Slurm: the same tables, GPUs handed out by it, cancelled jobs and killed controllers made good."""

import re
import signal
import subprocess
import time

import pytest

from workflow.cluster import cluster, missing, queue
from workflow.shadow import Shadow

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"Slurm: {missing()}"),
    pytest.mark.timeout(3000),
]
QUICK = ["--workflow-profile", "slurm", "--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "15"]
TARGETS = ["results/selection.parquet", "results/centres/layer3.1.parquet", "results/images.parquet"]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="uv sync --extra slurm")
    with cluster(tmp_path_factory.mktemp("slurm")):
        yield


def settle(shadow, *, seconds=90):
    end = time.monotonic() + seconds
    while queue() and time.monotonic() < end:
        time.sleep(0.5)
    assert not queue()


def arguments(shadow):
    # The profile lies beside the copy's Snakefile; a test waits less long than a cluster's user.
    return [*TARGETS, *QUICK, "--seconds-between-status-checks", "3"]


def test_a_cancelled_job_and_a_killed_controller(slurm, tmp_path):
    """The same tables as a local run's, after a job is cancelled, and after the controller is killed."""
    shadow = Shadow(tmp_path / "cluster", layers=["layer3.1"], compute={"memory_mb": 100})
    here = Shadow(tmp_path / "here", layers=["layer3.1"], compute={"memory_mb": 100})
    local = here.run(*TARGETS)
    assert local.returncode == 0, local.stderr[-3000:]

    def start():
        with (shadow.folder / "started.txt").open("a") as out:
            return subprocess.Popen(
                shadow.command(*arguments(shadow)), cwd=shadow.folder, stdout=out, stderr=out,
                env=shadow.environment(SHADOW_SECONDS="8"),
            )  # fmt: skip

    # A controller dies while a job of its runs; the cluster goes on with that.
    first = start()
    wait_for(lambda: any(state == "RUNNING" for _, state, _ in queue()), first, shadow)
    first.send_signal(signal.SIGKILL)
    first.wait()
    # The second one cancels what the first one left, and loses a job to an impatient operator.
    second = start()
    wait_for(lambda: any("sample" in comment and state == "RUNNING" for _, state, comment in queue()), second, shadow)
    job = next(number for number, state, comment in queue() if "sample" in comment and state == "RUNNING")
    subprocess.run(["scancel", job], check=True)
    assert second.wait(600) == 0, (shadow.folder / "started.txt").read_text()[-4000:]
    settle(shadow)
    assert shadow.tables() == here.tables()
    said = (shadow.folder / "started.txt").read_text()
    assert "orphaned jobs of a killed run" in said
    logs = {path.name: path.read_text() for path in (shadow.folder / "results/logs").rglob("*.json")}
    jobs = {re.search(r'"cluster_job": "?(\w+)', text)[1] for text in logs.values()}
    assert "null" not in jobs and len(jobs) == len(logs)
    devices = [re.search(r'"device": "([^"]*)"', path.read_text())[1]
               for path in (shadow.folder / "results/logs/sample").glob("*.json")]  # fmt: skip
    assert set(devices) <= {"cuda:0", "cuda:1"} and devices


def wait_for(condition, process, shadow, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        said = (shadow.folder / "started.txt").read_text()[-3000:]
        assert process.poll() is None, said
        assert time.monotonic() < end, said
        time.sleep(0.3)
