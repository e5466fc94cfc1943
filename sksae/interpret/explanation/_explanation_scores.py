"""Scores of explanations: how well they predict where features fire, on texts not used for them.

Questions about some hundred features are asked together, so that those of many features are never
all in memory; the answers are collected per score.
"""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from sksae._params import Bool, Int, Option, check_option
from sksae.interpret.explanation._client_calls import (
    ask,
    check_client,
    warn_of_failures,
    warn_of_unread,
)
from sksae.interpret.explanation._explaining import features_of
from sksae.interpret.explanation._explanation import as_explanations
from sksae.interpret.explanation._explanation_prompts import (
    LEVELS,
    read_choice,
    read_flags,
    read_levels,
)
from sksae.interpret.explanation._explanation_tests import (
    N_CHOICES,
    Question,
    QuestionPlan,
    detection,
    embedding_scores,
    fuzzing,
    intruder,
    score_choices,
    score_flags,
    score_simulation,
    simulation,
)
from sksae.interpret.explanation._splitting import ExampleSide, check_texts, joined, split_examples

EMBEDDING = "embedding"
TESTS = {
    "detection": detection,
    "fuzzing": fuzzing,
    "simulation": simulation,
    "intruder": intruder,
}
WITHOUT_TEXT = {"intruder"}  # tests to which no explanation is shown
_AT_A_TIME = 200  # features whose windows and questions are in memory
_TOO_FEW = "too rare: too few windows for this method"


class Subject(NamedTuple):
    """A feature with its windows and explanation."""

    feature: object
    scoring: ExampleSide  # windows that the explanation was not made from
    all_windows: ExampleSide
    text: str
    other_text: str | None  # the explanation of another feature, as a baseline


class Asked(NamedTuple):
    """A question and the score that it belongs to."""

    number: int  # of the feature
    method: str
    is_baseline: bool  # whether the text is another feature's explanation
    question: Question


class Replies(NamedTuple):
    """All answers so far, without their questions."""

    scores: list  # (feature, method, whether it is a baseline) of each
    answers: list  # of str or Exception
    parsed: list

    def are_hopeless(self):
        """Whether no question of the first features got an answer: the others are not asked."""
        failed = [isinstance(answer, Exception) for answer in self.answers]
        return bool(failed) and all(failed)


