"""Scorers for searches, which weigh reconstruction against sparsity."""

from functools import partial
from numbers import Real

from sksae.metrics._scoring import reconstruct


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
    sksae.model_selection.OneStandardError : Chooses a candidate from such scores.

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

    The score is ``explained_variance - l0_penalty * l0``: one more active latent a row must
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
