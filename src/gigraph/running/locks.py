"""Locks that a killed Snakemake left behind."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


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
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        alone = False
    else:
        alone = True
        for lock in (folder / "locks").glob("*.lock"):
            files = [Path(line) for line in lock.read_text().splitlines() if line]
            if any(file.is_relative_to(root) for file in files):
                lock.unlink(missing_ok=True)
    # Waits only as long as another one takes to do the same.
    fcntl.flock(handle, fcntl.LOCK_SH)
    return alone
