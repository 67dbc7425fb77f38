"""How a concept is read off a PFV: where it is, and how strongly.

Notation: x a PFV, beta the layer's centre, v a concept vector, mu and Sigma the mean and covariance of PFVs at
positions drawn uniformly.

- ``cosine``: of x - beta with v, in [-1, 1]; the paper's.
- ``projection``: (x - beta) . v / |v|.
- ``filter``: (x - mu) . w, w = Sigma^-1 v, in standard deviations over positions. A direction that *is* a part and the
  filter that *detects* it differ: whatever else lies along v is subtracted (Haufe et al., "On the interpretation of
  weight vectors of linear models in multivariate neuroimaging", NeuroImage 2014). An extractor's own detectors, where
  it has some, take w's place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from gigraph.method.vectors import unit

if TYPE_CHECKING:
    from gigraph.method.families import Families

Kind = Literal["cosine", "projection", "filter"]
SHRINKAGE = 0.05
"""Of the covariance, towards its mean variance."""


@dataclass(frozen=True)
class Spread:
    """How PFVs are spread at positions drawn uniformly.

    Attributes
    ----------
    mean : float64 array [C]
        mu, from the layer's centre.
    covariance : float64 array [C, C]
        Sigma, shrunk: .95 Sigma + .05 tr(Sigma) / C.
    """

    mean: np.ndarray
    covariance: np.ndarray

    def whitening(self) -> np.ndarray:
        """Return Sigma^(-1/2), float64 [C, C]."""
        values, vectors = np.linalg.eigh(self.covariance)
        return (vectors / np.sqrt(np.maximum(values, values[-1] * 1e-12))) @ vectors.T


def spread_of(x: np.ndarray) -> Spread:
    """Return the spread of centred PFVs [N, C].

    Raises
    ------
    ValueError
        If there are fewer than two, or all are the same.
    """
    wide = np.asarray(x, dtype=np.float64)
    if len(wide) < 2 or not np.ptp(wide, axis=0).any():
        raise ValueError(f"{len(wide)} PFVs, all the same, have no spread")
    covariance = np.cov(wide.T).reshape(wide.shape[1], wide.shape[1])
    shrunk = (1 - SHRINKAGE) * covariance
    shrunk[np.diag_indices_from(shrunk)] += SHRINKAGE * np.trace(covariance) / len(covariance)
    return Spread(wide.mean(0), shrunk)


@dataclass(frozen=True)
class Reading:
    """How each of K concepts is read off centred PFVs.

    Attributes
    ----------
    weights : float32 array [K, C]
        The response is linear in them,
    bias : float32 array [K]
        up to this,
    over_length : bool
        and divided by the length of the PFV.
    """

    weights: np.ndarray
    bias: np.ndarray
    over_length: bool = False

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the responses float32 [..., K] of centred PFVs [..., C]; of a zero one the cosine is 0."""
        rows = unit(x) if self.over_length else x
        return (rows @ self.weights.T + self.bias).astype(np.float32)


def reading(
    kind: Kind, vectors: np.ndarray, spread: Spread | None = None, detectors: np.ndarray | None = None
) -> Reading:
    """Return the reading of concepts.

    Parameters
    ----------
    kind : {"cosine", "projection", "filter"}
    vectors : float32 array [K, C]
        Concept vectors.
    spread : Spread, optional
        For a ``filter``.
    detectors : float32 array [K, C], optional
        The extractor's own filters w.

    Raises
    ------
    ValueError
        If there is no such reading, or no spread for a filter.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"reading must be one of {', '.join(get_args(Kind))}, not {kind!r}")
    if kind != "filter":
        directions = unit(np.asarray(vectors, dtype=np.float32))
        return Reading(directions, np.zeros(len(vectors), np.float32), kind == "cosine")
    if spread is None:
        raise ValueError("a filter needs the spread of PFVs")
    wide = np.asarray(vectors if detectors is None else detectors, dtype=np.float64)
    weights = np.linalg.solve(spread.covariance, wide.T).T if detectors is None else wide
    deviation = np.sqrt(np.maximum(np.einsum("kc,cd,kd->k", weights, spread.covariance, weights), 0))
    weights = np.divide(weights, deviation[:, None], out=np.zeros_like(weights), where=deviation[:, None] > 0)
    return Reading(weights.astype(np.float32), (-weights @ spread.mean).astype(np.float32))


def of_families(own: Reading, families: Families, merged: Reading | None) -> Reading:
    """Return how families are read, in the rows of their leaders.

    Parameters
    ----------
    own : Reading
        Of each of K concepts.
    families : Families
        Which of these belong together.
    merged : Reading or None
        Of the families' directions; None where concepts have detectors of their own: their mean stands for a family.
    """
    base = own if merged is None else merged
    weights, bias = base.weights.copy(), base.bias.copy()
    for leader in families.ids.tolist():
        members = families.members(leader)
        if merged is None or len(members) == 1:
            weights[leader], bias[leader] = own.weights[members].mean(0), own.bias[members].mean()
    return Reading(weights, bias, own.over_length)
