"""A process that outlives the one which started it must end: nobody waits for its result any more.

Linux tells a process of its parent's death, and `watch` looks after a process further up. Elsewhere both do what
the system allows, and the checks of `gigraph.records.tables` remain.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import threading
import time

PR_SET_PDEATHSIG = 1
POLL_SECONDS = 0.5


def die_with_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process when its parent ends, by whatever death (Linux; elsewhere nothing).

    Parameters
    ----------
    parent : int, optional
        The process that started this one, where that is known. If it ended before the kernel was told, no signal will
        come: this process ends at once.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if parent not in (None, os.getppid()):
            os.kill(os.getpid(), signal.SIGKILL)


def watch(pid: int) -> None:
    """Kill this process when the process `pid` of this machine ends; at once if there is none.

    A kill rather than an exit: a half-written file keeps its temporary name, and nothing more is published.
    """
    threading.Thread(target=_follow, args=(pid,), daemon=True, name="watch").start()


def _follow(pid: int) -> None:
    try:
        handle = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
    except ProcessLookupError:
        os.kill(os.getpid(), signal.SIGKILL)
    except OSError:  # forbidden in some containers
        handle = None
    if handle is not None:
        select.select([handle], [], [])
    else:
        while alive(pid):
            time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def alive(pid: int) -> bool:
    """Whether there is a process with this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
