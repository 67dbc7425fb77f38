"""A run of the workflow from its first job to its last, whether the Snakefile is called or imported by another one.

Snakemake calls no `onstart` of an imported workflow. So a session listens to Snakemake's own events instead: that a run
begins, and that a job is done.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from snakemake.persistence import NO_PARAMS_CHANGE

from gigraph.errors import UserError
from gigraph.planning.config import PACKAGE
from gigraph.running.console import IDLE, STOPPED, WORDS, LogHandler

SESSIONS: dict[tuple[int, str], Session] = {}


class Session(logging.Handler):
    """The jobs of one results folder in a workflow.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
    names : mapping of str to str
        The stage of each rule, by the rule's name in that workflow.
    begin : callable
        Called with the session once it is known what will run, and before the first job.
    end : callable
        Called with the session when all of its jobs are done.
    rehearse : callable, optional
        Called with the session instead of both in a dry run.
    rest : callable, optional
        Called with the session instead of all where Snakemake finds nothing to do.
    """

    def __init__(
        self,
        workflow: Any,
        names: Mapping[str, str],
        begin: Callable[[Session], None],
        end: Callable[[Session], None],
        rehearse: Callable[[Session], None] = lambda run: None,
        rest: Callable[[Session], None] = lambda run: None,
    ):
        super().__init__(logging.INFO)
        self.workflow, self.names = workflow, dict(names)
        self._begin, self._end, self._rehearse, self._rest = begin, end, rehearse, rest
        self.waits = workflow.modifier.is_main_snakefile()
        self.left: set[int] = set()
        self.failed: set[str] = set()
        self.began = time.monotonic()
        self.begun = self.over = self.rehearsed = False

    @property
    def jobs(self) -> list[Any]:
        """Snakemake's jobs that are of a stage."""
        return [job for job in self.workflow.dag.jobs if job.rule.name in self.names]

    @property
    def due(self) -> list[Any]:
        """Those of them that will run."""
        return [job for job in self.workflow.dag.needrun_jobs() if job.rule.name in self.names]

    def stage(self, job: Any) -> str:
        """Return the stage of a job."""
        return self.names[job.rule.name]

    def foresee(self, record: logging.LogRecord) -> bool:
        """Look at a record before any handler does: who reads of an interruption may interrupt again at once."""
        if self.begun and self.left and record.getMessage().startswith(STOPPED):
            _pass_over_one()
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Take one of Snakemake's events."""
        if record.name == WORDS.name:  # one's own
            return
        event, message = str(getattr(record, "event", None) or ""), record.getMessage()
        if message.startswith(IDLE) and not self.begun:
            self._rest(self)
        if event == "run_info" and self.workflow.dryrun:
            if self.due and not self.rehearsed:
                self.rehearsed = True
                self._rehearse(self)
        elif event == "run_info" and not self.begun:
            self.begun, self.began = True, time.monotonic()
            self.left = {job.jobid for job in self.due}
            if self.left:
                self._begin(self)
        elif event == "job_finished" and self.begun:
            self.left.discard(getattr(record, "job_id", -1))
            # The workflow that is called itself ends by `onsuccess`, when its last job's files are looked at, too.
            if not self.left and not self.waits:
                self.finish()
        elif event == "job_error" and self.begun:
            self.failed.add(str(getattr(record, "rule_name", "")))

    def finish(self) -> None:
        """End the session, once."""
        if self.begun and not self.over:
            self.over = True
            self._end(self)

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.began


def is_muted(workflow: Any) -> bool:
    """Whether what jobs say goes to their logs only: a run that `gigraph.running.console` shows."""
    return any(getattr(one, "muted", False) for one in workflow.logger_manager.plugin_handlers)


def _pass_over_one() -> None:
    """Have the next interruption do nothing, since it would break off what ends the jobs; another one kills at once."""
    if threading.current_thread() is threading.main_thread():  # elsewhere Python sets no signal
        signal.signal(signal.SIGINT, lambda *_: signal.signal(signal.SIGINT, signal.SIG_DFL))


def fail(workflow: Any, line: str) -> None:
    """Say why nothing runs, where a run's lines are said."""
    screens = [one for one in workflow.logger_manager.plugin_handlers if isinstance(one, LogHandler) and one.muted]
    if not screens:
        print(line, file=sys.stderr)
    for one in screens:
        one.fail(line)


def package_alone(folder: Path) -> Path:
    """Return a folder that holds this package and nothing else, for jobs whose Python is another one.

    Parameters
    ----------
    folder : Path
        Where it is made: Snakemake's own, which jobs see wherever they run.
    """
    link = folder.absolute() / "gigraph" / "gigraph"
    if not link.exists() or link.resolve() != PACKAGE:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        with suppress(FileExistsError):  # another job made it meanwhile
            link.symlink_to(PACKAGE)
    return link.parent


def overlook_records(workflow: Any, rule: str) -> None:
    """Have Snakemake not compare a rule's jobs with what it has noted of the last jobs that made their files.

    What lies there may be older, brought back from a copy: whether it is current, the files say themselves. Snakemake
    would make it again, and find the jobs that rest on it only when it is called the next time.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
    rule : str
        By its name in that workflow.
    """
    noted = workflow.persistence
    if not hasattr(noted, "overlooked"):
        noted.overlooked = set()
        for name, nothing in (("input_changed", ()), ("params_changed", NO_PARAMS_CHANGE)):
            setattr(noted, name, _overlooking(getattr(noted, name), noted.overlooked, nothing))
    noted.overlooked.add(rule)


def _overlooking(compared: Callable[..., Any], overlooked: set[str], nothing: Any) -> Callable[..., Any]:
    return lambda job, file=None: nothing if job.rule.name in overlooked else compared(job, file=file)


def check_import(workflow: Any, root: str) -> None:
    """Refuse a module statement that moves the files of rules, of which the plan would know nothing.

    Raises
    ------
    UserError
        If it has a prefix.
    """
    path = f"{root}/run.json"
    if workflow.modifier.path_modifier.replace_prefix(path) != path:
        raise UserError(
            "module: prefix and replace_prefix would move files from where the plan looks for them; leave them out, "
            "and set output in its config"
        )


def attend(workflow: Any, root: str, names: Mapping[str, str], **calls: Callable[[Session], None]) -> Session:
    """Begin to listen; the same folder in the same workflow has one session, however often its rules are read.

    `use rule NAME from gigraph with:` reads the whole workflow again for that rule.
    """
    key = id(workflow), root
    known = SESSIONS.get(key)
    if known is not None:
        known.names |= names
        return known
    SESSIONS[key] = session = Session(workflow, names, **calls)
    logger = logging.getLogger("snakemake.logging")
    logger.addFilter(session.foresee)
    logger.addHandler(session)
    return session
