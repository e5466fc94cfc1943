"""Choice of the features that are easiest to name."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sksae._params import Int, check_option

MAX_COSINE = 0.4
MAX_TIMES_MEAN_DENSITY = 2


def choose_features(atlas, *, n_features=12, min_active=20, min_texts=10):
    r"""Choose features that are easy to name.

    Features that fire on fewer than `min_active` rows or in fewer than `min_texts` texts are left
    out, and so are those that fire more than twice as often as the average feature. Of the others,
    those come first that fire on one token, but not wherever it stands: by the product of

    - concentration, :math:`\sum_t s_t^2`, where :math:`s_t` is the share of the sum of a feature's
      codes that falls on token t;
    - selectivity, :math:`1 - \sum_t s_t p_t`, where :math:`p_t` is the share of the places of t at
      which the feature fires.

    A feature is passed over if its main token is that of one chosen before, or its direction has a
    cosine above 0.4 with one.

    Parameters
    ----------
    atlas : FeatureAtlas
        A fitted atlas.
    n_features : int, default=12
        Largest number of features.
    min_active : int, default=20
        Rows on which a feature must fire.
    min_texts : int, default=10
        Texts in which a feature must fire. Both bounds are halved until there are `n_features`
        features to choose from.

    Returns
    -------
    features : ndarray of shape (n_chosen,)
        Features, the best first; fewer than `n_features` if no more differ.

    Raises
    ------
    ValueError
        If a count is not one.

    See Also
    --------
    FeatureAtlas : Its `feature` tells more about each.

    Examples
    --------
    The first feature fires on "bank" where it follows "river", the second on every "bank", the
    third on whatever begins a text.

    >>> import numpy as np
    >>> from sksae.interpret import FeatureAtlas, choose_features
    >>> string = ["river", " bank", "river", " bank", "savings", " bank", "savings", " bank"]
    >>> tokens = {"text": [0, 0, 1, 1, 2, 2, 3, 3], "string": string}
    >>> codes = np.zeros((8, 3))
    >>> codes[[1, 3], 0] = codes[1::2, 1] = codes[::2, 2] = 1
    >>> choose_features(FeatureAtlas().fit(codes, tokens=tokens), n_features=2)
    array([0, 2])
    """
    counts = {"n_features": n_features, "min_active": min_active, "min_texts": min_texts}
    for name, value in counts.items():
        check_option(name, value, Int(1))
    if not callable(getattr(atlas, "feature", None)):
        raise TypeError(f"atlas must be a fitted FeatureAtlas. Got {type(atlas).__name__} instead.")
    check_is_fitted(atlas, "facts_")
    arrays = atlas._arrays
    score, main = _scores(arrays, atlas.n_components_)
    n_active, n_texts = arrays["n_active"], arrays["n_active_texts"]
    frequent = n_active > MAX_TIMES_MEAN_DENSITY * n_active.mean()
    while True:
        eligible = (n_active >= min_active) & (n_texts >= min_texts) & ~frequent
        if eligible.sum() >= n_features or max(min_active, min_texts) == 1:
            break
        min_active, min_texts = max(1, min_active // 2), max(1, min_texts // 2)
    order = np.flatnonzero(eligible)[np.argsort(-score[eligible], kind="stable")]
    return _different(order, main, arrays, n_features)


def _scores(arrays, n_components):
    """Return concentration times selectivity, and the main token, of every feature."""
    # One line per feature and token, as far as the table of sums was kept.
    feature, number = arrays["sum_key"] >> 32, arrays["sum_key"] & 0xFFFFFFFF
    share = arrays["sum_total"] / arrays["total"][feature]
    score = np.bincount(feature, share**2, n_components)
    rate = arrays["sum_count"] / arrays["string_rows"][number]  # p_t
    score *= 1 - np.bincount(feature, share * rate, n_components)
    main = np.full(n_components, -1)
    order = np.lexsort((arrays["sum_total"], feature))
    main[feature[order]] = number[order]  # of several values of a feature the last one remains
    return score, main


def _different(order, main, arrays, n_features):
    """Return the first of `order` whose main tokens and directions differ."""
    chosen, near = [], set()
    for feature in order.tolist():
        if feature in near or main[feature] in main[chosen]:
            continue
        chosen.append(feature)
        if len(chosen) == n_features:
            break
        if "nearest" in arrays:
            close = arrays["nearest_cosine"][feature] > MAX_COSINE
            near.update(arrays["nearest"][feature][close].tolist())
    return np.array(chosen, dtype=np.int64)
