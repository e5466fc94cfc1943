"""Effects of one class against the rest, with intervals: odds, means and ranks."""

import numpy as np
from scipy.stats import norm

from sksae.interpret.contrast._measures import firings_of, mean_pvalues, with_values, without_unit
from sksae.interpret.contrast._statistics import (
    auroc_of,
    fisher_pvalues,
    log_odds,
    midranks,
    rank_pvalues,
    welch,
)

_WIDTH = norm.isf(0.025)


def class_effects(block, labels, statistic):
    """Return effects, ends of their intervals and p-values, each (n_columns, n_classes).

    Parameters
    ----------
    block : csc_array of shape (n_rows, n_columns)
        Codes without stored zeros.
    labels : ndarray of shape (n_rows, n_classes)
        1 for the rows of a class and 0 otherwise.
    statistic : {"log_odds", "welch_t", "auroc"}
    """
    measure = {"log_odds": _of_odds, "welch_t": _of_means, "auroc": _of_ranks}[statistic]
    effect, error, pvalues = measure(block, labels)
    return [effect, effect - _WIDTH * error, effect + _WIDTH * error, pvalues]


def effect_interval(statistic, columns, positive):
    """Return both ends of the intervals of the effects of a binary contrast, (n_columns,) each.

    A ratio of means, "specificity", has none: its ends are NaN.
    """
    n_pos, n_neg = int(positive.sum()), int((~positive).sum())
    effect = columns["effects"]
    if statistic == "auroc":
        return columns["auroc_low"] - 0.5, columns["auroc_high"] - 0.5
    if statistic == "log_odds":
        fired_pos = np.round(columns["firing_rate_pos"] * n_pos)
        error = log_odds_error(fired_pos, columns["n_documents"] - fired_pos, n_pos, n_neg)
    elif statistic == "welch_t":
        error = cohen_d_error(effect, n_pos, n_neg)
    elif statistic == "mean_difference":
        t = columns["t"]
        error = np.abs(np.divide(effect, t, out=np.zeros_like(t), where=t != 0))
    else:
        error = np.full(len(effect), np.nan)
    return effect - _WIDTH * error, effect + _WIDTH * error


def _of_odds(block, labels):
    n_pos = labels.sum(axis=0)
    n_neg = len(labels) - n_pos
    fired, fired_pos = firings_of(block, labels)
    effect = log_odds(fired_pos, fired - fired_pos, n_pos, n_neg)
    pvalues = [
        fisher_pvalues(fired_pos[:, c], fired[:, 0], int(n_pos[c]), int(n_neg[c]))
        for c in range(len(n_pos))
    ]
    return effect, log_odds_error(fired_pos, fired - fired_pos, n_pos, n_neg), np.stack(pvalues, 1)


def log_odds_error(fired_pos, fired_neg, n_pos, n_neg):
    """Return the standard error of log odds ratios, half a document added to each count."""
    counts = (fired_pos, fired_neg, n_pos - fired_pos, n_neg - fired_neg)
    return np.sqrt(sum(1 / (count + 0.5) for count in counts))


def _of_means(block, labels):
    scaled = without_unit(block)
    squares = with_values(scaled, scaled.data**2)
    n_pos = labels.sum(axis=0)
    n_neg = len(labels) - n_pos
    ones = np.ones((len(labels), 1))
    sums = [part.T @ weights for weights in (ones, labels) for part in (scaled, squares)]
    t, freedom, effect = welch(*sums, n_pos=n_pos, n_neg=n_neg)
    pvalues = [
        mean_pvalues(scaled, labels[:, [c]], t[:, c], freedom[:, c]) for c in range(len(n_pos))
    ]
    return effect, cohen_d_error(effect, n_pos, n_neg), np.stack(pvalues, axis=1)


def cohen_d_error(effect, n_pos, n_neg):
    """Return the standard error of Cohen's d of normal values."""
    return np.sqrt(1 / n_pos + 1 / n_neg + effect**2 / (2 * (n_pos + n_neg)))


def _of_ranks(block, labels):
    ranks, areas, pvalues = midranks(block), [], []
    n_pos = labels.sum(axis=0)
    n_neg = len(labels) - n_pos
    for index in range(labels.shape[1]):
        areas.append(auroc_of(ranks, labels[:, [index]])[:, 0])
        pvalues.append(rank_pvalues(areas[-1], ranks, n_pos[index], n_neg[index]))
    area = np.stack(areas, axis=1)
    # Of Hanley and McNeil, for exponential values.
    both_pos, both_neg = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area)
    variance += (n_pos - 1) * (both_pos - area**2) + (n_neg - 1) * (both_neg - area**2)
    error = np.sqrt(np.maximum(variance, 0) / (n_pos * n_neg))
    return area - 0.5, error, np.stack(pvalues, axis=1)
