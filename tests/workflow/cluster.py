"""A real Slurm of one node on this machine, with two devices that pass for GPUs, and without systemd or munge."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from gigraph.orphans import die_with_parent
from processes import wait_for

ETC = Path("/etc/slurm")
"""Where the daemons look: a job's step loses any other choice."""

OURS = "# of gigraph's tests"
"""The first line of what they leave there when they are killed."""

SLURM = """\
{ours}
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/d.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/d.log
SlurmctldPort=16817
SlurmdPort=16818
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
MinJobAge=300
SchedulerParameters=sched_interval=2,bf_interval=5
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Return why no Slurm can be started here, or nothing."""
    if os.geteuid():
        return "needs root"
    programs = [name for name in ("slurmctld", "slurmd", "sinfo", "sbatch") if shutil.which(name) is None]
    return f"needs Debian's slurm-wlm ({', '.join(programs)})" if programs else ""


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[None]:
    """Bring a cluster up with the machine's cores and most of its memory, and take it down again.

    Parameters
    ----------
    folder : Path
        For its state and logs.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 - 500
    host = socket.gethostname().split(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    ETC.mkdir(exist_ok=True)
    files = {name: ETC / name for name in ("slurm.conf", "gres.conf")}
    foreign = [str(file) for file in files.values() if file.exists() and not file.read_text().startswith(OURS)]
    if foreign:
        raise RuntimeError(f"{', '.join(foreign)}: a cluster's; this test would break it")
    lock = (ETC / "gigraph-tests.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RuntimeError("another run of this test has its cluster up; wait for its end") from None
    gpus = [folder / f"gpu{index}" for index in range(2)]
    for gpu in gpus:
        os.mknod(gpu, 0o20666, os.makedev(1, 3))
    daemons = []
    try:
        files["slurm.conf"].write_text(
            SLURM.format(ours=OURS, host=host, folder=folder, cpus=os.cpu_count(), memory=memory)
        )
        devices = "".join(f"NodeName={host} Name=gpu File={gpu}\n" for gpu in gpus)
        files["gres.conf"].write_text(f"{OURS}\n{devices}")
        for command in (["slurmctld", "-D"], ["slurmd", "-D", "-N", host]):
            with (folder / f"{command[0]}.out").open("w") as out:
                daemons.append(subprocess.Popen(command, stdout=out, stderr=out, preexec_fn=die_with_parent))
        _wait_until_idle(folder, daemons)
        yield
    finally:
        subprocess.run(["scancel", "--state=RUNNING"], capture_output=True)
        subprocess.run(["scancel", "--state=PENDING"], capture_output=True)
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(20)
            if daemon.poll() is None:
                daemon.kill()
        for file in files.values():
            file.unlink(missing_ok=True)
        lock.close()


def _wait_until_idle(folder: Path, daemons: list[subprocess.Popen], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        state = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True).stdout.strip()
        if state == "idle":
            return
        dead = [daemon.args[0] for daemon in daemons if daemon.poll() is not None]
        if dead:
            break
        time.sleep(0.3)
    logs = "\n".join(path.read_text()[-2000:] for path in sorted(folder.glob("*.log")) + sorted(folder.glob("*.out")))
    raise RuntimeError(f"Slurm did not come up:\n{logs}")


def queue() -> list[list[str]]:
    """Return id, state and comment of the jobs that wait or run."""

    def ask():
        told = subprocess.run(["squeue", "-h", "-o", "%i|%T|%k"], stdout=subprocess.PIPE, text=True)
        return None if told.returncode else told  # its daemon may be too busy to answer

    listed = wait_for(ask)
    return [line.split("|") for line in listed.stdout.splitlines()]
