"""Statistics that compare two classes of rows: of means, of firings and of ranks, with p-values."""

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.special import expit, gammaln, logit
from scipy.stats import norm, pearson3
from scipy.stats import t as student

from sksae._runs import run_lengths, run_starts

_ROUNDING = 1e-12  # share of a sum of squares below which a spread counts as 0


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
    # Degrees of freedom by Welch and Satterthwaite.
    below = error_pos**2 / (n_pos - 1) + error_neg**2 / (n_neg - 1)
    freedom = np.divide(
        (error_pos + error_neg) ** 2, below, out=np.ones_like(below), where=below > 0
    )
    # Cohen's d: the unit is the root of the mean of both variances.
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
    """Return the skewness of the sum of a class over all permutations of the labels.

    Parameters
    ----------
    sums : ndarray of shape (3, n_columns)
        Sums of the values, of their squares and of their cubes, over all rows.
    n_pos, n_neg : int
        Rows of each class.
    """
    n_rows = n_pos + n_neg
    mean = sums[0] / n_rows
    second = sums[1] - n_rows * mean**2  # sums of the powers of the deviations
    third = sums[2] - 3 * mean * sums[1] + 2 * n_rows * mean**3
    varies = second > _ROUNDING * sums[1]  # a constant column has no skewness
    skewness_of_values = np.where(varies, third / np.where(varies, second, 1) ** 1.5, 0)
    # Classes of equal sizes have a symmetric distribution, whatever the values.
    factor = (n_neg - n_pos) / (n_rows - 2) * np.sqrt(n_rows * (n_rows - 1) / (n_pos * n_neg))
    return factor * skewness_of_values


def exchange_z(total_pos, sums, n_pos, n_neg):
    """Return the standardised sum of the positive class over all permutations of the labels."""
    n_rows = n_pos + n_neg
    mean = sums[0] / n_rows
    second = sums[1] - n_rows * mean**2  # sum of the squared deviations from the mean
    varies = second > _ROUNDING * sums[1]
    # Variance of a sum of n_pos values that are drawn without replacement.
    variance = n_pos * n_neg * second / (n_rows * (n_rows - 1))
    return np.where(varies, (total_pos - n_pos * mean) / np.sqrt(np.where(varies, variance, 1)), 0)


def skewed_pvalues(z, skewness):
    """Return two-sided p-values of a statistic with mean 0, variance 1 and a given skewness."""
    z = np.abs(z)
    # Pearson's type III distribution has mean 0, variance 1 and any skewness; both tails count.
    return np.minimum(pearson3.sf(z, skewness) + pearson3.cdf(-z, skewness), 1)


def log_odds(fired_pos, fired_neg, n_pos, n_neg):
    """Return the log odds ratio of firing, half a document added to each of the four counts."""
    odds_pos = (fired_pos + 0.5) / (n_pos - fired_pos + 0.5)
    return np.log(odds_pos / ((fired_neg + 0.5) / (n_neg - fired_neg + 0.5)))


def firing_z(fired_pos, fired, n_pos, n_neg):
    """Return the standardised number of firings in the positive class.

    Expectation and variance are those of the hypergeometric distribution: the same documents fire
    under every permutation of the labels.
    """
    n_rows = n_pos + n_neg
    # Mean and variance of a hypergeometric number.
    expected = fired * n_pos / n_rows
    variance = expected * (n_neg / n_rows) * (n_rows - fired) / (n_rows - 1)
    return ratio(fired_pos - expected, np.sqrt(variance))


def fisher_pvalues(fired_pos, fired, n_pos, n_neg):
    """Return the two-sided p-values of Fisher's exact test, (n_columns,)."""
    fired_pos, fired = fired_pos.astype(np.int64), fired.astype(np.int64)
    log_factorial = gammaln(np.arange(n_pos + n_neg + 1) + 1.0)  # entry i is log(i!)

    def log_choose(n, k):
        return log_factorial[n] - log_factorial[k] - log_factorial[n - k]

    pvalues = np.ones(len(fired))
    order = np.argsort(fired, kind="stable")
    # Columns with the same number of firings share the distribution.
    for columns in np.split(order, run_starts(fired[order])[1:]) if len(order) else []:
        total = fired[columns[0]]
        # Firings in the positive class that are possible with these totals.
        low = max(0, total - n_neg)
        support = np.arange(low, min(total, n_pos) + 1)
        logs = log_choose(n_pos, support) + log_choose(n_neg, total - support)
        # Hypergeometric probability of each table.
        mass = np.exp(logs - log_choose(n_pos + n_neg, total))
        # Tables at most as likely as the observed one; equal probabilities may differ by rounding.
        bound = mass[fired_pos[columns] - low] * (1 + 1e-7)
        mass.sort()
        # Sum of the probabilities up to the bound, which are the first ones after sorting.
        tail = np.cumsum(mass)[np.searchsorted(mass, bound, side="right") - 1]
        pvalues[columns] = np.minimum(tail, 1)
    return pvalues


def specificity(mean_pos, mean_neg, mean_active, n_rows):
    """Return the ratio of two means, smoothed; 1 for a feature that never fires.

    Each mean is increased as if one more document of its class fired, in classes of equal size.
    """
    smoothing = 2 * mean_active / n_rows
    silent = smoothing == 0
    # Both means are 0 for a feature that never fires: 1 / 1.
    return (mean_pos + smoothing + silent) / (mean_neg + smoothing + silent)


class Ranks(NamedTuple):
    """Midranks of the values of each column, ties sharing the mean of their ranks.

    Zeros are not stored, so that ranks are kept relative to that of the zeros of their column.
    """

    above_zero: sparse.csc_array  # rank of each entry minus that of the zeros
    of_zero: np.ndarray  # (n_columns,)
    ties: np.ndarray  # (n_columns,) sum of t**3 - t over ties of t values


