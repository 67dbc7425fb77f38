"""What a killed run leaves behind in a Slurm queue: jobs that nobody waits for."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

COMMENT = "rule_"
"""How Snakemake's Slurm plugin begins the comment of every job that it submits."""
WAIT_SECONDS = 60.0


def cancel_orphans(folder: Path) -> list[str]:
    """Cancel the jobs of this user that a Snakemake submitted from this folder, and wait until they are gone.

    To be called only by a process that knows itself to be the only Snakemake in the folder
    (`gigraph.running.locks.release_stale_locks`): then those jobs have lost their controller.

    Parameters
    ----------
    folder : Path
        The working directory.

    Returns
    -------
    list of str
        The numbers of the cancelled jobs; none where there is no Slurm.
    """
    if shutil.which("squeue") is None or shutil.which("scancel") is None:
        return []
    found = _submitted_from(folder)
    if found:
        subprocess.run(["scancel", *found], capture_output=True)
        end = time.monotonic() + WAIT_SECONDS
        while set(_submitted_from(folder)) & set(found) and time.monotonic() < end:
            time.sleep(0.5)
    return found


def _submitted_from(folder: Path) -> list[str]:
    try:
        listed = subprocess.run(
            ["squeue", "--me", "--noheader", "--format=%i|%Z|%k"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    lines = [line.split("|", 2) for line in listed.splitlines() if line.count("|") >= 2]
    here = folder.resolve()
    return [
        number
        for number, directory, comment in lines
        if comment.startswith(COMMENT)
        and Path(directory).resolve() == here
        and number != os.environ.get("SLURM_JOB_ID")
    ]
