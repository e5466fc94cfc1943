"""Several estimators on the same splits."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import check_cv, cross_validate
from sklearn.utils import Bunch

from sksae.metrics import sae_scorer

_COLUMNS = {
    # name of a column: the score, and its sign
    "explained_variance": ("test_explained_variance", 1),
    "l0": ("test_neg_l0", -1),
    "dead_fraction": ("test_neg_dead_fraction", -1),
    "fit_seconds": ("fit_time", 1),
}


def compare(estimators, X, y=None, *, cv=None, n_jobs=None):
    """Compare autoencoders and other decompositions on the same splits.

    Every estimator is cloned, fitted to the training rows of a split and scored on the others.

    Parameters
    ----------
    estimators : dict of str to estimator, or list of estimator
        What to compare: autoencoders, :class:`~sklearn.decomposition.PCA`,
        :class:`~sklearn.decomposition.NMF`,
        :class:`~sklearn.decomposition.MiniBatchDictionaryLearning`, pipelines of them; anything
        with `transform` and `inverse_transform`. Those in a list are named by their classes, and
        numbered where a class occurs again.
    X : array-like of shape (n_samples, n_features)
        Rows.
    y : array-like of shape (n_samples,), default=None
        Classes, for splits that are stratified; no estimator needs it.
    cv : int, cross-validation generator or iterable, default=None
        Splits, as in :class:`sklearn.model_selection.GridSearchCV`; None for 5 folds. Rows that
        belong together need a splitter by group.
    n_jobs : int, default=None
        Number of fits that joblib computes in parallel; the seconds are then those of a busy
        machine.

    Returns
    -------
    comparison : :class:`~sklearn.utils.Bunch`
        Dictionary-like object with the following attributes, each an array with one entry per
        estimator; ``pandas.DataFrame(comparison)`` is a table.

        estimator : ndarray of str
            Names.
        explained_variance, l0, dead_fraction, fit_seconds : ndarray of float
            Means over the splits: of the explained variance, the codes per row that are not zero,
            and the share of latents without any, of the rows that were not fitted; and of the
            seconds of a fit.
        explained_variance_std, l0_std, dead_fraction_std, fit_seconds_std : ndarray of float
            Sample standard deviations over the splits; NaN for one split.

    Raises
    ------
    TypeError
        If an estimator lacks a method.
    ValueError
        If there is no estimator.

    See Also
    --------
    sksae.metrics.sae_scorer : The scores.
    feature_stability : Whether another start finds the same components.

    Notes
    -----
    A comparison is fair at an equal number of codes per row: components of PCA all have codes that
    are not zero.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from sksae import TopKSAE
    >>> from sksae.model_selection import compare
    >>> X = load_digits().data[:500]
    >>> comparison = compare([PCA(4), TopKSAE(64, k=4, random_state=0)], X, cv=2)
    >>> [str(name) for name in comparison.estimator], comparison.l0.round().tolist()
    (['PCA', 'TopKSAE'], [4.0, 4.0])
    """
    named = estimators if isinstance(estimators, Mapping) else _named(estimators)
    if not named:
        raise ValueError("There is no estimator to compare.")
    for name, estimator in named.items():
        for method in ("fit", "transform", "inverse_transform"):
            if isinstance(estimator, type) or not hasattr(estimator, method):
                raise TypeError(f"{name!r} has no method {method!r}. Got {estimator!r}.")
    splits = list(check_cv(cv, y, classifier=y is not None).split(X, y))
    options = {"cv": splits, "scoring": sae_scorer, "n_jobs": n_jobs, "error_score": "raise"}
    results = [cross_validate(clone(each), X, y, **options) for each in named.values()]
    comparison = Bunch(estimator=np.array(list(named)))
    for column, (key, sign) in _COLUMNS.items():
        values = np.array([sign * result[key] for result in results])  # one row per estimator
        comparison[column] = values.mean(axis=1)
        one_split = np.full(len(values), np.nan)
        std = values.std(axis=1, ddof=1) if len(splits) > 1 else one_split
        comparison[f"{column}_std"] = std
    return comparison


def _named(estimators):
    """Return estimators by class name, numbered where a class occurs again."""
    counts, named = Counter(), {}
    for estimator in estimators:
        name = type(estimator).__name__
        counts[name] += 1
        named[name if counts[name] == 1 else f"{name} {counts[name]}"] = estimator
    return named
