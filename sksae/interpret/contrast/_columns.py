"""The measures of a contrast, a block of columns at a time."""

import numpy as np
from scipy import sparse

from sksae._arrays import rows_per_chunk
from sksae.interpret.contrast._ranks import (
    auroc_interval,
    auroc_of,
    midranks,
    power_sums,
    rank_pvalues,
)
from sksae.interpret.contrast._statistics import (
    exchange_skewness,
    exchange_z,
    firing_z,
    fisher_pvalues,
    log_odds,
    skewed_pvalues,
    specificity,
    welch,
    welch_pvalues,
)

STATISTICS = {
    "log_odds": ("z", "fisher", "log_odds"),
    "welch_t": ("t", "welch", "cohen_d"),
    "auroc": ("auroc", "mann_whitney", "auroc"),
    "mean_difference": ("mean_difference", "welch", "mean_difference"),
    "specificity": ("specificity", "welch", "specificity"),
}
"""Of each statistic: its measure, its test (a ratio of means has none of its own), its effect."""

CENTRED = ("auroc", "specificity")
"""Statistics that are not 0 where there is no difference; their effects are."""


def effect_of(statistic, found):
    """Return the effects behind a statistic, positive where the positive class has more."""
    effect = found[STATISTICS[statistic][2]]
    if statistic == "auroc":
        return effect - 0.5
    return np.log(effect) if statistic == "specificity" else effect


def column_blocks(X):
    """Yield blocks of columns as float64 CSC that store no zeros; one at a time exists."""
    width = rows_per_chunk(X.shape[0])
    X = sparse.csc_array(X) if sparse.issparse(X) else X
    for start in range(0, X.shape[1], width):
        block = sparse.csc_array(X[:, start : start + width], dtype=np.float64)
        if np.shares_memory(block.data, getattr(X, "data", None)):
            block = block.copy()
        block.sum_duplicates()
        block.eliminate_zeros()
        yield block


def with_values(block, data):
    """Return a block with other values in the same places."""
    return sparse.csc_array((data, block.indices, block.indptr), shape=block.shape)


def without_unit(block):
    """Return a block in a unit for each column in which no square is too large or too small."""
    counts = np.diff(block.indptr)
    filled = counts > 0
    starts = block.indptr[:-1][filled]
    shift, scale = np.zeros(block.shape[1]), np.ones(block.shape[1])
    if len(starts):
        # Without a zero in it a column may be far from 0, where squares lose what differs.
        lowest = np.minimum.reduceat(block.data, starts)
        shift[filled] = np.where(counts[filled] == block.shape[0], lowest, 0)
        scale[filled] = np.maximum.reduceat(np.abs(block.data), starts)
    values = (block.data - np.repeat(shift, counts)) / np.repeat(scale, counts)
    return with_values(block, values)


def welch_of(block, labels):
    """Return Welch's t, degrees of freedom and Cohen's d, each (n_columns, n_labellings).

    Parameters
    ----------
    block : csc_array of shape (n_rows, n_columns)
        What `without_unit` returned.
    labels : ndarray of shape (n_rows, n_labellings)
        1 for the positive class and 0 otherwise; each has as many positive rows.
    """
    squares = with_values(block, block.data**2)
    n_pos = labels[:, 0].sum()
    ones = np.ones((len(labels), 1))
    sums = [part.T @ weights for weights in (ones, labels) for part in (block, squares)]
    return welch(*sums, n_pos=n_pos, n_neg=len(labels) - n_pos)


def mean_pvalues(block, labels, t, freedom):
    """Return the p-values of Welch's test, or those of exchanged labels where these are larger.

    A class in which a feature never fires has no variance, and Welch's test trusts its mean.
    """
    n_pos = int(labels.sum())
    n_neg = len(labels) - n_pos
    sums = power_sums(block)
    z = exchange_z((block.T @ labels)[:, 0], sums, n_pos, n_neg)
    exchanged = skewed_pvalues(z, exchange_skewness(sums, n_pos, n_neg))
    return np.maximum(welch_pvalues(t, freedom), exchanged)


def firings_of(block, labels):
    """Return on how many rows columns fire: all, (n_columns, 1), and positive ones."""
    fires = with_values(block, (block.data > 0).astype(np.float64))
    return fires.T @ np.ones((len(labels), 1)), fires.T @ labels


def measures(X, positive, test):
    """Return all measures of the columns of X, and the p-values of a test, by name."""
    parts = [_measured(block, positive, test) for block in column_blocks(X)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _measured(block, positive, test):
    n_pos = int(positive.sum())
    n_neg = len(positive) - n_pos
    labels = positive[:, None].astype(np.float64)
    both = np.column_stack([positive / n_pos, ~positive / n_neg])
    mean_pos, mean_neg = (block.T @ both).T
    active = with_values(block, np.maximum(block.data, 0)).T @ both
    fired, fired_pos = (count[:, 0] for count in firings_of(block, labels))
    fired_neg = fired - fired_pos
    scaled = without_unit(block)
    t, freedom, cohen_d = (measure[:, 0] for measure in welch_of(scaled, labels))
    ranks = midranks(block)
    area = auroc_of(ranks, labels)[:, 0]
    low, high = auroc_interval(block, ranks, area, positive)
    mean_active = active @ [n_pos, n_neg] / np.maximum(fired, 1)
    if test == "welch":
        pvalues = mean_pvalues(scaled, labels, t, freedom)
    elif test == "mann_whitney":
        pvalues = rank_pvalues(area, ranks, n_pos, n_neg)
    else:
        pvalues = fisher_pvalues(fired_pos, fired, n_pos, n_neg)
    return {
        "n_documents": fired.astype(np.int64),
        "mean_pos": mean_pos,
        "mean_neg": mean_neg,
        "mean_difference": mean_pos - mean_neg,
        "t": t,
        "cohen_d": cohen_d,
        "firing_rate_pos": fired_pos / n_pos,
        "firing_rate_neg": fired_neg / n_neg,
        "log_odds": log_odds(fired_pos, fired_neg, n_pos, n_neg),
        "z": firing_z(fired_pos, fired, n_pos, n_neg),
        "auroc": area,
        "auroc_low": low,
        "auroc_high": high,
        "specificity": specificity(*active.T, mean_active, len(positive)),
        "pvalues": pvalues,
    }
