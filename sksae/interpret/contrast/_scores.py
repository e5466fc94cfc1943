"""Score functions that test every feature, for SelectKBest and its relatives."""

import numpy as np
from sklearn.utils import check_X_y

from sksae._arrays import check_rows
from sksae._params import Bool, check_option
from sksae.interpret.contrast._documents import check_class_sizes, two_classes
from sksae.interpret.contrast._measures import (
    column_blocks,
    firings_of,
    mean_pvalues,
    welch_of,
    without_unit,
)
from sksae.interpret.contrast._statistics import (
    auroc_of,
    firing_z,
    fisher_pvalues,
    midranks,
    rank_pvalues,
)


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
