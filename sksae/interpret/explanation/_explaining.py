"""Short descriptions of features, from token statistics or from a language model."""

import warnings
from collections.abc import Iterable

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sksae._params import Int, Option, check_option
from sksae.interpret._strongest import check_features
from sksae.interpret.explanation._answers import read_description
from sksae.interpret.explanation._candidates import CandidateQuestions
from sksae.interpret.explanation._client_calls import ask, check_client
from sksae.interpret.explanation._explanation import Explanation
from sksae.interpret.explanation._row_names import KINDS, explain_rows, kind_of_rows
from sksae.interpret.explanation._splitting import check_texts, key_of, split_examples
from sksae.interpret.explanation._token_statistics import describe

N_EXAMPLES = 20


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
            descriptions.setdefault(number, {})[description] = True
        except Exception as error:  # of any type: a client is the user's own
            failed.setdefault(number, error)
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
    """Text of the first ten of some numbers."""
    numbers = list(numbers)
    return ", ".join(map(str, numbers[:10])) + ", ..." * (len(numbers) > 10)
