"""Associations of all features with a target: effects, intervals and p-values, in blocks."""

import numpy as np
from scipy import sparse
from scipy.stats import norm

from sksae.interpret.contrast._measures import (
    STATISTICS,
    column_blocks,
    firings_of,
    mean_pvalues,
    with_values,
    without_unit,
)
from sksae.interpret.contrast._score_tests import make_design, score_tests
from sksae.interpret.contrast._statistics import (
    auroc_of,
    fisher_pvalues,
    log_odds,
    midranks,
    rank_pvalues,
    skewed_pvalues,
    welch,
)

OF_NUMBERS = ("spearman", "linear")
OF_TWO = ("mean_difference", "specificity")  # classes, without groups and covariates
# Without groups and covariates the statistics are those of `_measures`; with them, score tests.
FORMS = {
    **dict.fromkeys(STATISTICS, "values"),
    "log_odds": "fires",
    "auroc": "ranks",
    "spearman": "ranks",
    "linear": "values",
}
"""Form in which each statistic reads codes: whether they fire, their values, or their ranks."""

_LEAST = 1e-300  # a p-value that is not told from 0

_WIDTH = norm.isf(0.025)


def in_form(block, form):
    """Return a block in a form of `FORMS`, up to a constant per column, without stored zeros."""
    if form == "values":
        block = without_unit(block)
    elif form == "fires":
        block = with_values(block, (block.data > 0).astype(np.float64))
    else:
        block = midranks(block).above_zero / block.shape[0]
    if block.data.all():
        return sparse.csc_array(block)
    block = sparse.csc_array(block, copy=True)  # it shares its places with the block that was given
    block.eliminate_zeros()
    return block


def associations(X, target, statistic, design=None):
    """Return effects, intervals and p-values of all columns by name.

    Parameters
    ----------
    X : {ndarray, sparse container} of shape (n_documents, n_columns)
        Codes.
    target : Target
    statistic : str
        A key of `FORMS`.
    design : Design, default=None
        Scores of the target with groups and covariates; None tests classes without them.

    Returns
    -------
    columns : dict of str to ndarray
        Each of shape (n_columns,) or (n_columns, n_classes).
    """
    linear = statistic == "linear"
    ranked = _with_scores(design, target.scores("spearman")) if linear else None
    parts = []
    for block in column_blocks(X):
        if design is None:
            tested = class_effects(block, target.scores(statistic), statistic)
        else:
            form = FORMS[statistic]
            step = float(form == "fires")  # numbers of firing documents move in steps of 1
            tests = score_tests(in_form(block, form), design, step=step)
            tested = [tests.correlation, tests.low, tests.high, tests.pvalues]
        if linear:  # heavy tails make linear effects of nothing; ranks have none
            also = score_tests(in_form(block, "ranks"), ranked).pvalues
            tested[3] = np.maximum(tested[3], also)
        parts.append([*tested, *_target_means(block, target)])
    joined = [np.concatenate(part) for part in zip(*parts, strict=True)]
    return _named(joined, target)


def _with_scores(design, scores):
    """Return the `Design` of other scores with the groups and covariates of a given one."""
    covariates = design.basis if design.basis.shape[1] else None
    return make_design(scores, design.group, covariates)


def _target_means(block, target):
    """Return the firing documents of each column, and the mean target of these and the others."""
    values = target.values.astype(np.float64)  # as if the target were a labelling
    fired, total = (count[:, 0] for count in firings_of(block, values[:, None]))
    silent = block.shape[0] - fired
    with np.errstate(invalid="ignore", divide="ignore"):
        # A feature that fires everywhere or nowhere has NaN for one of the means.
        return fired.astype(np.int64), total / fired, (values.sum() - total) / silent


def _named(joined, target):
    # The first four are (n_columns, n_scores), the others (n_columns,).
    effects, low, high, pvalues, n_documents, firing, silent = joined
    if target.type != "multiclass":
        columns = {
            "effects": effects[:, 0],
            "effects_low": low[:, 0],
            "effects_high": high[:, 0],
            "pvalues": pvalues[:, 0],
        }
        if target.type != "binary":
            columns |= {"target_firing": firing, "target_silent": silent}
    else:
        # Class with the smallest p-value, of equal ones the largest effect.
        strongest = np.lexsort((-np.abs(effects), pvalues), axis=1)[:, 0]
        of_strongest = np.arange(len(effects)), strongest
        columns = {
            "effects": effects[of_strongest],
            "effects_low": low[of_strongest],
            "effects_high": high[of_strongest],
            # Bonferroni's correction for the choice of a class.
            "pvalues": np.minimum(pvalues[of_strongest] * pvalues.shape[1], 1),
            "strongest_class": target.classes[strongest],
            "class_effects": effects,
            "class_pvalues": pvalues,
        }
    # Scores are z-values: the normal quantile of the p-value, with the sign of the effect.
    evidence = norm.isf(np.maximum(columns["pvalues"], _LEAST) / 2)
    columns["scores"] = np.copysign(evidence, columns["effects"])
    return {**columns, "n_documents": n_documents}


def signed_ranks(block):
    """Return Wilcoxon's signed ranks of differences of pairs, for a block without stored zeros."""
    magnitudes = midranks(with_values(block, np.abs(block.data)))
    zeros = block.shape[0] - np.diff(block.indptr)  # pairs without a difference, (n_columns,)
    # Pairs without a difference are left out: ranks are those among the others.
    rank = magnitudes.above_zero.data - np.repeat((zeros - 1) / 2, np.diff(block.indptr))
    return with_values(block, np.sign(block.data) * rank)


