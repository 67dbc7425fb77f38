r"""Generalized integrated gradients: which concepts of one layer build which of a later one [Eqs. 3-7].

Notation (one image)
--------------------
``U``      [P, Q]   coefficients of the image's Q active concepts at the layer's P positions
``V``      [K, C]   concept vectors of the source layer, one per row
``beta``   [C]      centre of the source layer, for an autoencoder its own; X~ = beta + U V             [Eq. 9]
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
backward pass per target, whatever K. Where an image has few active concepts and many targets, the transpose is
cheaper: one Jacobian-vector product per active concept serves every target.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from gigraph.errors import UserError
from gigraph.method.quadrature import Tripling, midpoint
from gigraph.method.tasks import centred, probabilities

Result = TypeVar("Result")
log = logging.getLogger("gigraph")

Segment = Callable[[Tensor], Tensor]
"""F_ab: source activations [N, P, C] (as PFVs) to target PFVs [N, P_b, C_b] or logits [N, classes]."""
Score = Callable[[Tensor, Tensor], Tensor]
"""(output of a segment for B inputs, targets [B, T]) to scores [B, T]."""
FORWARD_COST = 1.9
"""Cost of a Jacobian-vector product over that of one target's share of a forward and its backward pass (measured)."""


class Batch:
    """The number of path points that are held at once, which is halved for good when they do not fit the device.

    Parameters
    ----------
    points : int
        To begin with.
    """

    def __init__(self, points: int):
        self.points = points

    def run(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Return work(points, *arguments), with fewer points where memory runs out.

        Raises
        ------
        UserError
            If even one point does not fit.
        """
        while True:
            try:
                return work(self.points, *arguments)
            except torch.OutOfMemoryError as error:
                if self.points <= 1:
                    raise UserError(
                        "the device has no room for one path point; free its memory or set compute.device: cpu"
                    ) from error
            # Outside the handler, so that the failed pass's tensors are gone.
            self.points //= 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            log.info("out of memory: going on with %d path points at once", self.points)


def concept_score(vectors: Tensor) -> Score:
    """Return the score of concept targets, S_t = sum_i <w_i, vbar_t> [Eq. 4].

    Parameters
    ----------
    vectors : Tensor [K_b, C_b]
        Concept vectors of the target layer; normalised here.
    """
    unit = torch.nn.functional.normalize(vectors, dim=1)

    def score(omega: Tensor, targets: Tensor) -> Tensor:
        return torch.einsum("bc,btc->bt", omega.to(unit.dtype).sum(1), unit[targets])

    return score


def class_score(output: str = "probability", task: str = "classes") -> Score:
    """Return the score of class targets, <w, e_c> with w the class probabilities [Eqs. 6, 7] or logits.

    Parameters
    ----------
    output : {"probability", "logit", "centred_logit"}
        What w is; a centred logit is one minus the mean of all, which is what the softmax sees of it.
    task : str
        How scores are read (`gigraph.method.tasks`).

    Raises
    ------
    ValueError
        If there is no such output.
    """
    if output not in ("probability", "logit", "centred_logit"):
        raise ValueError(f"the class output must be probability, logit or centred_logit, not {output!r}")

    def score(logits: Tensor, targets: Tensor) -> Tensor:
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if output == "probability":
            wide = probabilities(wide, task)
        elif output == "centred_logit":
            wide = centred(wide, task)
        return wide.gather(1, targets)

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

    def gather(self, integrated: Tensor, vectors: Tensor) -> Tensor:
        """Return GIG of each active concept [T, Q] from integrated gradients D [T, P, C] [Eq. 5]."""
        weighted = torch.einsum("pq,tpc->tqc", self.u, integrated)
        return torch.einsum("tqc,qc->tq", weighted, vectors[self.concepts])

    def slopes(self, gradients: Tensor, vectors: Tensor) -> Tensor:
        """Return d S / d alpha through each active concept [B, Q], of gradients at points of the path [B, P, C]."""
        own = vectors[self.concepts]
        positions, channels = self.u.shape[0], own.shape[1]
        if channels < positions:
            return torch.einsum("bqc,qc->bq", self.u.T @ gradients.to(own.dtype), own)
        return torch.einsum("bpq,pq->bq", gradients.to(own.dtype) @ own.T, self.u)

    def gather_positions(self, integrated: Tensor, vectors: Tensor) -> Tensor:
        """Return GIG of each active concept at each position [T, P, Q] [Eq. 4]."""
        return self.u * torch.einsum("tpc,qc->tpq", integrated, vectors[self.concepts])


@dataclass(frozen=True)
class Attribution:
    """What the concepts of one image do for its T targets, by GIG or another method (`gigraph.attributors`).

    Attributes
    ----------
    concepts : Tensor of int64 [Q]
        The image's active source concepts.
    values : Tensor [T, Q]
        GIG(q, t), or what stands for it, of the unit of the score.
    at_concepts, at_baseline : Tensor [T]
        S_t(X~) and S_t(baseline).
    steps : Tensor of int64 [T]
        Points of the path that were needed.
    quadrature_error : Tensor [T], optional
        The estimated error of the integral, summed over the sources that are read; None of a method without one.
    """

    concepts: Tensor
    values: Tensor
    at_concepts: Tensor
    at_baseline: Tensor
    steps: Tensor
    quadrature_error: Tensor | None = None

    def merged(self, family: Tensor | None) -> Attribution:
        """Return the attributions of families, each the sum of its members': GIG is linear in the sources [Eq. 5].

        Parameters
        ----------
        family : Tensor of int64 [K], optional
            Of each concept (`gigraph.method.families`); without it each stands for itself.
        """
        if family is None:
            return self
        concepts, values = _summed(self.values, self.concepts, family)
        return replace(self, concepts=concepts, values=values)

    @property
    def completeness_error(self) -> Tensor:
        """Sum of the values minus (S_t(X~) - S_t(baseline)) [T]; zero for an exact integral."""
        return self.values.sum(1) - (self.at_concepts - self.at_baseline)

    @property
    def total_absolute(self) -> Tensor:
        """Sum of the values' sizes [T], the scale of the completeness error."""
        return self.values.abs().sum(1)


def _summed(values: Tensor, concepts: Tensor, family: Tensor) -> tuple[Tensor, Tensor]:
    """Return the families [F] of concepts [Q], ascending, and their sums [T, F] of values [T, Q]."""
    found, place = torch.unique(family[concepts], return_inverse=True)
    # A product, since what `index_add` adds up on a GPU differs in its last digits from time to time.
    return found, values @ (place[:, None] == torch.arange(len(found), device=place.device)).to(values.dtype)


def at_precision(segment: Segment, precision: str) -> Segment:
    """Return a segment whose passes are of a precision, ``float32`` or ``bfloat16``."""

    def run(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext():
            return segment(x)

    return run


def scores_at_ends(
    points: int, segment: Segment, score: Score, start: Tensor, offset: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the scores at both ends of the path, S_t(X~) and S_t(baseline) [N, T] each.

    Parameters
    ----------
    points : int
        Inputs of the segment that are held at once.
    segment, score, start, offset, targets : as in `mean_gradients`
        All images share the baseline.
    """
    with torch.no_grad():
        parts = zip(offset.split(max(1, points)), targets.split(max(1, points)), strict=True)
        at_concepts = torch.cat([score(segment(start + part), to) for part, to in parts])
        omega = segment(start.expand_as(offset[:1]))
        return at_concepts, score(omega.expand(len(targets), *omega.shape[1:]), targets)


def mean_gradients(
    segment: Segment,
    score: Score,
    start: Tensor,
    offset: Tensor,
    targets: Tensor,
    nodes: np.ndarray,
    batch: int,
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
        weight = torch.full_like(alpha, 1 / len(nodes))
        path = (start + alpha[:, None, None, None] * offset).flatten(0, 1).requires_grad_()  # [S N, P, C]
        with torch.enable_grad():
            scores = score(segment(path), targets.repeat(len(alpha), 1)).sum(0)  # [T]
        for index in range(t):
            (gradient,) = torch.autograd.grad(scores[index], path, retain_graph=index + 1 < t)
            total[:, index] += _averaged(weight, gradient.unflatten(0, (len(alpha), n)))
    return total


def _averaged(weight: Tensor, gradients: Tensor) -> Tensor:
    """Return the weighted mean [N, P, C] of gradients [S, N, P, C]."""
    turned = gradients.transpose(2, 3)
    if turned.is_contiguous():  # as the maps lie; to copy them would take longer than to add them
        return torch.tensordot(weight, turned, 1).transpose(1, 2)
    return torch.tensordot(weight, gradients, 1)


def forward_slopes(
    segment: Segment,
    score: Score,
    vectors: Tensor,
    start: Tensor,
    image: Decomposition,
    targets: Tensor,
    nodes: np.ndarray,
    batch: int,
) -> Tensor:
    """Return the scores' slopes along each concept's share of X~ at points of the path, in forward mode.

    One Jacobian-vector product per active concept yields every target. Averaged over the path, they are GIG [Eq. 5].

    Parameters
    ----------
    image : Decomposition
        One image.
    targets : Tensor of int64 [T]
        Its targets.
    nodes : ndarray [S]
        The path points, alphas in [0, 1].
    segment, score, vectors, start, batch : as in `mean_gradients` and `attribute`

    Returns
    -------
    Tensor [S, T, Q]
    """
    offset = image.offset(vectors)
    found = offset.new_zeros(len(nodes) * len(image.concepts), len(targets))
    pairs = [(s, q) for s in range(len(nodes)) for q in range(len(image.concepts))]
    for first in range(0, len(pairs), max(1, batch)):
        s, q = (torch.tensor(part, device=offset.device) for part in zip(*pairs[first : first + batch], strict=True))
        alpha = torch.as_tensor(nodes, dtype=offset.dtype, device=offset.device)[s]
        path = start + alpha[:, None, None] * offset
        along = image.u.T[q, :, None] * vectors[image.concepts[q], None, :]  # [B, P, C]
        to = targets.expand(len(q), -1)
        with torch.no_grad():
            slopes = torch.func.jvp(lambda x, to=to: score(segment(x), to), (path,), (along,))[1]  # [B, T]
        found[first : first + len(q)] = slopes
    return found.unflatten(0, (len(nodes), len(image.concepts))).transpose(1, 2)


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
    batch: int | Batch = 256,
    precision: str = "float32",
    family: Tensor | None = None,
) -> list[Attribution]:
    """Attribute each image's targets to its concepts [Eqs. 3-7].

    The integral of each (image, target) begins with `steps` points and is refined where its integrand changes
    (`gigraph.method.quadrature`), until its estimated error, summed over the sources, is at most `tolerance` times the
    sum of |GIG|, or `max_steps` is reached. The error is never taken for less than the completeness error, which is its
    sum with signs. Every point of the path is used once.

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
    batch : int or Batch
        Path points held at once; a `Batch` remembers if they turned out to be too many.
    precision : {"float32", "bfloat16"}
        Of the gradients' passes; the scores that completeness is measured against are always of full precision.
    family : Tensor of int64 [K], optional
        Of each concept, where the sums over families are what is going to be read: error and |GIG| are then theirs.

    Returns
    -------
    list of Attribution
        One per image, of its concepts.
    """
    room = batch if isinstance(batch, Batch) else Batch(batch)
    paths = _Paths(segment, score, vectors, start, images, targets, room, precision)
    at_concepts, at_baseline = paths.ends()
    sums = [_indicator(image.concepts, family) for image in images]
    nodes = midpoint(steps)[0]
    every = list(range(targets.shape[1]))
    active = [row for row, image in enumerate(images) if len(image.concepts)]
    begun = paths.slopes([_Point(row, alpha, np.array(every)) for row in active for alpha in nodes.tolist()])
    rules: dict[tuple[int, int], Tripling] = {}
    for place, row in enumerate(active):
        values = np.stack(begun[place * steps : (place + 1) * steps])  # [S, T, Q]
        rules |= {(row, t): Tripling(steps, values[:, t], sums[row]) for t in every}
    errors = dict.fromkeys(rules, 0.0)
    # The sum of the sources' errors is known, and none of their sizes together can be below it.
    change = (at_concepts - at_baseline).double().cpu().numpy()
    going = list(rules)
    while going:
        further: dict[tuple[int, int], np.ndarray] = {}
        for pair in going:
            rule = rules[pair]
            value = rule.read()
            missed = abs(float(value.sum() - change[pair]))
            errors[pair] = max(float(rule.error().sum()), missed)
            if errors[pair] > tolerance * np.abs(value).sum():
                wanted = rule.wanted(max_steps, missed)
                if len(wanted):
                    further[pair] = wanted
        for pair, values in paths.further(further).items():
            rules[pair].refine(further[pair], values)
        going = list(further)
    return [
        Attribution(
            image.concepts,
            vectors.new_tensor(np.stack([rules[row, t].value() for t in every]))
            if len(image.concepts)
            else vectors.new_zeros(len(every), 0),
            at_concepts[row],
            at_baseline[row],
            targets.new_tensor([len(rules[row, t].nodes) if (row, t) in rules else 0 for t in every]),
            vectors.new_tensor([errors.get((row, t), 0.0) for t in every]),
        )
        for row, image in enumerate(images)
    ]


def _indicator(concepts: Tensor, family: Tensor | None) -> np.ndarray | None:
    """Return which family each concept is of, 0 or 1 [Q, F]; None without families."""
    if family is None:
        return None
    found, place = torch.unique(family[concepts], return_inverse=True)
    return (place[:, None] == torch.arange(len(found), device=place.device)).double().cpu().numpy()


@dataclass(frozen=True)
class _Point:
    """A point of an image's path, and which of its targets are looked at there."""

    row: int
    alpha: float
    columns: np.ndarray


class _Paths:
    """The paths of N images to T targets each, on as many of their points at once as fit the device.

    Parameters are those of `attribute`.
    """

    def __init__(
        self,
        segment: Segment,
        score: Score,
        vectors: Tensor,
        start: Tensor,
        images: list[Decomposition],
        targets: Tensor,
        room: Batch,
        precision: str,
    ):
        self.segment, self.score, self.vectors, self.start = segment, score, vectors, start
        self.reduced = at_precision(segment, precision)
        """F_ab in the precision of the gradients' passes."""
        self.images, self.targets, self.room = images, targets, room
        self.offset = torch.stack([image.offset(vectors) for image in images])  # [N, P, C]

    def ends(self) -> tuple[Tensor, Tensor]:
        """Return S_t(X~) and S_t(baseline) [N, T] each."""
        return self.room.run(scores_at_ends, self.segment, self.score, self.start, self.offset, self.targets)

    def further(self, wanted: dict[tuple[int, int], np.ndarray]) -> dict[tuple[int, int], np.ndarray]:
        """Return the slopes [n, Q] at the wanted nodes of each (image, target); targets share their image's points."""
        shared: dict[tuple[int, float], list[int]] = {}
        for (row, column), nodes in wanted.items():
            for alpha in nodes.tolist():
                shared.setdefault((row, alpha), []).append(column)
        points = [_Point(*spot, np.array(columns)) for spot, columns in shared.items()]
        known = {
            (point.row, point.alpha, column): values[i]
            for point, values in zip(points, self.slopes(points), strict=True)
            for i, column in enumerate(point.columns.tolist())
        }
        return {
            (row, column): np.stack([known[row, alpha, column] for alpha in nodes.tolist()])
            for (row, column), nodes in wanted.items()
        }

    def slopes(self, points: Sequence[_Point]) -> list[np.ndarray]:
        """Return of each point the slopes of its targets' scores along each of its image's concepts, [t, Q] each.

        A point is passed forwards, one Jacobian-vector product per concept, where that costs less than its targets'
        backward passes.
        """
        found: list[np.ndarray] = [np.empty(0)] * len(points)
        ahead: dict[tuple[int, bytes], list[int]] = {}
        back: list[int] = []
        for place, point in enumerate(points):
            if FORWARD_COST * len(self.images[point.row].concepts) < len(point.columns):
                ahead.setdefault((point.row, point.columns.tobytes()), []).append(place)
            else:
                back.append(place)
        for (row, _), places in ahead.items():
            nodes = np.array([points[place].alpha for place in places])
            to = self.targets[row, torch.from_numpy(points[places[0]].columns).to(self.targets.device)]
            slopes = self.room.run(self._forwards, self.images[row], to, nodes)
            for place, one in zip(places, slopes.cpu().numpy(), strict=True):
                found[place] = one
        # Those with the most targets first, so that a batch's points have about as many.
        back.sort(key=lambda place: (-len(points[place].columns), points[place].row))
        done = 0
        while left := back[done:]:
            some = self.room.run(self._backwards, [points[place] for place in left])
            for place, one in zip(left, some, strict=False):
                found[place] = one
            done += len(some)
        return found

    def _forwards(self, at_once: int, image: Decomposition, to: Tensor, nodes: np.ndarray) -> Tensor:
        """Return the slopes of some targets at some points of one image [S, t, Q]."""
        return forward_slopes(self.reduced, self.score, self.vectors, self.start, image, to, nodes, at_once)

    def _backwards(self, at_once: int, points: Sequence[_Point]) -> list[np.ndarray]:
        """Return the slopes at the first few points [t, Q] each: one pass forwards, and one back for each target."""
        some = points[: max(1, at_once)]
        rows = torch.tensor([point.row for point in some], device=self.offset.device)
        alpha = self.offset.new_tensor([point.alpha for point in some])
        most = len(some[0].columns)
        padded = np.stack([np.resize(point.columns, most) for point in some])
        to = self.targets[rows[:, None], torch.from_numpy(padded).to(rows.device)]  # [B, t]
        path = (self.start + alpha[:, None, None] * self.offset[rows]).requires_grad_()
        with torch.enable_grad():
            scores = self.score(self.reduced(path), to)
        kind = torch.empty(0, dtype=self.vectors.dtype).numpy().dtype
        found = [np.empty((len(point.columns), len(self.images[point.row].concepts)), kind) for point in some]
        spans = _runs([point.row for point in some])
        slopes: dict[tuple[int, int], Tensor] = {}
        for index in range(most):
            live = sum(len(point.columns) > index for point in some)
            (gradient,) = torch.autograd.grad(scores[:live, index].sum(), path, retain_graph=index + 1 < most)
            for first, last in spans:
                own = gradient[first : min(last, live)]
                if len(own):
                    slopes[index, first] = self.images[some[first].row].slopes(own, self.vectors)
        for (index, first), part in zip(slopes, _on_host([*slopes.values()]), strict=True):
            for place, own in enumerate(part, first):
                found[place][index] = own
        return found


def _on_host(parts: Sequence[Tensor]) -> list[np.ndarray]:
    """Return tensors as arrays, by one copy from the device, which would wait for each."""
    if parts[0].device.type == "cpu":
        return [one.numpy() for one in parts]
    host = torch.cat([one.flatten() for one in parts]).cpu().split([one.numel() for one in parts])
    return [one.view(part.shape).numpy() for one, part in zip(host, parts, strict=True)]


def _runs(values: Sequence[int]) -> list[tuple[int, int]]:
    """Return [first, last) of each run of equal values."""
    starts = [i for i, value in enumerate(values) if i == 0 or value != values[i - 1]]
    return list(zip(starts, [*starts[1:], len(values)], strict=True))


def ablate(
    segment: Segment,
    score: Score,
    vectors: Tensor,
    start: Tensor,
    image: Decomposition,
    sources: list[int],
    targets: Tensor,
    batch: int | Batch = 256,
    family: Tensor | None = None,
    pfvs: Tensor | None = None,
) -> Tensor:
    """Delete each source from X~, or from X, in turn and recompute the targets, exactly.

    Parameters
    ----------
    segment, score, vectors, start : as in `attribute`
    image : Decomposition
        One image.
    sources : list of int
        Concepts to delete; one that is not active leaves the targets as they are.
    targets : Tensor of int64 [T]
        Targets of the image.
    batch : int or Batch
        Variants held at once.
    family : Tensor of int64 [K], optional
        Of each concept: the sources are then families, and all members of one are deleted together.
    pfvs : Tensor [P, C], optional
        The image's real PFVs X: deleted from these, so that what the concepts leave out of them stays.

    Returns
    -------
    Tensor [len(sources), T]
        S_t(X~) - S_t(X~ without the source), or the same of X: positive where the source supports the target.
    """
    columns: dict[int, list[int]] = {}
    for q, name in enumerate((image.concepts if family is None else family[image.concepts]).tolist()):
        columns.setdefault(name, []).append(q)
    rows = [i for i, source in enumerate(sources) if source in columns]
    deleted = [columns[sources[i]] for i in rows]
    drops = vectors.new_zeros(len(sources), len(targets))
    whole = start + image.offset(vectors) if pfvs is None else pfvs

    def recomputed(points: int) -> Tensor:
        found = [score(segment(whole[None]), targets[None])]
        for first in range(0, len(deleted), max(1, points)):
            some = deleted[first : first + max(1, points)]
            parts = torch.stack([image.u[:, q] @ vectors[image.concepts[q]] for q in some])  # [B, P, C]
            found.append(score(segment(whole - parts), targets.expand(len(some), -1)))
        return torch.cat(found)

    with torch.no_grad():
        scores = (batch if isinstance(batch, Batch) else Batch(batch)).run(recomputed)
    drops[rows] = scores[0] - scores[1:]
    return drops
