"""Whether pictures use the range that their numbers have: what to say of those that come out too dark or too bright."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from gigraph.images.decoding import Kind

HALF = 0.51
"""Of white, about: what 15 bits in 16 reach."""
BLACK = 16 / 255
"""Of white: what 12 bits in 16 reach."""
BRIGHT = 2.0
"""Times white: real numbers beyond it are of another scale."""


class Seen(NamedTuple):
    """A picture's largest number, where 1 is white, and what its numbers are."""

    path: str
    top: float
    kind: Kind


def remarks(pictures: Sequence[Seen]) -> list[str]:
    """Return what is to be said of a data set's pictures, a line each."""
    found = []
    deep = [one for one in pictures if one.kind == "deep"]
    top = max((one.top for one in deep), default=1.0)
    dark = [one for one in deep if one.top <= BLACK]
    if 0 < top <= HALF:
        found.append(
            f"the numbers of {len(deep)} pictures of 16 bits go up to {top:.1%} of white, as those of {_bits(top)} "
            "bits do, and come out dark; save them over the whole range, or name their white (MaxSampleValue of a TIFF)"
        )
    elif dark:
        found.append(
            f"{len(dark)} images are nearly black (no pixel above a sixteenth of white), such as "
            f"{min(one.path for one in dark)}: pictures of 12 bits in 16 look so; save them over the whole range"
        )
    bright = [one for one in pictures if one.kind == "real" and one.top > BRIGHT]
    if bright:
        most = max(bright, key=lambda one: one.top)
        found.append(
            f"{len(bright)} arrays hold real numbers of another scale than 0 to 1, up to {most.top:g} ({most.path}): "
            "they are taken as they are, and preprocessing.mean and std must be of that scale"
        )
    return found


def _bits(top: float) -> int:
    """Return the bits that numbers up to this part of 2^16 need; pictures of 8 bits round it."""
    return math.ceil(16 + math.log2(top) - 0.02)
