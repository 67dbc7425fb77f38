"""Taking concepts out of a layer, or making them stronger: projection on their span, around the layer's centre.

With beta the layer's centre, Q [r, C] an orthonormal basis of the span of some concept vectors and P = Q^T Q,

    suppress:  x <- x - P (x - beta)              the PFV keeps all that no chosen concept can write
    boost:     x <- x + g P (x - beta)            the same with a gain g; -1 suppresses

and, with a gate, only where the cosine between x - beta and the concepts' mean direction is above a threshold. Without
a gate the map is affine, and folds into a linear operation that makes x.

Projecting a hidden layer away from a direction for good is concept erasure (Ravfogel et al., "Null It Out", ACL 2020;
Belrose et al., "LEACE", NeurIPS 2023); here directions and origin are those of the graph's concepts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gigraph.method.vectors import unit

RANK = 1e-3
"""Singular values below this share of the largest, of unit vectors, count as none: two vectors nearer to each other
than a cosine of 1 - 1e-6 span one direction."""


def span(vectors: np.ndarray, tolerance: float = RANK) -> np.ndarray:
    """Return an orthonormal basis of the span of concept vectors.

    Parameters
    ----------
    vectors : array [n, C]
        Their lengths do not matter; zero vectors span nothing.
    tolerance : float
        Smallest singular value of the unit vectors that counts, relative to the largest.

    Returns
    -------
    float32 array [r, C]
        r is their numerical rank, 0 if all are zero.
    """
    units = unit(np.asarray(vectors, np.float64))
    _, sizes, rows = np.linalg.svd(units, full_matrices=False)
    return rows[: int((sizes > tolerance * max(sizes.max(initial=0), 0.5)).sum())].astype(np.float32)


def agreement(vectors: np.ndarray) -> float:
    """Return the length of the mean unit vector of concepts [n, C]: 1 if they are parallel, 0 if they cancel out."""
    return float(np.linalg.norm(unit(np.asarray(vectors, np.float64)).mean(0)))


def mean_direction(vectors: np.ndarray) -> np.ndarray:
    """Return the mean of the unit vectors of concepts [n, C] at length 1, float32 [C]; zero if they cancel out."""
    return unit(unit(np.asarray(vectors, np.float64)).sum(0)).astype(np.float32)


@dataclass(frozen=True)
class Change:
    """What happens to the span of some concepts.

    Attributes
    ----------
    basis : Tensor [r, C]
        Orthonormal rows (`span`).
    gain : float
        -1 suppresses, 1 doubles.
    threshold : float, optional
        Only PFVs whose offset from the centre has a cosine above this, strictly, to `mean` are changed; all are without
        it.
    mean : Tensor [C], optional
        The direction that the gate looks at.
    """

    basis: Tensor
    gain: float = -1.0
    threshold: float | None = None
    mean: Tensor | None = None

    def __call__(self, offset: Tensor) -> Tensor:
        """Return offsets from the centre [..., C], changed.

        The gate is a step: it passes no gradient. Gradients are those of the projection where it is open.
        """
        basis = self.basis.to(offset)
        part = self.gain * (offset @ basis.T) @ basis
        if self.threshold is None:
            return offset + part
        assert self.mean is not None
        cosine = torch.cosine_similarity(offset.detach(), self.mean.to(offset), dim=-1)
        return offset + torch.where((cosine > self.threshold)[..., None], part, torch.zeros_like(part))


def changed(x: Tensor, beta: Tensor, changes: Sequence[Change]) -> Tensor:
    """Return PFVs [..., C] with changes around a centre [C], one after another."""
    offset = x - beta.to(x)
    for change in changes:
        offset = change(offset)
    return offset + beta.to(x)


def affine(beta: np.ndarray, changes: Sequence[Change]) -> tuple[np.ndarray, np.ndarray]:
    """Return ungated changes as one map x -> A x + c.

    Parameters
    ----------
    beta : array [C]
        The centre.
    changes : sequence of Change
        In their order.

    Returns
    -------
    A : float64 array [C, C]
        The product of the I + g P, the last one first.
    c : float64 array [C]
        (I - A) beta.

    Raises
    ------
    ValueError
        If one of them has a gate: it is no affine map.
    """
    beta = np.asarray(beta, np.float64)
    whole = np.eye(len(beta))
    for change in changes:
        if change.threshold is not None:
            raise ValueError("a gated change is no affine map")
        basis = change.basis.detach().cpu().numpy().astype(np.float64)
        whole = whole + change.gain * basis.T @ (basis @ whole)
    return whole, beta - whole @ beta
