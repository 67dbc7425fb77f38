"""Nothing is lost: after each fault the documented command completes the run, and every table is an undisturbed run's.

The jobs pretend (`workflow.shadow`): what they write is a hash of what they read, through the real reading, writing
and planning. `test_random_kills` does the same to the demo, with real jobs.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from workflow.shadow import Shadow
from workflow.toy import ROOT, same_tables

ONE = {"layers": ["layer3.1"], "images": {"shards": 2}}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    made = Shadow(tmp_path_factory.mktemp("undisturbed"), **ONE)
    run = made.run()
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    made.jobs()
    return made


@pytest.fixture
def copy(undisturbed, tmp_path):
    """A copy of the finished run, with the times of its files."""

    def make(name="copy"):
        folder = tmp_path / name
        subprocess.run(["cp", "-a", str(undisturbed.folder), str(folder)], check=True)
        shadow = object.__new__(Shadow)
        shadow.folder, shadow.site, shadow.config = folder, folder / "site", folder / "config.yaml"
        return shadow

    return make


def completes(shadow, expected):
    run = shadow.run()
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    assert shadow.tables() == expected.tables()
    assert not list((shadow.folder / "results").rglob("*.tmp"))
    return run


def wait_for(condition, process=None, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end and (process is None or process.poll() is None)
        time.sleep(0.02)


def scripts_of(shadow):
    """Return the processes that pretend in this folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        line = process.info["cmdline"] or []
        if process.info["cwd"] == str(shadow.folder) and any("workflow/scripts" in part for part in line[:3]):
            found.append(process)
    return found


def empty(shadow):
    shutil.rmtree(shadow.folder / "results")
    shutil.rmtree(shadow.folder / ".snakemake")


def test_killed_jobs_and_a_killed_controller(copy, undisturbed):
    """The scripts of a killed Snakemake end with it, and the same command goes on without being asked to unlock."""
    shadow = copy()
    empty(shadow)
    killed = shadow.start(SHADOW_SECONDS="20")
    wait_for(lambda: len(shadow_pids := shadow_lines(shadow)) >= 2 and shadow_pids, killed)
    pids = [int(line.split()[1]) for line in shadow_lines(shadow)]
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    wait_for(lambda: not any(map(psutil.pid_exists, pids)), seconds=10)
    assert (shadow.folder / ".snakemake/locks").is_dir() and any((shadow.folder / ".snakemake/locks").iterdir())
    # A job killed: its script at once, or the shell around it.
    again = shadow.start(SHADOW_SECONDS="1")
    wait_for(lambda: scripts_of(shadow), again)
    victim = scripts_of(shadow)[0]
    victim.kill()
    assert again.wait(200) != 0
    completes(shadow, undisturbed)


def shadow_lines(shadow):
    log = shadow.folder / "jobs.txt"
    return log.read_text().splitlines() if log.exists() else []


def test_two_at_once(copy, undisturbed):
    """The second one is turned away by the first one's lock, which is not a stale one."""
    shadow = copy()
    empty(shadow)
    first = shadow.start(SHADOW_SECONDS="0.5")
    wait_for(lambda: shadow_lines(shadow), first)
    second = shadow.run()
    assert second.returncode != 0 and "lock" in second.stderr.lower()
    assert first.wait(200) == 0
    assert shadow.tables() == undisturbed.tables()


@pytest.mark.parametrize(
    "fault",
    # The planning of the last two is tested in the default run, too (`test_edits`).
    [
        "deleted shard",
        "truncated table",
        *(pytest.param(f, marks=pytest.mark.slow) for f in ("emptied figure", "records lost")),
    ],
)
def test_damaged_results(copy, undisturbed, fault):
    shadow = copy()
    results = shadow.folder / "results"
    coefficients = results / "bisecting/coefficients/layer3.1/1.parquet"
    match fault:
        case "deleted shard":
            (results / "pfvs/layer3.1/0.parquet").unlink()
        case "truncated table":
            coefficients.write_bytes(coefficients.read_bytes()[:-30])
        case "emptied figure":
            (results / "bisecting/figures/fidelity.svg").write_text("<svg")
        case "records lost":
            shutil.rmtree(shadow.folder / ".snakemake")
            coefficients.unlink()
    shadow.jobs()
    completes(shadow, undisturbed)
    stages = {line[0] for line in shadow.jobs()}
    assert "manifest" not in stages and "network" not in stages
    assert ("sample" in stages) == (fault == "deleted shard")
    assert (results / "bisecting/figures/fidelity.svg").read_text().endswith("</graphml>")


