"""What a model's scores [N, K] mean: its task.

==============  ========================  =======================  ================================================
task            a model's output          its scores               read by
==============  ========================  =======================  ================================================
``classes``     K >= 2 logits             the logits               softmax: the classes exclude each other
``labels``      K >= 2 logits             the logits               a sigmoid each: an image may have several labels
``binary``      one logit z               -z, z                    a sigmoid each: 1 - p of the first class, p of
                                                                   the second
``regression``  one value v               r - v, v - r             nothing: how far v lies below and above r
==============  ========================  =======================  ================================================

So everything else knows several outputs only. What raises a value and what lowers it are two columns, as are a class
and its opposite.
"""

from __future__ import annotations

import torch
from torch import Tensor

SIGMOIDS = ("labels", "binary")
"""Tasks whose scores are logits of a sigmoid each."""


def probabilities(scores: Tensor, task: str = "classes") -> Tensor:
    """Return the probability of each output [N, K]; NaN of a regression, which has none."""
    if task == "regression":
        return torch.full_like(scores, torch.nan)
    return scores.sigmoid() if task in SIGMOIDS else scores.softmax(1)


def centred(scores: Tensor, task: str = "classes") -> Tensor:
    """Return the scores [N, K] from where they decide nothing: of classes that exclude each other from their mean."""
    return scores - scores.mean(1, keepdim=True) if task == "classes" else scores


def predict(scores: Tensor, labels: Tensor, task: str = "classes") -> Tensor:
    """Return what a model takes each image for, int64 [N].

    Parameters
    ----------
    scores : Tensor [N, K]
    labels : Tensor of int64 [N]
        The images' own labels; negative where unknown.
    task : str

    Returns
    -------
    Tensor
        The output of the largest score; of ``labels``, which may be true together, an image's own one where that is
        likelier than not.
    """
    best = scores.argmax(1)
    if task != "labels":
        return best
    own = scores.gather(1, labels.clamp_min(0)[:, None])[:, 0]
    return torch.where((labels >= 0) & (own > 0), labels, best)
