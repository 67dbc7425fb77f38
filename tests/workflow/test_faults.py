"""Nothing is lost: after each fault the documented command completes the run, and every table is an undisturbed run's.

The jobs pretend (`workflow.shadow`): what they write is a hash of what they read, through the real reading, writing
and planning. `test_random_kills` does the same to the demo, with real jobs.
"""

import base64
import contextlib
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

from processes import wait_for, wait_for_ends
from workflow.shadow import Shadow
from workflow.toy import ROOT, same_tables

HOSTILE = "'; touch owned; '\"$(touch owned)\n`touch owned` {wildcards} %s"
ONE = {
    "layers": ["layer3.1"],
    "images": {"shards": 2, "classes": ["ant", "bee", "cat", HOSTILE]},
    "explorer": {"title": HOSTILE},
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    made = Shadow(tmp_path_factory.mktemp("undisturbed"), **ONE)
    run = made.run()
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    made.jobs()
    return made


def test_hostile_settings_reach_the_jobs_as_they_are(undisturbed):
    """Through Snakemake and the shell: nothing of them is run, and no brace of theirs is taken for a wildcard."""
    (rows, _) = undisturbed.tables()["results/manifest/0.parquet"]
    assert json.loads(rows[0]["reason"][16:])["classes"] == ONE["images"]["classes"]
    assert not list(undisturbed.folder.rglob("owned"))


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


def scripts_of(shadow):
    """Return the processes that pretend in this folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        script = (process.info["cmdline"] or [])[3:4]
        if process.info["cwd"] == str(shadow.folder) and script and script[0].startswith(f"{shadow.site}/workflow"):
            found.append(process)
    return found


def empty(shadow):
    shutil.rmtree(shadow.folder / "results")
    shutil.rmtree(shadow.folder / ".snakemake")


def test_killed_jobs_and_a_killed_controller(copy, undisturbed):
    """The scripts of a killed Snakemake end with it, and the same command goes on without being asked to unlock."""
    shadow = copy()
    empty(shadow)
    killed = shadow.start(SHADOW_SECONDS="300")
    wait_for(lambda: len(shadow_lines(shadow)) >= 2, killed)
    scripts = scripts_of(shadow)
    assert len(scripts) >= 2
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    wait_for_ends(scripts)
    assert (shadow.folder / ".snakemake/locks").is_dir() and any((shadow.folder / ".snakemake/locks").iterdir())
    # A job is killed.
    again = shadow.start(SHADOW_SECONDS="5")
    wait_for(lambda: scripts_of(shadow), again)[0].kill()
    assert again.wait(200) != 0
    completes(shadow, undisturbed)


def test_an_impatient_interruption(copy, undisturbed):
    """Another one, as a terminal's Ctrl-C sent to all processes, before the first has done its work."""
    shadow = copy()
    empty(shadow)
    started = shadow.start(SHADOW_SECONDS="300")
    wait_for(lambda: len(shadow_lines(shadow)) == 3, started)  # a core each
    started.send_signal(signal.SIGINT)  # it waits for its jobs, which have not got it
    said = shadow.folder / "started.txt"
    wait_for(lambda: "gigraph: interrupted; the same command goes on from here" in said.read_text(), started, log=said)
    os.killpg(started.pid, signal.SIGINT)
    assert started.wait(120) != 0
    assert "Traceback" not in said.read_text()
    completes(shadow, undisturbed)


def shadow_lines(shadow):
    log = shadow.folder / "jobs.txt"
    return log.read_text().splitlines() if log.exists() else []


def test_two_at_once(copy, undisturbed):
    """The second one is turned away by the first one's lock, which is not a stale one."""
    shadow = copy()
    empty(shadow)
    first = shadow.start()
    wait_for(lambda: shadow_lines(shadow), first)
    os.killpg(first.pid, signal.SIGSTOP)  # however long the second one takes
    try:
        second = shadow.run()
    finally:
        os.killpg(first.pid, signal.SIGCONT)
    assert second.returncode != 0 and "lock" in second.stderr.lower()
    assert first.wait(200) == 0
    assert shadow.tables() == undisturbed.tables()


SQUEUE = """#!/bin/sh
echo asked >> asked.txt
test -e cancelled.txt || echo '1|{here}|rule_sample'
ls .snakemake/locks/* > /dev/null 2>&1 && echo '2|{here}|rule_sample'
exit 0
"""


def test_jobs_on_a_cluster_that_came_after_this_run_are_none_of_a_killed_one(copy):
    """Another run, with another output, may begin in the same folder while Snakemake gets ready."""
    shadow = copy()
    empty(shadow)
    for name, text in (
        ("squeue", SQUEUE.format(here=shadow.folder)),
        ("scancel", '#!/bin/sh\necho "$@" > cancelled.txt'),
    ):
        program = shadow.site / "bin" / name
        program.write_text(text)
        program.chmod(0o755)
    assert shadow.run("-n").returncode == 0 and not (shadow.folder / "asked.txt").exists()
    run = shadow.run("results/selection.parquet")
    assert run.returncode == 0 and "cancelled 1 orphaned jobs of a killed run: 1\n" in run.stderr
    assert (shadow.folder / "cancelled.txt").read_text() == "1\n"


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
            # And a job that had ended when its Snakemake was killed, unnoted.
            mark = base64.b64encode(b"results/images.parquet").decode()
            (shadow.folder / ".snakemake/incomplete" / mark).write_text('{"external_jobid": null}')
        case "emptied figure":
            (results / "bisecting/figures/reconstruction.svg").write_text("<svg")
        case "records lost":
            shutil.rmtree(shadow.folder / ".snakemake")
            coefficients.unlink()
    shadow.jobs()
    completes(shadow, undisturbed)
    stages = {line[0] for line in shadow.jobs()}
    assert "manifest" not in stages and "network" not in stages
    assert ("sample" in stages) == (fault == "deleted shard")
    assert (results / "bisecting/figures/reconstruction.svg").read_text().endswith("</graphml>")


def test_a_copy_of_the_results_is_as_good_as_they_are(tmp_path):
    """By `cp -r`, which makes all times new, under another name; nothing runs again."""
    made = Shadow(tmp_path / "made", layers=["layer3.1"])
    run = made.run()
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    other = made.folder / "other"
    names = sorted(str(path.relative_to(made.folder / "results")) for path in (made.folder / "results").rglob("*"))
    (made.folder / "results").rename(made.folder / "first")
    for name in reversed(names):  # in the worst order
        source, target = made.folder / "first" / name, other / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    shutil.rmtree(made.folder / "first")
    config = made.write("other", layers=["layer3.1"], output="other")
    again = made.run("-n", config=config)
    assert again.returncode == 0 and "Nothing to be done" in again.stdout + again.stderr, again.stdout[-3000:]


def test_results_brought_back_from_a_copy_are_as_good_as_they_were(copy):
    """Although Snakemake's records are of another configuration, which was run in between, to its end or not.

    Seven runs said that they were done, and each left jobs for the next one.
    """
    shadow = copy()
    results = shadow.folder / "results"
    subprocess.run(["cp", "-a", str(results), str(shadow.folder / "kept")], check=True)
    changes = {"concepts": {"expansion": 3}, "layers": ["layer2.1", "layer3.1"]}
    run = shadow.run(config=shadow.write("other", **{**ONE, **changes}))
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    shutil.rmtree(results)
    (shadow.folder / "kept").rename(results)
    again = shadow.run("-n")
    assert "Nothing to be done" in again.stdout + again.stderr, again.stdout[-3000:] + again.stderr


def test_a_stale_table_is_never_read(copy):
    """A table of another configuration put in the place of the planned one ends the job that reads it with one line."""
    shadow = copy()
    results = shadow.folder / "results"
    plan = json.loads((results / "plan.json").read_text())
    coefficients = "results/bisecting/coefficients/layer3.1/0.parquet"
    plan[coefficients] = "0123456789abcdef"
    (results / "other.json").write_text(json.dumps(plan))
    code = f"from gigraph.records import tables; tables.read({coefficients!r})"
    for name, refused in (("plan.json", False), ("other.json", True)):
        run = subprocess.run(
            [sys.executable, "-c", code], cwd=shadow.folder, capture_output=True, text=True,
            env=shadow.environment(GIGRAPH_PLAN=f"results/{name}"),
        )  # fmt: skip
        assert (run.returncode != 0) == refused, run.stderr
        assert ("made from other settings" in run.stderr) == refused
    columns = {"path": [], "reason": []}
    code = f"from gigraph.records import tables; tables.write({coefficients!r}, 'rejected', {columns}, 'old')"
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
        for name in ("plan.json", "asked.json"):
            (disk / name).unlink()
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
        "--settings", json.dumps({"world": "menagerie", "count": 4000, "seed": 0, "size": 96}), "--log", "draw.log",
    ]  # fmt: skip
    for victim in ("child", "script"):
        with (tmp_path / "out.txt").open("w") as out:
            script = subprocess.Popen(command, cwd=tmp_path, stdout=out, stderr=out)
        process = psutil.Process(script.pid)
        wait_for(lambda: len(process.children()) >= 2 and list(tmp_path.glob("drawn/*/*.png")), script)
        children = process.children()
        (children[0] if victim == "child" else process).kill()
        assert script.wait(60) != 0
        wait_for_ends(children)
        text = (tmp_path / "out.txt").read_text()
        assert "Traceback" not in text
        assert ("draw failed: BrokenProcessPool" in text) == (victim == "child")
        assert not (tmp_path / "drawn/factors.parquet").exists()


