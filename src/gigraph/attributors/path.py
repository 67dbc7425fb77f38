"""What an attribution method works on: the path from a start to X~, and the score along it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gigraph.method.gig import Batch, Score, Segment


@dataclass(frozen=True)
class ConceptPath:
    """The path Omega(alpha) = F_ab(start + alpha U V), alpha from 0 to 1, of any image U [Eq. 3].

    Attributes
    ----------
    segment, score : callables
        F_ab and S (`gigraph.method.gig`).
    vectors : Tensor [K, C]
        Concept vectors of the source layer, V.
    start : Tensor [C]
        Where the path starts: the centre of the source layer, or zeros for the literal Eq. 3.
    room : Batch
        How many path points are held at once.
    smooth : bool
        Whether F_ab and S have no kinks, which decides the quadrature rule.
    steps, max_steps : int
        Points of the path to begin with, and at most.
    tolerance : float
        Completeness error over the sum of absolute attributions at which refinement stops.
    precision : {"float32", "bfloat16"}
        Of the gradients; scores are always of full precision.
    family : Tensor of int64 [K], optional
        Of each concept, where sums over families are what is going to be read: attributions are then those whose size
        counts for completeness.
    """

    segment: Segment
    score: Score
    vectors: Tensor
    start: Tensor
    room: Batch
    smooth: bool
    steps: int
    max_steps: int
    tolerance: float
    precision: str
    family: Tensor | None = None
