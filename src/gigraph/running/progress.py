"""One line about the whole run: how many jobs are done, and how long the rest will take.

Snakemake reports each job; this handler listens to the same events and adds the sum.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gigraph.running.record import receipts

START_SECONDS = 4.0
"""What a job costs beside its own work, by measurement: starting Python and importing torch."""


class Overall(logging.Handler):
    """The progress of a run, estimated from the durations of like jobs, in this run and in earlier ones.

    Parameters
    ----------
    logs : Path
        Folder of the logs, where earlier runs left their receipts.
    say : callable
        Takes a line.
    clock : callable
        Returns seconds.
    """

    def __init__(
        self,
        logs: Path,
        say: Callable[[str], Any] = lambda line: print(line, file=sys.stderr, flush=True),
        clock: Callable[[], float] = time.monotonic,
    ):
        super().__init__(logging.INFO)
        self.logs, self.say, self.clock = logs, say, clock
        self.stages: dict[int, str] = {}
        self.begun: dict[int, float] = {}
        self.done: set[int] = set()
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.earlier: dict[str, list[float]] = defaultdict(list)

    def start(self, stages: Mapping[int, str]) -> None:
        """Begin a run.

        Parameters
        ----------
        stages : mapping of int to str
            The stage of each job that will run, by Snakemake's number of the job.
        """
        self.stages = dict(stages)
        self.began = self.clock()
        for receipt in receipts(self.logs).values():
            self.earlier[receipt["stage"]].append(receipt["seconds"] + START_SECONDS)
        logging.getLogger("snakemake.logging").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Take one of Snakemake's events."""
        event = str(getattr(record, "event", ""))
        if event == "job_started":
            self.begun.update(dict.fromkeys(getattr(record, "jobs", ()), self.clock()))
        elif event == "job_finished":
            job = getattr(record, "job_id", -1)
            if job in self.stages and job not in self.done:
                self.done.add(job)
                self.seconds[self.stages[job]].append(self.clock() - self.begun.get(job, self.began))
                self.say(self.line())

    def line(self) -> str:
        """Return the state of the run in a line."""
        so_far = self.clock() - self.began
        line = f"gigraph: {len(self.done)} of {len(self.stages)} jobs done in {duration(so_far)}"
        rest = [stage for job, stage in self.stages.items() if job not in self.done]
        if not rest:
            return line
        work = sum(sum(many) for many in self.seconds.values())
        at_once = max(1.0, work / max(so_far, 1e-9))
        return f"{line}, about {duration(sum(map(self.expected, rest)) / at_once)} left"

    def expected(self, stage: str) -> float:
        """Return the seconds that a job of this stage takes, by all that is known."""
        known = (
            self.seconds.get(stage) or self.earlier.get(stage) or [s for many in self.seconds.values() for s in many]
        )
        return sum(known) / len(known) if known else START_SECONDS


def duration(seconds: float) -> str:
    """Return a duration as people say it: ``40 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
