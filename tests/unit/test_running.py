"""The record of a run, stale locks, the line of progress, and what a killed run left in a queue."""

import errno
import fcntl
import json
import logging
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from gigraph.planning.config import load
from gigraph.records.files import alone
from gigraph.running import cluster, record
from gigraph.running.locks import hold_results, release_stale_locks
from gigraph.running.progress import Progress, duration
from gigraph.running.session import Session


def test_a_receipt_speaks_for_the_last_attempt_only(tmp_path):
    """A job that is tried again and dies leaves none: what it wrote may be half of the old and half of the new."""
    script = tmp_path / "stage.py"
    script.write_text(
        "import os\nfrom gigraph.running.runtime import run\n"
        "def main(args):\n    if args.lineage == 'dies':\n        os._exit(9)\n"
        "run(main)\n"
    )
    for lineage, expected in (("one", {"lineage": "one"}), ("dies", {})):
        subprocess.run([sys.executable, script, "--lineage", lineage, "--log", tmp_path / "a.log"], capture_output=True)
        found = record.read_receipt(tmp_path / "a.json")
        assert {key: found[key] for key in found if key == "lineage"} == expected


def test_stale_locks(tmp_path):
    """Locks of a dead Snakemake on these results go; those on others, and those of a living one, stay."""
    locks = tmp_path / ".snakemake/locks"
    locks.mkdir(parents=True)
    code = """
import sys
from pathlib import Path
from gigraph.running.locks import release_stale_locks
alone = release_stale_locks(Path('.snakemake'), Path('results'))
print(alone, sorted(path.name for path in Path('.snakemake/locks').iterdir()))
sys.stdout.flush()
input()
"""

    def start():
        (locks / "0.output.lock").write_text("results/a.parquet\n")
        (locks / "1.output.lock").write_text("other/a.parquet\n")
        process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=tmp_path, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return process, process.stdout.readline().strip()

    first, said = start()
    assert said == "True ['1.output.lock']"
    second, said = start()
    assert said == "False ['0.output.lock', '1.output.lock']"
    for process in (first, second):
        process.kill()
        process.wait()
    third, said = start()
    third.kill()
    third.wait()
    assert said == "True ['1.output.lock']"


def test_the_record_of_a_run(tmp_path):
    config = load({"layers": ["layer1.0"], "seed": 7})
    for name, seconds in (("a/0", 2.5), ("a/1", 3.5), ("b", 1.0)):
        record.write_receipt(
            tmp_path / f"logs/{name}.json", stage=name[0], lineage="x", seconds=seconds, peak_memory_mb=100 * seconds,
            host="node1", started="2026-01-01T00:00:00+00:00", ended="2026-01-01T00:01:00+00:00",
        )  # fmt: skip
    record.write_run(tmp_path, config.model_dump(mode="json"), {"seed": 7})
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["stages"]["a"] == {"jobs": 2, "seconds": 6.0, "peak_memory_mb": 350.0}
    assert run["config"]["concepts"]["expansion"] == 1 and run["seeds"] == {"seed": 7}
    assert {"python", "gigraph", "torch", "snakemake", "pyarrow"} <= set(run["versions"])
    assert run["hosts"] == ["node1"] and run["seconds_of_work"] == 7.0
    assert {"host", "processor", "cores", "memory_gib", "gpus"} <= set(run["machine"])


def test_the_line_of_progress(tmp_path):
    """Time left: of each stage the mean of this run, or of an earlier one, over the jobs that ran at once."""
    record.write_receipt(tmp_path / "slow.json", stage="slow", seconds=96)
    now = [0.0]
    progress = Progress({"quick": 3, "slow_one": 1}, lambda: now[0])
    assert progress.line() == "0 of 4 jobs done in 0 s"  # nothing is known of how long they take
    progress.remember(tmp_path, {"slow_one": "slow"})
    for job in (1, 2):
        progress.start(job, "quick")
    assert progress.running == {"quick": 2}
    now[0] = 10.0
    assert progress.finish(1) == "quick"
    assert progress.line() == "1 of 4 jobs done in 10 s, about 2 min 0 s left"
    assert progress.finish(2) == "quick"
    assert progress.line() == "2 of 4 jobs done in 10 s, about 55 s left"  # two at once
    assert progress.finish(2) is None  # told twice
    assert progress.finish(99) is None  # the target itself
    progress.start(3, "quick")
    progress.start(4, "slow_one")
    progress.stop(4)  # it failed, and is tried again
    assert progress.running == {"quick": 1}
    progress.start(4, "slow_one")
    now[0] = 20.0
    progress.finish(3), progress.finish(4)
    assert progress.line() == "4 of 4 jobs done in 20 s" and not progress.running
    assert [duration(s) for s in (0.4, 59, 60, 3599, 7500)] == ["0 s", "59 s", "1 min 0 s", "59 min 59 s", "2 h 5 min"]


