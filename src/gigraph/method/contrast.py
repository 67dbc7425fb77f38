"""What two runs say differently: differences of means with their standard errors, and which of many can be believed.

Notation: E effects (relevances, edges), x_ie what image i says of effect e in the one run, y_ie in the other; d_e the
mean of y less that of x, s_e its standard error, nu_e its degrees of freedom.

- The same images on both sides: d is the mean of the n differences y_i - x_i, s their standard deviation over sqrt(n),
  nu = n - 1 (Student's paired test).
- Others: s^2 = s_x^2 / n + s_y^2 / m, nu by Satterthwaite (Welch, "The generalization of Student's problem when several
  different population variances are involved", Biometrika 1947).
- Of many effects those are kept whose false discovery rate is at most a given one (Benjamini and Hochberg, "Controlling
  the false discovery rate", J. R. Stat. Soc. B 1995). A p-value says how sure an effect is, not how large. What an
  effect *at least* is says both: the end nearest zero of its confidence interval, at the level at which of the
  intervals of the kept effects no more than that rate miss (Benjamini and Yekutieli, "False discovery rate-adjusted
  multiple confidence intervals for selected parameters", J. Am. Stat. Assoc. 2005). An effect is kept exactly if it is
  not zero there, so that the order by it ranks all that is kept.
- Standard errors over images do not know that a network trained again differs in all effects. Of R trainings alike,
  two runs that differ in their training alone change effect j by e_j, with an error s_j over images; over all
  R (R - 1) / 2 pairs, tau^2 = max(0, mean(e^2 - s^2)) is the variance that training adds to a difference of two (the
  method of moments; Cochran, "The combination of estimates from different experiments", Biometrics 1954). Several
  groups of trainings (of the one side, of the other) are pooled as variances are, by R - 1 each. The pairs of R
  trainings hold R - 1 independent contrasts, however many effects tau is the mean of: effects of one training are not
  trainings. So tau^2 has sum(R - 1) degrees of freedom, which are few. s^2 + tau^2 then stands for s^2, Satterthwaite's
  degrees of freedom for nu ("An approximate distribution of estimates of variance components", Biometrics Bulletin
  1946), and Student's t for the normal: with few trainings only what is many times the noise can be told from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Contrast:
    """Differences of E effects; float64 arrays [E].

    Attributes
    ----------
    one, two : arrays
        The means of the two sides.
    difference : array
        two - one.
    se : array
        Its standard error; NaN with fewer than two images.
    df : array
        Degrees of freedom; NaN where there is no standard error.
    p : array
        Two-sided p-value of no difference; 1 where all is equal, 0 where all images differ by the same, NaN where there
        is no standard error.
    """

    one: np.ndarray
    two: np.ndarray
    difference: np.ndarray
    se: np.ndarray
    df: np.ndarray
    p: np.ndarray


def paired(one: np.ndarray, two: np.ndarray) -> Contrast:
    """Compare effects [n, E] of the same n images.

    Raises
    ------
    ValueError
        If the shapes differ, or there is no image.
    """
    one, two = (np.asarray(side, dtype=np.float64) for side in (one, two))
    if one.shape != two.shape or not len(one):
        raise ValueError(f"effects {one.shape} and {two.shape} are not of the same images")
    change, n = two - one, len(one)
    # Of n equal numbers the deviation would be rounding.
    se = np.where(np.ptp(change, axis=0) > 0, _deviation(change) / np.sqrt(n), 0.0 if n > 1 else np.nan)
    df = np.full(se.shape, n - 1.0 if n > 1 else np.nan)
    return _contrast(one.mean(0), two.mean(0), change.mean(0), se, df)


def welch(one: np.ndarray, two: np.ndarray) -> Contrast:
    """Compare effects [n, E] of n images with those [m, E] of m others.

    Raises
    ------
    ValueError
        If the numbers of effects differ, or a side has no image.
    """
    one, two = (np.asarray(side, dtype=np.float64) for side in (one, two))
    if one.shape[1:] != two.shape[1:] or not len(one) or not len(two):
        raise ValueError(f"effects {one.shape} and {two.shape} cannot be compared")
    parts = []
    for side in (one, two):
        n = len(side)
        spread = np.where(np.ptp(side, axis=0) > 0, _deviation(side), 0.0 if n > 1 else np.nan)
        parts.append((spread**2 / n, n - 1))
    (first, n), (second, m) = parts
    total = first + second
    below = first**2 / max(n, 1) + second**2 / max(m, 1)
    df = np.divide(total**2, below, out=np.full(total.shape, float(n + m)), where=below > 0)
    df = np.where(np.isnan(total), np.nan, df)
    return _contrast(one.mean(0), two.mean(0), two.mean(0) - one.mean(0), np.sqrt(total), df)


def _deviation(values: np.ndarray) -> np.ndarray:
    return values.std(0, ddof=1) if len(values) > 1 else np.full(values.shape[1:], np.nan)


def _contrast(one: np.ndarray, two: np.ndarray, change: np.ndarray, se: np.ndarray, df: np.ndarray) -> Contrast:
    from scipy.stats import t as student

    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * student.sf(np.abs(change) / se, df)
    p = np.where(se == 0, np.where(change == 0, 1.0, 0.0), p)
    return Contrast(one, two, change, se, df, p)


def between_trainings(difference: np.ndarray, se: np.ndarray, weight: np.ndarray) -> float:
    """Return tau, the standard deviation that another training adds to differences, from M that it made.

    NaN where there are none; those without a standard error do not count.

    Parameters
    ----------
    difference, se : arrays [M]
        Of all pairs of trainings.
    weight : array [M]
        2 / R for a pair of R trainings: so a group weighs as many pairs as it holds independent contrasts.
    """
    known = ~np.isnan(difference) & ~np.isnan(se)
    if not known.any():
        return float("nan")
    excess = difference[known] ** 2 - se[known] ** 2
    return float(np.sqrt(max(0.0, np.average(excess, weights=weight[known]))))


def widened(
    difference: np.ndarray, se: np.ndarray, df: np.ndarray, noise: np.ndarray, freedom: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return standard error, degrees of freedom and p-value of differences [E] once training's own variance is added.

    Parameters
    ----------
    difference, se, df : arrays [E]
        Of `Contrast`.
    noise : array [E]
        tau of each.
    freedom : array [E]
        Degrees of freedom of tau^2.
    """
    total = se**2 + noise**2
    below = np.divide(se**4, df, out=np.full(len(df), np.nan), where=df > 0) + noise**4 / freedom
    wide = np.divide(total**2, below, out=np.array(df, dtype=np.float64), where=below > 0)
    found = _contrast(np.zeros(0), np.zeros(0), difference, np.sqrt(total), wide)
    return found.se, found.df, found.p


