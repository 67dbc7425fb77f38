"""Vectors like PFVs at any size: sparse non-negative mixtures of a super-topic's atoms, plus noise, shifted."""

from __future__ import annotations

import numpy as np


def mixtures(n: int, channels: int, *, topics: int = 64, atoms_per_topic: int = 32, seed: int = 0) -> np.ndarray:
    """Draw n vectors [n, channels] float32, of 3 to 10 atoms each."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((topics, 1, channels), dtype=np.float32)
    atoms = centres + np.float32(0.6) * rng.standard_normal((topics, atoms_per_topic, channels), dtype=np.float32)
    atoms /= np.linalg.norm(atoms, axis=2, keepdims=True)
    topic = rng.choice(topics, n, p=rng.dirichlet(np.full(topics, 0.7)))
    chosen = np.argsort(rng.random((n, atoms_per_topic)), axis=1)[:, :10]
    shares = rng.standard_exponential((n, 10)) * (np.arange(10) < rng.integers(3, 11, n)[:, None])
    shift = np.float32(0.05) * rng.standard_normal(channels, dtype=np.float32)
    x = np.empty((n, channels), dtype=np.float32)
    for start in range(0, n, 512):
        part = slice(start, start + 512)
        mixed = np.matmul(shares[part, None].astype(np.float32), atoms[topic[part, None], chosen[part]])[:, 0]
        noise = rng.standard_normal(mixed.shape, dtype=np.float32)
        x[part] = mixed + np.linalg.norm(mixed, axis=1, keepdims=True) * noise * (0.15 / np.sqrt(channels)) + shift
    return x
