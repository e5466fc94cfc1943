"""Whether an explanation is nearer to windows in which the feature fires: nobody is asked."""

import math

import numpy as np
from scipy import sparse

from sksae.interpret.explanation._intervals import auroc_interval, chance_of_auroc
from sksae.interpret.explanation._trials import mixed, spread


def embedding_scores(subjects, plan, embed, random_state):
    """Return a score by feature: the AUROC of the cosines between its text and its windows.

    Parameters
    ----------
    subjects : list of Subject
        Features, their windows and what is said about them.
    plan : Plan
        How many windows.
    embed : callable or None
        Texts in, one vector each out. None is TF-IDF over all of them.
    random_state : int
        Chooses the windows.
    """
    windows, truths = [], []
    for subject in subjects:
        rng = np.random.default_rng([random_state, subject.feature.feature])
        firing = [e for _, e in spread(subject.scoring.quantiles, plan.n_examples, rng)]
        silent = mixed(subject.scoring.silent, plan.n_examples, rng)
        windows.append(["".join(e.tokens) for e in [*firing, *silent]])
        truths.append(np.arange(len(windows[-1])) < len(firing))
    every = [text for some in windows for text in some]
    every += [text for s in subjects for text in (s.text, s.other) if text is not None]
    place = {text: i for i, text in enumerate(dict.fromkeys(every))}
    vectors = _unit(_embedded(embed, list(place)), len(place)) if place else None
    scores = {}
    for subject, lines, truth in zip(subjects, windows, truths, strict=True):
        rows = vectors[[place[text] for text in lines]]
        n = int(truth.sum()), int((~truth).sum())
        value, other = (
            math.nan if text is None else _auroc(truth, rows @ vectors[[place[text]]].T)
            for text in (subject.text, subject.other)
        )
        low, high = auroc_interval(value, *n)
        baseline = {"shuffled": chance_of_auroc(*n)}
        if subject.other is not None:
            baseline["random"] = other
        score = {"value": value, "low": low, "high": high, "n": len(truth), "n_failed": 0}
        scores[subject.feature.feature] = {**score, "baseline": baseline}
    return scores


def _embedded(embed, texts):
    if embed is not None:
        return embed(texts)
    from sklearn.feature_extraction.text import TfidfVectorizer

    pieces = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    words = TfidfVectorizer(token_pattern=r"\w+|[^\w\s]", ngram_range=(1, 2), sublinear_tf=True)
    found = []
    for vectorizer in (pieces, words):
        try:
            found.append(vectorizer.fit_transform(texts))
        except ValueError:  # not a single word: only signs, only spaces
            continue
    return sparse.hstack(found, format="csr") if found else np.zeros((len(texts), 1))


def _unit(vectors, n):
    """Return vectors of length one, zero where they are zero; raise where they do not fit."""
    if not sparse.issparse(vectors):
        vectors = np.asarray(vectors, dtype=np.float64)
    if vectors.ndim != 2 or vectors.shape[0] != n:
        raise ValueError(
            f"embed must return one vector a text, an array of shape ({n}, width); it returned "
            f"shape {vectors.shape}."
        )
    values = vectors.data if sparse.issparse(vectors) else vectors
    if not np.isfinite(values).all():
        raise ValueError("embed returned NaN or infinity.")
    from sklearn.preprocessing import normalize

    return normalize(vectors)


def _auroc(truth, cosines):
    if truth.all() or not truth.any():
        return math.nan
    from sklearn.metrics import roc_auc_score

    cosines = cosines.toarray() if sparse.issparse(cosines) else cosines
    return float(roc_auc_score(truth, np.round(cosines.ravel(), 12)))