SQUEUE = """#!/bin/sh
test -e cancelled && exit
printf '%s\\n' '1|{here}|rule_sample_wildcards_0' '2|/elsewhere|rule_sample' '3|{here}|by hand' '4|{here}|rule_all'
"""


def test_only_what_lost_its_controller_is_cancelled(tmp_path, monkeypatch):
    """Jobs of other folders, those that somebody else submitted, and the one that this process runs in stay."""
    for name, text in (("squeue", SQUEUE.format(here=tmp_path)), ("scancel", '#!/bin/sh\necho "$@" > cancelled\n')):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "4")
    found = cluster.orphans(tmp_path)
    assert found == ["1"]
    cluster.cancel(found, tmp_path)
    assert (tmp_path / "cancelled").read_text() == "1\n"
    assert cluster.orphans(tmp_path) == []


HOLDER = """
import sys, time
from pathlib import Path
from gigraph.errors import UserError
from gigraph.running.locks import hold_results
try:
    hold_results(Path(sys.argv[1]), Path(sys.argv[2]))
except UserError as error:
    print(error)
else:
    print("held", flush=True)
    time.sleep(60 if sys.argv[3] == "stay" else 0)
"""


def test_a_results_folder_is_held_against_other_working_folders(tmp_path):
    """Two of them with one absolute output fought: each took the other's tables for its own failures."""
    root, one, two = (tmp_path / name for name in ("results", "one", "two"))

    def start(folder, stay="leave"):
        command = [sys.executable, "-c", HOLDER, str(root), str(folder), stay]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    first = start(one, "stay")
    assert first.stdout.readline() == "held\n"
    line = start(two).communicate()[0]
    assert f"results is being written by a run in {one} (process {first.pid} on " in line and "another output" in line
    assert start(one).communicate()[0] == "held\n"  # Snakemake's own locks tell these apart
    first.kill()
    first.wait()
    assert start(two).communicate()[0] == "held\n"


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_stops_no_run(tmp_path, monkeypatch, error):
    """Lustre without flock, NFS without its daemon: the workflow ended in a traceback before its first rule."""

    def none(*_):
        raise OSError(error, "no locks")

    monkeypatch.setattr(fcntl, "flock", none)
    lock = tmp_path / ".snakemake/locks/0.output.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text(f"{tmp_path}/results/a\n")
    assert release_stale_locks(tmp_path / ".snakemake", tmp_path / "results") is False
    assert lock.exists()  # whoever made it may live
    hold_results(tmp_path / "results", tmp_path)


def test_one_after_another(tmp_path):
    """Two `explain` at once: the second waits, and reads what the first wrote."""
    said = []

    def second():
        with alone(tmp_path):
            said.append("second")

    with alone(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        said.append("first")
    thread.join()
    assert said == ["first", "second"]


def test_a_session_begins_once_knows_what_failed_and_ends_with_its_last_job():
    said = []
    rules = [
        SimpleNamespace(jobid=n, rule=SimpleNamespace(name=name)) for n, name in enumerate(("a", "control_a", "x"))
    ]
    workflow = SimpleNamespace(
        dag=SimpleNamespace(jobs=rules, needrun_jobs=lambda: rules), dryrun=False,
        modifier=SimpleNamespace(is_main_snakefile=lambda: False),
    )  # fmt: skip
    names = {"a": "a", "control_a": "control's a"}
    session = Session(workflow, names, lambda one: said.append("begin"), lambda one: said.append("end"))

    def event(kind, **more):
        session.emit(logging.makeLogRecord({"event": kind, **more}))

    event("job_error", rule_name="a")  # of nothing that has begun
    assert not session.failed
    for _ in range(2):
        event("run_info")
    assert said == ["begin"] and session.left == {0, 1}
    event("job_error", rule_name="control_a")
    event("job_finished", job_id=0)
    assert session.failed == {"control_a"} and said == ["begin"]
    event("job_finished", job_id=1)
    assert said == ["begin", "end"]