def test_a_stale_table_is_never_read(copy):
    """A table of another configuration put in the place of the planned one ends the job that reads it with one line."""
    shadow = copy()
    results = shadow.folder / "results"
    plan = json.loads((results / "plan.json").read_text())
    coefficients = "results/bisecting/coefficients/layer3.1/0.parquet"
    plan[coefficients] = "0123456789abcdef"
    (results / "other.json").write_text(json.dumps(plan))
    code = f"from gigraph import tables; tables.read({coefficients!r})"
    for name, refused in (("plan.json", False), ("other.json", True)):
        run = subprocess.run(
            [sys.executable, "-c", code], cwd=shadow.folder, capture_output=True, text=True,
            env=shadow.environment(GIGRAPH_PLAN=f"results/{name}"),
        )  # fmt: skip
        assert (run.returncode != 0) == refused, run.stderr
        assert ("made from other settings" in run.stderr) == refused
    code = (
        f"from gigraph import tables; tables.write({coefficients!r}, 'rejected', {{'path': [], 'reason': []}}, 'old')"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=shadow.folder, capture_output=True, text=True,
        env=shadow.environment(GIGRAPH_PLAN="results/plan.json"),
    )  # fmt: skip
    assert "made from other settings" in run.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk(copy, undisturbed, tmp_path):
    """A job on a full disk ends with one line and leaves nothing behind; with space again the run goes on."""
    shadow = copy()
    empty(shadow)
    disk = shadow.folder / "results"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        filler = disk / "filler"
        fill = f"cat /dev/zero > {filler}"
        run = shadow.run("results/selection.parquet")
        assert run.returncode == 0
        subprocess.run(["sh", "-c", fill], capture_output=True)
        run = shadow.run()  # not even the plan can be written
        assert run.returncode != 0 and "gigraph: error: results cannot be written" in run.stderr
        assert "Traceback" not in run.stderr
        (disk / "plan.json").unlink()
        run = shadow.run()
        assert run.returncode != 0
        assert "the disk is full" in run.stdout + run.stderr
        assert "Traceback" not in run.stderr
        filler.unlink()
        completes(shadow, undisturbed)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_worker_killed(tmp_path):
    """A script whose child is killed fails with one line; children end with a killed script."""
    command = [
        sys.executable, str(ROOT / "workflow/scripts/draw.py"), "--folder", "drawn", "--workers", "2",
        "--settings", json.dumps({"count": 4000, "seed": 0, "size": 96}), "--log", "draw.log",
    ]  # fmt: skip
    for victim in ("child", "script"):
        with (tmp_path / "out.txt").open("w") as out:
            script = subprocess.Popen(command, cwd=tmp_path, stdout=out, stderr=out)
        process = psutil.Process(script.pid)
        wait_for(lambda: len(process.children()) >= 2 and list(tmp_path.glob("drawn/*/*.png")), script)
        children = process.children()
        (children[0] if victim == "child" else process).kill()
        assert script.wait(60) != 0
        wait_for(lambda: not any(child.is_running() and child.status() != "zombie" for child in children), seconds=10)
        text = (tmp_path / "out.txt").read_text()
        assert "Traceback" not in text
        assert ("draw failed: BrokenProcessPool" in text) == (victim == "child")
        assert not (tmp_path / "drawn/factors.parquet").exists()


@pytest.mark.slow
@pytest.mark.timeout(6000)
def test_random_kills(tmp_path):
    """Twenty kills at random times over the demo: of Snakemake, a script, its shell or a child of it."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "2"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    for folder in (undisturbed, disturbed):
        folder.mkdir()
    run = subprocess.run(command, cwd=undisturbed, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-4000:]
    dice = random.Random(0)
    for kill in range(20):
        with (disturbed / "out.txt").open("a") as out:
            run = subprocess.Popen(command, cwd=disturbed, env=environment, stdout=out, stderr=out)
        time.sleep(dice.uniform(8, 40))
        if run.poll() is not None:
            break
        below = psutil.Process(run.pid).children(recursive=True)
        victim = psutil.Process(run.pid) if kill % 2 == 0 or not below else dice.choice(below)
        print(f"kill {kill}: {' '.join(victim.cmdline()[:3])}")
        victim.kill()
        if victim.pid != run.pid:  # Snakemake notices, ends the other jobs in order, and fails
            run.wait(600)
        else:
            run.wait()
            wait_for(lambda left=below: not any(p.is_running() and "scripts" in " ".join(p.cmdline()) for p in left))
    run = subprocess.run(command, cwd=disturbed, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-4000:]
    assert same_tables(undisturbed / "results", disturbed / "results") > 100
