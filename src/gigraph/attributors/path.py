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
    steps, max_steps : int
        Points of the path to begin with, and at most.
    tolerance : float
        Estimated error of the integral, summed over the sources, over the sum of |attributions| at which refinement
        stops. The error is never taken for less than the completeness error.
    precision : {"float32", "bfloat16"}
        Of the gradients; scores are always of full precision.
    family : Tensor of int64 [K], optional
        Of each concept, where sums over families are what is going to be read: error and |attributions| are then those
        of the sums.
    """

    segment: Segment
    score: Score
    vectors: Tensor
    start: Tensor
    room: Batch
    steps: int
    max_steps: int
    tolerance: float
    precision: str
    family: Tensor | None = None
