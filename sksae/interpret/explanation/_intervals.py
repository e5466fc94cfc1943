"""Confidence intervals of 95 % that stay honest for few windows and for perfect scores."""

import math

import numpy as np
from scipy import optimize, stats

Z = 1.959963984540054
_RESAMPLES = 1000


def wilson(hits, n):
    """Return Wilson's interval of a share: ``(low, high)``, NaN without any trial."""
    if n == 0:
        return math.nan, math.nan
    share = hits / n
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def mean_of_shares(first, second):
    """Return the interval of the mean of two shares, each given as ``(hits, n)``.

    Wilson's intervals of the two, combined by squares as Newcombe does for differences.
    """
    value = below = above = 0.0
    for hits, n in (first, second):
        low, high = wilson(hits, n)
        share = hits / n if n else math.nan
        value += share / 2
        below += (share - low) ** 2
        above += (high - share) ** 2
    return value - math.sqrt(below) / 2, value + math.sqrt(above) / 2


def auroc_interval(value, n_positive, n_negative):
    """Return the interval of an AUROC: Newcombe's fifth method, by solving for its ends.

    The variance is that of Hanley and McNeil at the unknown true value, not at the one found, so
    that a perfect score has an interval as well.
    """
    if math.isnan(value):
        return math.nan, math.nan
    mean_n = (n_positive + n_negative) / 2

    def excess(true):
        parts = (1 - true) / (2 - true) + true / (1 + true)
        variance = true * (1 - true) * (1 + (mean_n - 1) * parts) / (n_positive * n_negative)
        return (value - true) ** 2 - Z**2 * variance

    # Where the value is 0 or 1 that is a root as well, but not the one that is looked for.
    low = optimize.brentq(excess, 0.0, min(value, 1 - 1e-9)) if value > 0 else 0.0
    high = optimize.brentq(excess, max(value, 1e-9), 1.0) if value < 1 else 1.0
    return low, high


def pearson(x, y):
    """Return the correlation of two arrays; NaN where one of them is constant."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(np.corrcoef(x, y)[0, 1])


def correlation_interval(pairs, rng):
    """Return the interval of the correlation over windows, by drawing windows anew.

    Parameters
    ----------
    pairs : list of (ndarray, ndarray)
        True and foretold activations, window by window; tokens of one window are not independent.
    rng : Generator
        Draws the windows.
    """
    if len(pairs) < 2:
        return math.nan, math.nan
    sums = np.array(
        [(len(t), t.sum(), p.sum(), t @ t, p @ p, t @ p) for t, p in pairs], dtype=np.float64
    )
    drawn = rng.multinomial(len(pairs), np.full(len(pairs), 1 / len(pairs)), size=_RESAMPLES)
    n, t, p, tt, pp, tp = (drawn @ sums).T
    spread = (n * tt - t * t) * (n * pp - p * p)
    usable = spread > 1e-12 * (n * tt) * (n * pp)
    if usable.sum() < _RESAMPLES / 2:
        return math.nan, math.nan
    found = (n * tp - t * p)[usable] / np.sqrt(spread[usable])
    low, high = np.quantile(np.clip(found, -1, 1), [0.025, 0.975])
    return float(low), float(high)


def chance_of_flags(n_true, n_said, n):
    """Return what 95 of 100 random orders of the answers score at most: balanced accuracy."""
    n_false = n - n_true
    if not n_true or not n_false:
        return math.nan
    hits = int(stats.hypergeom.ppf(0.95, n, n_true, n_said))
    return 0.5 * (hits / n_true + 1 - (n_said - hits) / n_false)


def chance_of_auroc(n_positive, n_negative):
    """Return what 95 of 100 random orders of the windows score at most, about."""
    if not n_positive or not n_negative:
        return math.nan
    spread = math.sqrt((n_positive + n_negative + 1) / (12 * n_positive * n_negative))
    return min(1.0, 0.5 + 1.6448536269514722 * spread)
