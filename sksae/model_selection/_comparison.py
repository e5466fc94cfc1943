"""Comparisons of estimators on the same splits, and of their components between seeds."""

from collections import Counter
from collections.abc import Mapping
from itertools import chain
from numbers import Real

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import check_cv, cross_validate
from sklearn.utils import Bunch, check_random_state

from sksae._coding import estimator_layers
from sksae._params import Float, Int, check_option
from sksae.language_models import make_downstream_scorer
from sksae.metrics import matched_cosines, sae_scorer
from sksae.model_selection._score_table import ScoreTable

_COLUMNS = {
    # name of a column: the score, and its sign
    "explained_variance": ("test_explained_variance", 1),
    "l0": ("test_neg_l0", -1),
    "dead_fraction": ("test_neg_dead_fraction", -1),
    "ce_recovered": ("test_ce_recovered", 1),
    "fit_seconds": ("fit_time", 1),
}


def compare(
    estimators,
    X,
    y=None,
    *,
    cv=None,
    n_draws=1,
    extractor=None,
    texts=None,
    random_state=None,
    n_jobs=None,
):
    """Compare autoencoders, other decompositions and baselines on the same splits.

    Every estimator is cloned, fitted to the training rows of a split and scored on the others.

    Parameters
    ----------
    estimators : dict of str to (estimator or list of estimator), or list of estimator
        What to compare: autoencoders, :class:`~sksae.DummySAE`,
        :class:`~sklearn.decomposition.PCA`, :class:`~sklearn.decomposition.NMF`,
        :class:`~sklearn.decomposition.MiniBatchDictionaryLearning`, pipelines of them; anything
        with `transform` and `inverse_transform`. Those in a list are named by their classes, and
        numbered where a class occurs again. In a dict, a list of estimators is one frontier: they
        share a name, and differ in a parameter such as `k`.
    X : array-like of shape (n_samples, n_features)
        Rows.
    y : array-like of shape (n_samples,), default=None
        Classes, for splits that are stratified; no estimator needs it.
    cv : int, cross-validation generator or iterable, default=None
        Splits, as in :class:`sklearn.model_selection.GridSearchCV`; None for 5 folds. Rows that
        belong together need a splitter by group.
    n_draws : int, default=1
        Fits per split of the estimators that have a `random_state` of None, each with another seed,
        so that their means and standard deviations are over draws as well. With a seed of its own
        an estimator is fitted once per split.
    extractor : ActivationExtractor, default=None
        Where the rows of X are from. Given with `texts`, the cross-entropy that a language model
        recovers with the reconstructions is measured too, see
        :func:`sksae.language_models.downstream_metrics`.
    texts : iterable of str, default=None
        Texts for it, none of which X is from.
    random_state : int, RandomState instance or None, default=None
        The seeds of the draws are drawn from it.
    n_jobs : int, default=None
        Number of fits that joblib computes in parallel; the seconds are then those of a busy
        machine.

    Returns
    -------
    comparison : ScoreTable
        Dictionary-like object with the following attributes, each an array with one entry per
        estimator; `to_frame` returns a data frame.

        estimator : ndarray of str
            Names.
        candidate : ndarray of str
            The parameters in which estimators of one name differ.
        explained_variance, l0, dead_fraction, fit_seconds : ndarray of float
            Means over the fits: of the explained variance, the codes per row that are not zero,
            and the share of latents without any, of the rows that were not fitted; and of the
            seconds of a fit.
        ce_recovered : ndarray of float
            Mean over the fits; only with an extractor.
        explained_variance_std, l0_std, dead_fraction_std, fit_seconds_std, ce_recovered_std : \
ndarray of float
            Sample standard deviations over the fits; NaN for one fit.
        n_fits : ndarray of int
            Number of fits: splits times draws.

    Raises
    ------
    TypeError
        If an estimator lacks a method, or the extractor is none.
    ValueError
        If there is no estimator, or an extractor without texts, or texts without an extractor.

    See Also
    --------
    sksae.displays.SparsityFrontierDisplay.from_comparison : The picture.
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
    >>> from sksae import DummySAE, TopKSAE
    >>> from sksae.model_selection import compare
    >>> X = load_digits().data[:500]
    >>> estimators = [PCA(4), DummySAE(64, k=4), TopKSAE(64, k=4, max_iter=10, random_state=0)]
    >>> comparison = compare(estimators, X, cv=2, n_draws=3, random_state=0)
    >>> [str(name) for name in comparison.estimator], comparison.l0.round().tolist()
    (['PCA', 'DummySAE', 'TopKSAE'], [4.0, 4.0, 4.0])
    >>> comparison.explained_variance.argmin(), comparison.n_fits
    (np.int64(1), array([6, 6, 2]))
    """
    check_option("n_draws", n_draws, Int(1))
    candidates = _candidates(estimators)
    scoring = _Scores(extractor, texts)
    splits = list(check_cv(cv, y, classifier=y is not None).split(X, y))
    options = {"cv": splits, "scoring": scoring, "n_jobs": n_jobs, "error_score": "raise"}
    rng = check_random_state(random_state)
    draws = [_draws(estimator, n_draws, rng) for *_, estimator in candidates]
    results = [[cross_validate(draw, X, y, **options) for draw in drawn] for drawn in draws]
    comparison = ScoreTable(
        estimator=np.array([name for name, *_ in candidates]),
        candidate=np.array([differs for _, differs, _ in candidates]),
    )
    for column, (key, sign) in _COLUMNS.items():
        if key not in results[0][0]:
            continue
        # All draws of all splits.
        values = [sign * np.concatenate([fits[key] for fits in drawn]) for drawn in results]
        comparison[column] = np.array([fits.mean() for fits in values])
        # Sample standard deviation, which a single fit has not.
        std = [fits.std(ddof=1) if len(fits) > 1 else np.nan for fits in values]
        comparison[f"{column}_std"] = np.array(std)
    comparison["n_fits"] = np.array([len(splits) * len(drawn) for drawn in draws])
    return comparison


