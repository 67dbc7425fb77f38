"""One GPU for each job: leases on stand-in devices, taken by real processes."""

import os
import select
import signal
import subprocess
import sys

import pytest

from gigraph.errors import UserError
from gigraph.planning.config import Compute
from gigraph.running import leases, runtime
from gigraph.running.leases import devices, take

HOLD = """
import sys, time
from pathlib import Path
from gigraph.running.leases import take
print(take({names}, {slots}, Path({folder!r}), 20), flush=True)
time.sleep(60)
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Start processes that hold a lease; return what each one got."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    running = []

    def hold(names=("nvidia0", "nvidia1"), slots=1, wait=True):
        code = HOLD.format(names=list(names), slots=slots, folder=str(tmp_path / "leases"))
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        running.append(process)
        return (process, process.stdout.readline().strip()) if wait else (process, None)

    yield hold
    for process in running:
        process.kill()
        process.wait()


def test_each_process_has_its_own_device_and_a_third_one_waits(machine):
    first, one = machine()
    _, two = machine()
    assert {one, two} == {"0", "1"}
    third, _ = machine(wait=False)
    assert not select.select([third.stdout], [], [], 1)[0]
    # The kernel frees the lease of a process that is killed.
    first.send_signal(signal.SIGKILL)
    assert third.stdout.readline().strip() == one


def test_devices_are_shared_only_if_told(machine):
    got = [machine(slots=2)[1] for _ in range(3)]
    assert sorted(got[:2]) == ["0", "1"] and got[2] in ("0", "1")


def test_waiting_can_end(machine, tmp_path):
    machine(names=["nvidia0"])
    with pytest.raises(UserError, match="nvidia0 came free"):
        take(["nvidia0"], folder=tmp_path / "leases", timeout=0.3)


def test_a_scheduler_s_choice_stands(monkeypatch, tmp_path):
    for choice in ("1", ""):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", choice)
        assert take(["nvidia0"], folder=tmp_path / "leases") is None
        assert os.environ["CUDA_VISIBLE_DEVICES"] == choice
    assert not (tmp_path / "leases").exists()


def test_a_machine_without_gpus_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert take([], folder=tmp_path / "leases", timeout=1) is None
    assert not (tmp_path / "leases").exists() and "CUDA_VISIBLE_DEVICES" not in os.environ


def test_devices_are_those_with_a_number_in_their_order(tmp_path):
    for name in ("nvidia10", "nvidia2", "nvidia-uvm", "nvidiactl", "nvidia-caps", "null"):
        (tmp_path / name).touch()
    assert devices(tmp_path) == ["nvidia2", "nvidia10"]


def test_a_link_in_the_place_of_a_lock_is_not_followed(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "nvidia0.0").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"nvidia0\.0 cannot be opened"):
        take(["nvidia0"], folder=tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_the_lease_is_what_cuda_sees(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "environ", {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"})
    monkeypatch.setattr(leases, "_held", [])
    assert take(["nvidia0", "nvidia3"], folder=tmp_path) == 0
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0" and os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    os.close(leases._held.pop())


def test_only_stages_that_use_a_gpu_lease_one_for_as_many_jobs_as_configured(monkeypatch):
    asked = []
    monkeypatch.setattr(leases, "take", lambda jobs_per_gpu: asked.append(jobs_per_gpu))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert runtime._device("attribution", Compute(jobs_per_gpu=2)) == "cuda:1" and asked == [2]
    for stage, compute in (
        ("graph", Compute()),
        ("network", Compute(device="cuda")),
        ("concepts", Compute(device="cpu")),
    ):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
        assert runtime._device(stage, compute) == "cpu" and asked == [2]
        assert os.environ["CUDA_VISIBLE_DEVICES"] == ""  # neither CuPy nor torch sees one
