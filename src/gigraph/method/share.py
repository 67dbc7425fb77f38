"""How much of the network's decision is kept: a ratio over images, with its error.

The decision about an image is its class, the network's own, and that class's centred logit (`gigraph.method.decision`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Share:
    """The part of the decision that is kept, over N images.

    Attributes
    ----------
    images : int
        N.
    logit, logit_se : float
        Of the centred logit between baseline and X, the part that X~ has: a ratio of sums, 1 where nothing is lost,
        0 at the baseline; NaN where X has no more of it than the baseline. Its standard error, NaN for one image.
    agreement, agreement_se : float
        Part of the images whose predicted class is the same at X~.
    probability, probability_at_concepts, probability_at_baseline : float
        Mean probability of the class that is predicted at X.
    """

    images: int
    logit: float
    logit_se: float
    agreement: float
    agreement_se: float
    probability: float
    probability_at_concepts: float
    probability_at_baseline: float


def share(at_x: np.ndarray, at_concepts: np.ndarray, at_baseline: np.ndarray) -> tuple[float, float]:
    """Return the part of a score that is kept, sum(S(X~) - S(baseline)) / sum(S(X) - S(baseline)), and its error.

    Parameters
    ----------
    at_x, at_concepts, at_baseline : array of float [N]
        The score of each image at X, X~ and the baseline.

    Returns
    -------
    ratio, se : float
        The standard error is that of a ratio of means, by its linearisation (Cochran, "Sampling Techniques", 1977,
        section 6.4). NaN where the sum at X is not above the baseline's; the error also for a single image.
    """
    whole, kept = (np.asarray(one, np.float64) - at_baseline for one in (at_x, at_concepts))
    total, n = whole.sum(), len(whole)
    if not total > 0:
        return float("nan"), float("nan")
    ratio = kept.sum() / total
    residual = kept - ratio * whole
    return float(ratio), float(np.sqrt(n / (n - 1) * (residual**2).sum()) / total) if n > 1 else float("nan")


def summary(
    predicted: tuple[np.ndarray, np.ndarray], probability: tuple[np.ndarray, ...], logit: tuple[np.ndarray, ...]
) -> Share:
    """Return what is kept of the decisions about N >= 1 images.

    Parameters
    ----------
    predicted : pair of int arrays [N]
        At X and at X~.
    probability, logit : three float arrays [N] each
        At X, at X~ and at the baseline, of the class that is predicted at X.
    """
    same = (predicted[0] == predicted[1]).astype(np.float64)
    error = float(same.std(ddof=1) / np.sqrt(len(same))) if len(same) > 1 else float("nan")
    means = (float(np.mean(one, dtype=np.float64)) for one in probability)
    return Share(len(same), *share(*logit), float(same.mean()), error, *means)
