"""Which features a newcomer should see first."""

import numpy as np

from sksae.interpret._examples import check_count
from sksae.interpret._reading import read_rows
from sksae.interpret._strongest import check_codes
from sksae.interpret._sums import numbered, sums_by

MAX_COSINE = 0.4
MAX_TIMES_MEAN_DENSITY = 2


def choose_features(
    codes, tokens=None, components=None, *, n_features=12, min_active=20, min_texts=10
):
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
    codes : {array-like, sparse matrix} of shape (n_rows, n_components)
        Codes, not negative, in the order of the text.
    tokens : TokenTable, data frame, mapping or sequence of length n_rows, default=None
        Where the rows came from, as for `max_activating_examples`. For rows with labels instead of
        tokens, selectivity does not count.
    components : array-like of shape (n_components, n_features_in), default=None
        The dictionary, with rows of norm 1. None does not compare directions.
    n_features : int, default=12
        The most features chosen.
    min_active : int, default=20
        Rows on which a feature must fire.
    min_texts : int, default=10
        Texts in which a feature must fire. Both bounds are halved until there are `n_features`
        features to choose from.

    Returns
    -------
    features : ndarray of shape (n_chosen,)
        Columns of `codes`, the best first; fewer than `n_features` if no more differ.

    Raises
    ------
    TypeError
        If `tokens` is a single string.
    ValueError
        If shapes or columns do not fit together, or a code is not finite.

    See Also
    --------
    summarize_features : What to say about them.

    Examples
    --------
    The first feature fires on "bank" where it follows "river", the second on every "bank", the
    third on whatever begins a text.

    >>> import numpy as np
    >>> from sksae.interpret import choose_features
    >>> string = ["river", " bank", "river", " bank", "savings", " bank", "savings", " bank"]
    >>> tokens = {"text": [0, 0, 1, 1, 2, 2, 3, 3], "string": string}
    >>> codes = np.zeros((8, 3))
    >>> codes[[1, 3], 0] = codes[1::2, 1] = codes[::2, 2] = 1
    >>> choose_features(codes, tokens, n_features=2)
    array([0, 2])
    """
    counts = {"n_features": n_features, "min_active": min_active, "min_texts": min_texts}
    for name, value in counts.items():
        check_count(name, value, 1)
    codes = check_codes(codes)
    reading = read_rows(tokens, codes.shape[0])
    every = np.arange(codes.shape[1])
    number = numbered(reading.string)[1][reading.cell]
    by_string = sums_by(codes, every, number)
    by_text = sums_by(codes, every, reading.text[reading.cell])
    score, main = _score(by_string, number, len(every), selective=not reading.labelled)
    n_active = np.bincount(by_text.feature, by_text.count, len(every))
    n_texts = np.bincount(by_text.feature, minlength=len(every))
    frequent = n_active > MAX_TIMES_MEAN_DENSITY * n_active.mean()
    while True:
        known = (n_active >= min_active) & (n_texts >= min_texts) & ~frequent
        if known.sum() >= n_features or max(min_active, min_texts) == 1:
            break
        min_active, min_texts = max(1, min_active // 2), max(1, min_texts // 2)
    order = np.flatnonzero(known)[np.argsort(-score[known], kind="stable")]
    return _different(order, main, components, n_features)


def _score(sums, number, n_components, *, selective):
    """Return concentration times selectivity, and the main token, of every feature."""
    total = np.bincount(sums.feature, sums.total, n_components)
    share = sums.total / total[sums.feature]
    score = np.bincount(sums.feature, share**2, n_components)
    if selective:
        places = np.bincount(number)
        score *= 1 - np.bincount(
            sums.feature, share * sums.count / places[sums.number], n_components
        )
    main = np.full(n_components, -1)
    order = np.lexsort((sums.total, sums.feature))
    main[sums.feature[order]] = sums.number[order]  # the last one written is the largest
    return score, main


def _different(order, main, components, n_features):
    """Return the first of `order` whose main tokens and directions differ."""
    chosen, components = [], None if components is None else np.asarray(components)
    for feature in order.tolist():
        if main[feature] in main[chosen]:
            continue
        if components is not None and chosen:
            cosine = components[chosen] @ components[feature]
            if cosine.max() > MAX_COSINE:
                continue
        chosen.append(feature)
        if len(chosen) == n_features:
            break
    return np.array(chosen, dtype=np.int64)
