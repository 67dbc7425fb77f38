"""Threads for compiled code that lets go of Python's lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def threads_allowed() -> int:
    """Return the number of threads that this job may use: OMP_NUM_THREADS, else the cores it may run on."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) > 0 else len(os.sched_getaffinity(0))


def spread(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Apply a function to items, on all allowed threads; matrix products in it get one thread each."""
    items = list(items)
    workers = min(threads_allowed(), len(items))
    if workers <= 1:
        return [function(item) for item in items]
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, items))
