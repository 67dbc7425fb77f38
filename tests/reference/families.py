"""Families, read literally: every pair of clusters, every subtree, one cosine at a time."""

from __future__ import annotations

from itertools import combinations

import numpy as np


def cosine(a, b):
    """Return the cosine of two vectors."""
    return float(a @ b / np.sqrt(a @ a) / np.sqrt(b @ b))


def average_linkage(vectors, threshold):
    """Return the partition: merge the two clusters of the largest mean cosine as long as it reaches the threshold."""
    vectors = np.asarray(vectors, np.float64)
    clusters = [[i] for i in range(len(vectors)) if vectors[i].any()]
    while len(clusters) > 1:
        mean, a, b = max(
            (np.mean([cosine(vectors[i], vectors[j]) for i in a for j in b]), a, b)
            for a, b in combinations(clusters, 2)
        )
        if mean < threshold:
            break
        clusters = [one for one in clusters if one not in (a, b)] + [sorted(a + b)]
    return {*map(tuple, clusters), *((i,) for i in range(len(vectors)) if not vectors[i].any())}


def largest_subtrees(vectors, threshold, node, parent, concept):
    """Return the partition: of all subtrees whose mean pairwise cosine reaches the threshold those within no other."""
    vectors = np.asarray(vectors, np.float64)

    def leaves(at):
        here = node.index(at)
        below = [leaf for child, above in zip(node, parent, strict=True) if above == at for leaf in leaves(child)]
        return below if concept[here] < 0 else [concept[here]]

    found = []
    for at in node:
        mine = [i for i in leaves(at) if vectors[i].any()]
        pairs = [cosine(vectors[i], vectors[j]) for i, j in combinations(mine, 2)]
        if pairs and np.mean(pairs) >= threshold:
            found.append(set(mine))
    largest = [one for one in found if not any(one < other for other in found)]
    merged = {i for one in largest for i in one}
    return {*(tuple(sorted(one)) for one in largest), *((i,) for i in range(len(vectors)) if i not in merged)}
