"""Scorers of estimators, ``scorer(estimator, X, y=None)``: more is better.

All of them share one pass over the data, in blocks of rows.
"""

from functools import partial
from numbers import Real

import numpy as np
from scipy import sparse
from sklearn.base import is_regressor

from sksae._arrays import check_sample_weight
from sksae.metrics._code_measures import Firings
from sksae.metrics._reconstruction import MeanCosine, VarianceAndError, check_pair, pair_blocks
from sksae.metrics._row_blocks import check_codes

FIRST_BLOCK_ROWS = 256  # until the width of the codes is known
BLOCK_SIZE = 2**24  # numbers per block of rows or of dense codes afterwards


def sae_scorer(estimator, X, y=None, sample_weight=None):
    """Score an estimator by reconstruction and by sparsity, from one pass over the data.

    For searches with several metrics: give it as `scoring`, and a rule of
    :mod:`sksae.model_selection` as `refit`, because reconstruction alone always prefers the
    densest codes.

    Parameters
    ----------
    estimator : estimator instance
        A fitted estimator, or a pipeline of them, with `transform` and `inverse_transform`.
    X : array-like of shape (n_samples, n_features)
        Data, read in blocks of rows: dense codes of all of it never exist at once.
    y : None
        Ignored; scorers are called with it.
    sample_weight : array-like of shape (n_samples,), default=None
        Sample weights. None weighs all rows alike.

    Returns
    -------
    scores : dict of str to float
        `explained_variance`, `neg_mean_squared_error` (per element), `mean_cosine_similarity`,
        `neg_l0` and `neg_dead_fraction`. More is better for each of them.

    Raises
    ------
    TypeError
        If the estimator lacks a method.

    See Also
    --------
    sksae.model_selection.DiminishingReturns : Chooses a candidate from such scores.

    Notes
    -----
    All reconstruction scores are measured in the space of the `X` given, for a pipeline its input
    space (see :func:`explained_variance_scorer`). A pipeline that ends in a classifier is scored
    by its own `score`. One function that returns a dict, rather than a dict of functions, is also
    what searches with `sample_weight` need.

    With a callable `refit` scikit-learn sets no `best_score_`, and with several metrics the `score`
    of such a search fails; call ``search.best_estimator_.score(X)``.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import DictionaryLearning
    >>> from sksae.metrics import sae_scorer
    >>> X = load_iris().data
    >>> model = DictionaryLearning(2, transform_algorithm="omp", transform_n_nonzero_coefs=1)
    >>> scores = sae_scorer(model.set_params(random_state=0).fit(X), X)
    >>> sorted(scores)
    ['explained_variance', 'mean_cosine_similarity', 'neg_dead_fraction', 'neg_l0',
     'neg_mean_squared_error']
    >>> scores["neg_l0"]
    -1.0
    """
    return reconstruct(estimator, X, sample_weight)


def make_penalized_scorer(l0_penalty):
    """Make a scorer that trades explained variance against the number of active latents.

    The score is ``explained_variance - l0_penalty * l0``: one more active latent per row must
    explain at least the share `l0_penalty` of the variance to pay for itself. It is for searches
    that take a single number, such as :class:`sklearn.model_selection.HalvingGridSearchCV`.

    Parameters
    ----------
    l0_penalty : float
        Share of the variance that a latent costs, at least 0.

    Returns
    -------
    scorer : callable
        A function ``scorer(estimator, X, y=None, sample_weight=None)`` that can be pickled.

    Raises
    ------
    ValueError
        If `l0_penalty` is negative.

    See Also
    --------
    sae_scorer : All scores as a dict, for searches that take several.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sksae.metrics import make_penalized_scorer
    >>> X = load_iris().data
    >>> scorer = make_penalized_scorer(0.1)
    >>> [round(scorer(PCA(n).fit(X), X), 3) for n in (1, 2, 3)]
    [0.825, 0.778, 0.695]
    """
    if not isinstance(l0_penalty, Real) or not l0_penalty >= 0:
        raise ValueError(f"l0_penalty must be at least 0. Got {l0_penalty!r} instead.")
    return partial(_penalized_score, l0_penalty=l0_penalty)


def _penalized_score(estimator, X, y=None, sample_weight=None, *, l0_penalty):
    scores = reconstruct(estimator, X, sample_weight)
    return scores["explained_variance"] + l0_penalty * scores["neg_l0"]


