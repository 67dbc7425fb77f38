"""To wait for other processes, however slow the machine: what is waited for comes, or the test fails."""

import time

import psutil

PATIENCE = 120
"""Seconds after which nothing is waited for any more."""


def wait_for(condition, process=None, seconds=PATIENCE, log=None):
    """Return what `condition` returns as soon as it is true; a `process` must live that long, and writes to `log`."""
    end = time.monotonic() + seconds
    while True:
        ended = process is not None and process.poll() is not None
        if found := condition():
            return found
        why = "the process has ended" if ended else f"not so within {seconds} s"
        assert not ended and time.monotonic() < end, f"{why}: {log.read_text()[-3000:]}" if log else why
        time.sleep(0.05)


def wait_for_ends(processes):
    """Wait until none of these (`psutil.Process`) is at work any more; nobody need have asked for its status."""
    wait_for(lambda: not any(map(at_work, processes)))


def at_work(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
