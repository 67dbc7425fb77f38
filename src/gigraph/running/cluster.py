"""What a killed run leaves behind in a Slurm queue: jobs that nobody waits for."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

COMMENT = "rule_"
"""How Snakemake's Slurm plugin begins the comment of every job that it submits."""
WAIT_SECONDS = 60.0


def orphans(folder: Path) -> list[str]:
    """Return the numbers of this user's jobs that a Snakemake submitted from this folder; none without a Slurm.

    They have lost their controller where the caller is the only Snakemake in the folder, which it knows by
    `gigraph.running.locks.release_stale_locks`. Ask before another Snakemake can begin here, whose jobs would be
    taken for orphans.

    Parameters
    ----------
    folder : Path
        The working directory.
    """
    if shutil.which("squeue") is None or shutil.which("scancel") is None:
        return []
    return _submitted_from(folder)


def cancel(jobs: Sequence[str], folder: Path) -> None:
    """Cancel jobs, and wait until they are gone.

    Parameters
    ----------
    jobs : sequence of str
        Their numbers.
    folder : Path
        That they were submitted from.
    """
    subprocess.run(["scancel", *jobs], capture_output=True)
    end = time.monotonic() + WAIT_SECONDS
    while set(_submitted_from(folder)) & set(jobs) and time.monotonic() < end:
        time.sleep(0.5)


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
