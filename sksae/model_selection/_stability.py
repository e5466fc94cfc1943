"""Components found again by fits from other starts."""

import numpy as np
from sklearn.base import clone
from sklearn.utils import Bunch, check_random_state

from sksae._coding import estimator_layers
from sksae._params import Float, Int, check_option
from sksae.metrics import matched_cosines


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
    first, *others = (_components(fitted) for fitted in estimators)
    cosines = np.array([matched_cosines(first, other) for other in others])
    return Bunch(
        share=float((cosines >= threshold).mean()),
        cosines=cosines,
        component_cosines=cosines.mean(axis=0),
        seeds=np.array(seeds),
        estimators=estimators,
    )


def _components(estimator):
    for layer in estimator_layers(estimator):
        components = getattr(layer, "components_", None)
        if components is not None:
            return components
    raise ValueError(f"{type(estimator).__name__} has no components_ after fit.")
