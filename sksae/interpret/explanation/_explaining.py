"""Short descriptions of features, from statistics, columns, words or a language model."""

import math
import warnings
from collections.abc import Iterable

import numpy as np
from scipy import stats
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.utils.validation import check_is_fitted

from sksae._params import Int, Option, check_option
from sksae._signs import fit_columns, visible
from sksae.interpret._strongest import check_features
from sksae.interpret.explanation._candidates import CandidateQuestions
from sksae.interpret.explanation._client_calls import ask, check_client
from sksae.interpret.explanation._explanation import CHANCE, Explanation
from sksae.interpret.explanation._explanation_prompts import read_description
from sksae.interpret.explanation._splitting import check_texts, key_of, split_examples
from sksae.interpret.explanation._token_statistics import describe

N_EXAMPLES = 20
KINDS = ("tokens", "texts", "table", "numbers")
_MOST = 3  # columns or words in a name
_SHARE = 0.5  # of the weight of the first one, that the others have at least
_OFTEN = 2  # texts with a word, at least, where there are several
_COLUMNS = 32  # of a terminal, of one column's name


def explain(
    atlas,
    client=None,
    features=None,
    *,
    rows="auto",
    n_examples=N_EXAMPLES,
    n_candidates=1,
    max_concurrency=4,
    random_state=0,
    verbose=0,
):
    """Describe features in a few words each.

    A feature is described from half of its texts, see :func:`split_examples`, so that
    :func:`score_explanations` can test the description on the other half. Without a client it is
    that of :func:`explain_from_tokens`. With one, the language model is shown windows in which the
    feature fires, half of them its strongest and half from all strengths.

    Features of whole rows are named by columns or words, see `rows`. Such a name is a rule that
    tells from a row whether the feature fires. Its score "rule" is the area under the ROC curve on
    the half of the rows that it was not made from; a name whose interval is not above 0.5 is
    marked as "not clearly better than chance" wherever it is shown.

    Parameters
    ----------
    atlas : FeatureAtlas
        The atlas of the features.
    client : object, default=None
        An object with ``complete(messages)`` that returns a string: :class:`OpenAIClient`,
        :class:`LocalClient`, or your own. A :class:`CachedClient` asks no question twice, so that
        an interrupted call can be repeated and goes on where it was. None asks nobody.
    features : array-like of int, default=None
        The features. None takes all that fire.
    rows : {"auto", "tokens", "texts", "table", "numbers"}, default="auto"
        What the rows of the atlas are, for names without a client:

        - "tokens": tokens of texts, or rows with a short label, as in :func:`explain_from_tokens`;
        - "texts": whole texts, the labels of the rows. A feature is named by the words that are
          more frequent in the texts on which it fires, by class-based TF-IDF [3]_;
        - "table": rows of named columns. It is named by up to three columns, those with the largest
          loadings in standard deviations of the columns, or with the largest differences between
          rows on which it fires and others, whichever tell them apart better on the half of the
          rows that the name is made from;
        - "numbers": anything else, such as images. It is named by its number.

        "auto" takes "tokens" for an atlas of a token table or of an extractor; else "texts" if
        most labels have white space inside; else "table" if the columns have names; else "tokens"
        with labels and "numbers" without.
    n_examples : int, default=20
        The largest number of windows per feature that the language model is shown.
    n_candidates : int, default=1
        Number of descriptions that the language model writes of each feature, from different
        windows. The one is kept that tells best, by "detection" as in :func:`score_explanations`,
        in which of some other windows the feature fires; these are kept for the choice, so that
        scores are not flattered by it.
    max_concurrency : int, default=4
        The largest number of questions at the same time. The result does not depend on it.
    random_state : int, default=0
        Seed of the split.
    verbose : int, default=0
        Whether to show how many questions are answered.

    Returns
    -------
    explanations : dict of int to Explanation
        By feature. Features without an answer that is a description are missing, and a warning
        names them.

    Raises
    ------
    TypeError
        If `client` cannot be asked.
    ValueError
        If there is no such feature, an option is out of range, `rows` does not fit the atlas, or a
        client is to read patches of images.
    RuntimeError
        If there was no answer for any feature.

    Warns
    -----
    UserWarning
        If some features have no explanation.

    See Also
    --------
    score_explanations : Tests explanations.
    estimate_cost : Estimates the cost.
    save_explanations : Saves explanations.

    Notes
    -----
    Text from the data is sent as data: one line per window, with marks that it cannot contain. A
    model may still be influenced by what it reads; scores show it.

    References
    ----------
    S. Bills et al.: Language models can explain neurons in language models, OpenAI, 2023.

    G. Paulo, A. Mallen, C. Juang, N. Belrose: Automatically Interpreting Millions of Features in
    Large Language Models, 2024. https://arxiv.org/abs/2410.13928

    .. [3] M. Grootendorst: BERTopic: Neural topic modeling with a class-based TF-IDF procedure,
       2022. https://arxiv.org/abs/2203.05794

    Examples
    --------
    >>> import numpy as np
    >>> from sksae.interpret import FeatureAtlas, explain
    >>> words = [word for i in range(6) for word in (f"day {i}:", " river", " bank")]
    >>> table = {"text": np.arange(18) // 3, "string": words}
    >>> atlas = FeatureAtlas().fit(np.eye(3)[np.arange(18) % 3][:, [2]], tokens=table)
    >>> print(explain(atlas)[0])
    "bank" after "river"
    """
    check_option("rows", rows, Option("auto", *KINDS))
    check_option("n_examples", n_examples, Int(1))
    check_option("n_candidates", n_candidates, Int(1))
    features = features_of(atlas, features)
    if client is not None:
        check_client(client)
        check_texts(atlas)
    elif features:
        kind = kind_of_rows(atlas) if rows == "auto" else rows
        if kind != "tokens":
            return explain_rows(atlas, features, kind, random_state)
    explanations = {}
    questions = CandidateQuestions(atlas, n_examples, n_candidates, random_state)
    for number in features:
        feature = atlas.feature(number)
        # Without windows there is nothing to show a client; token statistics then say so.
        if client is None or not questions.add(feature):
            side, _ = split_examples(feature, random_state=random_state)
            description = describe(feature, side)
            texts = tuple(dict.fromkeys(key_of(e.text) for e in side.windows()))
            explanations[number] = Explanation(number, description, "tokens", seen=texts)
    if questions:
        options = {"max_concurrency": max_concurrency, "verbose": verbose}
        answers = ask(client, questions, name="explain", **options)
        candidates = _descriptions(questions.jobs, answers)
        source = name_of(client)
        for number, text in questions.best(client, candidates, **options).items():
            explanations[number] = Explanation(number, text, source, seen=questions.seen[number])
    return {number: explanations[number] for number in features if number in explanations}


