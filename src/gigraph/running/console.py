"""What a run says on the screen: a line for each stage, on a terminal one live line below them, and the end.

This is a logger plugin of Snakemake (`--logger gigraph`, which the workflow's profiles set). Snakemake's own words go
to its log file, the jobs' to theirs. With `--verbose`, `-p`, and where no run begins they are shown as ever. `--quiet`
leaves the stages out, and `--quiet all` everything but errors.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import textwrap
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from snakemake_interface_logger_plugins.base import LogHandlerBase

from gigraph.errors import UserError, one_line
from gigraph.planning.config import configfiles, read_yaml
from gigraph.records.notes import notes_in
from gigraph.running.progress import Progress, duration
from gigraph.running.results import last_error, summary

WORDS = logging.getLogger("snakemake.logging.gigraph")
"""Where the workflow itself says something to whoever runs it."""
LEAST = 20
"""Columns that a terminal has."""
WIDTH = 120
"""Of a line that goes to no terminal."""
PATIENCE = 60.0
"""Seconds after which a line tells how far a run is that goes to no terminal; the next one waits a quarter longer."""
EARLY = ("images",)
"""Stages whose remarks are said at once, too: on a wrong model's accuracy no run should be waited for."""
STOPPED = "Terminating processes on user request"
"""How Snakemake begins when it is interrupted, before it ends the running jobs."""
IDLE = "Nothing to be done"
"""What Snakemake says where no run follows, because all is made."""
UNREAD = "Config file is not valid JSON or YAML"
"""What Snakemake says of a configuration file, and not of which one."""
UNMADE = "MissingRuleException:\nNo rule to produce "
"""What it says of a target that does not exist, besides that input functions may have failed."""
BROKEN_OFF = ("InputFunctionException", "KeyboardInterrupt")
"""What it says of an interruption that came while it asked what the next job reads."""
GOES_ON = "gigraph: interrupted; the same command goes on from here"
HELD = 2.0
"""Seconds in which an interruption may tell why a job has ended without a word."""
SAID = ("CalledProcessError", "At least one job did not complete", "Exiting because a job execution failed")
"""What Snakemake says besides when a job has failed, which stands in the job's own line."""


class Screen:
    """Lines, and below them one that is written over; only a terminal has that one."""

    def __init__(self, stream: TextIO):
        self.stream = stream
        self.live = bool(getattr(stream, "isatty", lambda: False)())
        self.below = ""
        self.lock = threading.Lock()

    @property
    def width(self) -> int:
        """Columns of a line."""
        if not self.live:
            return WIDTH
        try:
            columns = os.get_terminal_size(self.stream.fileno()).columns
        except (OSError, ValueError):  # it has no file, or none that knows
            columns = 0
        return max(LEAST, columns or shutil.get_terminal_size().columns) - 1

    def say(self, text: str) -> None:
        """Write lines; on a terminal those that are too long go on below, between words."""
        if self.live:
            text = "\n".join(folded(line, self.width) for line in text.split("\n"))
        with self.lock:
            self.stream.write(f"{self._clear()}{text}\n{self.below}")
            self.stream.flush()

    def show(self, text: str) -> None:
        """Write the line below over."""
        if self.live:
            with self.lock:
                clear, self.below = self._clear(), cut(text, self.width)
                self.stream.write(f"{clear}{self.below}")
                self.stream.flush()

    def _clear(self) -> str:
        return "\r\x1b[2K" if self.below else ""


