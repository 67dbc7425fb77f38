"""What every script of the workflow shares: its arguments, its log, its progress, and its way to fail."""

from __future__ import annotations

import argparse
import errno
import gc
import json
import logging
import os
import platform
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from gigraph import orphans
from gigraph.errors import UserError, one_line
from gigraph.planning.stages import STAGES
from gigraph.records.notes import WARNED
from gigraph.running import leases
from gigraph.running.record import write_receipt

if TYPE_CHECKING:
    from gigraph.planning.config import Compute

log = logging.getLogger("gigraph")


def run(main: Callable[[argparse.Namespace], None], *files: str) -> None:
    """Run a script's `main` with its command line, and exit with status 1 on a failure.

    Parameters
    ----------
    main : callable
        Takes the parsed arguments.
    *files : str
        Names of the path arguments; a trailing ``+`` takes several paths, ``?`` makes it optional. Besides them
        every script takes ``--settings`` (JSON), ``--lineage``, ``--log`` and, where it needs it, ``--compute`` (JSON).

    Notes
    -----
    A `UserError` prints one line, and so does a full disk. Anything else is a defect: its traceback goes to the
    log, one line to the screen. The script ends with the process that started it; a stage that uses GPUs holds one
    of them. At the end a receipt is written beside the log: what was done, where, and what it took.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # `gigraph.running.launched`
        signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.freeze()  # what the imports made stays: no collection need look through it
    parser = argparse.ArgumentParser(description=sys.modules[main.__module__].__doc__)
    for name in files:
        nargs = {"+": "*", "?": "?"}.get(name[-1])
        parser.add_argument(
            f"--{name.rstrip('+?')}", nargs=nargs, required=nargs is None, default=[] if nargs == "*" else None
        )
    parser.add_argument("--settings", type=json.loads, default={})
    parser.add_argument("--lineage", default="")
    # Valid already: the configuration's own classes take longer to load than many a job takes.
    parser.add_argument("--compute", type=lambda text: SimpleNamespace(**json.loads(text)))
    parser.add_argument("--log", type=Path)
    args = parser.parse_args()
    step = Path(sys.argv[0]).stem
    if "GIGRAPH_CONTROLLER" in os.environ:
        orphans.die_with_parent()
        orphans.watch(int(os.environ["GIGRAPH_CONTROLLER"]))
    began, started = time.monotonic(), _now()
    try:
        _start_log(args.log)
        device = _device(step, args.compute)
        main(args)
        _finish(args, step, stage=step, lineage=args.lineage, started=started, ended=_now(),
                seconds=round(time.monotonic() - began, 2), device=device)  # fmt: skip
    except UserError as error:
        _fail(args.log, f"gigraph: error: {one_line(error)}")
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # another one would break off what follows
        log.error("gigraph: interrupted; the same command goes on from here")
        if "GIGRAPH_CONTROLLER" in os.environ:
            _leave(130)
        sys.exit(130)
    except Exception as error:
        if _disk_is_full(error):
            _fail(args.log, f"gigraph: error: {step}: the disk is full; free some space and run again")
        if args.log:
            with args.log.open("a") as stream:
                traceback.print_exc(file=stream)
        first = one_line((str(error).splitlines() or [""])[0])
        _fail(args.log, f"gigraph: {step} failed: {type(error).__name__}: {first} (details in {args.log})")
    if "GIGRAPH_CONTROLLER" in os.environ:
        _leave()


def _fail(path: Path | None, why: str) -> NoReturn:
    """End with status 1 and say why: in the log, and on the screen where nobody would read it there."""
    log.error("%s", why)
    if path and not _on_screen(path):
        from gigraph.running.results import last_error

        if not last_error(path):  # a full disk holds no log
            print(why, file=sys.stderr)
    sys.exit(1)


def _on_screen(path: Path | None) -> bool:
    """Whether what a job says goes to the screen, too; else who watches the run reads its log."""
    return not path or os.environ.get("GIGRAPH_SCREEN") != "0"


def _leave(status: int = 0) -> NoReturn:
    """End the process at once: to take torch's modules apart takes half a second, and nobody waits for them."""
    logging.shutdown()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    os._exit(status)


def _device(step: str, compute: Compute) -> str:
    """Lease a GPU for a stage that uses one, hide them from any other, and say which device the stage runs on."""
    if not (step in STAGES and STAGES[step].gpu) or compute.device == "cpu":
        os.environ[leases.VISIBLE] = ""  # or CuPy and torch would take one that is not leased
        return "cpu"
    leases.take(jobs_per_gpu=compute.jobs_per_gpu)
    visible = os.environ.get(leases.VISIBLE)
    return f"cuda:{visible}" if visible else "cpu"


def _finish(args: argparse.Namespace, step: str, seconds: float, **more: Any) -> None:
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    numbers = {
        "seconds": seconds,
        "cpu_seconds": round(sum(one.ru_utime + one.ru_stime for one in usage), 2),
        "peak_memory_mb": round(max(one.ru_maxrss for one in usage) / (2**20 if sys.platform == "darwin" else 2**10)),
        "host": platform.node(),
        "cluster_job": os.environ.get("SLURM_JOB_ID"),
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        numbers["peak_gpu_memory_mb"] = round(torch.cuda.max_memory_allocated() / 2**20)
    log.info("%s done in %.1f s, %d MB", step, seconds, numbers["peak_memory_mb"])
    if args.log:
        write_receipt(args.log.with_suffix(".json"), **more, **numbers)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _disk_is_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and (
            error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


def _start_log(path: Path | None) -> None:
    log.setLevel(logging.INFO)
    logging.raiseExceptions = False  # a log that cannot be written is no reason for tracebacks
    if _on_screen(path):
        screen = logging.StreamHandler()
        screen.setFormatter(logging.Formatter("  %(message)s"))
        log.addHandler(screen)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".json").unlink(missing_ok=True)
        file = logging.FileHandler(path, mode="w")
        file.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        log.addHandler(file)
        warnings.showwarning = _warned


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Write a library's warning to the log: it is for who reads that, not for the screen of a run."""
    log.info("%s%s: %s (%s:%d)", WARNED, category.__name__, one_line(message), filename, lineno)
