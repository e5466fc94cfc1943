"""What explanations and scores will cost, before anything is sent."""

import math

from sksae._params import Bool, Float, Int, Option, Pair, check_option
from sksae.interpret.explanation._explaining import N_EXAMPLES, chosen_windows, features_of
from sksae.interpret.explanation._prompts import explain_messages
from sksae.interpret.explanation._questions import TESTS, Subject, joined, questions_about, too_rare
from sksae.interpret.explanation._splitting import split_examples
from sksae.interpret.explanation._trials import Plan

_MEASURED = 100  # features whose questions are written out
_BYTES = 4  # of UTF-8 a token, about: of English, of code, and of Korean, nearly
_OVERHEAD = 8  # tokens that a chat's frame takes
_WORDS = "a description of ordinary length, say a dozen words and a half of them short"
_TOKENS_OUT = {"explain": 30, "intruder": 2}
_TOKENS_OUT_A_WINDOW = {"detection": 2, "fuzzing": 2, "simulation": 3}


def estimate_cost(
    atlas,
    features=None,
    *,
    methods=(),
    price_per_million=(0.0, 0.0),
    n_examples=N_EXAMPLES,
    per_question=5,
    min_examples=5,
    baselines=True,
    count_tokens=None,
    random_state=0,
):
    """Estimate how many questions :func:`explain` and scores will ask, and what they cost.

    Nothing is sent. The questions are written out for at most a hundred of the features, evenly
    spread, and scaled up.

    Parameters
    ----------
    atlas : FeatureAtlas
        What is known about the features.
    features : array-like of int, default=None
        The features. None takes all that fire.
    methods : sequence of str, default=()
        The scores that will be wanted, as for :func:`score_explanations`.
    price_per_million : tuple of two float, default=(0.0, 0.0)
        The price of a million tokens that are sent, and of a million that come back.
    n_examples : int, default=20
        As for :func:`explain` and :func:`score_explanations`.
    per_question, min_examples : int, default=5
        As for :func:`score_explanations`.
    baselines : bool, default=True
        As for :func:`score_explanations`.
    count_tokens : callable, default=None
        The number of tokens of a str. None takes one for each four bytes of UTF-8.
    random_state : int, default=0
        As for :func:`explain`.

    Returns
    -------
    cost : dict
        `calls`, `tokens_in`, `tokens_out` and `price`; `steps`, the same by "explain" and by
        method; `n_features`, and `n_measured`, those whose questions were written out; `how`, in
        words.

    Raises
    ------
    ValueError
        If there is no such feature or method, or an option is out of range.

    See Also
    --------
    explain : Asks for explanations.
    score_explanations : Asks about them.

    Notes
    -----
    What comes back is the least that a good answer takes; a model that thinks aloud takes many
    times that. Retries and answers that a cache has are not counted.

    Examples
    --------
    >>> import numpy as np
    >>> from sksae.interpret import FeatureAtlas, estimate_cost
    >>> atlas = FeatureAtlas().fit(np.eye(40), tokens=[f"word {i}" for i in range(40)])
    >>> cost = estimate_cost(atlas, [0, 1, 2], price_per_million=(1.0, 4.0))
    >>> cost["calls"], cost["price"] < 0.01
    (3, True)
    """
    check_option("n_examples", n_examples, Int(2))
    check_option("per_question", per_question, Int(1))
    check_option("min_examples", min_examples, Int(2))
    check_option("baselines", baselines, Bool())
    check_option("price_per_million", price_per_million, Pair(Float(0)))
    methods = [methods] if isinstance(methods, str) else list(methods)
    for method in methods:
        check_option("each of methods", method, Option(*TESTS, "embedding"))
    features = features_of(atlas, features)
    n_measured = min(len(features), _MEASURED)
    measured = [features[i * len(features) // n_measured] for i in range(n_measured)]
    steps = {name: _zero() for name in ("explain", *methods)}
    plan = Plan(n_examples, per_question)
    for number in measured:
        for name, messages, n_windows in _questions(
            atlas.feature(number), methods, plan, (baselines, min_examples), random_state
        ):
            step = steps[name]
            step["calls"] += 1
            step["tokens_in"] += _OVERHEAD + sum(
                _tokens(m["content"], count_tokens) for m in messages
            )
            out = _TOKENS_OUT_A_WINDOW.get(name, 0) * n_windows
            step["tokens_out"] += 2 + _TOKENS_OUT.get(name, out)
    return _summary(steps, len(features), n_measured, price_per_million, count_tokens)


def _questions(feature, methods, plan, options, random_state):
    """Yield step, messages and number of windows of all questions about a feature."""
    baselines, min_examples = options
    both = split_examples(feature, random_state=random_state)
    windows = chosen_windows(both[0], plan.n_examples)
    if windows:
        yield "explain", explain_messages(feature, windows), len(windows)
    if too_rare(both[1], min_examples):
        return
    subject = Subject(feature, both[1], joined(*both), _WORDS, _WORDS if baselines else None)
    for asked in questions_about(subject, methods, plan, random_state):
        yield asked.method, asked.trial.messages, len(asked.trial.truth)


def _zero():
    return {"calls": 0, "tokens_in": 0, "tokens_out": 0, "price": 0.0}


def _tokens(text, count_tokens):
    if count_tokens is not None:
        return count_tokens(text)
    return math.ceil(len(text.encode("utf-8", "replace")) / _BYTES)


def _summary(steps, n_features, n_measured, prices, count_tokens):
    scale = n_features / n_measured if n_measured else 0.0
    total = _zero()
    for step in steps.values():
        for name in ("calls", "tokens_in", "tokens_out"):
            step[name] = round(step[name] * scale)
        step["price"] = (step["tokens_in"] * prices[0] + step["tokens_out"] * prices[1]) / 1e6
        for name, value in step.items():
            total[name] += value
    counted = f"one token for each {_BYTES} bytes of UTF-8" if count_tokens is None else "as given"
    how = (
        f"questions written out for {n_measured} of {n_features} features; tokens in: {counted}; "
        f"tokens out: the shortest good answers"
    )
    return {**total, "steps": steps, "n_features": n_features, "n_measured": n_measured, "how": how}
