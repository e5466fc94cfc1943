"""Confidence intervals and permutation thresholds of the scores of explanations.

All intervals cover 95 %, also for few windows and for perfect scores.
"""

import math

import numpy as np
from scipy import optimize, stats

Z = 1.959963984540054  # 97.5th percentile of the standard normal distribution
_N_RESAMPLES = 1000


def share_interval(n_hits, n):
    """Wilson's interval of a share: ``(low, high)``, NaN without any trial."""
    if n == 0:
        return math.nan, math.nan
    interval = stats.binomtest(n_hits, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def mean_share_interval(first, second):
    """Interval of the mean of two shares, each given as ``(n_hits, n)``.

    Wilson's intervals of the two, combined by squares as Newcombe does for differences.
    """
    mean = below = above = 0.0
    for n_hits, n in (first, second):
        low, high = share_interval(n_hits, n)
        share = n_hits / n if n else math.nan
        mean += share / 2
        below += (share - low) ** 2
        above += (high - share) ** 2
    return mean - math.sqrt(below) / 2, mean + math.sqrt(above) / 2


def auroc_interval(auroc, n_positive, n_negative):
    """Interval of an AUROC by Newcombe's fifth method, a root of an equation per end.

    The variance is that of Hanley and McNeil at the unknown true value, not at the estimate, so
    that a perfect score has an interval as well.
    """
    if math.isnan(auroc):
        return math.nan, math.nan
    mean_n = (n_positive + n_negative) / 2

    def excess(true):
        parts = (1 - true) / (2 - true) + true / (1 + true)
        variance = true * (1 - true) * (1 + (mean_n - 1) * parts) / (n_positive * n_negative)
        return (auroc - true) ** 2 - Z**2 * variance

    # An estimate of 0 or 1 is a root itself, but not the end of the interval: 1e-9 excludes it.
    low = optimize.brentq(excess, 0.0, min(auroc, 1 - 1e-9)) if auroc > 0 else 0.0
    high = optimize.brentq(excess, max(auroc, 1e-9), 1.0) if auroc < 1 else 1.0
    return low, high


def pearson(x, y):
    """Pearson's correlation of two arrays; NaN where one of them is constant."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(np.corrcoef(x, y)[0, 1])


def correlation_interval(pairs, rng):
    """Bootstrap interval of the correlation, by resampling windows.

    Parameters
    ----------
    pairs : list of (ndarray, ndarray)
        True and predicted activations per window; tokens of one window are not independent.
    rng : Generator
        Draws the windows.
    """
    if len(pairs) < 2:
        return math.nan, math.nan
    # The correlation over several windows is a function of these sums of each.
    sums = np.array(
        [(len(t), t.sum(), p.sum(), t @ t, p @ p, t @ p) for t, p in pairs], dtype=np.float64
    )
    # (resamples, windows): how often each resample holds each window.
    counts = rng.multinomial(len(pairs), np.full(len(pairs), 1 / len(pairs)), size=_N_RESAMPLES)
    n, t, p, tt, pp, tp = (counts @ sums).T
    product = (n * tt - t * t) * (n * pp - p * p)  # n^4 times the product of the variances
    usable = product > 1e-12 * (n * tt) * (n * pp)  # neither array is constant
    if usable.sum() < _N_RESAMPLES / 2:
        return math.nan, math.nan
    correlations = (n * tp - t * p)[usable] / np.sqrt(product[usable])
    low, high = np.quantile(np.clip(correlations, -1, 1), [0.025, 0.975])
    return float(low), float(high)


def permutation_threshold(n_true, n_positive, n):
    """95th percentile of the balanced accuracy under permuted answers.

    Parameters
    ----------
    n_true : int
        Windows in which the feature fires.
    n_positive : int
        Windows of which the answers say that it fires.
    n : int
        All windows.
    """
    n_false = n - n_true
    if not n_true or not n_false:
        return math.nan
    n_hits = int(stats.hypergeom.ppf(0.95, n, n_true, n_positive))
    return 0.5 * (n_hits / n_true + 1 - (n_positive - n_hits) / n_false)


def auroc_threshold(n_positive, n_negative):
    """95th percentile of the AUROC under permuted windows, by the normal approximation."""
    if not n_positive or not n_negative:
        return math.nan
    deviation = math.sqrt((n_positive + n_negative + 1) / (12 * n_positive * n_negative))
    return min(1.0, 0.5 + 1.6448536269514722 * deviation)
