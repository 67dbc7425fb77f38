"""Vectors like a layer's PFVs: sparse non-negative mixtures of a super-topic's atoms, plus noise."""

from __future__ import annotations

import numpy as np


def pfv_like(
    n: int,
    channels: int,
    *,
    topics: int = 12,
    atoms_per_topic: int = 24,
    spread: float = 0.6,
    noise: float = 0.15,
    seed: int = 0,
) -> np.ndarray:
    """Draw n vectors [n, channels] float32: 3-10 atoms of one super-topic each, shifted."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((topics, 1, channels))
    atoms = centres + spread * rng.standard_normal((topics, atoms_per_topic, channels))
    atoms /= np.linalg.norm(atoms, axis=2, keepdims=True)
    shares = rng.dirichlet(np.full(topics, 0.7))
    topic = rng.choice(topics, n, p=shares)
    x = np.zeros((n, channels))
    for row in range(n):
        chosen = rng.choice(atoms_per_topic, rng.integers(3, min(10, atoms_per_topic) + 1), replace=False)
        x[row] = rng.gamma(1.0, 1.0, chosen.size) @ atoms[topic[row], chosen]
    x += noise * np.linalg.norm(x, axis=1, keepdims=True) * rng.standard_normal(x.shape) / np.sqrt(channels)
    return (x + 0.05 * rng.standard_normal(channels)).astype(np.float32)


def dictionary(k: int, channels: int, *, cosine: float = 0.0, seed: int = 0) -> np.ndarray:
    """Draw k atoms [k, channels] float32 of unequal length whose neighbours' cosine is about `cosine`."""
    rng = np.random.default_rng(seed)
    groups = max(1, k // 6)
    centres = rng.standard_normal((groups, channels)) / np.sqrt(channels)
    noise = rng.standard_normal((k, channels)) / np.sqrt(channels)
    v = np.sqrt(cosine) * centres[rng.integers(0, groups, k)] + np.sqrt(1 - cosine) * noise
    return (v * rng.uniform(0.5, 2.0, (k, 1))).astype(np.float32)
