"""Probes of a target on few latents, beside probes on everything else."""

from collections.abc import Mapping
from numbers import Integral

import numpy as np
from scipy import sparse
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import check_cv, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted

from sksae._params import Int, check_option
from sksae.model_selection._comparison import named_estimators
from sksae.model_selection._score_table import ScoreTable


def sparse_probing(
    estimator,
    X,
    y,
    *,
    k=(1, 2, 5, 16),
    cv=None,
    scoring=None,
    baseline=None,
    n_draws=5,
    random_state=None,
):
    """Measure how well few latents predict a class, beside what else predicts it.

    In every split the k latents with the largest F statistic of the training rows are chosen, and a
    logistic regression on them is scored on the other rows [1]_. The same is done with the k best
    columns of X, the first k principal components, and k latents drawn at random; a regression on
    all columns of X shows what there is to predict. All columns are standardised.

    Parameters
    ----------
    estimator : estimator or {array-like, sparse matrix} of shape (n_samples, n_components)
        A fitted autoencoder, or another transformer, or the codes of the rows. It has not seen y;
        that it may have seen the rows does no harm to the comparison of latents with columns.
    X : array-like of shape (n_samples, n_features)
        Rows.
    y : array-like of shape (n_samples,)
        Classes.
    k : int or sequence of int, default=(1, 2, 5, 16)
        Numbers of latents. All are taken where there are fewer.
    cv : int, cross-validation generator or iterable, default=None
        Splits, as in :class:`sklearn.model_selection.GridSearchCV`; None for 5 folds.
    scoring : str or callable, default=None
        Score of a probe; None takes its accuracy. "balanced_accuracy" for unequal classes.
    baseline : estimator, dict of str to estimator, or list of estimator, default=None
        Estimators whose latents are probed in the same way, such as a :class:`~sksae.DummySAE` of
        the same width and `k`. Those that are not fitted yet are cloned, and fitted to X. Those
        without a name have that of their class, with a number where a class occurs again.
    n_draws : int, default=5
        Draws of the random latents, so that what they reach is not the luck of one draw.
    random_state : int, RandomState instance or None, default=None
        Draws the random latents.

    Returns
    -------
    probes : ScoreTable
        Dictionary-like object with the following attributes, each an array with one entry per
        probe; `to_frame` returns a data frame.

        probe : ndarray of str
            "latents", "columns", "principal components", "random latents", "all columns", and
            "latents of " a baseline.
        k : ndarray of int
            Number of columns that the probe reads.
        mean, std : ndarray of float
            Mean and sample standard deviation of the score over the splits; NaN for one split. Of
            the random latents, over draws of the mean over splits; NaN for one draw.
        low, high : ndarray of float
            The mean less and plus two standard errors. Splits share rows, so that this interval is
            too narrow, as all of cross-validation are. Of the random latents, the mean less and
            plus two standard deviations: what lies above is more than a draw reaches by luck.

    Raises
    ------
    TypeError
        If X is sparse, or a baseline cannot transform.
    ValueError
        If y has no classes, or the codes have another number of rows than X.

    Notes
    -----
    A baseline of random directions is one draw: its interval does not tell how much draws differ.
    Give several baselines with a `random_state` each.

    References
    ----------
    .. [1] Gurnee, W., Nanda, N., Pauly, M., Harvey, K., Troitskii, D. and Bertsimas, D. (2023).
       Finding neurons in a haystack: case studies with sparse probing. arXiv:2305.01610.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sksae import TopKSAE
    >>> from sksae.model_selection import sparse_probing
    >>> X, y = load_digits(return_X_y=True)
    >>> sae = TopKSAE(64, k=4, max_iter=5, random_state=0).fit(X)
    >>> probes = sparse_probing(sae, X, y == 0, k=[1], cv=3, random_state=0)
    >>> [f"{name} {k}" for name, k in zip(probes.probe, probes.k)]
    ['latents 1', 'columns 1', 'principal components 1', 'random latents 1', 'all columns 64']
    >>> bool(probes["mean"][0] > probes["mean"][3])
    True
    """
    numbers = [k] if isinstance(k, Integral) else list(k)
    for number in numbers:
        check_option("k", number, Int(1))
    if type_of_target(y) not in ("binary", "multiclass"):
        raise ValueError("sparse_probing needs classes in y, and got numbers or several columns.")
    check_option("n_draws", n_draws, Int(1))
    baseline_codes = _baseline_codes(baseline, X)
    codes, X = _codes_and_rows(estimator, X)
    splits = list(check_cv(cv, y, classifier=True).split(X, y))
    rng = check_random_state(random_state)
    orders = [rng.permutation(codes.shape[1]) for _ in range(n_draws)]
    rows = []
    for number in numbers:
        n_codes, n_columns = min(number, codes.shape[1]), min(number, X.shape[1])
        n_principal = min(n_columns, *(len(train) for train, _ in splits))
        # Sorted, so that draws of all latents are equal.
        draws = [codes[:, np.sort(order[:n_codes])] for order in orders]
        rows += [
            _best("latents", codes, number),
            _best("columns", X, number),
            ("principal components", n_principal, _probe(X, PCA(n_principal, random_state=0)), X),
            ("random latents", n_codes, _probe(codes), draws),
            *(_best(f"latents of {n}", values, number) for n, values in baseline_codes.items()),
        ]
    rows.append(("all columns", X.shape[1], _probe(X), X))
    options = {"cv": splits, "scoring": scoring}
    mean, std, margin = np.transpose([_scored(probe, x, y, options) for *_, probe, x in rows])
    return ScoreTable(
        probe=np.array([name for name, *_ in rows]),
        k=np.array([number for _, number, *_ in rows]),
        mean=mean,
        std=std,
        low=mean - margin,
        high=mean + margin,
    )


