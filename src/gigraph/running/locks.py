"""Locks: those that a killed Snakemake left behind, and the one on a results folder."""

from __future__ import annotations

import fcntl
import json
import os
import platform
from pathlib import Path

from gigraph.errors import UserError
from gigraph.records.files import flock


def release_stale_locks(folder: Path, root: Path) -> bool:
    """Remove the locks that a killed Snakemake left on a results folder.

    Every Snakemake that runs this workflow in the same working directory shares a lock which the kernel frees at
    its end, so whoever gets it alone knows that no other one lives. Locks on other folders stay.

    Parameters
    ----------
    folder : Path
        Snakemake's own folder, ``.snakemake``.
    root : Path
        The results folder.

    Returns
    -------
    bool
        Whether this process is the only one.
    """
    folder.mkdir(exist_ok=True)
    # Open until the process ends.
    handle = os.open(folder / "gigraph.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        alone = flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        alone = False
    if alone:
        for lock in (folder / "locks").glob("*.lock"):
            files = [Path(line) for line in lock.read_text().splitlines() if line]
            if any(file.is_relative_to(root) for file in files):
                lock.unlink(missing_ok=True)
    # Waits only as long as another one takes to do the same.
    flock(handle, fcntl.LOCK_SH)
    return alone


def hold_results(root: Path, folder: Path) -> None:
    """Hold a results folder until this process ends, against runs in other working folders.

    Within one working folder Snakemake's own locks tell runs apart; it does not see those of another one.

    Parameters
    ----------
    root : Path
        The results folder.
    folder : Path
        The working folder.

    Raises
    ------
    UserError
        If a run in another working folder holds it, naming that.
    """
    root.mkdir(parents=True, exist_ok=True)
    handle = os.open(root / HELD, os.O_RDWR | os.O_CREAT, 0o644)  # open until the process ends
    mine = {"folder": str(folder.resolve()), "host": platform.node(), "process": os.getpid()}
    try:
        held = flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with os.fdopen(handle) as stream:
            try:
                other = json.loads(stream.read())
            except ValueError:
                other = {"folder": "?", "host": "?", "process": "?"}
        if other["folder"] != mine["folder"]:
            raise UserError(
                f"{root} is being written by a run in {other['folder']} (process {other['process']} on "
                f"{other['host']}); wait for it, or give another output"
            ) from None
    else:
        if held:
            os.ftruncate(handle, 0)
            os.write(handle, json.dumps(mine).encode())


HELD = ".gigraph.lock"
"""In a results folder: which run is writing it."""
