"""Jobs forked from one process: as processes of their own would run, and never longer than their callers."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from gigraph.running import forks
from processes import wait_for, wait_for_ends

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="jobs are forked on Linux")
SAY = """
import json, os, sys
print(json.dumps([sys.argv, os.getcwd(), os.environ.get("SAID"), "torch" in sys.modules, __name__, os.getppid()]))
print("told", file=sys.stderr)
sys.exit(int(sys.argv[1]))
"""
STAY = """
import os, sys, time
open(sys.argv[1], "w").write(str(os.getpid()))
time.sleep(600)
"""


@pytest.fixture(scope="module")
def python():
    """The shell's line that has `python` forked, its server ready."""
    (line,) = forks.start(99, devices=False)
    path = Path(re.search(r"\S*/forks\b", line.partition("forked.py")[2]).group())
    wait_for(path.exists)
    return line


def shell(line, command, folder, **environment):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    path = f"PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
    return subprocess.Popen(
        ["bash", "-c", f"export {path}; {line}; {command}"], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def say(line, folder, *arguments, **environment):
    import json

    (folder / "say.py").write_text(SAY)
    job = shell(line, shlex.join(["python", "say.py", *arguments]), folder, **environment)
    out, err = job.communicate(timeout=120)
    return job.returncode, json.loads(out), err


def test_a_job_has_the_arguments_folder_environment_files_and_status_of_its_caller(python, tmp_path):
    code, (argv, folder, said, torch, name, parent), err = say(python, tmp_path, "3", "a b", "ü", SAID="x\ny")
    assert (code, argv, folder) == (3, ["say.py", "3", "a b", "ü"], str(tmp_path))
    assert (said, torch, name, err) == ("x\ny", True, "__main__", "told\n")
    assert "forks" in Path(f"/proc/{parent}/cmdline").read_text()
    assert say(python, tmp_path, "0")[0] == 0


def test_what_the_server_cannot_do_is_done_by_a_process_of_its_own(python, tmp_path):
    code, (_, _, _, torch, _, _), err = say(python, tmp_path, "4", OMP_NUM_THREADS="2")
    assert (code, torch, err) == (4, False, "told\n")
    code, (_, _, _, torch, _, _), err = say(python.replace("/forks", "/gone"), tmp_path, "5")
    assert (code, torch, err) == (5, False, "told\n")


def test_a_defect_is_a_traceback_and_a_death_is_a_status(python, tmp_path):
    (tmp_path / "bad.py").write_text("def f():\n    raise ValueError('so')\nf()")
    job = shell(python, "python bad.py", tmp_path)
    assert "ValueError: so" in job.communicate(timeout=120)[1] and job.returncode == 1
    (tmp_path / "die.py").write_text("import os; os.kill(os.getpid(), 9)")
    job = shell(python, "python die.py", tmp_path)
    job.communicate(timeout=120)
    assert job.returncode == 128 + signal.SIGKILL


def test_what_a_script_says_at_its_exit_is_said(python, tmp_path):
    (tmp_path / "exit.py").write_text("import sys; sys.exit('so')")
    job = shell(python, "python exit.py", tmp_path)
    assert job.communicate(timeout=120)[1] == "so\n" and job.returncode == 1


def test_a_server_whose_starter_ended_at_once_ends_too(tmp_path):
    start = "import os; from gigraph.running import forks; print(*forks.start(99, False), flush=True); os._exit(0)"
    said = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, check=True).stdout
    (folder,) = {match.parent for match in map(Path, re.findall(r"\S*/forks\b", said)) if match.suffix != ".py"}
    name = str(folder).encode()
    wait_for(lambda: not any(name in line for line in map(_command, Path("/proc").glob("[0-9]*/cmdline"))))
    folder.rmdir()  # there was no socket yet


def _command(path):
    try:
        return path.read_bytes()
    except OSError:  # it has ended
        return b""


def test_jobs_run_beside_each_other_and_a_job_ends_with_its_caller(python, tmp_path):
    (tmp_path / "stay.py").write_text(STAY)
    job = shell(python, "python stay.py pid", tmp_path)
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    stays = psutil.Process(int((tmp_path / "pid").read_text()))
    assert say(python, tmp_path, "0")[0] == 0  # beside it
    job.kill()  # the shell: its python looks after it
    wait_for_ends([stays])


def test_a_gpu_few_jobs_and_the_environment_forbid_it(monkeypatch):
    (plain,) = forks.start(99, devices=True)
    assert forks.start(1, devices=False) == [plain] and "forked" not in plain
    monkeypatch.setenv("GIGRAPH_FORKS", "0")
    assert forks.start(99, devices=False) == [plain]


def test_a_job_that_is_not_forked_is_an_ordinary_python(tmp_path):
    (plain,) = forks.start(1, devices=False)
    code, (argv, folder, said, torch, name, _), err = say(plain, tmp_path, "3", "a b", "ü", SAID="x\ny")
    assert (code, argv, folder) == (3, ["say.py", "3", "a b", "ü"], str(tmp_path))
    assert (said, torch, name, err) == ("x\ny", False, "__main__", "told\n")


@pytest.mark.parametrize("kind", ["forked", "plain"])
def test_a_job_of_a_run_that_ignores_interruptions_does_so_too(python, tmp_path, kind):
    """As what a shell's script has in the background."""
    line = python if kind == "forked" else forks.start(1, devices=False)[0]
    (tmp_path / "ask.py").write_text("import signal; print(repr(signal.getsignal(signal.SIGINT)))")
    said = [
        shell(line, before + "python ask.py", tmp_path).communicate(timeout=120)[0] for before in ("", "trap '' INT; ")
    ]
    assert ["SIG_IGN" in one for one in said] == [False, True] and "SIG_DFL" in said[0]


@pytest.mark.parametrize("kind", ["forked", "plain"])
def test_an_interruption_while_a_script_imports_is_no_traceback(python, tmp_path, kind):
    line = python if kind == "forked" else forks.start(1, devices=False)[0]
    (tmp_path / "slow.py").write_text("import pathlib, time; pathlib.Path('begun').touch(); time.sleep(600)")
    job = shell(line, "python slow.py", tmp_path)
    wait_for((tmp_path / "begun").exists)
    os.killpg(job.pid, signal.SIGINT)
    assert job.communicate(timeout=120)[1] == "" and job.returncode != 0
