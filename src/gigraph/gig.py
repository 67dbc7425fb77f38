r"""Generalized integrated gradients: which concepts of one layer build which of a later one [Eqs. 3-7].

Notation (one image)
--------------------
``U``      [P, Q]   coefficients of the image's Q active concepts at the layer's P positions
``V``      [K, C]   concept vectors of the source layer, one per row
``beta``   [C]      centre of the source layer; X~ = beta + U V                                        [Eq. 9]
``F_ab``            the network from layer a to layer b, or on to the output
``vbar_t`` [C_b]    unit concept vector of the target layer

The path, the score, and the attribution of concept q at position p to target t::

    Omega(alpha) = F_ab(beta + alpha U V),  alpha from 0 to 1                                        [Eq. 3]
    S_t(alpha)   = sum_i <w_i(alpha), vbar_t>,  w_i the PFVs of Omega(alpha)
    GIG(q|p, t)  = u_pq  integral  d S_t / d u_pq  d alpha                                           [Eq. 4]
                 = u_pq <D_p, v_q>,  D = integral  d S_t / d x  d alpha
    GIG(q, t)    = sum_p GIG(q|p, t) = <sum_p u_pq D_p, v_q>                                         [Eq. 5]

For a class c the score is <softmax(F_ay(.)), e_c> [Eqs. 6, 7], or the logit. The gradient is taken at the path
point, as in integrated gradients: read literally, d/du of F(alpha U V) carries a factor alpha that would break
completeness, sum_q GIG(q, t) = S_t(X~) - S_t(beta).

Since one gradient with respect to x serves every concept q, the work is one forward pass for all targets and one
backward pass per target, whatever K.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gigraph.quadrature import midpoint, tripled

Segment = Callable[[Tensor], Tensor]
"""F_ab: source activations [N, P, C] (as PFVs) to target PFVs [N, P_b, C_b] or logits [N, classes]."""
Score = Callable[[Tensor, Tensor], Tensor]
"""(output of a segment for B inputs, targets [B, T]) to scores [B, T]."""


def concept_score(vectors: Tensor) -> Score:
    """Return the score of concept targets, S_t = sum_i <w_i, vbar_t> [Eq. 4].

    Parameters
    ----------
    vectors : Tensor [K_b, C_b]
        Concept vectors of the target layer; normalised here.
    """
    unit = torch.nn.functional.normalize(vectors, dim=1)

    def score(omega: Tensor, targets: Tensor) -> Tensor:
        return torch.einsum("bc,btc->bt", omega.sum(1), unit[targets])

    return score


def class_score(output: str = "probability") -> Score:
    """Return the score of class targets, <w, e_c> with w the class probabilities [Eqs. 6, 7] or the logits.

    Parameters
    ----------
    output : {"probability", "logit"}
        What w is.
    """

    def score(logits: Tensor, targets: Tensor) -> Tensor:
        return (logits.softmax(1) if output == "probability" else logits).gather(1, targets)

    return score


@dataclass(frozen=True)
class Decomposition:
    """One image's PFVs in terms of concepts.

    Attributes
    ----------
    concepts : Tensor of int64 [Q]
        The concepts that are active anywhere in the image, ascending.
    u : Tensor of float32 [P, Q]
        Their coefficients at each position.
    """

    concepts: Tensor
    u: Tensor

    @classmethod
    def from_csr(cls, indptr: Tensor, indices: Tensor, values: Tensor) -> Decomposition:
        """Build from the CSR rows of the image's positions, in order."""
        concepts, column = torch.unique(indices.long(), return_inverse=True)
        u = values.new_zeros(len(indptr) - 1, len(concepts))
        row = torch.repeat_interleave(torch.arange(len(indptr) - 1, device=values.device), indptr.diff())
        u[row, column] = values
        return cls(concepts, u)

    def offset(self, vectors: Tensor) -> Tensor:
        """Return U V, the reconstruction without its centre [P, C] [Eq. 9]."""
        return self.u @ vectors[self.concepts]

    def without(self, concept: int, vectors: Tensor) -> Tensor:
        """Return U V with one concept deleted [P, C]."""
        kept = self.u * (self.concepts != concept)
        return kept @ vectors[self.concepts]

    def gather(self, integrated: Tensor, vectors: Tensor) -> Tensor:
        """Return GIG of each active concept [T, Q] from integrated gradients D [T, P, C] [Eq. 5]."""
        weighted = torch.einsum("pq,tpc->tqc", self.u, integrated)
        return torch.einsum("tqc,qc->tq", weighted, vectors[self.concepts])

    def gather_positions(self, integrated: Tensor, vectors: Tensor) -> Tensor:
        """Return GIG of each active concept at each position [T, P, Q] [Eq. 4]."""
        return self.u * torch.einsum("tpc,qc->tpq", integrated, vectors[self.concepts])


