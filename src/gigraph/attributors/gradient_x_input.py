"""Gradient times input: the slope of the score at X~, as if it were the same all along the path.

One gradient for each target, where an integral takes many (Shrikumar et al. 2016). It equals GIG where the score is
linear along the path, and otherwise misses what saturates before the path's end.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gigraph.attributors.path import ConceptPath
from gigraph.method.gig import Attribution, Decomposition, at_precision, mean_gradients, scores_at_ends

COMPLETE = False


def attribute(path: ConceptPath, images: list[Decomposition], targets: Tensor) -> list[Attribution]:
    """Return dS_t/dx at X~ times what each concept adds to X~ (see `gigraph.attributors.attribute`).

    Completeness is not promised: the attributions of a target need not add up to S_t(X~) - S_t(start). ``steps`` is 1,
    and the path's `steps`, `max_steps` and `tolerance` play no part.
    """
    reduced = at_precision(path.segment, path.precision)

    def some(points: int, first: int) -> list[Attribution]:
        part = images[first : first + max(1, points)]
        to = targets[first : first + len(part)]
        offset = torch.stack([image.offset(path.vectors) for image in part])
        at_concepts, at_baseline = scores_at_ends(points, path.segment, path.score, path.start, offset, to)
        # The gradient at the end of the path, alpha = 1.
        gradients = mean_gradients(reduced, path.score, path.start, offset, to, np.ones(1), points)
        return [
            Attribution(
                image.concepts, image.gather(gradients[i], path.vectors),
                at_concepts[i], at_baseline[i], torch.ones_like(to[i]),
            )
            for i, image in enumerate(part)
        ]  # fmt: skip

    found: list[Attribution] = []
    while len(found) < len(images):
        found += path.room.run(some, len(found))
    return found
