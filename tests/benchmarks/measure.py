"""What a benchmark measures: median seconds, ratios of runs in turn, peak memory, and the machine's own limits."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import torch


@dataclass
class Row:
    """One method on one case."""

    kernel: str
    case: str
    method: str
    seconds: float
    """Median per item."""
    item: str
    """What the seconds are for: the whole, a sample, an (image, target)."""
    repeats: int
    peak_mib: float
    """Growth of the process's memory while it ran."""
    quality: float | None = None
    """Cohesion, largest relative duality gap, mean relative l2 error (of a pursuit to a residual: mean number of
    atoms), or largest completeness error over sum |GIG|."""
    roofline: float | None = None
    """Least possible time for the work that cannot be avoided, at the machine's measured limits, over the time."""
    ratio: float | None = None
    """This method's time over ours."""
    missed: float | None = None
    """Share of the samples whose relative duality gap is above the one that we certify."""


class Peak:
    """Samples the process's resident memory while the block runs."""

    def __enter__(self) -> Peak:
        self._process = psutil.Process()
        self._before = self.bytes = self._process.memory_info().rss
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            self.bytes = max(self.bytes, self._process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def mib(self) -> float:
        """Growth in MiB."""
        return (self.bytes - self._before) / 2**20


def clock() -> float:
    """Return CPU seconds on one thread, which other users of the machine disturb least; else the time of day."""
    return time.process_time() if os.environ.get("OMP_NUM_THREADS") == "1" else time.perf_counter()


def timed(work: Callable[[], Any], repeats: int = 3) -> tuple[Any, float, float]:
    """Return the result, the median seconds, and the peak of the first run in MiB."""
    seconds, peak = [], 0.0
    for index in range(repeats):
        with Peak() as memory:
            began = clock()
            result = work()
            seconds.append(clock() - began)
        peak = memory.mib if index == 0 else peak
    return result, statistics.median(seconds), peak


@dataclass(frozen=True)
class Contender:
    """One method: what it does, to how many items, and how often."""

    work: Callable[[], Any]
    items: int = 1
    repeats: int = 3


@dataclass(frozen=True)
class Outcome:
    """What it gave, its median seconds an item, their median ratio to ours, and the peak of its first run in MiB."""

    result: Any
    seconds: float
    ratio: float
    peak: float
    repeats: int


def contest(contenders: Mapping[str, Contender]) -> dict[str, Outcome]:
    """Run the methods in turn, ours first, round by round, every other round the other way about.

    A ratio is of two runs of one round, so that what slows the machine for a while slows both.
    """
    ours = next(iter(contenders))
    results: dict[str, Any] = {}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    peaks: dict[str, float] = {}
    for index in range(max(one.repeats for one in contenders.values())):
        some = [name for name, one in contenders.items() if index < one.repeats or name == ours]
        for name in some[:: 1 if index % 2 == 0 else -1]:
            result, took, peak = timed(contenders[name].work, 1)
            seconds[name].append(took / contenders[name].items)
            if index == 0:
                results[name], peaks[name] = result, peak
    return {
        name: Outcome(
            results[name],
            statistics.median(own),
            statistics.median(one / other for one, other in zip(own, seconds[ours], strict=False)),
            peaks[name],
            len(own),
        )
        for name, own in seconds.items()
    }


@dataclass(frozen=True)
class Machine:
    """Measured limits."""

    flops: float
    """Of a float32 matrix product by NumPy, per second."""
    convolutions: float
    """The same of torch's convolutions, which are faster."""
    bandwidth: float
    """Bytes read and written per second by a copy."""
    threads: int


def machine(threads: int) -> Machine:
    """Measure this machine with as many threads as the kernels get."""
    a = np.ones((1536, 1536), dtype=np.float32)
    source, target = np.ones(2**26, dtype=np.float32), np.zeros(2**26, dtype=np.float32)
    a @ a
    product = min(timed(lambda: a @ a, 1)[1] for _ in range(20))
    copy = min(timed(lambda: np.copyto(target, source), 1)[1] for _ in range(5))
    x, kernel = torch.ones(16, 256, 14, 14), torch.ones(256, 256, 3, 3)
    x, kernel = (tensor.to(memory_format=torch.channels_last) for tensor in (x, kernel))
    convolved = min(timed(lambda: torch.conv2d(x, kernel, padding=1), 1)[1] for _ in range(20))
    convolutions = 2 * 9 * 256 * x.numel() / convolved
    return Machine(2 * 1536**3 / product, convolutions, 2 * source.nbytes / copy, threads)


def relative(rows: list[Row]) -> list[Row]:
    """Fill in the ratios to `gigraph` within each case that are not there yet."""
    ours = {(row.kernel, row.case): row.seconds for row in rows if row.method == "gigraph"}
    for row in rows:
        if row.ratio is None and (row.kernel, row.case) in ours:
            row.ratio = row.seconds / ours[row.kernel, row.case]
    return rows
