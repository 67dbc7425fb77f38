"""The remarks in a job's log that concern those who see its results and not its log."""

from __future__ import annotations

from pathlib import Path

MARK = "note: "
"""What a remark begins with."""
WARNED = "warning: "
"""What a library's warning begins with, which concerns who reads the log."""


def notes_in(log: Path) -> list[str]:
    """Return the remarks of a job; none where it has no log."""
    if not log.is_file():
        return []
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.partition(MARK)[2].strip() for line in lines if MARK in line and WARNED not in line.partition(MARK)[0]]