def score_explanations(
    atlas,
    explanations,
    client=None,
    *,
    methods=None,
    embed=None,
    n_examples=20,
    per_question=5,
    min_examples=5,
    baselines=True,
    baseline=None,
    max_concurrency=4,
    random_state=0,
    verbose=0,
):
    r"""Measure how well explanations predict where features fire.

    Windows to test on come from texts that the explanation was not made from, see
    :func:`split_examples`: as many from strong as from weak firings, and silent windows. A third of
    the silent ones are random, a third have a similar feature fire, and a third contain the very
    token that the feature fires on most (as far as there are such).

    Parameters
    ----------
    atlas : FeatureAtlas
        The atlas that holds the windows.
    explanations : dict of int to (Explanation or str)
        By feature.
    client : object, default=None
        An object with ``complete(messages)`` that returns a string, preferably another model than
        the one that explained. None asks nobody; only "embedding" is possible then.
    methods : sequence of str, default=None
        The scores; None is ``("detection", "fuzzing")`` with a client and ``("embedding",)``
        without.

        - "detection": does this window contain what the explanation says? Balanced accuracy;
        - "fuzzing": are the marked tokens what the explanation says? Balanced accuracy;
        - "simulation": how strongly will the feature fire on each token? Pearson's correlation;
        - "intruder": which of five windows does not belong? Share of right answers. No explanation
          is shown: it says whether the feature can be explained;
        - "embedding": is the explanation nearer to windows in which the feature fires, by the
          cosine of vectors? AUROC. Nobody is asked.
    embed : callable, default=None
        For "embedding": maps a list of texts to an array of one vector per text. None is TF-IDF of
        words and pieces of words.
    n_examples : int, default=20
        The largest number of windows per method in which the feature fires; about as many others
        are added.
    per_question : int, default=5
        Windows per question.
    min_examples : int, default=5
        With fewer windows to test on, a feature is too rare: its scores are NaN and have a `note`.
    baselines : bool, default=True
        Whether the explanation of another feature, chosen at random, is put to the same test. It
        doubles the number of questions.
    baseline : tuple of (FeatureAtlas, dict of int to (Explanation or str)), default=None
        Atlas of another estimator, such as a :class:`~sksae.DummySAE`, on the same texts, and the
        explanations of its features, made in the same way. They are put to the same tests, so that
        an explanation can be read beside those of directions that nobody learnt.
    max_concurrency : int, default=4
        The largest number of questions at the same time. The result does not depend on it.
    random_state : int, default=0
        Seed of the split and of the choice of windows.
    verbose : int, default=0
        Whether to show how many questions are answered.

    Returns
    -------
    explanations : dict of int to Explanation
        The same with `scores`, one dict per method: `value`; `low` and `high`, a confidence
        interval of 95 %; `n` and `n_failed`, the numbers of windows with an answer, and of those
        whose answer could not be read or did not come; `quantiles`, the share of right answers from
        strong to weak firings; `baseline`, with `random`, the value for another feature's
        explanation, `shuffled` (or `chance`), the 95th percentile under permuted answers (or the
        expected value of a guess), and `estimator`, the mean value of the explanations that
        `baseline` gives. Where there is nothing to compute, values are NaN.

    Raises
    ------
    TypeError
        If `client` cannot be asked, or `baseline` is no pair.
    ValueError
        If there is no such feature or method, here or in `baseline`, a method needs a client and
        there is none, or the rows of the atlas are patches of images.
    RuntimeError
        If no question got an answer.

    Warns
    -----
    UserWarning
        If some questions got no answer, or if most answers, or all of one score, cannot be read.

    See Also
    --------
    explain : Makes explanations.
    score_by_steering : Tests what a feature does, not where it fires.
    estimate_cost : How many questions this will be.

    Notes
    -----
    Intervals are Wilson's for shares, combined as Newcombe does for their mean; Newcombe's fifth
    method for the AUROC; and the bootstrap over windows for the correlation. They cover the choice
    of windows, not that of the language model.

    Explanations of features of random dictionaries score nearly as well as those of trained ones
    on the activations of large language models (A. Korznikov et al.).

    References
    ----------
    S. Bills et al.: Language models can explain neurons in language models, OpenAI, 2023.
    (simulation)

    G. Paulo, A. Mallen, C. Juang, N. Belrose: Automatically Interpreting Millions of Features in
    Large Language Models, 2024. https://arxiv.org/abs/2410.13928 (detection, fuzzing, embedding)

    A. Korznikov et al.: Sanity Checks for Sparse Autoencoders: Do SAEs Beat Random Baselines?,
    2026. https://arxiv.org/abs/2602.14111

    R. G. Newcombe: Confidence intervals for an effect size measure based on the Mann-Whitney
    statistic. Part 2, Statistics in Medicine 25, 2006.

    Examples
    --------
    >>> import numpy as np
    >>> from sksae.interpret import FeatureAtlas, explain, score_explanations
    >>> words = np.array([f"{word}{i}" for i in range(40) for word in ("tea", "cup")], dtype=object)
    >>> codes = np.char.startswith(words.astype(str), "tea")[:, None] * 1.0
    >>> table = {"text": np.arange(80), "string": words}
    >>> atlas = FeatureAtlas().fit(codes, tokens=table)
    >>> scored = score_explanations(atlas, {0: "tea"})
    >>> score = scored[0].scores["embedding"]
    >>> score["value"], score["low"] < 1
    (1.0, True)
    """
    for name, value in (("n_examples", n_examples), ("min_examples", min_examples)):
        check_option(name, value, Int(2))
    check_option("per_question", per_question, Int(1))
    check_option("baselines", baselines, Bool())
    check_baseline(baseline)
    methods = _checked_methods(methods, client)
    check_texts(atlas)
    explanations = as_explanations(explanations)
    features_of(atlas, list(explanations))
    subjects = _Subjects(atlas, explanations, min_examples, baselines, random_state)
    # Windows and questions exist for one block of features at a time, their answers for all.
    plan = QuestionPlan(n_examples, per_question)
    scores, replies = {}, Replies([], [], [])
    asking = {"max_concurrency": max_concurrency, "verbose": verbose}
    for block in subjects.blocks() if set(methods) & set(TESTS) else ():
        questions = [q for s in block for q in questions_about(s, methods, plan, random_state)]
        scores |= _scores_by_asking(client, questions, replies, random_state, **asking)
        # The client does not answer, so that the other blocks are not asked.
        if replies.are_hopeless():
            break
    if replies.answers:
        warn_of_failures(replies.answers, stacklevel=3)
        warn_of_unread(*replies, stacklevel=3)
    if EMBEDDING in methods:
        # Vectors of texts are made at once, since an embedding may depend on all of them.
        every = [subject for block in subjects.blocks() for subject in block]
        similarity = embedding_scores(every, plan, embed, random_state)
        scores |= {(number, EMBEDDING): score for number, score in similarity.items()}
    scored = {}
    for number, explanation in explanations.items():
        without_score = no_score(subjects.notes.get(number, _TOO_FEW))
        added = {method: scores.get((number, method), without_score) for method in methods}
        scored[number] = replace(explanation, scores=explanation.scores | added)
    if baseline is not None:
        # The other estimator is scored in the same way, but without baselines of its own.
        tests = {"n_examples": n_examples, "per_question": per_question, "embed": embed}
        options = {**tests, "methods": methods, "min_examples": min_examples, "baselines": False}
        of_baseline = score_explanations(
            *baseline, client, **options, **asking, random_state=random_state
        )
        _put_beside(scored, of_baseline, methods)
    return scored