def features_of(atlas, features):
    """Numbers of the given features, or of all that fire, as a list of int."""
    if not callable(getattr(atlas, "feature", None)):
        raise TypeError(f"atlas must be a fitted FeatureAtlas. Got {type(atlas).__name__} instead.")
    check_is_fitted(atlas, "n_active_")
    if features is None:
        return np.flatnonzero(atlas.n_active_).tolist()
    features = list(features) if isinstance(features, Iterable) else features
    return check_features(features, atlas.n_components_).tolist()


def name_of(client):
    """Name of a client: its own, or that of its class."""
    return str(getattr(client, "name", type(client).__name__))


def _descriptions(jobs, answers):
    """Different descriptions of each feature; a warning names the features without one."""
    descriptions, failed = {}, {}
    for (number, _), answer in zip(jobs, answers, strict=True):
        try:
            if isinstance(answer, Exception):
                raise answer
            description = read_description(answer)
            # A dict keeps the order, and each description once.
            descriptions.setdefault(number, {})[description] = True
        except Exception as error:  # of any type: a client is the user's own
            failed.setdefault(number, error)
    # No candidate of theirs was usable.
    failed = {number: error for number, error in failed.items() if number not in descriptions}
    if failed:
        number, error = next(iter(failed.items()))
        message = f"feature {number}: {type(error).__name__}: {error}"
        if not descriptions:
            raise RuntimeError(
                f"None of {len(failed)} features could be explained; {message}"
            ) from error
        warnings.warn(
            f"{len(failed)} of {len(failed) + len(descriptions)} features have no explanation: "
            f"{named(failed)}; {message}. Call explain again for these.",
            stacklevel=3,
        )
    return {number: list(texts) for number, texts in descriptions.items()}