@dataclass(frozen=True)
class Attribution:
    """GIG of one image to its T targets.

    Attributes
    ----------
    concepts : Tensor of int64 [Q]
        The image's active source concepts.
    values : Tensor [T, Q]
        GIG(q, t), of the unit of the score.
    at_concepts, at_baseline : Tensor [T]
        S_t(X~) and S_t(baseline).
    steps : Tensor of int64 [T]
        Steps of the path integral that were needed.
    """

    concepts: Tensor
    values: Tensor
    at_concepts: Tensor
    at_baseline: Tensor
    steps: Tensor

    @property
    def completeness_error(self) -> Tensor:
        """Sum of GIG minus (S_t(X~) - S_t(baseline)) [T]; zero for an exact integral."""
        return self.values.sum(1) - (self.at_concepts - self.at_baseline)

    @property
    def total_absolute(self) -> Tensor:
        """Sum of |GIG| [T], the scale of the completeness error."""
        return self.values.abs().sum(1)


def mean_gradients(
    segment: Segment, score: Score, start: Tensor, offset: Tensor, targets: Tensor, nodes: np.ndarray, batch: int
) -> Tensor:
    """Average dS_t/dx over points of the path start + alpha offset: with midpoints as nodes, D of Eq. 4.

    Parameters
    ----------
    segment, score : callables
        F_ab and S.
    start : Tensor [C] or [P, C]
        The baseline.
    offset : Tensor [N, P, C]
        U V of each image.
    targets : Tensor of int64 [N, T]
        The targets of each image.
    nodes : ndarray [S]
        The path points, alphas in [0, 1].
    batch : int
        Path points of all images that are held at once.

    Returns
    -------
    Tensor [N, T, P, C]
        One forward pass is shared by all targets; one backward pass is made for each.
    """
    n, t = targets.shape
    total = offset.new_zeros(n, t, *offset.shape[1:])
    at_once = max(1, batch // n)
    for first in range(0, len(nodes), at_once):
        alpha = torch.as_tensor(nodes[first : first + at_once], dtype=offset.dtype, device=offset.device)
        path = (start + alpha[:, None, None, None] * offset).flatten(0, 1).requires_grad_()  # [S N, P, C]
        with torch.enable_grad():
            scores = score(segment(path), targets.repeat(len(alpha), 1)).sum(0)  # [T]
        for index in range(t):
            (gradient,) = torch.autograd.grad(scores[index], path, retain_graph=index + 1 < t)
            total[:, index] += gradient.unflatten(0, (len(alpha), n)).sum(0)
    return total / len(nodes)


def attribute(
    segment: Segment,
    score: Score,
    vectors: Tensor,
    start: Tensor,
    images: list[Decomposition],
    targets: Tensor,
    *,
    steps: int = 16,
    max_steps: int = 128,
    tolerance: float = 0.01,
    batch: int = 256,
) -> list[Attribution]:
    """Attribute each image's targets to its concepts [Eqs. 3-7].

    Steps triple, for the (image, target) pairs that need it, until the completeness error is at most `tolerance`
    times the sum of |GIG|, or `max_steps` is reached. Every point of the path is used once.

    Parameters
    ----------
    segment, score : callables
        F_ab and S (see `concept_score`, `class_score`).
    vectors : Tensor [K, C]
        Concept vectors of the source layer.
    start : Tensor [C]
        Where the path starts: the centre of the source layer, beta; or zeros for the literal Eq. 3.
    images : list of Decomposition
        The images, N of them.
    targets : Tensor of int64 [N, T]
        Targets of each image.
    steps, max_steps, tolerance : int, int, float
        Of the path integral.
    batch : int
        Path points held at once.

    Returns
    -------
    list of Attribution
        One per image.
    """
    offset = torch.stack([image.offset(vectors) for image in images])  # [N, P, C]
    with torch.no_grad():
        at_concepts = score(segment(start + offset), targets)  # [N, T]
        at_baseline = score(segment(start.expand_as(offset)), targets)
    values = [vectors.new_zeros(targets.shape[1], len(image.concepts)) for image in images]
    used = torch.zeros_like(targets)
    active = torch.tensor([[len(image.concepts) > 0] for image in images], device=targets.device)
    open_pairs = torch.ones_like(targets, dtype=torch.bool)
    nodes, weight = midpoint(steps)[0], 1.0  # of the new nodes' mean in the new value
    while open_pairs.any():
        rows = open_pairs.any(1).nonzero()[:, 0]
        width = int(open_pairs.sum(1).max())
        # Open targets of each row first; rows with fewer fill up with closed ones.
        columns = open_pairs[rows].int().argsort(dim=1, descending=True, stable=True)[:, :width]
        chunk = max(1, batch // len(nodes))
        for part in range(0, len(rows), chunk):
            r, c = rows[part : part + chunk], columns[part : part + chunk]
            mean = mean_gradients(segment, score, start, offset[r], targets[r].gather(1, c), nodes, batch)
            for i, row in enumerate(r.tolist()):
                refined = c[i][open_pairs[row, c[i]]]
                new = images[row].gather(mean[i, : len(refined)], vectors)
                values[row][refined] += weight * (new - values[row][refined])
                used[row, refined] = steps
        error = torch.stack([v.sum(1) for v in values]) - (at_concepts - at_baseline)
        scale = torch.stack([v.abs().sum(1) for v in values])
        open_pairs = (error.abs() > tolerance * scale) & active
        nodes, weight = tripled(steps), 2 / 3
        steps *= 3
        if steps > max_steps:
            break
    return [
        Attribution(image.concepts, values[i], at_concepts[i], at_baseline[i], used[i])
        for i, image in enumerate(images)
    ]


def ablate(
    segment: Segment,
    score: Score,
    vectors: Tensor,
    start: Tensor,
    image: Decomposition,
    sources: list[int],
    targets: Tensor,
    batch: int = 256,
) -> Tensor:
    """Delete each source concept from X~ in turn and recompute the targets, exactly.

    Parameters
    ----------
    segment, score, vectors, start : as in `attribute`
    image : Decomposition
        One image.
    sources : list of int
        Concepts to delete; one that is not active leaves the targets as they are.
    targets : Tensor of int64 [T]
        Targets of the image.
    batch : int
        Variants held at once.

    Returns
    -------
    Tensor [len(sources), T]
        S_t(X~) - S_t(X~ without the concept): positive where the concept supports the target.
    """
    active = set(image.concepts.tolist())
    rows = [i for i, source in enumerate(sources) if source in active]
    variants = [image.offset(vectors), *(image.without(sources[i], vectors) for i in rows)]
    drops = vectors.new_zeros(len(sources), len(targets))
    with torch.no_grad():
        parts = [start + torch.stack(variants[i : i + batch]) for i in range(0, len(variants), batch)]
        scores = torch.cat([score(segment(part), targets.expand(len(part), -1)) for part in parts])
    drops[rows] = scores[0] - scores[1:]
    return drops
