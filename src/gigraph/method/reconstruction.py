"""How well concepts reconstruct PFVs, and with how few (Table 1)."""

from __future__ import annotations

import numpy as np

from gigraph.method.vectors import unit


def relative_l2(x: np.ndarray, reconstruction: np.ndarray) -> np.ndarray:
    """Return |x - x~| / |x| of each row (Table 1), float64 [N]; 0 where x is zero."""
    length = np.linalg.norm(x, axis=1).astype(np.float64)
    error = np.linalg.norm(x - reconstruction, axis=1)
    return np.divide(error, length, out=np.zeros_like(length), where=length > 0)


def l0_ratio(nonzeros: np.ndarray, k: int) -> np.ndarray:
    """Return the share of the k coefficients that are zero (Table 1)."""
    return 1 - np.asarray(nonzeros, np.float64) / k


def explained(x: np.ndarray, vectors: np.ndarray, terms: int) -> float:
    """Return the share of sum |x|^2 that `terms` concepts per PFV explain, chosen greedily.

    Parameters
    ----------
    x : array [N, C]
        Centred PFVs.
    vectors : array [K, C]
        Concept vectors; their lengths do not matter.
    terms : int
        Concepts per PFV, chosen by orthogonal matching pursuit (Pati et al. 1993): for one term it is the best
        concept, for more the greedy choice refitted by least squares.
    """
    x = np.asarray(x, np.float64)
    atoms = np.asarray(vectors, np.float64)
    atoms = unit(atoms[atoms.any(1)])
    total = float((x**2).sum())
    if not total or not len(atoms):
        return float("nan")
    if terms == 1:
        return float(((x @ atoms.T) ** 2).max(1).sum()) / total
    from sklearn.linear_model import orthogonal_mp

    # Many more terms than dimensions are never needed, and near-parallel atoms only warn.
    with np.errstate(all="ignore"):
        u = orthogonal_mp(atoms.T, x.T, n_nonzero_coefs=min(terms, *atoms.shape)).reshape(len(atoms), -1)
    return 1 - float(((x - u.T @ atoms) ** 2).sum()) / total
