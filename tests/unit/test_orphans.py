"""A script ends with the process that started it, and with the Snakemake that it works for."""

import os
import subprocess
import sys
import time

import psutil
import pytest

SCRIPT = """
import sys, time
from gigraph.running.runtime import run

def main(args):
    print("started", flush=True)
    time.sleep(30)

run(main)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
@pytest.mark.parametrize("victim", ["controller", "parent"])
def test_a_script_ends_with_its_controller_and_with_its_parent(tmp_path, victim):
    (tmp_path / "stage.py").write_text(SCRIPT)
    controller = subprocess.Popen(["sleep", "60"])
    parent = subprocess.Popen(
        ["sh", "-c", f"{sys.executable} stage.py & wait"], cwd=tmp_path, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "GIGRAPH_CONTROLLER": str(controller.pid)},
    )  # fmt: skip
    try:
        assert parent.stdout.readline() == "started\n"
        (script,) = psutil.Process(parent.pid).children()
        time.sleep(0.1)
        assert script.is_running() and script.status() != psutil.STATUS_ZOMBIE
        {"controller": controller, "parent": parent}[victim].kill()
        _, alive = psutil.wait_procs([script], timeout=5)
        assert not alive
        (controller if victim == "parent" else parent).kill()
    finally:
        for process in (controller, parent):
            process.kill()
            process.wait()