def questions_about(subject, methods, plan, random_state):
    """Every question (`Asked`) about a `Subject`.

    The windows do not depend on the text, so that a baseline is put to the same test.
    """
    number, questions = subject.feature.feature, []
    for i, (method, test) in enumerate(TESTS.items()):
        if method not in methods:
            continue
        side = subject.all_windows if method in WITHOUT_TEXT else subject.scoring
        for is_baseline, text in ((False, subject.text), (True, subject.other_text)):
            if text is None or (is_baseline and method in WITHOUT_TEXT):
                continue
            # One generator per feature and test: the questions do not depend on what else is asked,
            # and the other explanation is tested on the same windows.
            rng = np.random.default_rng([random_state, number, i])
            questions += [
                Asked(number, method, is_baseline, q) for q in test(side, text, plan, rng)
            ]
    return questions


def too_rare(side, min_examples):
    """Reason why there are too few windows to test on; None where there are enough."""
    n_firing, n_silent = (sum(map(len, w)) for w in (side.quantiles, side.silent.values()))
    if min(n_firing, n_silent) >= min_examples:
        return None
    return f"too rare: {n_firing} windows with the feature and {n_silent} without to test on"


def no_score(note):
    """Score of a feature that could not be tested."""
    undefined = dict.fromkeys(("value", "low", "high"), math.nan)
    return {**undefined, "n": 0, "n_failed": 0, "baseline": {}, "note": note}


def other_texts(explanations, random_state):
    """Text of another feature, at random, for each feature where there is a different one."""
    texts = {}
    for number, explanation in explanations.items():
        # Sorted, since the order of a set differs between processes.
        candidates = sorted({e.text for e in explanations.values()} - {explanation.text})
        if candidates:
            rng = np.random.default_rng([random_state, number])
            texts[number] = candidates[rng.integers(len(candidates))]
    return texts


def check_baseline(baseline):
    """Raise unless a baseline is None, or an atlas with explanations of its features."""
    if baseline is None:
        return
    if not isinstance(baseline, (tuple, list)) or len(baseline) != 2:
        raise TypeError(
            f"baseline must be a pair of an atlas and the explanations of its features. Got "
            f"{type(baseline).__name__} instead."
        )
    atlas, explanations = baseline
    features_of(atlas, list(as_explanations(explanations)))


