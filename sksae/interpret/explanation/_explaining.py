"""A few words for each feature, from token statistics or from a language model."""

import warnings
from collections.abc import Iterable

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sksae._params import Int, check_option
from sksae.interpret._strongest import check_features
from sksae.interpret.explanation._answers import read_description
from sksae.interpret.explanation._asking import ask, check_client
from sksae.interpret.explanation._explanation import Explanation
from sksae.interpret.explanation._prompts import explain_messages
from sksae.interpret.explanation._splitting import key_of, split_examples
from sksae.interpret.explanation._token_statistics import describe

N_EXAMPLES = 20


def explain(
    atlas,
    client=None,
    features=None,
    *,
    n_examples=N_EXAMPLES,
    max_concurrency=4,
    random_state=0,
    verbose=0,
):
    """Describe features in a few words each.

    A feature is described from half of its texts, see :func:`split_examples`, so that
    :func:`score_explanations` can test the words on the other half. Without a client they are
    those of :func:`explain_from_tokens`. With one, the language model is shown windows in which
    the feature fires, half of them its strongest and half from all strengths.

    Parameters
    ----------
    atlas : FeatureAtlas
        What is known about the features.
    client : object, default=None
        Something with ``complete(messages)`` that returns a string: :class:`OpenAIClient`,
        :class:`LocalClient`, or your own. In a :class:`CachedClient`, what was answered is not
        asked again, so that a call that was interrupted goes on where it was. None asks nobody.
    features : array-like of int, default=None
        The features. None takes all that fire.
    n_examples : int, default=20
        The most windows that the language model is shown of a feature.
    max_concurrency : int, default=4
        Questions under way at a time. The result does not depend on it.
    random_state : int, default=0
        Seed of the split.
    verbose : int, default=0
        Whether to show how many questions are answered.

    Returns
    -------
    explanations : dict of int to Explanation
        By feature. Features for which there was no answer, or none that is a description, are
        missing, and a warning names them.

    Raises
    ------
    TypeError
        If `client` cannot be asked.
    ValueError
        If there is no such feature, or an option is out of range.
    RuntimeError
        If there was no answer for any feature.

    Warns
    -----
    UserWarning
        If some features have no explanation.

    See Also
    --------
    score_explanations : Tests how true the words are.
    estimate_cost : What it will cost.
    save_explanations : Keeps them.

    Notes
    -----
    Text from the data is sent as data: one line each, and with marks that it cannot contain. A
    model may still be swayed by what it reads; scores show it.

    References
    ----------
    S. Bills et al.: Language models can explain neurons in language models, OpenAI, 2023.

    G. Paulo, A. Mallen, C. Juang, N. Belrose: Automatically Interpreting Millions of Features in
    Large Language Models, 2024. https://arxiv.org/abs/2410.13928

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
    check_option("n_examples", n_examples, Int(1))
    features = features_of(atlas, features)
    if client is not None:
        check_client(client)
    explanations, questions, waiting = {}, [], []
    for number in features:
        feature = atlas.feature(number)
        side, _ = split_examples(feature, random_state=random_state)
        windows = chosen_windows(side, n_examples)
        if client is None or not windows:
            seen = _texts(side.windows())
            explanations[number] = Explanation(number, describe(feature, side), "tokens", seen=seen)
        else:
            questions.append(explain_messages(feature, windows))
            waiting.append((number, _texts(windows)))
    if questions:
        options = {"max_concurrency": max_concurrency, "verbose": verbose, "name": "explain"}
        answers = ask(client, questions, **options)
        explanations |= _read(waiting, answers, name_of(client))
    return {number: explanations[number] for number in features if number in explanations}


def features_of(atlas, features):
    """Return the features asked for, or all that fire, as a list of int."""
    if not callable(getattr(atlas, "feature", None)):
        raise TypeError(f"atlas must be a fitted FeatureAtlas. Got {type(atlas).__name__} instead.")
    check_is_fitted(atlas, "n_active_")
    if features is None:
        return np.flatnonzero(atlas.n_active_).tolist()
    features = list(features) if isinstance(features, Iterable) else features
    return check_features(features, atlas.n_components_).tolist()


def chosen_windows(side, n_examples):
    """Return windows for an explanation: the strongest, then some of each part in turn."""
    n_top = (n_examples + 1) // 2
    found = {e.row: e for e in side.top[:n_top]}
    depth = max(map(len, side.quantiles), default=0)
    for place in range(depth):
        for part in side.quantiles:
            if place < len(part) and len(found) < n_examples:
                found.setdefault(part[place].row, part[place])
    return list(found.values())


def name_of(client):
    """Return what a client calls itself."""
    return str(getattr(client, "name", type(client).__name__))


def _read(waiting, answers, source):
    found, failed = {}, {}
    for (number, seen), answer in zip(waiting, answers, strict=True):
        try:
            if isinstance(answer, Exception):
                raise answer
            found[number] = Explanation(number, read_description(answer), source, seen=seen)
        except Exception as error:  # a client is the user's own
            failed[number] = error
    if failed:
        number, error = next(iter(failed.items()))
        message = f"feature {number}: {type(error).__name__}: {error}"
        if not found:
            raise RuntimeError(
                f"None of {len(failed)} features could be explained; {message}"
            ) from error
        warnings.warn(
            f"{len(failed)} of {len(waiting)} features have no explanation: "
            f"{named(failed)}; {message}. Call explain again for these.",
            stacklevel=3,
        )
    return found


def named(numbers):
    """Return the first of some numbers as text."""
    numbers = list(numbers)
    return ", ".join(map(str, numbers[:10])) + ", ..." * (len(numbers) > 10)


def _texts(windows):
    return tuple(dict.fromkeys(key_of(e.text) for e in windows))
