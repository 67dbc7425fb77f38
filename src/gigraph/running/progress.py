"""How far a run is: how many jobs are done, and how long the rest will take."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

from gigraph.running.record import receipts

START_SECONDS = 4.0
"""What a job costs beside its own work, by measurement: starting Python and importing torch."""


class Progress:
    """The progress of a run, estimated from the durations of like jobs, in this run and in earlier ones.

    The screen's thread reads it while jobs begin and end; hence the copies.

    Parameters
    ----------
    counts : mapping of str to int
        Jobs of each stage that will run.
    clock : callable
        Returns seconds.
    """

    def __init__(self, counts: Mapping[str, int], clock: Callable[[], float] = time.monotonic):
        self.counts, self.clock = dict(counts), clock
        self.began = clock()
        self.begun: dict[int, float] = {}
        self.stages: dict[int, str] = {}
        self.done: Counter[str] = Counter()
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.earlier: dict[str, list[float]] = defaultdict(list)
        self.names: Mapping[str, str] = {}

    def remember(self, logs: Path, names: Mapping[str, str]) -> None:
        """Learn from the receipts of earlier runs how long jobs take; `names` says what a stage is called there."""
        self.names = names
        for receipt in receipts(logs).values():
            self.earlier[receipt["stage"]].append(receipt["seconds"] + START_SECONDS)

    def start(self, job: int, stage: str) -> None:
        """Take note of a job that begins; one that is tried again begins anew."""
        self.begun[job], self.stages[job] = self.clock(), stage

    def stop(self, job: int) -> None:
        """Take note of a job that ended without its result."""
        self.stages.pop(job, None)

    def finish(self, job: int) -> str | None:
        """Take note of a job that is done; return its stage, or None if it is told twice or is none of these."""
        stage = self.stages.pop(job, None)
        if stage is None:
            return None
        self.done[stage] += 1
        self.seconds[stage].append(self.clock() - self.begun[job])
        return stage

    @property
    def running(self) -> dict[str, int]:
        """The number of running jobs of each stage."""
        return dict(Counter(self.stages.values()))

    def line(self) -> str:
        """Return the state of the run in a line."""
        so_far = self.clock() - self.began
        done, every = sum(self.done.values()), sum(self.counts.values())
        line = f"{done:,} of {every:,} jobs done in {duration(so_far)}"
        if done == every:
            return line
        if not done and not any(self.earlier.values()):
            return line
        work = sum(sum(many) for many in list(self.seconds.values()))
        at_once = max(1.0, work / max(so_far, 1e-9))
        rest = sum(self.expected(stage) * (count - self.done[stage]) for stage, count in list(self.counts.items()))
        return f"{line}, about {duration(rest / at_once)} left"

    def expected(self, stage: str) -> float:
        """Return the seconds that a job of this stage takes, by all that is known."""
        earlier = self.earlier.get(self.names.get(stage, stage))
        known = self.seconds.get(stage) or earlier or [s for many in list(self.seconds.values()) for s in many]
        return sum(known) / len(known) if known else START_SECONDS


def duration(seconds: float) -> str:
    """Return a duration as people say it: ``40 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