def disagreement(one: np.ndarray, two: np.ndarray) -> float:
    """Return the two-sided p-value of two models being right equally often, on the same images (exact McNemar test).

    Parameters
    ----------
    one, two : bool arrays [n]
        Whether each was right (McNemar, Psychometrika 1947).
    """
    from scipy.stats import binom

    first, second = int((one & ~two).sum()), int((two & ~one).sum())
    return float(min(1.0, 2 * binom.cdf(min(first, second), first + second, 0.5))) if first + second else 1.0


def false_discovery(p: np.ndarray) -> np.ndarray:
    """Return the smallest false discovery rate at which each of E p-values is kept (Benjamini and Hochberg), [E].

    NaN p-values stay NaN and do not count.
    """
    p = np.asarray(p, dtype=np.float64)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    m = len(order)
    q = np.full(len(p), np.nan)
    scaled = p[order] * m / np.arange(1, m + 1)
    q[order] = np.minimum.accumulate(scaled[::-1])[::-1].clip(max=1)
    return q


def at_least(difference: np.ndarray, se: np.ndarray, df: np.ndarray, q: np.ndarray, rate: float) -> np.ndarray:
    """Return what each effect at least is [E]: the end nearest zero of its adjusted interval, 0 of what is not kept.

    Parameters
    ----------
    difference, se, df, q : arrays [E]
        Of `Contrast` and `false_discovery`, over all effects that were tested.
    rate : float
        The false discovery rate, in (0, 1).
    """
    from scipy.stats import t as student

    tested, kept = ~np.isnan(q), q <= rate
    if not kept.any():
        return np.zeros(len(q))
    reach = student.isf(rate * kept.sum() / tested.sum() / 2, df)
    found = np.maximum(np.abs(difference) - reach * se, 0)
    return np.where(kept, np.sign(difference) * found, 0.0)
