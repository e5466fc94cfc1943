"""Ranks within sparse columns, and what follows from them; the zeros of a column are one tie."""

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.special import expit, logit
from scipy.stats import norm

from sksae.interpret.contrast._statistics import exchange_skewness, skewed_pvalues


class Ranks(NamedTuple):
    """Midranks of the values of columns."""

    above_zero: sparse.csc_array  # rank of each entry less that of the zeros of its column
    of_zero: np.ndarray  # (n_columns,)
    ties: np.ndarray  # (n_columns,) sum of t**3 - t over ties of t values


def midranks(block):
    """Return the `Ranks` of the columns of a CSC block that stores no zeros."""
    n_rows, n_columns = block.shape
    counts = np.diff(block.indptr)
    order = np.empty(len(block.data), dtype=np.int64)
    for start, stop in zip(block.indptr[:-1].tolist(), block.indptr[1:].tolist(), strict=True):
        order[start:stop] = np.argsort(block.data[start:stop])
        order[start:stop] += start
    values, column = block.data[order], np.repeat(np.arange(n_columns), counts)
    new = (np.diff(values, prepend=np.nan) != 0) | (np.diff(column, prepend=-1) != 0)
    firsts = np.flatnonzero(new)
    sizes = np.diff(np.append(firsts, len(values)))
    rank = np.repeat(firsts - block.indptr[column[firsts]] + (sizes + 1) / 2, sizes)
    zeros = n_rows - counts
    rank += np.where(values > 0, zeros[column], 0)
    negative = np.bincount(column[values < 0], minlength=n_columns)
    of_zero = negative + (zeros + 1) / 2
    data = np.empty(len(values))
    data[order] = rank - of_zero[column]
    ties = np.bincount(column[firsts], _cubic(sizes), n_columns) + _cubic(zeros)
    shape = (data, block.indices, block.indptr)
    return Ranks(sparse.csc_array(shape, shape=block.shape), of_zero, ties)


def power_sums(block):
    """Return the sums of the values of each column, of their squares and cubes, (3, n_columns)."""
    powers = np.column_stack([block.data, block.data**2, block.data**3])
    column = np.repeat(np.arange(block.shape[1]), np.diff(block.indptr))
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
    n_pos = labels[:, 0].sum()
    n_neg = len(labels) - n_pos
    total = ranks.above_zero.T @ labels + n_pos * ranks.of_zero[:, None]
    return (total - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg)


def rank_pvalues(auroc, ranks, n_pos, n_neg):
    """Return the two-sided p-values of the Mann-Whitney test, by its first three moments."""
    relative = ranks.above_zero / ranks.above_zero.shape[0]
    skewness = exchange_skewness(power_sums(relative), n_pos, n_neg)
    # U moves in steps: half of one, as in scipy, is taken off.
    distance = np.maximum(np.abs(auroc - 0.5) - 0.5 / (n_pos * n_neg), 0)
    return skewed_pvalues(rank_z(0.5 + distance, ranks.ties, n_pos, n_neg), skewness)


def rank_z(auroc, ties, n_pos, n_neg):
    """Return the standardised Mann-Whitney statistic; 0 for a constant column."""
    n_rows = n_pos + n_neg
    variance = (n_rows + 1 - ties / (n_rows * (n_rows - 1))) / (12 * n_pos * n_neg)
    # A column that is one tie has a variance of zero, up to rounding.
    known = variance > 1e-14
    return np.where(known, (auroc - 0.5) / np.sqrt(np.where(known, variance, 1)), 0.0)


def auroc_interval(block, ranks, auroc, positive, confidence=0.95):
    """Return both ends of an interval for the AUROC of each column, by its placements."""
    variance = _placement_variance(block, ranks, positive)
    variance += _placement_variance(block, ranks, ~positive)
    inside = (auroc > 0) & (auroc < 1)
    middle = logit(np.where(inside, auroc, 0.5))
    width = norm.isf((1 - confidence) / 2) * np.sqrt(variance)
    width = np.where(inside, width / np.where(inside, auroc * (1 - auroc), 1), 0)
    low, high = expit(middle - width), expit(middle + width)
    return np.where(inside, low, auroc), np.where(inside, high, auroc)


def _placement_variance(block, ranks, chosen):
    """Return the variance of the mean placement of the chosen rows among the others."""
    rows = np.flatnonzero(chosen)
    n_rows, n_others = len(rows), len(chosen) - len(rows)
    placed = ranks.above_zero[rows]  # its rank among all, less that among its own class
    placed.data = (placed.data - midranks(block[rows]).above_zero.data) / n_others
    ones = np.ones(n_rows)
    mean = placed.T @ ones / n_rows
    placed.data **= 2
    spread = placed.T @ ones / n_rows - mean**2
    return np.maximum(spread, 0) / (n_rows - 1)