def _scored(probe, columns, y, options):
    """Return mean, standard deviation and margin of the score of a probe.

    Of one matrix of columns these are over splits, with two standard errors as the margin; of a
    list of draws, over the means of the draws, with two standard deviations.
    """
    if isinstance(columns, list):
        scores = np.array([cross_val_score(probe, x, y, **options).mean() for x in columns])
        n_averaged = 1
    else:
        scores = cross_val_score(probe, columns, y, **options)
        n_averaged = len(scores)
    std = scores.std(ddof=1) if len(scores) > 1 else np.nan
    return scores.mean(), std, 2 * std / np.sqrt(n_averaged)


def _baseline_codes(baseline, X):
    """Return the codes of every baseline by its name."""
    if baseline is None:
        return {}
    if not isinstance(baseline, (Mapping, list, tuple)):
        baseline = [baseline]
    codes = {}
    for name, estimator in named_estimators(baseline).items():
        if isinstance(estimator, type) or not hasattr(estimator, "transform"):
            raise TypeError(f"The baseline {name!r} has no method 'transform'. Got {estimator!r}.")
        try:
            check_is_fitted(estimator)
        except NotFittedError:
            estimator = clone(estimator).fit(X)
        codes[name], _ = _codes_and_rows(estimator, X)
    return codes


def _codes_and_rows(estimator, X):
    """Return the codes of the rows, and the rows as an array."""
    if sparse.issparse(X):
        raise TypeError("X is a sparse matrix; a dense array is needed: X.toarray().")
    # The estimator may know the columns of a data frame by their names.
    codes = estimator.transform(X) if hasattr(estimator, "transform") else estimator
    X = np.asarray(X)
    codes = codes.tocsr() if sparse.issparse(codes) else np.asarray(codes)
    if codes.ndim != 2 or codes.shape[0] != len(X):
        raise ValueError(
            f"The codes must have a row for each of the {len(X)} rows of X. Their shape is "
            f"{codes.shape}."
        )
    return codes, X


def _best(name, X, k):
    """Return the row of a probe on the k columns of X with the largest F statistic."""
    k = min(k, X.shape[1])
    return name, k, _probe(X, SelectKBest(_f_statistic, k=k)), X


def _probe(X, *reduction):
    """Return a logistic regression on standardised columns, or on what `reduction` makes."""
    scaler = StandardScaler(with_mean=not sparse.issparse(X))
    return make_pipeline(scaler, *reduction, LogisticRegression(max_iter=1000))


def _f_statistic(X, y):
    """F statistic of the class means of every column; 0 for a constant column."""
    # That of f_classif, which warns of constant columns: those of dead latents.
    _, labels = np.unique(y, return_inverse=True)
    n, n_classes = len(labels), labels.max() + 1
    # Rows are classes, columns are samples.
    members = sparse.csr_array((np.ones(n), (labels, np.arange(n))), shape=(n_classes, n))
    counts = np.bincount(labels)
    sums = members @ X
    sums = sums.toarray() if sparse.issparse(sums) else np.asarray(sums)
    squares = X.power(2).sum(0) if sparse.issparse(X) else np.square(X).sum(0)
    squares = np.asarray(squares, dtype=np.float64).ravel()  # float32 has no 1e-300
    explained = (sums**2 / counts[:, None]).sum(0)
    between = np.maximum(explained - sums.sum(0) ** 2 / n, 0.0)
    within = np.maximum(squares - explained, 1e-12 * np.maximum(squares, 1e-300))
    return between / (n_classes - 1) / (within / max(n - n_classes, 1))