def _put_beside(scored, of_baseline, methods):
    """Add the mean value of a baseline's explanations to the baseline of every score."""
    for method in methods:
        # One of each explanation of the baseline.
        values = np.array([words.scores[method]["value"] for words in of_baseline.values()])
        finite = values[np.isfinite(values)]
        mean = float(finite.mean()) if len(finite) else math.nan
        for explanation in scored.values():
            score = explanation.scores[method]
            baseline = {**score["baseline"], "estimator": mean}
            explanation.scores[method] = {**score, "baseline": baseline}


def _checked_methods(methods, client):
    if methods is None:
        methods = (EMBEDDING,) if client is None else ("detection", "fuzzing")
    methods = [methods] if isinstance(methods, str) else list(methods)
    for method in methods:
        check_option("each of methods", method, Option(*TESTS, EMBEDDING))
    with_client = [method for method in methods if method in TESTS]
    if with_client and client is None:
        raise ValueError(
            f"{with_client[0]!r} asks a language model, and client is None; without a client there "
            f"is {EMBEDDING!r}."
        )
    if client is not None:
        check_client(client)
    return methods


class _Subjects:
    """Features that can be tested, and a note for each other feature."""

    def __init__(self, atlas, explanations, min_examples, baselines, random_state):
        self.atlas, self.explanations, self.random_state = atlas, explanations, random_state
        self.notes, tested = {}, {}
        for number, explanation in explanations.items():
            note = too_rare(self._sides(number)[2], min_examples)  # by the windows to test on
            (tested if note is None else self.notes)[number] = note or explanation
        self.numbers = list(tested)
        self.other_texts = other_texts(tested, random_state) if baselines else {}

    def blocks(self):
        """Yield lists of `Subject`, whose windows are made for each block."""
        for start in range(0, len(self.numbers), _AT_A_TIME):
            yield [self._subject(number) for number in self.numbers[start : start + _AT_A_TIME]]

    def _sides(self, number):
        feature, seen = self.atlas.feature(number), self.explanations[number].seen
        return feature, *split_examples(feature, seen=seen, random_state=self.random_state)

    def _subject(self, number):
        feature, explaining, scoring = self._sides(number)
        windows = feature, scoring, joined(explaining, scoring)
        text = self.explanations[number].text
        return Subject(*windows, text, self.other_texts.get(number))


def _scores_by_asking(client, asked, replies, random_state, **options):
    """Score by feature and method, from the answers to all questions, which go to the replies."""
    if not asked:
        return {}
    answers = ask(client, [a.question.messages for a in asked], name="score", **options)
    parsed = [_parsed(a, answer) for a, answer in zip(asked, answers, strict=True)]
    replies.scores.extend((a.number, a.method, a.is_baseline) for a in asked)
    replies.answers.extend(answers)
    replies.parsed.extend(parsed)
    groups = {}  # questions and parsed answers by score  # key: (feature, method, is_baseline)
    for a, values in zip(asked, parsed, strict=True):
        questions, group_answers = groups.setdefault((a.number, a.method, a.is_baseline), ([], []))
        questions.append(a.question)
        group_answers.append(values)
    scores, baselines = {}, {}
    for (number, method, is_baseline), (questions, group_answers) in groups.items():
        seed = [random_state, number]
        score = _score(method, questions, group_answers, seed)
        (baselines if is_baseline else scores)[number, method] = score
    for key, score in baselines.items():
        random = {"random": score["value"], "random_n_failed": score["n_failed"]}
        scores[key]["baseline"] |= random
    return scores


def _parsed(asked, answer):
    """What an answer says of each window; None if it cannot be read or did not come."""
    if isinstance(answer, Exception):
        return None
    n = len(asked.question.truth)  # windows, or tokens of one window in a simulation
    try:
        if asked.method == "simulation":
            return read_levels(answer, n, LEVELS)
        if asked.method == "intruder":
            return [read_choice(answer, N_CHOICES)]
        return read_flags(answer, n)
    except ValueError:
        return None


def _score(method, questions, answers, seed):
    if method == "simulation":
        return score_simulation(questions, answers, np.random.default_rng(seed))
    return (score_choices if method == "intruder" else score_flags)(questions, answers)
