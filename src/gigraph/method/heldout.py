"""Which images are held out: no concept is found on them, so that the evaluation looks at images new to it."""

from __future__ import annotations

import numpy as np

from gigraph.hashing import mix, text_key, uniform

_KEY = text_key("held out")
_TRIED = text_key("tried")


def held_out(ids: np.ndarray, seed: int, share: float) -> np.ndarray:
    """Return which images are held out, bool [N]: by id alone, so that shards and added images change nothing.

    Parameters
    ----------
    ids : array of int64 [N]
        Ids of images.
    seed : int
        The run's seed.
    share : float
        Share of the images to hold out.
    """
    return uniform(seed, _KEY, np.asarray(ids)) < share


def tried(ids: np.ndarray, seed: int, share: float, count: int) -> np.ndarray:
    """Return on which images numbers of non-zeros are tried, rows int64 [at most count].

    Those that are not held out, by a hash of their own: other images than those that the selection prefers, on which
    the choice is judged.

    Parameters
    ----------
    ids : array of int64 [N]
    seed, share
        As of `held_out`.
    count : int
        How many.
    """
    found_on = np.flatnonzero(~held_out(ids, seed, share))
    return np.sort(found_on[np.argsort(mix(seed, _TRIED, ids[found_on]), kind="stable")[:count]])


def balanced(ids: np.ndarray, labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Choose `count` images as evenly over the classes as there are, int64 [at most count], in order of choice.

    Every class gives its first image (by a keyed hash) before one gives its second.
    """
    ids, labels = np.asarray(ids), np.asarray(labels)
    key = mix(seed, _KEY, ids)
    order = np.lexsort((key, labels))
    sorted_labels = labels[order]
    rank = np.empty(len(ids), np.int64)
    rank[order] = np.arange(len(ids)) - np.searchsorted(sorted_labels, sorted_labels)
    return np.lexsort((key, rank))[:count]