class _Scores:
    """Scorer of `compare`: reconstruction and sparsity, and a language model where there is one."""

    def __init__(self, extractor, texts):
        if (extractor is None) != (texts is None):
            raise ValueError("The cross-entropy recovered needs both an extractor and texts.")
        self.downstream = None
        if extractor is not None:
            self.downstream = make_downstream_scorer(extractor, texts)

    def __call__(self, estimator, X, y=None):
        """Return the scores by name."""
        scores = sae_scorer(estimator, X)
        if self.downstream is not None:
            scores["ce_recovered"] = self.downstream(estimator)
        return scores


def _candidates(estimators):
    """Return ``(name, differing parameters, estimator)`` of all estimators."""
    candidates = []
    for name, entry in named_estimators(estimators).items():
        frontier = list(entry) if isinstance(entry, (list, tuple)) else [entry]
        for estimator in frontier:
            for method in ("fit", "transform", "inverse_transform"):
                if isinstance(estimator, type) or not hasattr(estimator, method):
                    raise TypeError(f"{name!r} has no method {method!r}. Got {estimator!r}.")
        words = _differences(frontier)
        candidates += [(name, *pair) for pair in zip(words, frontier, strict=True)]
    if not candidates:
        raise ValueError("There is no estimator to compare.")
    return candidates


def _differences(frontier):
    """Return the parameters in which estimators differ, in words, such as "k=4"."""
    every = [estimator.get_params() for estimator in frontier]
    plain = {n for params in every for n, v in params.items() if isinstance(v, (Real, str))}
    # In the order of the parameters, those of the first estimator first.
    names = [n for n in dict.fromkeys(chain(*every)) if n in plain]
    varied = [n for n in names if len({repr(params.get(n)) for params in every}) > 1]
    return [
        ", ".join(f"{n.rpartition('__')[2]}={params[n]}" for n in varied if n in params)
        for params in every
    ]


def _draws(estimator, n_draws, rng):
    """Return clones with a seed each, or one clone of an estimator that nothing is drawn for."""
    names = [
        name
        for name, value in estimator.get_params().items()
        if name.rpartition("__")[2] == "random_state" and value is None
    ]
    if not names:
        return [clone(estimator)]
    seeds = rng.randint(np.iinfo(np.int32).max, size=n_draws)
    return [clone(estimator).set_params(**dict.fromkeys(names, int(seed))) for seed in seeds]


def named_estimators(estimators):
    """Return estimators by name: those of a dict, or of a list by class, numbered if need be."""
    if isinstance(estimators, Mapping):
        return dict(estimators)
    counts, named = Counter(), {}
    for estimator in estimators:
        name = type(estimator).__name__
        counts[name] += 1
        named[name if counts[name] == 1 else f"{name} {counts[name]}"] = estimator
    return named


