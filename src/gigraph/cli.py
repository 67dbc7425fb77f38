"""The `gigraph` command line."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import pkgutil
import select
import sys
from collections.abc import Sequence
from typing import TextIO

from gigraph import commands
from gigraph.errors import UserError, one_line
from gigraph.version import __version__


class Screen(logging.Handler):
    """What the package says while a command works; scripts have their logs for that."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line to standard error, whatever that is now."""
        print(one_line(record.getMessage()), file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one sub-command; a user's mistake prints one line.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line; that of the process if not given.

    Returns
    -------
    int
        The exit status: 0, 1 after a `UserError`, 130 after an interruption, or 1 where nobody reads on.
    """
    parser = argparse.ArgumentParser("gigraph", description="The concept graph of an image classifier.")
    parser.add_argument("--version", action="version", version=f"gigraph {__version__}")
    choices = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for found in pkgutil.iter_modules(commands.__path__):
        module = importlib.import_module(f"{commands.__name__}.{found.name}")
        text = (module.__doc__ or "").strip()
        command = choices.add_parser(found.name, help=text.partition("\n")[0], description=text)
        module.add_arguments(command)
        command.set_defaults(main=module.main, passes_on=getattr(module, "PASSES_ON", False))
        command.allow_abbrev = False
    args, rest = parser.parse_known_args(arguments)
    if rest and not args.passes_on:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    args.rest = rest
    log = logging.getLogger("gigraph")
    if not log.handlers:
        log.addHandler(Screen())
        log.setLevel(logging.INFO)
    try:
        args.main(args)
        sys.stdout.flush()
    except BrokenPipeError:
        if not _is_unread(sys.stdout):
            raise
        # Who reads has read enough, as `head` has; what Python flushes at its end goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except UserError as error:
        print(f"gigraph: error: {one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("gigraph: interrupted", file=sys.stderr)
        return 130
    return 0


def _is_unread(stream: TextIO) -> bool:
    """Whether nobody reads any more what is written there."""
    ask = select.poll()
    ask.register(stream, select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in ask.poll(0))
