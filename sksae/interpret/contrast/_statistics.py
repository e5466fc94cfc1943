"""What two classes differ in, from sums over each of them."""

import numpy as np
from scipy.special import gammaln
from scipy.stats import pearson3
from scipy.stats import t as student

_ROUNDING = 1e-12


def welch(total, squares, total_pos, squares_pos, *, n_pos, n_neg):
    """Return Welch's t, its degrees of freedom, and Cohen's d.

    Parameters
    ----------
    total, squares : ndarray
        Sums of the values, and of their squares, over all rows.
    total_pos, squares_pos : ndarray
        The same over the rows of the positive class.
    n_pos, n_neg : int
        Rows of each class.
    """
    mean_pos, mean_neg = total_pos / n_pos, (total - total_pos) / n_neg
    pos = _variance(total_pos, squares_pos, n_pos, squares)
    neg = _variance(total - total_pos, squares - squares_pos, n_neg, squares)
    error_pos, error_neg = pos / n_pos, neg / n_neg
    difference = mean_pos - mean_neg
    t = ratio(difference, np.sqrt(error_pos + error_neg))
    below = error_pos**2 / (n_pos - 1) + error_neg**2 / (n_neg - 1)
    freedom = np.divide(
        (error_pos + error_neg) ** 2, below, out=np.ones_like(below), where=below > 0
    )
    return t, freedom, ratio(difference, np.sqrt((pos + neg) / 2))


def _variance(total, squares, n_rows, scale):
    """Unbiased variance of a class; what rounding leaves of a constant is 0."""
    spread = squares - total**2 / n_rows
    return np.where(spread > _ROUNDING * scale, spread, 0) / (n_rows - 1)


def ratio(difference, unit):
    """Return ``difference / unit``; without a unit, 0 for no difference and infinity for one."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(difference == 0, 0.0, difference / unit)


def welch_pvalues(t, freedom):
    """Return the two-sided p-values of Welch's t."""
    return 2 * student.sf(np.abs(t), freedom)


def exchange_skewness(sums, n_pos, n_neg):
    """Return the skewness of the sum of a class over all ways to exchange the labels.

    Parameters
    ----------
    sums : ndarray of shape (3, n_columns)
        Sums of the values, of their squares and of their cubes, over all rows.
    n_pos, n_neg : int
        Rows of each class.
    """
    n_rows = n_pos + n_neg
    mean = sums[0] / n_rows
    second = sums[1] - n_rows * mean**2
    third = sums[2] - 3 * mean * sums[1] + 2 * n_rows * mean**3
    known = second > _ROUNDING * sums[1]
    of_values = np.where(known, third / np.where(known, second, 1) ** 1.5, 0)
    sizes = (n_neg - n_pos) / (n_rows - 2) * np.sqrt(n_rows * (n_rows - 1) / (n_pos * n_neg))
    return sizes * of_values


def exchange_z(total_pos, sums, n_pos, n_neg):
    """Return the sum of the positive class less that expected, in standard deviations of both."""
    n_rows = n_pos + n_neg
    mean = sums[0] / n_rows
    second = sums[1] - n_rows * mean**2
    known = second > _ROUNDING * sums[1]
    variance = n_pos * n_neg * second / (n_rows * (n_rows - 1))
    return np.where(known, (total_pos - n_pos * mean) / np.sqrt(np.where(known, variance, 1)), 0)


def skewed_pvalues(z, skewness):
    """Return two-sided p-values of what has mean 0, variance 1 and a skewness."""
    z = np.abs(z)
    return np.minimum(pearson3.sf(z, skewness) + pearson3.cdf(-z, skewness), 1)


def log_odds(fired_pos, fired_neg, n_pos, n_neg):
    """Return the log odds ratio of firing, half a document added to each of the four counts."""
    odds_pos = (fired_pos + 0.5) / (n_pos - fired_pos + 0.5)
    return np.log(odds_pos / ((fired_neg + 0.5) / (n_neg - fired_neg + 0.5)))


def firing_z(fired_pos, fired, n_pos, n_neg):
    """Return how far the firings of a class are from their expectation, in standard deviations.

    Both are those of documents that fire whatever their label: of a hypergeometric distribution.
    """
    n_rows = n_pos + n_neg
    expected = fired * n_pos / n_rows
    variance = expected * (n_neg / n_rows) * (n_rows - fired) / (n_rows - 1)
    return ratio(fired_pos - expected, np.sqrt(variance))


def fisher_pvalues(fired_pos, fired, n_pos, n_neg):
    """Return the two-sided p-values of Fisher's exact test, (n_columns,)."""
    fired_pos, fired = fired_pos.astype(np.int64), fired.astype(np.int64)
    log_factorial = gammaln(np.arange(n_pos + n_neg + 1) + 1.0)

    def log_choose(n, k):
        return log_factorial[n] - log_factorial[k] - log_factorial[n - k]

    pvalues = np.ones(len(fired))
    order = np.argsort(fired, kind="stable")
    cuts = np.flatnonzero(np.diff(fired[order])) + 1
    for columns in np.split(order, cuts) if len(order) else []:
        total = fired[columns[0]]
        low = max(0, total - n_neg)
        support = np.arange(low, min(total, n_pos) + 1)
        logs = log_choose(n_pos, support) + log_choose(n_neg, total - support)
        mass = np.exp(logs - log_choose(n_pos + n_neg, total))
        # As likely or less so, where rounding does not part what is equally likely.
        bound = mass[fired_pos[columns] - low] * (1 + 1e-7)
        mass.sort()
        tail = np.cumsum(mass)[np.searchsorted(mass, bound, side="right") - 1]
        pvalues[columns] = np.minimum(tail, 1)
    return pvalues


def specificity(mean_pos, mean_neg, mean_active, n_rows):
    """Return the ratio of two means, smoothed; 1 for a feature that never fires.

    To each mean is added what one firing document more in each class would add, were the classes
    of the same size.
    """
    smoothing = 2 * mean_active / n_rows
    silent = smoothing == 0
    return (mean_pos + smoothing + silent) / (mean_neg + smoothing + silent)
