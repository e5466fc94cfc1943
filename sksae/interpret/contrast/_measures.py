"""Measures of all features of a contrast in blocks of columns, and score functions made of them."""

import numpy as np
from scipy import sparse
from sklearn.utils import check_X_y

from sksae._arrays import check_rows, rows_per_chunk
from sksae._params import Bool, check_option
from sksae.interpret.contrast._statistics import (
    auroc_interval,
    auroc_of,
    exchange_skewness,
    exchange_z,
    firing_z,
    fisher_pvalues,
    log_odds,
    midranks,
    power_sums,
    rank_pvalues,
    rank_z,
    skewed_pvalues,
    specificity,
    welch,
    welch_pvalues,
)
from sksae.interpret.contrast._targets import check_class_sizes, two_classes

STATISTICS = {
    "log_odds": ("z", "fisher", "log_odds"),
    "welch_t": ("t", "welch", "cohen_d"),
    "auroc": ("auroc", "mann_whitney", "auroc"),
    "mean_difference": ("mean_difference", "welch", "mean_difference"),
    "specificity": ("specificity", "welch", "specificity"),
}
"""Measure, test and effect of each statistic; a ratio of means has no test of its own."""

CENTRED = ("auroc", "specificity")
"""Statistics whose value is not 0 where there is no difference; their effects are 0."""


def effect_of(statistic, columns):
    """Return the effects that belong to a statistic, positive where the positive class has more.

    Parameters
    ----------
    statistic : str
        A key of `STATISTICS`.
    columns : dict of str to ndarray
        The measures.
    """
    effect = columns[STATISTICS[statistic][2]]
    if statistic == "auroc":
        return effect - 0.5
    # Of a ratio the logarithm, which is 0 where both means are equal.
    return np.log(effect) if statistic == "specificity" else effect


def column_blocks(X):
    """Yield blocks of columns as float64 CSC without stored zeros, one at a time in memory."""
    # Columns whose dense form would fit into one chunk of memory.
    width = rows_per_chunk(X.shape[0])
    X = sparse.csc_array(X) if sparse.issparse(X) else X
    for start in range(0, X.shape[1], width):
        block = sparse.csc_array(X[:, start : start + width], dtype=np.float64)
        # A block of all columns may share memory with X, which the next lines would change.
        if np.shares_memory(block.data, getattr(X, "data", None)):
            block = block.copy()
        block.sum_duplicates()
        block.eliminate_zeros()
        yield block


def with_values(block, data):
    """Return a block with other values in the same places."""
    return sparse.csc_array((data, block.indices, block.indptr), shape=block.shape)


