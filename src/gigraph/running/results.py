"""What a stage's jobs found, in one line, from the last words of their logs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from gigraph.records.notes import MARK, WARNED

STAMP = re.compile(r"\d\d:\d\d:\d\d ")
NUMBER = re.compile(r"(\(?[+-]?)((?:\d[\d,]*)(?:\.\d+)?(?:e[+-]?\d+)?)(%?[),;:.]*)")
"""A number as logs write it, with what stands around it."""
UNDERWAY = re.compile(r": \d+ of \d+(, \d+ s left)?$")
"""How a line of progress ends."""


def said(log: Path) -> list[str]:
    """Return what a job's log says of its result: its lines without times, remarks, progress and the job's own end."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    plain = [line[9:] for line in lines if STAMP.match(line)]
    return [
        line
        for line in plain
        if MARK not in line
        and " done in " not in line
        and not UNDERWAY.search(line)
        and "error: " not in line
        and not line.startswith(WARNED)
    ]


def summary(logs: Sequence[Path]) -> str:
    """Return the result of a stage in a line.

    The last lines of its jobs that are alike but for numbers and what they are of are one, with the range of each
    number: ``32 to 256 concepts of 7272 PFVs``.
    """
    lines = [line for log in logs for line in said(log)]
    if not lines:
        return ""
    last = [words for line in lines if _shape(words := line.split()) == _shape(lines[-1].split())]
    return " ".join(filter(None, map(_together, zip(*last, strict=True))))


def _shape(words: Sequence[str]) -> tuple[str, ...]:
    """Return words with every number as ``#``, and without the first if it says what the line is of."""
    shape = ["#" if NUMBER.fullmatch(word) else word for word in words]
    if shape and shape[0].endswith((":", ",")):
        shape[0] = ":"
    return tuple(shape)


def _together(words: Sequence[str]) -> str:
    """Return what several words at the same place say: themselves, the range of numbers, or nothing."""
    if len({*words}) == 1:
        return words[0]
    found = [NUMBER.fullmatch(word) for word in words]
    if not all(found):
        return ""
    parts = [one.groups() for one in found if one]
    ordered = sorted(parts, key=lambda part: float(part[0].strip("(") + part[1].replace(",", "")))
    (before, least, _), (sign, most, after) = ordered[0], ordered[-1]
    return f"{before}{least} to {sign.strip('(')}{most}{after}"


def last_error(log: Path) -> str:
    """Return the line in which a failed job's log says why; nothing if it says nothing."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    own = [line[9:].strip() for line in lines if STAMP.match(line) and line[9:].strip().startswith("gigraph: ")]
    return own[-1] if own else ""
