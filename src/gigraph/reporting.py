"""What a job says while it works: its log, and how far it is."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
log = logging.getLogger("gigraph")


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