def explained_variance_scorer(estimator, X, y=None, sample_weight=None):
    """Score an estimator by the variance its reconstruction explains.

    Alone it always prefers the densest codes; see :func:`sae_scorer`.

    Parameters
    ----------
    estimator : estimator instance
        A fitted estimator, or a pipeline of them, with `transform` and `inverse_transform`.
    X : array-like of shape (n_samples, n_features)
        Data, read in blocks of rows: dense codes of all of it never exist at once.
    y : None
        Ignored; scorers are called with it.
    sample_weight : array-like of shape (n_samples,), default=None
        Sample weights. None weighs all rows alike.

    Returns
    -------
    score : float
        :func:`explained_variance` of `X`.

    Raises
    ------
    TypeError
        If the estimator lacks a method.

    See Also
    --------
    sae_scorer : All scores from one pass over the data.

    Notes
    -----
    The variance is that of the `X` given. For a pipeline this is its input space: with a
    `StandardScaler` before the autoencoder, columns count by their own variance again. To score in
    the space the autoencoder sees, score the last step on ``pipeline[:-1].transform(X)``.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sksae.metrics import explained_variance_scorer
    >>> X = load_iris().data
    >>> round(explained_variance_scorer(PCA(n_components=1).fit(X), X), 3)
    0.925
    """
    return reconstruct(estimator, X, sample_weight)["explained_variance"]


def neg_mean_squared_error_scorer(estimator, X, y=None, sample_weight=None):
    """Score an estimator by its mean squared error per element, with a minus sign.

    It is in squared units of `X`; :func:`explained_variance_scorer` has no units.

    Parameters
    ----------
    estimator : estimator instance
        A fitted estimator, or a pipeline of them, with `transform` and `inverse_transform`.
    X : array-like of shape (n_samples, n_features)
        Data, read in blocks of rows.
    y : None
        Ignored; scorers are called with it.
    sample_weight : array-like of shape (n_samples,), default=None
        Sample weights. None weighs all rows alike.

    Returns
    -------
    score : float
        Minus :func:`mean_squared_reconstruction_error`.

    Raises
    ------
    TypeError
        If the estimator lacks a method.

    See Also
    --------
    sae_scorer : All scores from one pass over the data.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sksae.metrics import neg_mean_squared_error_scorer
    >>> X = load_iris().data
    >>> round(neg_mean_squared_error_scorer(PCA(n_components=1).fit(X), X), 3)
    -0.086
    """
    return reconstruct(estimator, X, sample_weight)["neg_mean_squared_error"]


def mean_cosine_similarity_scorer(estimator, X, y=None, sample_weight=None):
    """Score an estimator by the mean cosine between rows and their reconstructions.

    It is blind to shrinkage: a constant factor of the reconstructions does not change it.

    Parameters
    ----------
    estimator : estimator instance
        A fitted estimator, or a pipeline of them, with `transform` and `inverse_transform`.
    X : array-like of shape (n_samples, n_features)
        Data, read in blocks of rows.
    y : None
        Ignored; scorers are called with it.
    sample_weight : array-like of shape (n_samples,), default=None
        Sample weights. None weighs all rows alike.

    Returns
    -------
    score : float
        :func:`mean_cosine_similarity`, not centered.

    Raises
    ------
    TypeError
        If the estimator lacks a method.

    See Also
    --------
    sae_scorer : All scores from one pass over the data.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sksae.metrics import mean_cosine_similarity_scorer
    >>> X = load_iris().data
    >>> round(mean_cosine_similarity_scorer(PCA(n_components=1).fit(X), X), 3)
    0.998
    """
    return reconstruct(estimator, X, sample_weight)["mean_cosine_similarity"]


def neg_l0_scorer(estimator, X, y=None, sample_weight=None):
    """Score an estimator by the mean number of latents that fire per row, with a minus sign.

    Alone it always prefers the sparsest codes; see :func:`sae_scorer`.

    Parameters
    ----------
    estimator : estimator instance
        A fitted estimator, or a pipeline of them, with `transform`.
    X : array-like of shape (n_samples, n_features)
        Data, read in blocks of rows.
    y : None
        Ignored; scorers are called with it.
    sample_weight : array-like of shape (n_samples,), default=None
        Sample weights. None weighs all rows alike.

    Returns
    -------
    score : float
        Minus :func:`l0` of the codes.

    Raises
    ------
    TypeError
        If the estimator lacks a method.

    See Also
    --------
    sae_scorer : All scores from one pass over the data.

    Examples
    --------
    >>> from sklearn.preprocessing import Binarizer
    >>> from sksae.metrics import neg_l0_scorer
    >>> neg_l0_scorer(Binarizer(), [[0, 2.0, 0], [1.0, 3.0, 0]])
    -1.5
    """
    return encode(estimator, X, sample_weight)["neg_l0"]