def feature_stability(estimator, X, *, n_seeds=3, threshold=0.9, random_state=None):
    """Measure which components are found again by fits from other starts.

    Clones of the estimator are fitted to the same rows with different seeds. The components of the
    first one are matched one to one with those of every other one, so that the sum of their cosines
    is largest. Codes are not negative, so that a direction and its opposite are different.

    Parameters
    ----------
    estimator : estimator
        An autoencoder, or a pipeline or another estimator whose last step has `components_` after
        `fit`, such as :class:`sklearn.decomposition.NMF`. It, or one of its steps, has a parameter
        `random_state`. Cloned, never changed.
    X : array-like of shape (n_samples, n_features)
        Rows.
    n_seeds : int, default=3
        Number of fits, at least 2.
    threshold : float, default=0.9
        Cosine from which on a component counts as found again.
    random_state : int, RandomState instance or None, default=None
        The different seeds of the fits are drawn from it.

    Returns
    -------
    stability : :class:`~sklearn.utils.Bunch`
        Dictionary-like object with the following attributes.

        share : float
            Share of the components of the first fit that are found again, mean over the other
            fits.
        cosines : ndarray of shape (n_seeds - 1, n_components)
            Cosine of every component of the first fit with its match in each other fit.
        component_cosines : ndarray of shape (n_components,)
            Its mean over the other fits.
        seeds : ndarray of shape (n_seeds,)
            Seeds of the fits.
        estimators : list of estimator
            The fitted clones; the components are those of the first.

    Raises
    ------
    TypeError
        If `estimator` is a class, or no estimator.
    ValueError
        If a parameter breaks its rule, nothing has a `random_state`, or there are no `components_`
        after the fit.

    See Also
    --------
    sksae.metrics.matched_cosines : The cosines of two dictionaries.

    Notes
    -----
    Different seeds are different starts of an autoencoder; not of every estimator:
    :class:`~sklearn.decomposition.NMF` needs ``init="random"`` for it.

    Autoencoders of the same data share fewer features than one may hope [1]_. Dead latents keep
    directions near where they began, and count as the others do. The mean cosine of unrelated
    directions grows with the number of components and falls with their dimension: compare with a
    shuffled X.

    References
    ----------
    .. [1] Paulo, G. and Belrose, N. (2025). Sparse autoencoders trained on the same data learn
       different features. arXiv:2501.16615.

    Examples
    --------
    >>> from sksae import TopKSAE
    >>> from sksae.datasets import make_superposition
    >>> from sksae.model_selection import feature_stability
    >>> X, _, _ = make_superposition(1000, 16, 16, density=2 / 16, random_state=0)
    >>> sae = TopKSAE(16, k=2, max_iter=20)
    >>> stability = feature_stability(sae, X, n_seeds=2, random_state=0)
    >>> 0.7 < stability.share < 1
    True
    """
    check_option("n_seeds", n_seeds, Int(2))
    check_option("threshold", threshold, Float(-1, 1))
    if isinstance(estimator, type) or not hasattr(estimator, "get_params"):
        raise TypeError(f"estimator must be an estimator. Got {estimator!r} instead.")
    names = [
        name
        for name in estimator.get_params()
        if name == "random_state" or name.endswith("__random_state")
    ]
    if not names:
        raise ValueError(
            f"{type(estimator).__name__} has no parameter 'random_state': all of its fits are the "
            "same."
        )
    rng = check_random_state(random_state)
    seeds = set()
    while len(seeds) < n_seeds:  # different ones
        seeds.add(int(rng.randint(np.iinfo(np.int32).max)))
    seeds = sorted(seeds)
    estimators = [clone(estimator).set_params(**dict.fromkeys(names, s)).fit(X) for s in seeds]
    reference, *refitted = (_components(fitted) for fitted in estimators)
    # (n_seeds - 1, n_components)
    cosines = np.array([matched_cosines(reference, components) for components in refitted])
    return Bunch(
        share=float((cosines >= threshold).mean()),
        cosines=cosines,
        component_cosines=cosines.mean(axis=0),  # mean over the other fits, (n_components,)
        seeds=np.array(seeds),
        estimators=estimators,
    )


def _components(estimator):
    for layer in estimator_layers(estimator):
        components = getattr(layer, "components_", None)
        if components is not None:
            return components
    raise ValueError(f"{type(estimator).__name__} has no components_ after fit.")
