"""A script ends with the process that started it, and with the Snakemake that it works for."""

import os
import subprocess
import sys

import psutil
import pytest

from gigraph.running import forked, launched
from processes import at_work, wait_for, wait_for_ends

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")

SCRIPT = """
import sys, time
from gigraph.running.runtime import run

def main(args):
    print("started", flush=True)
    time.sleep(600)

run(main)
"""


LATE = """
import os, sys, time
from gigraph import orphans

def late(*parent, tell=orphans.die_with_parent, first=os.getpid()):
    for _ in range(60_000):
        if os.getpid() == first or os.path.exists("dead"):
            break
        time.sleep(0.01)
    tell(*parent)

orphans.die_with_parent = late
"""
WORKERS = """
from gigraph.worlds import dataset, registry

dataset.write(registry.get("menagerie"), "drawn", "train", 400, workers=2)
"""
SERVER = """
from pathlib import Path
from gigraph.running import forks

forks.IMPORTS = ()
forks.serve(Path("forks"), int(sys.argv[1]))
"""


@pytest.mark.parametrize("victim", ["controller", "parent"])
def test_a_script_ends_with_its_controller_and_with_its_parent(tmp_path, victim):
    (tmp_path / "stage.py").write_text(SCRIPT)
    controller = subprocess.Popen(["sleep", "600"])
    parent = subprocess.Popen(
        ["sh", "-c", f"{sys.executable} stage.py & wait"], cwd=tmp_path, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "GIGRAPH_CONTROLLER": str(controller.pid)},
    )  # fmt: skip
    try:
        assert parent.stdout.readline() == "started\n"
        (script,) = psutil.Process(parent.pid).children()
        assert at_work(script)
        {"controller": controller, "parent": parent}[victim].kill()
        wait_for_ends([script])
    finally:
        for process in (controller, parent):
            process.kill()
            process.wait()


def test_a_worker_ends_with_a_script_that_ended_before_the_kernel_was_told_so(tmp_path):
    """It waited for ever for work, from a queue that nobody filled."""
    (tmp_path / "script.py").write_text(LATE + WORKERS)
    script = subprocess.Popen([sys.executable, "script.py"], cwd=tmp_path)
    wait_for(lambda: len(psutil.Process(script.pid).children()) == 2, script)
    workers = psutil.Process(script.pid).children()
    script.kill()
    script.wait()
    (tmp_path / "dead").touch()
    wait_for_ends(workers)


def test_a_forked_job_ends_with_a_server_that_ended_before_the_kernel_was_told_so(tmp_path):
    """Its caller had hung up, and Snakemake called the job a failed one."""
    (tmp_path / "server.py").write_text(LATE + SERVER)
    (tmp_path / "stay.py").write_text("import time; open('begun', 'w'); time.sleep(600)")
    server = subprocess.Popen([sys.executable, "server.py", str(os.getpid())], cwd=tmp_path)
    wait_for((tmp_path / "forks").exists, server)
    call = [sys.executable, "-I", "-S", forked.__file__, "forks", launched.__file__, "stay.py"]
    caller = subprocess.Popen(call, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": forked.THREADS})
    (job,) = wait_for(psutil.Process(server.pid).children, server)
    server.kill()
    server.wait()
    (tmp_path / "dead").touch()
    assert caller.wait(60) == 1
    wait_for_ends([job])
    assert not (tmp_path / "begun").exists()
