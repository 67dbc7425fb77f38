"""What every script of the workflow shares: its arguments, its log, its progress, and its way to fail."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from gigraph.config import Compute
from gigraph.errors import UserError

Item = TypeVar("Item")
log = logging.getLogger("gigraph")


def run(main: Callable[[argparse.Namespace], None], *files: str) -> None:
    """Run a script's `main` with its command line, and exit with status 1 on a failure.

    Parameters
    ----------
    main : callable
        Takes the parsed arguments.
    *files : str
        Names of the path arguments; a trailing ``+`` takes several paths, ``?`` makes it optional. Besides them
        every script takes ``--settings`` (JSON), ``--lineage``, ``--compute`` (JSON) and ``--log``.

    Notes
    -----
    A `UserError` prints one line. Anything else is a defect: its traceback goes to the log, one line to the screen.
    """
    parser = argparse.ArgumentParser(description=sys.modules[main.__module__].__doc__)
    for name in files:
        nargs = {"+": "*", "?": "?"}.get(name[-1])
        parser.add_argument(
            f"--{name.rstrip('+?')}", nargs=nargs, required=nargs is None, default=[] if nargs == "*" else None
        )
    parser.add_argument("--settings", type=json.loads, default={})
    parser.add_argument("--lineage", default="")
    parser.add_argument("--compute", type=lambda text: Compute.model_validate_json(text), default=Compute())
    parser.add_argument("--log", type=Path)
    args = parser.parse_args()
    step = Path(sys.argv[0]).stem
    _start_log(args.log)
    began = time.monotonic()
    try:
        main(args)
    except UserError as error:
        log.error("gigraph: error: %s", " ".join(str(error).split()))
        sys.exit(1)
    except Exception as error:
        if args.log:
            with args.log.open("a") as stream:
                traceback.print_exc(file=stream)
        first = (str(error).splitlines() or [""])[0]
        log.error("gigraph: %s failed: %s: %s (details in %s)", step, type(error).__name__, first, args.log)
        sys.exit(1)
    log.info("%s done in %.1f s", step, time.monotonic() - began)


def _start_log(path: Path | None) -> None:
    log.setLevel(logging.INFO)
    screen = logging.StreamHandler()
    screen.setFormatter(logging.Formatter("  %(message)s"))
    log.addHandler(screen)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(path, mode="w")
        file.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        log.addHandler(file)


def progress(items: Iterable[Item], total: int, what: str, every: float = 10) -> Iterator[Item]:
    """Yield the items, logging how many of `total` are done and the time left, every few seconds."""
    began = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= every and done < total:
            last = now
            left = (now - began) / done * (total - done)
            log.info("%s: %d of %d, %.0f s left", what, done, total, left)


def torch_device(compute: Compute) -> Any:
    """Return the torch device that the settings ask for.

    Raises
    ------
    UserError
        If CUDA is asked for and there is none.
    """
    import torch

    if compute.device == "cpu" or (compute.device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError("config: compute.device is cuda, but torch finds no CUDA device; set auto or cpu")
    return torch.device("cuda")
