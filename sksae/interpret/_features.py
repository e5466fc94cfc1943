"""Which features to look at, and what to say about each."""

from dataclasses import dataclass

import numpy as np

from sksae.interpret._examples import check_count, max_activating_examples
from sksae.interpret._reading import read_rows
from sksae.interpret._strongest import check_codes, check_features
from sksae.interpret._sums import numbered, sums_by


@dataclass(frozen=True, eq=False)
class FeatureSummary:
    """What a reader needs to name a feature.

    `summarize_features` makes them, pages and terminals show them.

    Parameters
    ----------
    feature : int
        The column of the codes.
    n_active : int
        Rows on which it fires.
    density : float
        Share of the rows on which it fires.
    n_texts : int
        Texts in which it fires.
    max_activation : float
        Its largest code; 0 if it never fires.
    top_tokens : list of (str, float)
        The pieces of text it fires on most, and the share of the sum of its codes that falls on
        each.
    examples : list of Example
        Where it fires most, the strongest first.

    See Also
    --------
    summarize_features : Makes them.

    Examples
    --------
    >>> from sksae.interpret import summarize_features
    >>> (summary,) = summarize_features([[0], [2]], ["Ada", "Bo"])
    >>> summary.feature, summary.density, summary.top_tokens
    (0, 0.5, [('Bo', 1.0)])
    """

    feature: int
    n_active: int
    density: float
    n_texts: int
    max_activation: float
    top_tokens: list
    examples: list


def summarize_features(
    codes, tokens=None, features=None, *, n_examples=5, n_tokens=5, before=24, after=8
):
    """Describe features by how often, on which tokens and where they fire.

    Parameters
    ----------
    codes : {array-like, sparse matrix} of shape (n_rows, n_components)
        Codes, not negative, in the order of the text.
    tokens : TokenTable, data frame, mapping or sequence of length n_rows, default=None
        Where the rows came from, as for `max_activating_examples`.
    features : array-like of int, default=None
        The features of interest, columns of `codes`. None takes all.
    n_examples : int, default=5
        The most examples a feature gets.
    n_tokens : int, default=5
        The most tokens a feature gets.
    before, after : int, default=24 and 8
        Pieces of text shown on either side of the strongest.

    Returns
    -------
    summaries : list of FeatureSummary
        One for each feature, in the order of `features`.

    Raises
    ------
    TypeError
        If `tokens` is a single string.
    ValueError
        If shapes or columns do not fit together, or a code is not finite.

    See Also
    --------
    choose_features : Features worth looking at.
    sksae.report.write_page : A page about them.

    Examples
    --------
    >>> import numpy as np
    >>> from sksae.interpret import summarize_features
    >>> codes = np.array([[0, 0], [2, 0], [0, 1], [3, 0], [0, 0]])
    >>> table = {"text": [0, 0, 0, 1, 1], "string": ["a", " cold", " day", "cold", " tea"]}
    >>> cold, _ = summarize_features(codes, table)
    >>> cold.density, cold.n_texts, cold.max_activation, cold.top_tokens
    (0.4, 2, 3.0, [('cold', 0.6), (' cold', 0.4)])
    """
    check_count("n_tokens", n_tokens, 0)
    codes = check_codes(codes)
    features = check_features(features, codes.shape[1])
    examples = max_activating_examples(
        codes, tokens, features, n_examples=n_examples, before=before, after=after
    )
    reading = read_rows(tokens, codes.shape[0])
    strings, number = numbered(reading.string)
    by_string = sums_by(codes, features, number[reading.cell])
    by_text = sums_by(codes, features, reading.text[reading.cell])
    n_texts = np.bincount(by_text.feature, minlength=len(features))
    summaries = []
    for slot, feature in enumerate(features.tolist()):
        mine = by_string.of(slot)
        top = np.argsort(-mine.total, kind="stable")[:n_tokens]
        shares = mine.total[top] / max(mine.total.sum(), np.finfo(float).tiny)
        n_active = int(mine.count.sum())
        summaries.append(
            FeatureSummary(
                feature=feature,
                n_active=n_active,
                density=n_active / max(codes.shape[0], 1),
                n_texts=int(n_texts[slot]),
                max_activation=examples[feature][0].activation if examples[feature] else 0.0,
                top_tokens=[
                    (strings[i], share)
                    for i, share in zip(mine.number[top].tolist(), shares.tolist(), strict=True)
                ],
                examples=examples[feature],
            )
        )
    return summaries
