"""Hashes of contents, and counter-based random numbers: pure functions of their keys, never of the order of calls.

The mixer is SplitMix64's finaliser (Steele, Lea & Flood, "Fast splittable pseudorandom number generators",
OOPSLA 2014). Every function takes NumPy or CuPy arrays of any broadcastable shapes and gives the same bits on
both.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = 0x9E3779B97F4A7C15
MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB
MASK = (1 << 64) - 1


def text_key(text: str) -> int:
    """Return the 64-bit key of a text (BLAKE2b)."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")


def image_id(relative_path: str) -> int:
    """Return the 63-bit id of an image: a hash of its path relative to the image folder, with ``/`` separators."""
    return text_key(relative_path) >> 1


def mix(*keys: Any) -> Any:
    """Hash integer keys together.

    Parameters
    ----------
    *keys : int or array of integers
        Broadcast against each other; the order of the keys matters.

    Returns
    -------
    array of uint64
        0-dimensional if every key is a scalar.
    """
    state: Any = np.uint64(0)
    with np.errstate(over="ignore"):
        for key in keys:
            # Python ints beyond int64 (and negative ones) are taken modulo 2**64.
            word = np.uint64(key & MASK) if isinstance(key, int) else key.astype(np.uint64)
            state = (state ^ word) + np.uint64(GOLDEN)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(MIX_1)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(MIX_2)
            state = state ^ (state >> np.uint64(31))
    return state


def uniform(*keys: Any) -> Any:
    """Return float64 uniforms in the open interval (0, 1), a pure function of the keys (see `mix`)."""
    return ((mix(*keys) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def digest(*parts: Any) -> str:
    """Return a 16-digit hash of JSON-serialisable parts."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@cache
def file_digest(path: Path) -> str:
    """Return the hash of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=8)).hexdigest()
