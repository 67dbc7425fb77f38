"""The one exception that carries a message for the user rather than a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake the user can mend: one line that names what is wrong and the remedy.

    Scripts print it as ``gigraph: error: <message>`` and exit with status 1.
    """


def nearest(word: str, choices: Iterable[str], count: int = 3) -> str:
    """Return ``"; did you mean a, b or c?"`` for the choices nearest to `word`, or an empty string."""
    close = difflib.get_close_matches(word, list(choices), n=count, cutoff=0.4)
    if not close:
        return ""
    listed = close[0] if len(close) == 1 else ", ".join(close[:-1]) + " or " + close[-1]
    return f"; did you mean {listed}?"


def install(extra: str) -> str:
    """Return how packages come that only some runs need: an extra of this project."""
    return f"uv sync --extra {extra}, or outside a clone: pip install 'gigraph[{extra}]'"


def one_line(text: object) -> str:
    """Return a text as one line that a terminal only shows: no control, escape or direction characters."""
    line = " ".join(str(text).split())
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)
