"""App. B twice: `plain` as the paper words it, in float64; `bisect` in Python integers, where nothing is rounded."""

from __future__ import annotations

import math

import numpy as np

from gigraph.hashing import mix


def fold(values: list[float]) -> float:
    """Sum along the project's fixed tree: the second half is added to the first, until one value is left."""
    while len(values) > 1:
        half = (len(values) + 1) // 2
        values = [a + b for a, b in zip(values, values[half:], strict=False)] + values[len(values) - half : half]
    return values[0]


def length(values: list[float]) -> float:
    return math.sqrt(fold([value * value for value in values]))


def grid_row(row: np.ndarray) -> list[int] | None:
    """The row's direction in units of 2**-24; None for a row without one."""
    values = [float(value) for value in row]
    norm = length(values)
    return None if norm == 0 else [round(value / norm * 2**24) for value in values]


def dot(a: list[int], b: list[int]) -> int:
    return sum(p * q for p, q in zip(a, b, strict=True))


def direction(c0: list[float], c1: list[float]) -> list[int]:
    """The difference of two centroids as integers, 27 bits below the exponent of its length."""
    d = [q - p for p, q in zip(c0, c1, strict=True)]
    exponent = math.frexp(length(d))[1]
    return [round(math.ldexp(value, 27 - exponent)) for value in d]


def centroid(members: list[list[int]]) -> list[float]:
    total = [sum(column) / 2**24 for column in zip(*members, strict=True)]
    norm = length(total)
    return [value / norm if norm else value for value in total]


def two_means(rows: dict[int, list[int]], ids: list[int], key: int, max_iter: int) -> list[set[int]] | None:
    """Split the rows {position: integers} in two; None where that cannot be done."""
    by_hash = sorted(rows, key=lambda i: int(mix(ids[i], key)))
    a, b = by_hash[:2]
    same = (1 - 1e-6) * 2.0**48
    if dot(rows[a], rows[b]) > same:
        b = min(by_hash, key=lambda i: dot(rows[a], rows[i]))
        if dot(rows[a], rows[b]) > same:
            return None
    c0, c1 = ([value / 2**24 for value in rows[i]] for i in (a, b))
    sides: list[set[int]] = []
    for _ in range(max_iter):
        d = direction(c0, c1)
        one = {i for i in rows if dot(rows[i], d) > 0}
        new = [set(rows) - one, one]
        if not all(new):
            return None
        if new == sides:
            break
        sides = new
        c0, c1 = (centroid([rows[i] for i in part]) for part in sides)
    return sides


def bisect(x: np.ndarray, k: int, seed: int = 0, row_ids: list[int] | None = None, max_iter: int = 20):
    """Return (leaves in preorder, as lists of sorted positions; the splits in the order made, as sizes)."""
    rows = {i: row for i in range(len(x)) if (row := grid_row(x[i])) is not None}
    ids = list(range(len(x))) if row_ids is None else [int(i) for i in row_ids]
    leaves = {(): set(rows)} if rows else {}
    keys = {(): int(mix(seed))}
    ended: set[tuple[int, ...]] = set()
    splits: list[int] = []
    while len(leaves) < k:
        open_leaves = [path for path in leaves if path not in ended and len(leaves[path]) > 1]
        if not open_leaves:
            break
        path = min(open_leaves, key=lambda p: (-len(leaves[p]), keys[p]))
        sides = two_means({i: rows[i] for i in leaves[path]}, ids, keys[path], max_iter)
        if sides is None:
            ended.add(path)
            continue
        splits.append(len(leaves.pop(path)))
        for side in (0, 1):
            leaves[(*path, side)] = sides[side]
            keys[(*path, side)] = int(mix(keys[path], side))
    return [sorted(leaves[path]) for path in sorted(leaves)], splits


def plain(x: np.ndarray, k: int, seed: int = 0, max_iter: int = 20) -> list[list[int]]:
    """App. B as it is worded: unit vectors, spherical 2-means, always the largest cluster.

    Two things it leaves open are taken from the project: which two rows a split starts from (those with the smallest
    hashes), and which of two equally large clusters is split first.
    """
    unit = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)  # v'_i
    clusters = [(list(range(len(x))), int(mix(seed)))]
    while len(clusters) < k:
        members, key = clusters.pop(min(range(len(clusters)), key=lambda c: (-len(clusters[c][0]), clusters[c][1])))
        first, second = sorted(members, key=lambda i: int(mix(i, key)))[:2]
        centroids = unit[[first, second]]
        sides = None
        for _ in range(max_iter):
            nearest = (unit[members] @ centroids.T).argmax(1)
            if sides is not None and (nearest == sides).all():
                break
            sides = nearest
            sums = np.stack([unit[np.array(members)[sides == side]].sum(0) for side in (0, 1)])
            centroids = sums / np.linalg.norm(sums, axis=1, keepdims=True)  # c = sum / |sum|
        clusters += [
            ([m for m, s in zip(members, sides, strict=True) if s == side], int(mix(key, side))) for side in (0, 1)
        ]
    return sorted(sorted(members) for members, _ in clusters)
