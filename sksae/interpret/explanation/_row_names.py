"""Names of features of whole rows, by their columns or by the words of their texts.

A name is a rule that tells from a row whether the feature fires. It is made from one half of the
rows of the atlas and scored on the other.
"""

import math

import numpy as np
from scipy import stats
from sklearn.feature_extraction.text import CountVectorizer

from sksae._signs import fit_columns, visible
from sksae.interpret.explanation._explanation import CHANCE, Explanation

KINDS = ("tokens", "texts", "table", "numbers")
_MOST = 3  # columns or words in a name
_SHARE = 0.5  # of the weight of the first one, that the others have at least
_OFTEN = 2  # texts with a word, at least, where there are several
_COLUMNS = 32  # of a terminal, of one column's name


def kind_of_rows(atlas):
    """Return the one of `KINDS` that the rows of an atlas are."""
    labels = atlas.facts_.get("labels", "tokens")
    if labels == "tokens":
        return "tokens"
    sample = atlas.row_sample(0)
    if labels == "labels":
        spaced = [len(str(label).split()) > 1 for label in sample.label.tolist()]
        if sum(spaced) > len(spaced) / 2:
            return "texts"
    if sample.columns:
        return "table"
    return "tokens" if labels == "labels" else "numbers"


def explain_rows(atlas, features, kind, random_state):
    """Return the `Explanation` of each feature of an atlas of whole rows, by feature."""
    if kind == "numbers":
        return {i: Explanation(i, f"component {i}", "numbers") for i in features}
    samples = {i: atlas.row_sample(i) for i in features}
    if kind == "table" and features and not samples[features[0]].columns:
        raise ValueError(
            'rows="table" needs named columns: fit the atlas on a data frame, or with an '
            "autoencoder that was fitted on one."
        )
    words = _Words(samples.values()) if kind == "texts" else None
    explanations = {}
    for number, sample in samples.items():
        if not (sample.activation > 0).any():
            explanations[number] = Explanation(number, "never fires", kind)
            continue
        is_made_from = _halved(sample, kind, np.random.default_rng([random_state, number]))
        name = words.name if kind == "texts" else _column_name
        text, evidence = name(sample, is_made_from)
        if text is None:
            explanations[number] = Explanation(number, f"component {number}", "numbers")
            continue
        scored = ~is_made_from & np.isfinite(evidence)
        score = rule_score(evidence[scored], sample.activation[scored] > 0)
        seen = tuple(sample.row[is_made_from & (sample.activation > 0)].tolist())
        explanations[number] = Explanation(number, text, kind, {"rule": score}, seen)
    return explanations


def rule_score(evidence, fires):
    """Return how well a rule tells the rows on which a feature fires from the others.

    The score is the area under the ROC curve. The half width of its interval is the one that a
    rule without knowledge has (Mann and Whitney), the largest for these numbers of rows: a rule
    whose interval is above 0.5 is better than chance.

    Parameters
    ----------
    evidence : ndarray of shape (n_rows,)
        Larger where the rule expects the feature to fire.
    fires : ndarray of bool of shape (n_rows,)

    Returns
    -------
    score : dict
        `value`, `low` and `high`, NaN without rows of both kinds; `n`; `baseline`.
    """
    n_fires, n_silent = int(fires.sum()), int((~fires).sum())
    value = half_width = math.nan
    if n_fires and n_silent:
        ranks = stats.rankdata(evidence)[fires]
        value = float((ranks.sum() - n_fires * (n_fires + 1) / 2) / (n_fires * n_silent))
        deviation = math.sqrt((n_fires + n_silent + 1) / (12 * n_fires * n_silent))
        half_width = float(stats.norm.ppf(0.975)) * deviation
    return {
        "value": value,
        "low": max(0.0, value - half_width) if n_fires and n_silent else math.nan,
        "high": min(1.0, value + half_width) if n_fires and n_silent else math.nan,
        "n": n_fires + n_silent,
        "n_failed": 0,
        "baseline": {"chance": CHANCE},
    }