class LogHandler(LogHandlerBase):
    """Takes Snakemake's events, one after another.

    Attributes
    ----------
    muted : bool
        Whether Snakemake's words and those of the jobs go to their logs only.
    """

    def __post_init__(self) -> None:
        asked = self.common_settings
        self.muted = not (asked.verbose or asked.debug_dag or asked.printshellcmds)
        quiet = {str(getattr(one, "name", one)).lower() for one in asked.quiet or ()}
        self.terse, self.silent = bool(quiet), "all" in quiet
        self.screen = Screen(sys.stdout if asked.stdout else sys.stderr)
        self.clock: Callable[[], float] = time.monotonic
        self.plain = _snakemakes_own(asked)
        self.progress: Progress | None = None
        self.held: list[str] = []
        self.told = self.stopped = False
        self.names: dict[str, str] = {}
        self.retries: dict[str, int] = {}
        self.failures: Counter[int] = Counter()
        self.logs: dict[int, list[Path]] = {}
        self.labels: dict[int, str] = {}
        self.wordless: list[str] = []
        self.said: dict[str, list[Path]] = defaultdict(list)
        self.next = PATIENCE
        self.ended = threading.Event()

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def emit(self, record: logging.LogRecord) -> None:
        """Take one record. A defect here ends no run: it is said, and Snakemake's own words go on."""
        try:
            self._take(record)
        except Exception as error:
            self.muted = False
            self.screen.live = False
            self.screen.say(f"gigraph: the progress cannot be shown any more: {type(error).__name__}: {error}")

    def close(self) -> None:
        """Leave the screen as it should be: nothing follows."""
        self.ended.set()
        if self.muted and isinstance(sys.exc_info()[1], KeyboardInterrupt):
            self._interrupted()
        elif self.muted and self.progress is None and not (self.told or self.silent):
            kept = [line for line in self.held if line.startswith(IDLE)]
            for line in kept or self.held:
                self.screen.say(line)
        self.held = []
        self.screen.show("")
        self._say_wordless()
        super().close()

    def _interrupted(self) -> None:
        """Say so of what is interrupted while Snakemake gets ready, whose traceback tells nobody anything."""
        sys.excepthook = lambda *_: None
        if not self.stopped:
            self.screen.show("")
            begun = self.progress is not None and bool(self.logs)
            self.screen.say(GOES_ON if begun else "gigraph: interrupted before the first job")

    # ---- events ---------------------------------------------------------------------------------------------

    def _take(self, record: logging.LogRecord) -> None:
        event = str(getattr(record, "event", None) or "")
        if not self.muted:
            self.plain.handle(record)
        if record.name == WORDS.name:
            self._told(getattr(record, "gigraph", {}))
        if event == "run_info":
            self._begin(getattr(record, "stats", {}))
        elif event == "job_info":
            self._job(record)
        elif event == "job_finished":
            self._finished(getattr(record, "job_id", -1))
        elif event in ("job_error", "group_error"):
            self._error(record)
        elif self.muted:
            self._words(record, event)
        if self.muted and self.progress is not None and not self.terse:
            self.screen.show(self._state())

    def fail(self, line: str) -> None:
        """Say why nothing runs; what Snakemake said until now does not follow."""
        self.told = True
        self.screen.show("")
        Screen(sys.stderr).say(line)  # a dry run's lines go elsewhere

    def _words(self, record: logging.LogRecord, event: str) -> None:
        message = record.getMessage()
        broken_off = record.levelno >= logging.ERROR and all(words in message for words in BROKEN_OFF)
        if not self.stopped and (message.startswith(STOPPED) or broken_off):
            self.stopped, self.wordless = True, []
            self.screen.say(GOES_ON)
        if self.stopped:
            return  # what is ended now has not failed
        if record.levelno >= logging.ERROR and SAID[0] not in message:
            self._say_wordless()
        if UNREAD in message:
            self.fail(f"gigraph: error: {_unread() or one_line(message)}")
        elif message.startswith(UNMADE):
            target = message.removeprefix(UNMADE).partition(" (if you use")[0]
            self.fail(
                f"gigraph: error: there is no target {one_line(target)}: targets are rules, such as all and evaluation "
                "(--list-rules lists them), and files that a run writes"
            )
        elif record.name == WORDS.name:
            if not self.silent or record.levelno >= logging.ERROR:
                self.screen.say(message)
        elif self.silent and record.levelno < logging.ERROR:
            return
        elif record.levelno >= logging.WARNING:
            if message and not any(words in message for words in SAID):
                self.told |= record.levelno >= logging.ERROR  # what Snakemake did before does not follow
                self.screen.say(message)
        elif not event and self.progress is None and record.levelno >= logging.INFO:
            self.held.append(message)

    def _told(self, known: dict[str, Any]) -> None:
        """Take what the workflow knows of its run: stages and retries of its rules, and where its logs lie."""
        self.told = True
        self.names |= known.get("names", {})
        self.retries |= known.get("retries", {})
        if self.progress is not None and "logs" in known:
            self.progress.remember(known["logs"], self.names)
            for rule in known["targets"]:  # they do nothing
                self.progress.counts.pop(rule, None)

    def _begin(self, stats: dict[str, int]) -> None:
        if self.common_settings.dryrun or self.progress is not None:
            return
        self.progress = Progress({rule: count for rule, count in stats.items() if rule != "total"}, self.clock)
        if self.muted and self.screen.live and not self.terse:
            threading.Thread(target=self._tick, daemon=True, name="screen").start()

    def _tick(self) -> None:
        """Let the live line go on while nothing happens."""
        while not self.ended.wait(1):
            self.screen.show(self._state())

    def _job(self, record: logging.LogRecord) -> None:
        job, rule = record.jobid, record.rule_name  # type: ignore[attr-defined]
        self.logs[job] = [Path(path) for path in record.log]  # type: ignore[attr-defined]
        self.labels[job] = ", ".join(map(str, record.wildcards.values()))  # type: ignore[attr-defined]
        if self.progress is not None and rule in self.progress.counts:
            self.progress.start(job, rule)

    def _finished(self, job: int) -> None:
        stage = self.progress and self.progress.finish(job)
        if not stage or self.progress is None:
            return
        self.said[stage] += self.logs.get(job, [])
        if self.terse:
            return
        if self.muted and self.progress.done[stage] == self.progress.counts.get(stage) and self.said[stage]:
            self.screen.say(self._result(stage))
            if self._stage(stage) in EARLY:
                for note in (note for log in self.said[stage] for note in notes_in(log)):
                    self.screen.say(f"  note: {one_line(note)}")
        now = self.clock() - self.progress.began
        over = sum(self.progress.done.values()) == sum(self.progress.counts.values())
        if not self.muted or (not self.screen.live and now >= self.next and not over):
            self.next = now * 1.25
            self.screen.say(f"gigraph: {self.progress.line()}")

    def _error(self, record: logging.LogRecord) -> None:
        if not self.muted or self.stopped or not hasattr(record, "rule_name"):  # of a group, whose jobs follow
            return
        job = getattr(record, "jobid", -1)
        if self.progress is not None:
            self.progress.stop(job)
        logs = [Path(path) for path in getattr(record, "log", [])]
        rule = str(record.rule_name)
        stage = self._stage(rule)
        why = next(filter(None, map(last_error, logs)), "")
        what = " ".join(filter(None, [stage, f"({self.labels[job]})" if self.labels.get(job) else ""]))
        where = f"; its log: {', '.join(map(str, logs))}" if logs else ""
        self.failures[job] += 1
        if self.failures[job] <= self.retries.get(rule, 0):
            reason = one_line(why).removeprefix("gigraph: ").removeprefix("error: ") or "it ended without a word"
            if not self.silent:
                self.screen.say(f"  {what} is tried again: {reason}{where}")
        elif why:
            self.screen.say(f"{one_line(why)}\n  in {what}{where}")
        else:
            # So ends an interrupted job, too, of which Snakemake tells only later.
            self.wordless.append(
                f"gigraph: error: {what} ended without a word: cancelled, killed, or out of memory{where}"
            )
            later = threading.Timer(HELD, self._say_wordless)
            later.daemon = True
            later.start()

    def _say_wordless(self) -> None:
        """Say of the jobs that have ended without a word so, since no interruption has ended them."""
        lines, self.wordless = self.wordless, []
        for line in lines:
            self.screen.say(line)

    # ---- lines ----------------------------------------------------------------------------------------------

    def _stage(self, rule: str) -> str:
        """Return the stage of a rule, which another workflow may call otherwise."""
        return self.names.get(rule, rule)

    def _result(self, stage: str) -> str:
        progress = self.progress
        assert progress is not None
        logs = sorted(self.said[stage])
        seconds = max(progress.seconds[stage]) if len(logs) < 2 else sum(progress.seconds[stage])
        jobs = f"{len(logs)} jobs, sum " if len(logs) > 1 else ""
        head = f"  {self._stage(stage):18} {jobs + duration(seconds):>20}"
        return clipped(f"{head}  {one_line(summary(logs))}".rstrip(), self.screen.width, len(head) + 2)

    def _state(self) -> str:
        progress = self.progress
        if progress is None:
            return ""
        running = [f"{self._stage(stage)}{f' x {n}' if n > 1 else ''}" for stage, n in progress.running.items()]
        return f"{progress.line()}: {', '.join(running)}" if running else progress.line()


