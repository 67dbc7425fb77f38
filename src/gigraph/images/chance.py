"""Why a model may recognise next to nothing: what its predictions say of the likely cause."""

from __future__ import annotations

import numpy as np

MOST = 0.9
"""Share of the images predicted as one class that speaks of inputs the model does not know."""


def displaced(labels: np.ndarray, predicted: np.ndarray, least: int) -> list[int]:
    """Return the classes that seem to lie at another output than their own, as after a folder got another name.

    Parameters
    ----------
    labels, predicted : array of int [N]
        Of each image.
    least : int
        Images that tell something of a class.

    Returns
    -------
    list of int
        Those of which most images are predicted as one other class, if they are predicted as each other: all of them,
        but for one where a folder is missing. Classes that are only confused with others are no such.
    """
    often, moved = {}, []
    for label in np.unique(labels).tolist():
        own = predicted[labels == label]
        often[label] = int(np.bincount(own).argmax())
        if len(own) >= least and often[label] != label and (own == often[label]).mean() > 0.5:
            moved.append(label)
    taken = list(often.values())
    alone = [label for label in moved if taken.count(often[label]) == 1]
    each_other = len({*alone} & {often[label] for label in alone})
    return alone if each_other and each_other >= len(alone) - 1 else []


def cause(labels: np.ndarray, predicted: np.ndarray) -> str:
    """Return the likely cause of an accuracy near chance, in a few words.

    Parameters
    ----------
    labels, predicted : array of int [N]
        Of each image.
    """
    groups = [predicted[labels == label] for label in np.unique(labels)]
    often = [np.bincount(group).argmax() for group in groups]
    agree = sum(int((group == one).sum()) for group, one in zip(groups, often, strict=True)) / len(labels)
    if len(groups) > 1 and agree > 0.5 and len(set(often)) > (len(groups) + 1) // 2:
        return (
            f"most images of a class ({100 * agree:.0f}%) are predicted alike, as another one: the likely cause is the "
            "order of the classes; see images.classes"
        )
    if len(groups) > 1 and np.bincount(predicted).max() > MOST * len(predicted):
        return (
            "nearly all images are predicted as one class: the likely cause is preprocessing.mean and std, or "
            "model.weights"
        )
    return (
        "predictions follow no class: the likely cause is the size of pictures (preprocessing.resize and crop as in "
        "the training), or model.weights, random or of another task"
    )
