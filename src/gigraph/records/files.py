"""Writing a file so that it is there whole or not at all, and one after another."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gigraph.hashing import digest

NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL})
"""What a file system answers that has no locks, such as Lustre mounted without them."""


def flock(handle: int, how: int) -> bool:
    """Lock an open file, as `fcntl.flock`; return whether it is, or the file system has no locks.

    Raises
    ------
    BlockingIOError
        If another process holds it, and `how` says not to wait.
    """
    try:
        fcntl.flock(handle, how)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    return True


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other process is here with the same folder."""
    handle = os.open(folder / ".gigraph.alone", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


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
