"""Generalized integrated gradients: gradients averaged along the path [Eqs. 3-7]."""

from __future__ import annotations

from torch import Tensor

from gigraph.attributors.path import ConceptPath
from gigraph.method import gig
from gigraph.method.gig import Attribution, Decomposition

COMPLETE = True


def attribute(path: ConceptPath, images: list[Decomposition], targets: Tensor) -> list[Attribution]:
    """Integrate the gradient from the start to each X~ (see `gigraph.attributors.attribute`)."""
    return gig.attribute(
        path.segment, path.score, path.vectors, path.start, images, targets,
        steps=path.steps, max_steps=path.max_steps, tolerance=path.tolerance,
        batch=path.room, precision=path.precision, family=path.family,
    )  # fmt: skip