def pair_associations(differences):
    """Return Wilcoxon's tests of the differences of matched pairs by name.

    Parameters
    ----------
    differences : sparse container of shape (n_pairs, n_columns)
        Codes of the positive document of each pair, less those of the other.
    """
    parts = []
    for block in column_blocks(differences):
        ranks = signed_ranks(block)
        total = ranks.sum(axis=0)
        # The sum of the ranks if all differences had one sign: the effect is the rank-biserial
        # correlation, from -1 to 1.
        largest = np.maximum(abs(ranks).sum(axis=0), 1e-300)
        # Standard deviation of the sum under random signs.
        deviation = np.sqrt(np.maximum(ranks.power(2).sum(axis=0), 1e-300))
        differs = np.diff(block.indptr) > 0
        # Continuity correction: flipping the sign of a rank changes the sum by at least 2.
        z = np.where(differs, np.maximum(np.abs(total) - 1, 0) / deviation, 0)
        effect = np.where(differs, total / largest, 0)
        # Interval on Fisher's scale, on which the width at 0 holds everywhere.
        width = norm.isf(0.025) * deviation / largest
        middle = np.arctanh(np.clip(effect, -1 + 1e-12, 1 - 1e-12))
        low = np.where(differs, np.tanh(middle - width), -1)
        high = np.where(differs, np.tanh(middle + width), 1)
        parts.append([effect, low, high, skewed_pvalues(z, np.zeros(len(z)))])
    effects, low, high, pvalues = (np.concatenate(part) for part in zip(*parts, strict=True))
    scores = np.copysign(norm.isf(np.maximum(pvalues, _LEAST) / 2), effects)
    names = ("effects", "effects_low", "effects_high", "pvalues", "scores")
    return dict(zip(names, (effects, low, high, pvalues, scores), strict=True))


def permuted_pvalues(X, form, design, n_permutations, random):
    """Return the share of permutations whose largest statistic reaches that of each column.

    Parameters
    ----------
    X : {ndarray, sparse container} of shape (n_documents, n_columns)
    form : {"fires", "values", "ranks"}
    design : Design
        Scores are permuted within its groups.
    n_permutations : int
    random : RandomState
    """
    # (n_documents, n_scores, n_permutations)
    draws = np.stack([design.permuted(random) for _ in range(n_permutations)], axis=2)
    largest, observed = np.zeros(n_permutations), []
    for block in column_blocks(X):
        block = in_form(block, form)
        unit = score_tests(block, design).unit  # (n_columns, n_scores)
        observed.append((np.abs(block.T @ design.scores) / unit).max(axis=1))
        for index in range(unit.shape[1]):  # index of a score
            drawn = np.abs(block.T @ draws[:, index]) / unit[:, [index]]
            largest = np.maximum(largest, drawn.max(axis=0))
    return _share_reaching(largest, observed)


def flipped_pvalues(differences, n_permutations, random):
    """Return the share of random signs of pairs whose largest statistic reaches each column's."""
    # (n_pairs, n_permutations)
    signs = random.choice([-1.0, 1.0], size=(differences.shape[0], n_permutations))
    largest, observed = np.zeros(n_permutations), []
    for block in column_blocks(differences):
        ranks = signed_ranks(block)
        unit = np.sqrt(np.maximum(ranks.power(2).sum(axis=0), 1e-300))
        observed.append(np.abs(ranks.sum(axis=0)) / unit)
        # Signs of whole pairs: a pair is flipped in all columns at once.
        drawn = np.abs(ranks.T @ signs) / unit[:, None]
        largest = np.maximum(largest, drawn.max(axis=0))
    return _share_reaching(largest, observed)


def _share_reaching(largest, observed):
    # Equal statistics may differ by rounding: the same sum in another order.
    # permutations whose largest statistic stays below, (n_columns,)
    below = np.searchsorted(np.sort(largest), np.concatenate(observed) * (1 - 1e-9))
    return (1 + len(largest) - below) / (1 + len(largest))


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
        # Counts of documents again, from rates.
        fired_pos = np.round(columns["firing_rate_pos"] * n_pos)
        error = log_odds_error(fired_pos, columns["n_documents"] - fired_pos, n_pos, n_neg)
    elif statistic == "welch_t":
        error = cohen_d_error(effect, n_pos, n_neg)
    elif statistic == "mean_difference":
        t = columns["t"]
        # The standard error is what the statistic t has divided the difference by.
        error = np.abs(np.divide(effect, t, out=np.zeros_like(t), where=t != 0))
    else:
        error = np.full(len(effect), np.nan)
    return effect - _WIDTH * error, effect + _WIDTH * error


def _of_odds(block, labels):
    n_pos = labels.sum(axis=0)  # of each class, (n_classes,)
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
    # Cohen's d and t have no unit; of numbers of moderate size, squares lose least.
    squares = with_values(scaled, scaled.data**2)
    n_pos = labels.sum(axis=0)
    n_neg = len(labels) - n_pos
    ones = np.ones((len(labels), 1))
    # Sums of values and of squares over all rows, then over those of each class.
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
    # Probabilities that two positives are above one negative, and one positive above two negatives.
    both_pos, both_neg = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area)
    variance += (n_pos - 1) * (both_pos - area**2) + (n_neg - 1) * (both_neg - area**2)
    error = np.sqrt(np.maximum(variance, 0) / (n_pos * n_neg))
    return area - 0.5, error, np.stack(pvalues, axis=1)