def _halved(sample, kind, rng):
    """Return a mask of half of the rows that fire and half of the others, equal ones together."""
    if kind == "table":
        _, group = np.unique(sample.values, axis=0, return_inverse=True)
    else:
        _, group = np.unique(sample.label.astype(str), return_inverse=True)
    group = group.reshape(-1)
    fires = np.zeros(group.max() + 1, dtype=bool)
    fires[group[sample.activation > 0]] = True
    is_first = np.zeros(len(fires), dtype=bool)
    for members in (np.flatnonzero(fires), np.flatnonzero(~fires)):
        is_first[rng.permutation(members)[::2]] = True
    return is_first[group]


def _column_name(sample, is_made_from):
    """Return the strongest columns in words, and the sum of these columns on each row.

    Weights of columns are the loadings of the component, or the differences of the means where it
    fires and where it is silent: those that tell better where it fires on the half that the name is
    made from. Loadings on columns of small units are noise for a component of large ones.
    """
    used = is_made_from & np.isfinite(sample.values).all(1)
    fires = sample.activation > 0
    candidates = [] if sample.loadings is None else [sample.loadings]
    if (used & fires).any() and (used & ~fires).any():
        values = sample.values
        candidates.append(values[used & fires].mean(0) - values[used & ~fires].mean(0))
    best = None, None, -1.0
    for weights in candidates:
        size = np.abs(weights)
        strongest = np.argsort(-size, kind="stable")[:_MOST]
        strongest = strongest[size[strongest] >= _SHARE * size[strongest[0]]]
        if not size[strongest[0]] > 0:
            continue
        evidence = sample.values[:, strongest].astype(np.float64) @ weights[strongest]
        value = np.nan_to_num(rule_score(evidence[used], fires[used])["value"])
        if value > best[2]:
            names = [fit_columns(visible(sample.columns[j]), _COLUMNS) for j in strongest.tolist()]
            signs = ["high" if weight > 0 else "low" for weight in weights[strongest].tolist()]
            best = ", ".join(map(" ".join, zip(signs, names, strict=True))), evidence, value
    return best[:2]


class _Words:
    """Words of the texts of some samples, counted once.

    Parameters
    ----------
    samples : iterable of RowSample
    """

    def __init__(self, samples):
        texts = dict.fromkeys(label for sample in samples for label in sample.label.tolist())
        self.line = {text: i for i, text in enumerate(texts)}
        vectorizer = CountVectorizer(dtype=np.float64)
        try:
            self.counts = vectorizer.fit_transform(list(texts)).tocsr()
        except ValueError:  # no text has a word
            self.counts = None
            return
        self.words = vectorizer.get_feature_names_out()

    def name(self, sample, is_made_from):
        """Return the over-represented words, and the weight of those that each row has.

        Weights are those of class-based TF-IDF (Grootendorst 2022), ``tf log(1 + A / f)``, of the
        two classes of rows that fire, each by its activation, and of silent rows: the weight in the
        first less the weight in the second.
        """
        if self.counts is None:
            return None, None
        counts = self.counts[[self.line[text] for text in sample.label.tolist()]]
        shares = []
        for activation in (sample.activation, (sample.activation == 0).astype(np.float64)):
            frequency = (activation * is_made_from) @ counts
            shares.append(frequency / max(frequency.sum(), np.finfo(float).tiny))
        fires, silent = shares
        total = np.maximum(fires + silent, np.finfo(float).tiny)  # f, where A is 1
        weights = (fires - silent) * np.log1p(1 / total)
        # A word of a single text is chance, unless there is a single text.
        texts = counts[is_made_from & (sample.activation > 0)]
        n_texts = np.asarray((texts > 0).sum(axis=0)).reshape(-1)
        weights[n_texts < min(_OFTEN, texts.shape[0])] = 0
        strongest = np.argsort(-weights, kind="stable")[:_MOST]
        if not weights[strongest[0]] > 0:
            return None, None
        strongest = strongest[weights[strongest] >= _SHARE * weights[strongest[0]]]
        words = [f'"{visible(word)}"' for word in self.words[strongest].tolist()]
        evidence = (counts[:, strongest] > 0) @ weights[strongest]
        return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]])), evidence
