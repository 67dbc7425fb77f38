"""How much of the network's decision is kept: a ratio over images, with its error.

The decision about an image is its class, the network's own, and that class's centred logit (`gigraph.method.decision`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

SCORES = ("predicted", "probability", "logit")
"""What a decision is told by."""
SURE = 2
"""Standard errors that a gain must be above 0 for a part of it to mean anything."""


@dataclass(frozen=True)
class Share:
    """The part of the decision that is kept, over N images.

    Attributes
    ----------
    images : int
        N.
    logit, logit_se : float
        Of the centred logit between baseline and X, the part that X~ has: a ratio of sums, 1 where nothing is lost,
        0 at the baseline; NaN where X has not clearly more of it than the baseline. Of a regression the same of how far
        the value lies from the baseline's, above or below it. Its standard error, NaN for one image.
    agreement, agreement_se : float
        Part of the images whose predicted class is the same at X~.
    probability, probability_at_concepts, probability_at_baseline : float
        Mean probability of the class that is predicted at X; NaN of a regression, which has none.
    """

    images: int
    logit: float
    logit_se: float
    agreement: float
    agreement_se: float
    probability: float
    probability_at_concepts: float
    probability_at_baseline: float

    @property
    def kept(self) -> float:
        """The part of the centred logit that is kept, where what X~ has too much counts as lost; NaN as ``logit``."""
        return kept(self.logit)

    @property
    def what(self) -> str:
        """What is kept or lost, in words."""
        return "the centred logit" if np.isfinite(self.probability) else "the value"

    def said(self) -> str:
        """Return the share in words."""
        if not np.isfinite(self.logit):
            why = f"X has not clearly more of {self.what} than the baseline"
            return f"keep {self.agreement:.0%} of the predictions; {why}"
        error = f" (standard error {self.logit_se:.0%})" if np.isfinite(self.logit_se) else ""
        return f"keep {self.logit:.0%} of {self.what}{error} and {self.agreement:.0%} of the predictions"


def kept(logit: float) -> float:
    """Return the part of a score that is kept, where what there is too much counts as lost; NaN stays NaN."""
    return min(logit, 2 - logit)


def range_of(logits: Iterable[float | None]) -> str:
    """Return what several layers keep of the score, in words: ``84 to 99%``, what is too much as lost; none: empty."""
    told = [kept(one) for one in logits if one is not None and np.isfinite(one)]
    ends = dict.fromkeys(f"{100 * one:.0f}" for one in (min(told), max(told))) if told else ()
    return f"{' to '.join(ends)}%" if ends else ""


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
        section 6.4). NaN where the sum at X is not above the baseline's by `SURE` of its standard errors: a ratio to
        what may be nothing has no finite interval (Fieller, JRSS B, 1954). The error also for a single image.
    """
    whole, kept = (np.asarray(one, np.float64) - at_baseline for one in (at_x, at_concepts))
    total, n = whole.sum(), len(whole)
    unsure = SURE * np.sqrt(n) * whole.std(ddof=1) if n > 1 else 0
    if not total > unsure:
        return float("nan"), float("nan")
    ratio = kept.sum() / total
    residual = kept - ratio * whole
    return float(ratio), float(np.sqrt(n / (n - 1) * (residual**2).sum()) / total) if n > 1 else float("nan")


def summary(found: Mapping[str, np.ndarray], at: str) -> Share:
    """Return what is kept of the decisions about N images at one of several inputs; NaN of none.

    Parameters
    ----------
    found : mapping of str to array [N]
        As `gigraph.method.decision.Decisions.columns` returns it, with an input ``baseline``.
    at : str
        Name of the input in question.
    """
    predicted, there = found["predicted"], found[f"predicted_at_{at}"]
    ends = ("", f"_at_{at}", "_at_baseline")
    if not len(predicted):
        return Share(0, *[float("nan")] * 7)
    same = (predicted == there).astype(np.float64)
    error = float(same.std(ddof=1) / np.sqrt(len(same))) if len(same) > 1 else float("nan")
    means = [float(np.mean(found["probability" + end], dtype=np.float64)) for end in ends]
    logits = [found["logit" + end] for end in ends]
    if not np.isfinite(means[0]):  # a value lies above the baseline's or below it; a class is decided for
        side = np.sign(logits[0] - logits[2])
        logits = [side * one for one in logits]
    return Share(len(same), *share(*logits), float(same.mean()), error, *means)