def without_unit(block):
    """Return a block whose columns are scaled so that their squares neither over- nor underflow."""
    counts = np.diff(block.indptr)
    filled = counts > 0
    starts = block.indptr[:-1][filled]  # first entry of each column that has any
    shift, scale = np.zeros(block.shape[1]), np.ones(block.shape[1])
    if len(starts):
        # A column without zeros may lie far from 0, where squares would lose the differences.
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
        Block from `without_unit`.
    labels : ndarray of shape (n_rows, n_labellings)
        1 for the positive class and 0 otherwise; each has as many positive rows.
    """
    squares = with_values(block, block.data**2)
    n_pos = labels[:, 0].sum()
    ones = np.ones((len(labels), 1))
    # Sums of values and of squares over all rows, then over the positive ones.
    sums = [part.T @ weights for weights in (ones, labels) for part in (block, squares)]
    return welch(*sums, n_pos=n_pos, n_neg=len(labels) - n_pos)


def mean_pvalues(block, labels, t, freedom):
    """Return the p-values of Welch's test, or those of permuted labels where these are larger.

    A class in which a feature never fires has no variance, and Welch's test trusts its mean.
    """
    n_pos = int(labels.sum())  # one labelling, (n_rows, 1)
    n_neg = len(labels) - n_pos
    sums = power_sums(block)
    z = exchange_z((block.T @ labels)[:, 0], sums, n_pos, n_neg)  # (n_columns,)
    exchanged = skewed_pvalues(z, exchange_skewness(sums, n_pos, n_neg))
    return np.maximum(welch_pvalues(t, freedom), exchanged)


def firings_of(block, labels):
    """Return the number of rows on which columns fire, all and positive ones.

    Their shapes are (n_columns, 1) and (n_columns, n_labellings).
    """
    fires = with_values(block, (block.data > 0).astype(np.float64))
    return fires.T @ np.ones((len(labels), 1)), fires.T @ labels


def measures(X, positive, test):
    """Return all measures of the columns of X, and the p-values of a test, by name."""
    parts = [_measured(block, positive, test) for block in column_blocks(X)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _measured(block, positive, test):
    """Return the measures of one block, each of shape (n_columns,), by name."""
    n_pos = int(positive.sum())
    n_neg = len(positive) - n_pos
    labels = positive[:, None].astype(np.float64)
    # A product with these columns gives the means over the two classes.
    averages = np.column_stack([positive / n_pos, ~positive / n_neg])
    mean_pos, mean_neg = (block.T @ averages).T
    active = with_values(block, np.maximum(block.data, 0)).T @ averages  # (n_columns, 2)
    fired, fired_pos = (count[:, 0] for count in firings_of(block, labels))
    fired_neg = fired - fired_pos
    scaled = without_unit(block)
    t, freedom, cohen_d = (measure[:, 0] for measure in welch_of(scaled, labels))
    ranks = midranks(block)
    area = auroc_of(ranks, labels)[:, 0]
    low, high = auroc_interval(block, ranks, area, positive)
    # Mean of the activations above 0: sums of both classes over the number of firing rows.
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


def family_pvalues(X, positive, test, n_permutations, random):
    """Return the share of labellings whose largest statistic reaches that of each column.

    Parameters
    ----------
    X : {ndarray, sparse container} of shape (n_rows, n_columns)
    positive : bool ndarray of shape (n_rows,)
    test : {"fisher", "welch", "mann_whitney"}
    n_permutations : int
        Random labellings; the given one is counted beside them.
    random : RandomState

    Returns
    -------
    pvalues : ndarray of shape (n_columns,)
    """
    labels = np.empty((len(positive), n_permutations), dtype=bool)
    for column in labels.T:  # (n_permutations, n_rows), a view
        column[:] = random.permutation(positive)
    largest = np.zeros(n_permutations)  # over the columns, of each permutation
    observed = []  # of each column, under the given labels
    for block in column_blocks(X):
        block = without_unit(block) if test == "welch" else block
        ranks = midranks(block) if test == "mann_whitney" else None
        observed.append(_standardized(block, ranks, positive[:, None], test)[:, 0])
        step = rows_per_chunk(max(block.shape))  # labellings at a time
        for start in range(0, n_permutations, step):
            part = slice(start, start + step)
            statistic = _standardized(block, ranks, labels[:, part], test)
            largest[part] = np.maximum(largest[part], statistic.max(axis=0))
    # Equal statistics may differ by rounding: the same sum in another order.
    # Permutations whose largest statistic stays below the observed one. The given labels count as
    # one more permutation, so that no p-value is 0.
    below = np.searchsorted(np.sort(largest), np.concatenate(observed) * (1 - 1e-9))
    return (1 + n_permutations - below) / (1 + n_permutations)


def _standardized(block, ranks, labels, test):
    """Return the absolute statistic of each column and labelling, (n_columns, n_labellings)."""
    labels = labels.astype(np.float64)
    n_pos = labels[:, 0].sum()
    n_neg = len(labels) - n_pos
    if test == "welch":
        return np.abs(welch_of(block, labels)[0])
    if test == "fisher":
        fired, fired_pos = firings_of(block, labels)
        return np.abs(firing_z(fired_pos, fired, n_pos, n_neg))
    return np.abs(rank_z(auroc_of(ranks, labels), ranks.ties[:, None], n_pos, n_neg))


def welch_t(X, y, *, pos_label=None, signed=False):
    """Test whether the mean of each feature differs between two classes, by Welch's t.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Features, one row per document.
    y : array-like of shape (n_samples,)
        Two classes, of at least two documents each.
    pos_label : object, default=None
        The positive class. None takes the larger label.
    signed : bool, default=False
        Whether the score is negative where the mean of the positive class is the smaller one.
        Without a sign, the largest scores are those of the features that differ most, either way,
        which is what :class:`~sklearn.feature_selection.SelectKBest` needs.

    Returns
    -------
    scores : ndarray of shape (n_features,)
        Welch's t; 0 for a constant feature, infinite where each class has one value of its own.
    pvalues : ndarray of shape (n_features,)
        Two-sided p-values: those of Welch's test, or those of permuted labels by the first three
        moments of the mean, whichever are larger. In a class in which a feature never fires it has
        no variance, and Welch's test takes its mean for certain.

    Raises
    ------
    ValueError
        If `y` has not two classes of two documents each, or X is not finite.

    See Also
    --------
    FeatureContrast : All measures at once, with a control of false discoveries.
    scipy.stats.ttest_ind : The same for dense arrays, with ``equal_var=False``.
    sklearn.feature_selection.f_classif : The same squared, if both classes vary as much.

    References
    ----------
    .. [1] Welch, B. L. "The generalization of 'Student's' problem when several different
       population variances are involved." Biometrika 34, 1947.

    Examples
    --------
    >>> from sksae.interpret import welch_t
    >>> scores, pvalues = welch_t([[1, 0], [2, 1], [6, 0], [7, 1]], ["a", "a", "b", "b"])
    >>> scores.round(3)
    array([7.071, 0.   ])
    """

    def of_block(block, labels):
        block = without_unit(block)
        t, freedom, _ = (measure[:, 0] for measure in welch_of(block, labels))
        return t, mean_pvalues(block, labels, t, freedom)

    t, pvalues = _by_blocks(X, y, pos_label, of_block, signed)
    return (t if signed else np.abs(t)), pvalues


def log_odds_z(X, y, *, pos_label=None, signed=False):
    """Test whether a feature fires in more documents of one class than of the other.

    A feature fires where it is greater than 0. The score is the number of its firings in the
    positive class, standardised by expectation and variance under permuted labels. Unlike the
    log odds ratio over its standard error, it keeps growing for a feature that never fires in one
    of the classes.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Features, one row per document.
    y : array-like of shape (n_samples,)
        Two classes, of at least two documents each.
    pos_label : object, default=None
        The positive class. None takes the larger label.
    signed : bool, default=False
        Whether the score is negative where the positive class fires less. Without a sign, the
        largest scores are those of the features that differ most, either way, which is what
        :class:`~sklearn.feature_selection.SelectKBest` needs.

    Returns
    -------
    scores : ndarray of shape (n_features,)
        The standardised difference; 0 for a feature that fires everywhere or nowhere.
    pvalues : ndarray of shape (n_features,)
        Two-sided p-values of Fisher's exact test.

    Raises
    ------
    ValueError
        If `y` has not two classes of two documents each, or X is not finite.

    See Also
    --------
    FeatureContrast : All measures at once, with a control of false discoveries.
    scipy.stats.fisher_exact : The same p-value for one feature.

    References
    ----------
    .. [1] Mantel, N., Haenszel, W. "Statistical aspects of the analysis of data from retrospective
       studies of disease." Journal of the National Cancer Institute 22, 1959.

    Examples
    --------
    >>> from sksae.interpret import log_odds_z
    >>> scores, pvalues = log_odds_z([[0], [0], [0], [1], [2], [1]], [0, 0, 0, 1, 1, 1])
    >>> scores.round(3), pvalues.round(3)
    (array([2.236]), array([0.1]))
    """

    def of_block(block, labels):
        n_pos = int(labels.sum())
        fired, fired_pos = (count[:, 0] for count in firings_of(block, labels))
        sizes = n_pos, len(labels) - n_pos
        return firing_z(fired_pos, fired, *sizes), fisher_pvalues(fired_pos, fired, *sizes)

    z, pvalues = _by_blocks(X, y, pos_label, of_block, signed)
    return (z if signed else np.abs(z)), pvalues


def auroc(X, y, *, pos_label=None, signed=False):
    """Measure how well each feature alone ranks one class above the other.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Features, one row per document; the zeros of a sparse matrix are never stored.
    y : array-like of shape (n_samples,)
        Two classes, of at least two documents each.
    pos_label : object, default=None
        The positive class. None takes the larger label.
    signed : bool, default=False
        Whether the score is below 0.5 where the positive class has the smaller values. Otherwise
        it is that of the feature or of its negative, whichever is larger, which is what
        :class:`~sklearn.feature_selection.SelectKBest` needs.

    Returns
    -------
    scores : ndarray of shape (n_features,)
        Area under the ROC curve; ties count half, and a constant feature has 0.5.
    pvalues : ndarray of shape (n_features,)
        Two-sided p-values of the Mann-Whitney test, by the first three moments of its statistic.
        The third one matters for features that hardly fire in the smaller class.

    Raises
    ------
    ValueError
        If `y` has not two classes of two documents each, or X is not finite.

    See Also
    --------
    FeatureContrast : All measures at once, with a control of false discoveries.
    scipy.stats.mannwhitneyu : The same for dense arrays.
    sklearn.metrics.roc_auc_score : The area of one score.

    References
    ----------
    .. [1] Mann, H. B., Whitney, D. R. "On a test of whether one of two random variables is
       stochastically larger than the other." Annals of Mathematical Statistics 18, 1947.

    Examples
    --------
    >>> from sksae.interpret import auroc
    >>> X, y = [[0, 3], [0, 2], [1, 1], [0, 0]], [0, 0, 1, 1]
    >>> auroc(X, y)[0]
    array([0.75, 1.  ])
    >>> auroc(X, y, signed=True)[0]
    array([0.75, 0.  ])
    """

    def of_block(block, labels):
        n_pos = int(labels.sum())
        ranks = midranks(block)
        area = auroc_of(ranks, labels)[:, 0]
        return area, rank_pvalues(area, ranks, n_pos, len(labels) - n_pos)

    area, pvalues = _by_blocks(X, y, pos_label, of_block, signed)
    # An area below 0.5 is one above it for the negative of the feature.
    return (area if signed else np.maximum(area, 1 - area)), pvalues


def _by_blocks(X, y, pos_label, of_block, signed):
    """Return the scores and p-values of all columns, one block at a time."""
    check_option("signed", signed, Bool())
    check_rows(X, "X")
    X, y = check_X_y(X, y, accept_sparse=("csr", "csc"), dtype=[np.float64, np.float32])
    _, _, positive = two_classes(y, pos_label)
    check_class_sizes(positive)
    labels = positive[:, None].astype(np.float64)
    parts = [of_block(block, labels) for block in column_blocks(X)]
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))
