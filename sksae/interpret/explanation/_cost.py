"""Estimated cost of explanations and scores, before anything is sent."""

import math

from sksae._params import Bool, Float, Int, Option, Pair, check_option
from sksae.interpret.explanation._candidates import CandidateQuestions
from sksae.interpret.explanation._explaining import N_EXAMPLES, features_of
from sksae.interpret.explanation._explanation_scores import (
    EMBEDDING,
    TESTS,
    Subject,
    check_baseline,
    questions_about,
    too_rare,
)
from sksae.interpret.explanation._explanation_tests import QuestionPlan
from sksae.interpret.explanation._splitting import joined, split_examples

_N_MEASURED = 100  # the most features whose questions are written out
_BYTES_PER_TOKEN = 4  # of UTF-8; about right for English, code and Korean
FRAME = 8  # tokens per question that the chat format takes
_TYPICAL_TEXT = "a description of ordinary length, say a dozen words and a half of them short"
_TOKENS_OUT = {"explain": 30, "intruder": 2}  # per question
_TOKENS_OUT_PER_WINDOW = {"choose": 2, "detection": 2, "fuzzing": 2, "simulation": 3}


def estimate_cost(
    atlas,
    features=None,
    *,
    methods=(),
    price_per_million=(0.0, 0.0),
    n_examples=N_EXAMPLES,
    n_candidates=1,
    per_question=5,
    min_examples=5,
    baselines=True,
    baseline=None,
    count_tokens=None,
    random_state=0,
):
    """Estimate how many questions :func:`explain` and scores will ask, and what they cost.

    Nothing is sent. The questions are written out for at most a hundred of the features, evenly
    spread, and scaled up.

    Parameters
    ----------
    atlas : FeatureAtlas
        The atlas of the features.
    features : array-like of int, default=None
        The features. None takes all that fire.
    methods : sequence of str, default=()
        The planned scores, as for :func:`score_explanations`.
    price_per_million : tuple of two float, default=(0.0, 0.0)
        The price of a million tokens that are sent, and of a million that come back.
    n_examples : int, default=20
        As for :func:`explain` and :func:`score_explanations`.
    n_candidates : int, default=1
        As for :func:`explain`.
    per_question, min_examples : int, default=5
        As for :func:`score_explanations`.
    baselines : bool, default=True
        As for :func:`score_explanations`.
    baseline : tuple of (FeatureAtlas, dict of int to (Explanation or str)), default=None
        As for :func:`score_explanations`.
    count_tokens : callable, default=None
        Maps a str to its number of tokens. None counts one token per four bytes of UTF-8.
    random_state : int, default=0
        As for :func:`explain`.

    Returns
    -------
    cost : dict
        `calls`, `tokens_in`, `tokens_out` and `price`; `steps`, the same by "explain", by method
        and for the "baseline"; `n_features`, and `n_measured`, those whose questions were written
        out; `how`, in words.

    Raises
    ------
    ValueError
        If there is no such feature or method, or an option is out of range.

    See Also
    --------
    explain : Asks for explanations.
    score_explanations : Asks questions about them.

    Notes
    -----
    Tokens out are those of the shortest good answers; a reasoning model takes many times that.
    Neither retries nor answers from a cache are considered.

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
    check_option("n_candidates", n_candidates, Int(1))
    check_option("per_question", per_question, Int(1))
    check_option("min_examples", min_examples, Int(2))
    check_option("baselines", baselines, Bool())
    check_option("price_per_million", price_per_million, Pair(Float(0)))
    methods = [methods] if isinstance(methods, str) else list(methods)
    for method in methods:
        check_option("each of methods", method, Option(*TESTS, EMBEDDING))
    features = features_of(atlas, features)
    n_measured = min(len(features), _N_MEASURED)
    # Evenly spaced over the features.
    measured = [features[i * len(features) // n_measured] for i in range(n_measured)]
    steps = {name: _no_cost() for name in ("explain", *methods)}
    if n_candidates > 1:
        steps["choose"] = _no_cost()
    plan = QuestionPlan(n_examples, per_question)
    for number in measured:
        writing = CandidateQuestions(atlas, n_examples, n_candidates, random_state)
        feature = atlas.feature(number)
        options = writing, baselines, min_examples
        for name, messages, n_windows in _questions(feature, methods, plan, options, random_state):
            step = steps[name]
            step["calls"] += 1
            step["tokens_in"] += FRAME + sum(n_tokens(m["content"], count_tokens) for m in messages)
            of_windows = _TOKENS_OUT_PER_WINDOW.get(name, 0) * n_windows
            step["tokens_out"] += 2 + _TOKENS_OUT.get(name, of_windows)
    # The questions about the measured features stand for those about all.
    if n_measured:
        _scale(steps, len(features) / n_measured)
    if baseline is not None:
        check_baseline(baseline)
        sizes = {"n_examples": n_examples, "per_question": per_question}
        sizes |= {"min_examples": min_examples, "count_tokens": count_tokens}
        steps["baseline"] = _cost_of_scores(baseline, methods, random_state, sizes)
    return _summary(steps, len(features), n_measured, price_per_million, count_tokens)


def _cost_of_scores(baseline, methods, random_state, sizes):
    """Return the cost of the scores of other explanations, which are there already."""
    atlas, explanations = baseline
    options = {**sizes, "methods": methods, "baselines": False, "random_state": random_state}
    steps = estimate_cost(atlas, list(explanations), **options)["steps"]
    return {name: sum(steps[method][name] for method in methods) for name in _no_cost()}


def _questions(feature, methods, plan, options, random_state):
    """Yield step, messages and number of windows of all questions about a feature."""
    writing, baselines, min_examples = options
    explaining, scoring = split_examples(feature, random_state=random_state)
    writing.add(feature)
    for messages in writing:
        yield "explain", messages, plan.n_examples
    for question in writing.tests(feature.feature, [_TYPICAL_TEXT] * writing.n_different):
        yield "choose", question.messages, len(question.truth)
    if too_rare(scoring, min_examples):
        return
    other_text = _TYPICAL_TEXT if baselines else None
    subject = Subject(feature, scoring, joined(explaining, scoring), _TYPICAL_TEXT, other_text)
    for scored in questions_about(subject, methods, plan, random_state):
        yield scored.method, scored.question.messages, len(scored.question.truth)


def _no_cost():
    return {"calls": 0, "tokens_in": 0, "tokens_out": 0, "price": 0.0}


def n_tokens(text, count_tokens):
    """Number of tokens of a text, by the given count or by its bytes."""
    if count_tokens is not None:
        return count_tokens(text)
    return math.ceil(len(text.encode("utf-8", "replace")) / _BYTES_PER_TOKEN)


def _scale(steps, factor):
    for step in steps.values():
        for name in ("calls", "tokens_in", "tokens_out"):
            step[name] = round(step[name] * factor)


def _summary(steps, n_features, n_measured, prices, count_tokens):
    total = _no_cost()
    for step in steps.values():
        step["price"] = (step["tokens_in"] * prices[0] + step["tokens_out"] * prices[1]) / 1e6
        for name, value in step.items():
            total[name] += value
    counted = "as given"
    if count_tokens is None:
        counted = f"one token per {_BYTES_PER_TOKEN} bytes of UTF-8"
    how = (
        f"questions written out for {n_measured} of {n_features} features; tokens in: {counted}; "
        f"tokens out: the shortest good answers"
    )
    return {**total, "steps": steps, "n_features": n_features, "n_measured": n_measured, "how": how}
