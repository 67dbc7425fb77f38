"""Writing a file so that it is there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gigraph.hashing import digest


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed onto it on success and removed on failure.

    What killed writers of the same file left behind is removed. The bytes reach the disk before the name does.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Short, since the name itself may be as long as names can be.
    prefix = f".{digest(path.name)}."
    for left in path.parent.glob(f"{prefix}*.tmp"):
        left.unlink(missing_ok=True)
    temporary = path.with_name(f"{prefix}{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