def _unread() -> str:
    """Return why a configuration file of this process's command line cannot be read; nothing where all can."""
    for path in configfiles(sys.argv[1:]):
        try:
            read_yaml(path)
        except UserError as error:
            return one_line(error)
        except OSError as error:
            return f"--configfile: {path} cannot be read: {error.strerror}"
    return ""


def folded(line: str, width: int) -> str:
    """Return a line in as many as it takes, whose words, such as paths, stay whole; those that follow are indented."""
    if len(line) <= width:
        return line
    lead = line[: len(line) - len(line.lstrip())]
    rest = textwrap.wrap(
        line.strip(), width - len(lead), subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lead + one for one in rest)


def cut(line: str, width: int) -> str:
    """Return a line that fits, with dots where something is missing."""
    return line if len(line) <= width else f"{line[: max(0, width - 3)]}..."


def clipped(line: str, width: int, least: int) -> str:
    """Return a line that fits, without its last clauses where it would not; these stand in the log."""
    if len(line) <= width:
        return line
    ends = [end for mark in (", ", "; ", ": ", " (") if (end := line.rfind(mark, least, width + len(mark))) > least]
    return line[: max(ends)] if ends else cut(line, width)


def _snakemakes_own(asked: Any) -> logging.Handler:
    """Return the handler that Snakemake would take without a plugin."""
    from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter

    handler = ColorizingTextHandler(asked.nocolor, sys.stdout if asked.stdout else sys.stderr)
    handler.addFilter(DefaultFilter(asked.quiet, asked.debug_dag, asked.verbose, asked.dryrun, asked.printshellcmds))
    handler.setFormatter(DefaultFormatter(asked.quiet, asked.show_failed_logs))
    return handler