def named(numbers):
    """Return the first ten of some numbers as text."""
    numbers = list(numbers)
    return ", ".join(map(str, numbers[:10])) + ", ..." * (len(numbers) > 10)


def kind_of_rows(atlas):
    """Return the one of `KINDS` that the rows of an atlas are."""
    labels = atlas.facts_.get("labels", "tokens")
    if labels == "tokens":
        return "tokens"
    sample = atlas.row_sample(0)  # a sample of the rows that are kept, of any feature
    if labels == "labels":
        # Labels with spaces are texts; single words may be tokens.
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
        # Rows that neither made the name nor lack a value.
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
        # Mann-Whitney: area under the ROC curve of the evidence, from the ranks of the firing rows.
        ranks = stats.rankdata(evidence)[fires]
        value = float((ranks.sum() - n_fires * (n_fires + 1) / 2) / (n_fires * n_silent))
        # Of the area without an association, without ties.
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
        # Rows with equal values are one group.
        _, group = np.unique(sample.values, axis=0, return_inverse=True)
    else:
        _, group = np.unique(sample.label.astype(str), return_inverse=True)
    group = group.reshape(-1)
    fires = np.zeros(group.max() + 1, dtype=bool)  # groups with a row that fires
    fires[group[sample.activation > 0]] = True
    is_first = np.zeros(len(fires), dtype=bool)
    for members in (np.flatnonzero(fires), np.flatnonzero(~fires)):
        is_first[rng.permutation(members)[::2]] = True  # every other group of a random order
    return is_first[group]


def _column_name(sample, is_made_from):
    """Return the strongest columns in words, and the sum of these columns on each row.

    Weights of columns are the loadings of the component, or the differences of the means where it
    fires and where it is silent: those that tell better where it fires on the half that the name is
    made from. Loadings on columns of small units are noise for a component of large ones.
    """
    used = is_made_from & np.isfinite(sample.values).all(1)
    fires = sample.activation > 0
    # Two ways to weight columns: loadings of the feature, and differences of means on half of the
    # rows.
    candidates = [] if sample.loadings is None else [sample.loadings]
    if (used & fires).any() and (used & ~fires).any():
        values = sample.values
        candidates.append(values[used & fires].mean(0) - values[used & ~fires].mean(0))
    best = None, None, -1.0
    for weights in candidates:
        size = np.abs(weights)
        strongest = np.argsort(-size, kind="stable")[:_MOST]
        # Columns nearly as strong as the first.
        strongest = strongest[size[strongest] >= _SHARE * size[strongest[0]]]
        if not size[strongest[0]] > 0:
            continue
        evidence = sample.values[:, strongest].astype(np.float64) @ weights[strongest]  # (n_rows,)
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
        self.line = {text: i for i, text in enumerate(texts)}  # line of `counts`
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
        # (n_rows, n_words)
        counts = self.counts[[self.line[text] for text in sample.label.tolist()]]
        shares = []
        for activation in (sample.activation, (sample.activation == 0).astype(np.float64)):
            frequency = (activation * is_made_from) @ counts  # weighted counts of words, (n_words,)
            shares.append(frequency / max(frequency.sum(), np.finfo(float).tiny))
        fires, silent = shares  # shares of each word among all words, (n_words,)
        total = np.maximum(fires + silent, np.finfo(float).tiny)  # f, where A is 1
        # Class-based TF-IDF: what the word has more of where the feature fires, and more for rare
        # words.
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
        # Sum of the weights of the words that a row has, (n_rows,).
        evidence = (counts[:, strongest] > 0) @ weights[strongest]
        return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]])), evidence
