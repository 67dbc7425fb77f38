"""One GPU for each job: a lease on a device, held by a lock that the kernel frees with the process.

A scheduler that hands out devices says so in ``CUDA_VISIBLE_DEVICES``, and its choice stands. Otherwise each job
takes the first free device of the machine, or waits for one.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

from gigraph.errors import UserError

log = logging.getLogger("gigraph")

VISIBLE = "CUDA_VISIBLE_DEVICES"
LEASES = Path("/tmp/gigraph-gpus")
"""Folder of the locks. They are about one machine, so it lies on that machine, and its users share it."""
WAIT_SECONDS = 0.2
NOTICE_SECONDS = 30.0

_held: list[int] = []


def devices(folder: str | Path = "/dev") -> list[str]:
    """Return the names of this machine's NVIDIA devices in their order, which is that of CUDA's bus ids.

    Only a look at the folder of devices: CUDA stays untouched, so that a lease can still choose among them.
    """
    numbered = [match for path in Path(folder).glob("nvidia*") if (match := re.fullmatch(r"nvidia(\d+)", path.name))]
    return [match.group() for match in sorted(numbered, key=lambda match: int(match.group(1)))]


def take(
    names: Sequence[str] | None = None, jobs_per_gpu: int = 1, folder: Path = LEASES, timeout: float | None = None
) -> int | None:
    """Lease a device to this process until it ends, and show CUDA that one only.

    Parameters
    ----------
    names : sequence of str, optional
        The machine's devices; `devices` if not given.
    jobs_per_gpu : int
        Processes that may hold a device at the same time.
    folder : Path
        Where the locks lie.
    timeout : float, optional
        Seconds to wait for a free device; without end if not given.

    Returns
    -------
    int or None
        Index of the device; None where there is none, or where ``CUDA_VISIBLE_DEVICES`` has settled the matter.

    Raises
    ------
    UserError
        If the folder cannot be used, or no device came free in time.
    """
    if VISIBLE in os.environ:
        return None
    names = devices() if names is None else names
    if not names:
        return None
    try:
        folder.mkdir(exist_ok=True)
        if folder.stat().st_uid == os.getuid():
            folder.chmod(0o1777)
    except OSError as error:
        raise UserError(f"GPU lease: {folder} cannot be used: {error.strerror}; set {VISIBLE} by hand") from None
    began = noticed = time.monotonic()
    while True:
        # All first slots before any second one: jobs spread over the devices before they share them.
        for slot in range(jobs_per_gpu):
            for index, name in enumerate(names):
                if _lock(folder / f"{name}.{slot}"):
                    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
                    os.environ[VISIBLE] = str(index)
                    log.info("GPU %s leased", name)
                    return index
        now = time.monotonic()
        if timeout is not None and now - began > timeout:
            raise UserError(f"GPU lease: none of {', '.join(names)} came free in {timeout:g} s; run fewer jobs at once")
        if now - noticed > NOTICE_SECONDS:
            noticed = now
            log.info("waiting for a free GPU of %s", ", ".join(names))
        time.sleep(WAIT_SECONDS)


def _lock(path: Path) -> bool:
    try:
        # Another user's file can be locked but not opened for creation, and a link is never followed.
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            handle = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UserError(f"GPU lease: {path} cannot be opened: {error.strerror}; remove it") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return False
    _held.append(handle)  # kept open: the lock lives as long as the process
    return True
