"""Scorers of one number each: ``scorer(estimator, X, y=None)``, more is better."""

from sksae.metrics._scoring import encode, reconstruct


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

    It does not see shrinkage: reconstructions too short by the same factor lose nothing.

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
    """Score an estimator by the mean number of latents that fire on a row, with a minus sign.

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

    Latents that never fire are capacity paid for and not used.

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