def midranks(block):
    """Return the `Ranks` of the columns of a CSC block that stores no zeros."""
    n_rows, n_columns = block.shape
    counts = np.diff(block.indptr)
    order = np.empty(len(block.data), dtype=np.int64)  # entries by column, ascending in each
    for start, stop in zip(block.indptr[:-1].tolist(), block.indptr[1:].tolist(), strict=True):
        order[start:stop] = np.argsort(block.data[start:stop])
        order[start:stop] += start
    values, column = block.data[order], np.repeat(np.arange(n_columns), counts)
    # A run of equal values of a column is a tie; its ranks are the positions in the column plus 1.
    firsts = run_starts(column, values)
    sizes = run_lengths(firsts, len(values))
    rank = np.repeat(firsts - block.indptr[column[firsts]] + (sizes + 1) / 2, sizes)
    zeros = n_rows - counts
    rank += np.where(values > 0, zeros[column], 0)  # zeros stand below the positive values
    # Number of negative values, (n_columns,).
    negative = np.bincount(column[values < 0], minlength=n_columns)
    of_zero = negative + (zeros + 1) / 2
    data = np.empty(len(values))
    # Relative to the zeros, so that entries which are not stored are 0 here too.
    data[order] = rank - of_zero[column]
    # The zeros of a column are a tie as well.
    ties = np.bincount(column[firsts], _cubic(sizes), n_columns) + _cubic(zeros)
    shape = (data, block.indices, block.indptr)
    return Ranks(sparse.csc_array(shape, shape=block.shape), of_zero, ties)


def power_sums(block):
    """Return the sums of the values of each column, of their squares and cubes, (3, n_columns)."""
    powers = np.column_stack([block.data, block.data**2, block.data**3])
    column = np.repeat(np.arange(block.shape[1]), np.diff(block.indptr))  # column of each entry
    return np.stack([np.bincount(column, power, block.shape[1]) for power in powers.T])


def _cubic(sizes):
    sizes = sizes.astype(np.float64)
    return sizes**3 - sizes


def auroc_of(ranks, labels):
    """Return the AUROC of each column for each labelling, (n_columns, n_labellings).

    Parameters
    ----------
    ranks : Ranks
    labels : ndarray of shape (n_rows, n_labellings)
        1 for the positive class and 0 otherwise; each has as many positive rows.
    """
    n_pos = labels[:, 0].sum()  # as many in every labelling
    n_neg = len(labels) - n_pos
    # Sums of the ranks of the positive rows, from which follows U / (n_pos * n_neg).
    total = ranks.above_zero.T @ labels + n_pos * ranks.of_zero[:, None]
    return (total - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg)


def rank_pvalues(auroc, ranks, n_pos, n_neg):
    """Return the two-sided p-values of the Mann-Whitney test, by its first three moments."""
    # Skewness has no unit: ranks relative to the number of rows keep their cubes small.
    relative = ranks.above_zero / ranks.above_zero.shape[0]
    skewness = exchange_skewness(power_sums(relative), n_pos, n_neg)
    # Continuity correction, as in scipy: U moves in steps of which half of one is subtracted.
    distance = np.maximum(np.abs(auroc - 0.5) - 0.5 / (n_pos * n_neg), 0)
    return skewed_pvalues(rank_z(0.5 + distance, ranks.ties, n_pos, n_neg), skewness)


def rank_z(auroc, ties, n_pos, n_neg):
    """Return the standardised Mann-Whitney statistic; 0 for a constant column."""
    n_rows = n_pos + n_neg
    # Variance of U / (n_pos * n_neg) over all permutations, less what the ties take away.
    variance = (n_rows + 1 - ties / (n_rows * (n_rows - 1))) / (12 * n_pos * n_neg)
    # A column that is one tie has a variance of zero, up to rounding.
    varies = variance > 1e-14
    return np.where(varies, (auroc - 0.5) / np.sqrt(np.where(varies, variance, 1)), 0.0)


def auroc_interval(block, ranks, auroc, positive, confidence=0.95):
    """Return both ends of DeLong's interval for the AUROC of each column, on the logit scale."""
    # Variances of the mean placements of both classes add up (DeLong 1988).
    variance = _placement_variance(block, ranks, positive)
    variance += _placement_variance(block, ranks, ~positive)
    inside = (auroc > 0) & (auroc < 1)
    middle = logit(np.where(inside, auroc, 0.5))
    width = norm.isf((1 - confidence) / 2) * np.sqrt(variance)
    # Delta method: the derivative of logit(a) is 1 / (a * (1 - a)).
    width = np.where(inside, width / np.where(inside, auroc * (1 - auroc), 1), 0)
    low, high = expit(middle - width), expit(middle + width)
    return np.where(inside, low, auroc), np.where(inside, high, auroc)


def _placement_variance(block, ranks, chosen):
    """Return the variance of the mean placement of the chosen rows among the others."""
    rows = np.flatnonzero(chosen)
    n_rows, n_others = len(rows), len(chosen) - len(rows)
    # The placement of a row is its rank among all rows minus its rank within its class.
    # A zero, which is not stored, has placement 0 up to a constant that variances do not see.
    placed = ranks.above_zero[rows]
    placed.data = (placed.data - midranks(block[rows]).above_zero.data) / n_others
    ones = np.ones(n_rows)
    mean = placed.T @ ones / n_rows
    placed.data **= 2
    spread = placed.T @ ones / n_rows - mean**2
    return np.maximum(spread, 0) / (n_rows - 1)
