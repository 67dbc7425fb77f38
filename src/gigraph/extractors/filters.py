"""Whitened filters: detectors first, and the vectors that they stand for second.

A direction that is a part and the filter that detects it differ (Haufe et al., NeuroImage 2014). So detectors are found
where PFVs are white, and each gets the vector with which the detectors that fire explain the PFVs best:

1. z = Sigma^(-1/2) (x - mu), by mean and covariance of PFVs drawn uniformly (`gigraph.method.reading`).
2. Detectors start as the means of bisecting clusters of the z. Each is moved once, towards the positions that excite
   it: w <- sum_i max(z_i . w - 2, 0) z_i, normalised. What comes within a cosine of .9 of an earlier one is dropped.
3. Responses are scaled to unit variance; one threshold for all, with which the wanted number fires per PFV.
4. Four times: the coefficients of the firing ones by non-negative least squares, the vectors by ridge regression.

X~ starts from beta, without an offset of its own, which would move the baseline of every attribution.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gigraph.errors import UserError
from gigraph.extractors.extraction import Active, Extraction
from gigraph.method.bisecting import bisect
from gigraph.method.encoder import Encoder
from gigraph.method.lasso import Codes
from gigraph.method.pursuit import Pursuit
from gigraph.method.reading import reading, spread_of
from gigraph.method.vectors import concept_vectors, unit

EXCITED = 2.0
"""Standard deviations above which a position moves a detector."""
SAME = 0.9
"""Cosine of detectors from which they are one."""
ROUNDS = 4
RIDGE = 1e-3


def extract(
    x: np.ndarray, k: int, *, row_ids: np.ndarray, seed: int, settings: Mapping[str, Any], uniform: np.ndarray
) -> Extraction:
    """Find at most k detectors and their vectors (see `gigraph.extractors.extract`).

    Parameters
    ----------
    uniform : float32 array [M, C]
        Centred PFVs at positions drawn uniformly.
    """
    spread = spread_of(uniform)
    whitening = spread.whitening()
    z = ((x - spread.mean) @ whitening).astype(np.float32)
    tree = bisect(z, k, seed=seed, row_ids=row_ids, max_iter=settings["max_iter"])
    found = int(tree.labels.max()) + 1
    if not found:
        raise UserError("filters: there are too few PFVs to find detectors on; raise sampling.pfvs_per_image")
    largest = np.argsort(-np.bincount(tree.labels[tree.labels >= 0], minlength=found), kind="stable")
    start = unit(concept_vectors(z, tree.labels, found))[largest]
    white = ((uniform - spread.mean) @ whitening).astype(np.float32)
    detectors = distinct(refined(start, white))
    read = reading("filter", detectors, spread, detectors @ whitening.astype(np.float32))
    responses = read(x)
    wanted = max(1, min(int(settings["nonzeros"] * len(x)), responses.size))
    threshold = float(np.partition(responses.ravel(), responses.size - wanted)[responses.size - wanted])
    fires = np.maximum(responses - threshold, 0)
    vectors, u = explained(x, fires)
    used = vectors.any(1)
    notes = [f"{len(detectors)} of {found} detectors are distinct", f"{(fires > 0).sum() / len(x):.1f} fire per PFV"]
    if not used.all():
        notes.append(f"{(~used).sum()} that explain nothing are left out")
    encoder = Encoder(
        read.weights[used],
        (read.bias - threshold)[used].astype(np.float32),
        np.zeros(x.shape[1], np.float32),
        "support",
    )
    active = Active(int(used.sum()), x.shape[1])
    active.add(x, u[:, used] > 0)
    return Extraction(vectors[used], active.size, active.cohesion, encoder=encoder, notes=("; ".join(notes),))


def refined(w: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return detectors [K, C], each moved towards the positions z [M, C] that excite it; it stays where none does."""
    moved = np.maximum(z @ w.T - EXCITED, 0).T @ z
    return np.where(moved.any(1)[:, None], unit(moved), w)


def distinct(w: np.ndarray) -> np.ndarray:
    """Return the detectors [K, C] that are not within a cosine of `SAME` of an earlier one that stays."""
    cosine = w @ w.T
    kept: list[int] = []
    for k in range(len(w)):
        if not (cosine[k, kept] > SAME).any():
            kept.append(k)
    return w[kept]


def explained(x: np.ndarray, fires: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the vectors float32 [K, C] and coefficients [N, K] with which what fires [N, K] explains x [N, C]."""
    rows, columns = np.nonzero(fires)
    indptr = np.append(0, np.cumsum(np.bincount(rows, minlength=len(x)))).astype(np.int64)
    unknown = np.full(len(x), np.nan, np.float32)
    u = fires
    vectors = _ridge(x, u)
    for _ in range(ROUNDS):
        given = Codes(indptr, columns.astype(np.int32), fires[rows, columns], unknown, unknown, unknown)
        u = Pursuit(vectors).refit(x, given, "nonnegative").dense(len(vectors))
        vectors = _ridge(x, u)
    return vectors, u


def _ridge(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    gram = u.T.astype(np.float64) @ u
    gram[np.diag_indices_from(gram)] += RIDGE * np.trace(gram) / len(gram) + 1e-30
    vectors = np.linalg.solve(gram, u.T.astype(np.float64) @ x)
    vectors[~u.any(0)] = 0
    return vectors.astype(np.float32)