def neg_dead_fraction_scorer(estimator, X, y=None, sample_weight=None):
    """Score an estimator by the share of latents that fire on no row, with a minus sign.

    Latents that never fire are unused capacity.

    Parameters
    ----------
    estimator : estimator instance
        A fitted estimator, or a pipeline of them, with `transform`.
    X : array-like of shape (n_samples, n_features)
        Data, read in blocks of rows. On few rows, rare and dead latents look the same.
    y : None
        Ignored; scorers are called with it.
    sample_weight : array-like of shape (n_samples,), default=None
        Sample weights; rows of weight 0 do not count.

    Returns
    -------
    score : float
        Minus :func:`dead_fraction` of the codes.

    Raises
    ------
    TypeError
        If the estimator lacks a method.

    See Also
    --------
    sae_scorer : All scores from one pass over the data.

    Examples
    --------
    >>> from sklearn.preprocessing import Binarizer
    >>> from sksae.metrics import neg_dead_fraction_scorer
    >>> neg_dead_fraction_scorer(Binarizer(), [[0, 2.0, 0, 0], [1.0, 3.0, 0, 1.0]])
    -0.25
    """
    return encode(estimator, X, sample_weight)["neg_dead_fraction"]


def encode(estimator, X, sample_weight=None):
    """Sparsity scores of an estimator, as a dict of floats; needs `transform` only."""
    _require(estimator, "transform")
    firings = Firings()
    for _, codes, weight in _encoded_blocks(estimator, X, sample_weight):
        firings.update(check_codes(codes), weight)
    return _sparsity_scores(firings)


def reconstruct(estimator, X, sample_weight=None):
    """Reconstruction and sparsity scores of an estimator, as a dict of floats."""
    _require(estimator, "transform")
    if is_regressor(estimator):
        raise TypeError(
            f"{type(estimator).__name__} predicts y and does not reconstruct X: it is scored by "
            f"its own score(X, y), or by any scorer for regression."
        )
    _require(estimator, "inverse_transform")
    firings, gathered, cosine = Firings(), VarianceAndError(), MeanCosine()
    for rows, codes, weight in _encoded_blocks(estimator, X, sample_weight):
        firings.update(check_codes(codes), weight)
        pair = check_pair(rows, estimator.inverse_transform(codes))
        for x, x_hat, block_weight in pair_blocks(*pair, weight):
            gathered.update(x, x_hat, block_weight)
            cosine.update(x, x_hat, block_weight)
    return {
        "explained_variance": 1.0 - gathered.unexplained,
        "neg_mean_squared_error": 0.0 - gathered.mean_squared_error,
        "mean_cosine_similarity": cosine.value,
        **_sparsity_scores(firings),
    }


def _sparsity_scores(firings):
    # 0.0 - x rather than -x, which would show minus zeros in tables.
    return {"neg_l0": 0.0 - firings.l0, "neg_dead_fraction": 0.0 - firings.dead_fraction}


def _encoded_blocks(estimator, X, sample_weight):
    """Yield (rows, codes, weight or None) blocks; rows keep their type, for names and devices."""
    if sparse.issparse(X):
        raise ValueError("X is a sparse matrix; a dense one is needed.")
    if not hasattr(X, "shape") and not hasattr(X, "__len__"):
        raise TypeError(f"X must be rows that the estimator takes. Got {type(X).__name__} instead.")
    # A list of texts stays a list: an extractor in front of the estimator reads it.
    n_samples = X.shape[0] if hasattr(X, "shape") else len(X)
    sample_weight = check_sample_weight(sample_weight, n_samples)
    start, n_rows = 0, FIRST_BLOCK_ROWS
    while start < n_samples:
        rows = slice(start, min(start + n_rows, n_samples))
        block = X.iloc[rows] if hasattr(X, "iloc") else X[rows]
        codes = estimator.transform(block)
        yield block, codes, None if sample_weight is None else sample_weight[rows]
        start = rows.stop
        width = max(codes.shape[1], np.shape(block)[-1] if np.ndim(block) == 2 else 1)
        n_rows = max(1, BLOCK_SIZE // width)


def _require(estimator, method):
    if not hasattr(estimator, method):
        raise TypeError(
            f"{type(estimator).__name__} has no {method}; the scorer needs it (in a pipeline, of "
            "every step). A pipeline that ends in a predictor is scored by its own score."
        )