KILLS = ["child"] * 3 + ["snakemake"] * 8 + ["script"] * 9


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_random_kills(tmp_path):
    """Twenty kills at random times over the demo: of Snakemake, of a job's script, of a script's child.

    One run after another is hit, as often as it takes, until one comes to its end; then all begins anew.
    """
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "2"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"

    def start(folder):
        folder.mkdir(exist_ok=True)
        with (folder / "out.txt").open("a") as out:
            return subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=out)

    def compare():
        assert same_tables(undisturbed / "results", disturbed / "results") > 50
        assert not list((disturbed / "results").rglob("*.tmp"))

    dice, began, hit, redone = random.Random(0), time.monotonic(), False, 0
    assert start(undisturbed).wait() == 0
    print(f"undisturbed: {time.monotonic() - began:.0f} s")
    kills = KILLS[:3] + dice.sample(KILLS[3:], len(KILLS) - 3)  # only the first job of a run has children
    run, began, finished = start(disturbed), time.monotonic(), {}
    while kills:
        time.sleep(dice.uniform(0, 1 if kills[0] == "child" else 40))
        if run.poll() is not None:
            assert run.returncode == 0 or hit, (disturbed / "out.txt").read_text()[-4000:]
            if run.returncode == 0:
                compare()
                shutil.rmtree(disturbed)
                finished = {}
            run, began, hit = start(disturbed), time.monotonic(), False
            continue
        found = processes(run)
        if not found[kills[0]]:
            continue
        redone += made_again(disturbed, finished)
        finished = receipts(disturbed)
        working = ", ".join(sorted({stage_of(script) for script in found["script"]})) or "between jobs"
        victim, hit = dice.choice(found[kills[0]]), True
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
            seconds = time.monotonic() - began
            print(f"{kills.pop(0)} killed {seconds:.0f} s into a run: {len(finished)} jobs done, at work: {working}")
        if victim.pid == run.pid:
            run.wait()
            wait_for_ends([one for kind in found.values() for one in kind if one != victim])
    run.wait()
    run = start(disturbed) if hit else run
    assert run.wait() == 0, (disturbed / "out.txt").read_text()[-4000:]
    compare()
    redone += made_again(disturbed, finished)
    print(f"{redone} finished jobs made again")
    # At most what Snakemake had no time to note as done.
    assert redone <= 2 * KILLS.count("snakemake")


def processes(run):
    """Return the living processes of a run by what they are."""
    snakemake = psutil.Process(run.pid)
    found = {"snakemake": [snakemake], "script": [], "child": []}
    scripts = []
    for process in snakemake.children(recursive=True):  # parents before their children
        try:
            line, parent = process.cmdline(), process.ppid()
        except psutil.Error:
            continue
        if parent in scripts:
            found["child"].append(process)
            scripts.append(process.pid)
        elif len(line) > 2 and "workflow/scripts" in line[2]:
            found["script"].append(process)
            scripts.append(process.pid)
    return found


def stage_of(script):
    try:
        return Path(script.cmdline()[2]).stem
    except (psutil.Error, IndexError):
        return "a job at its end"


def receipts(folder):
    """Return when each finished job wrote its receipt."""
    return {path: path.stat().st_mtime_ns for path in (folder / "results/logs").rglob("*.json")}


def made_again(folder, finished):
    """Return how many of the jobs that were finished have been run again, or are to be."""
    now = receipts(folder)
    return sum(now.get(path) != when for path, when in finished.items())
