"""Deletion, insertion and C-muFidelity, read literally: one concept at a time, everything recomputed."""

from __future__ import annotations

import numpy as np


def curve(function, start, u, vectors, order):
    """Return (deletion, insertion) [Q + 1] of a function of X [P, C]; u [P, Q], vectors [Q, C]."""
    deletion, insertion = [], []
    for count in range(len(order) + 1):
        gone, there = set(order[:count]), set(order[:count])
        kept = np.array([[0.0 if q in gone else u[p, q] for q in range(u.shape[1])] for p in range(len(u))])
        put = np.array([[u[p, q] if q in there else 0.0 for q in range(u.shape[1])] for p in range(len(u))])
        deletion.append(function(start + kept @ vectors))
        insertion.append(function(start + put @ vectors))
    return np.array(deletion), np.array(insertion)


def area_over_all(function, start, u, vectors, values, k):
    """Return the areas of (deletion, insertion) over k concepts, the inactive ones ranked with relevance 0."""
    relevance = np.zeros(k)
    relevance[: len(values)] = values
    wide, everything = np.zeros((len(u), k)), np.zeros((k, vectors.shape[1]))
    wide[:, : len(values)], everything[: len(values)] = u, vectors
    order = np.argsort(-relevance, kind="stable").tolist()
    curves = curve(function, start, wide, everything, order)
    return tuple(sum((y[i] + y[i + 1]) / 2 for i in range(k)) / k for y in curves)
