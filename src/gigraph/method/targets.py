"""Which targets an image's attributions are computed for: distinct ones, of concepts as many for each image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

FEW_CLASSES = 50
"""Of up to so many that exclude each other, ``auto`` takes the probability, of more the centred logit."""


def class_output(setting: str, classes: int, task: str = "classes") -> str:
    """Return what is attributed for classes: the setting, or for ``auto`` what suits the task and their number.

    Parameters
    ----------
    setting : {"auto", "probability", "logit", "centred_logit"}
        ``attribution.class_output``.
    classes : int
        The network's outputs.
    task : str
        How they are read (`gigraph.method.tasks`); a sigmoid's own logit is what ``auto`` takes, and a value.
    """
    if setting != "auto":
        return setting
    if task != "classes":
        return "logit"
    return "probability" if classes <= FEW_CLASSES else "centred_logit"


def first_distinct(preferred: Iterable[int], count: int, ids: Sequence[int]) -> list[int]:
    """Return the first `count` distinct ids of `preferred`, filled up with the first of `ids` not yet taken."""
    taken = list(dict.fromkeys(int(i) for i in preferred))[:count]
    if len(taken) < count:
        seen = set(taken)
        taken += [i for i in ids[: count + len(seen)] if i not in seen][: count - len(taken)]
    return taken


def class_targets(scores: np.ndarray, labels: np.ndarray, top: int, predicted: np.ndarray) -> list[np.ndarray]:
    """Return each image's class targets: its label and its most probable classes.

    Parameters
    ----------
    scores : array [N, classes]
        The network's (`gigraph.method.tasks`).
    labels : array of int [N]
        Labels; negative where unknown.
    top : int
        Classes besides the label; 0: the predicted one, where that is another.
    predicted : array of int [N]
        What each image is taken for (`gigraph.method.tasks.predict`).

    Returns
    -------
    list of array of int64 [T]
        Of each image; T is min(top + 1, classes), or with 0 one or two.
    """
    order = np.argsort(-scores, axis=1, kind="stable")[:, : top + 1] if top else predicted[:, None]
    preferred = [
        [label, *ranked] if label >= 0 else ranked
        for label, ranked in zip(labels.tolist(), order.tolist(), strict=True)
    ]
    return [np.array(list(dict.fromkeys(some))[: top + 1 if top else 2], np.int64) for some in preferred]


def by_count(targets: Sequence[np.ndarray]) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yield (images, their targets [n, T]) of all images that have the same number of targets, by rising number."""
    counts = [len(some) for some in targets]
    for count in sorted(set(counts)):
        images = [i for i, n in enumerate(counts) if n == count]
        yield images, np.stack([targets[i] for i in images])


def concept_targets(kept: list[list[int]], own: list[list[int]], count: int, ids: Sequence[int]) -> np.ndarray:
    """Return each image's concept targets: those kept for its class, then its own most relevant ones.

    Parameters
    ----------
    kept, own : list of list of int
        Per image, by falling relevance.
    count : int
        Targets per image.
    ids : sequence of int
        Families of the layer, ascending.

    Returns
    -------
    array of int64 [N, min(count, len(ids))]
    """
    count = min(count, len(ids))
    rows = [first_distinct([*k, *o], count, ids) for k, o in zip(kept, own, strict=True)]
    return np.array(rows, np.int64).reshape(len(kept), count)
