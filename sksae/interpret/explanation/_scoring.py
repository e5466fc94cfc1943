"""Explanations put to the test, on texts that whoever wrote them has not seen."""

from dataclasses import replace

import numpy as np

from sksae._params import Bool, Int, Option, check_option
from sksae.interpret.explanation._asking import check_client
from sksae.interpret.explanation._embedding import embedding_scores
from sksae.interpret.explanation._explaining import features_of
from sksae.interpret.explanation._explanation import as_explanations
from sksae.interpret.explanation._questions import (
    TESTS,
    Subject,
    asked_scores,
    joined,
    no_score,
    questions_about,
    too_rare,
)
from sksae.interpret.explanation._splitting import split_examples
from sksae.interpret.explanation._trials import Plan

EMBEDDING = "embedding"
METHODS = (*TESTS, EMBEDDING)
_TOO_FEW = "too rare: too few windows for this method"


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
    max_concurrency=4,
    random_state=0,
    verbose=0,
):
    r"""Measure how well explanations tell where features fire.

    Windows to test on come from texts that the explanation was not made from, see
    :func:`split_examples`: as many from strong as from weak firings, and windows without any, of
    which a third each are random, have a near feature fire, and contain the very token that the
    feature fires on most (as far as there are such).

    Parameters
    ----------
    atlas : FeatureAtlas
        Gives the windows.
    explanations : dict of int to (Explanation or str)
        By feature.
    client : object, default=None
        Something with ``complete(messages)`` that returns a string. Best not the model that
        explained. None asks nobody; then only "embedding" is there.
    methods : sequence of str, default=None
        Which scores; None is ``("detection", "fuzzing")`` with a client and ``("embedding",)``
        without.

        - "detection": does this window hold what the explanation says? Balanced accuracy;
        - "fuzzing": is what is marked here what it says? Balanced accuracy;
        - "simulation": how strongly will the feature fire on each token? Pearson's correlation;
        - "intruder": which of five windows does not belong? Share of right answers. No explanation
          is shown: it says whether the feature can be explained;
        - "embedding": is the explanation nearer to windows in which the feature fires, by the
          cosine of vectors? AUROC. Nobody is asked.
    embed : callable, default=None
        For "embedding": a list of texts in, an array of one vector each out. None is TF-IDF of
        words and pieces of words.
    n_examples : int, default=20
        Windows in which the feature fires, at most, for each method; about as many others.
    per_question : int, default=5
        Windows in a question.
    min_examples : int, default=5
        With fewer windows to test on than this a feature is too rare: its scores are NaN and have a
        `note`.
    baselines : bool, default=True
        Whether the explanation of another feature, at random, is put to the same test. It doubles
        the number of questions.
    max_concurrency : int, default=4
        Questions under way at a time. The result does not depend on it.
    random_state : int, default=0
        Seed of the split and of the choice of windows.
    verbose : int, default=0
        Whether to show how many questions are answered.

    Returns
    -------
    explanations : dict of int to Explanation
        The same with `scores`, one dict a method: `value`; `low` and `high`, an interval of 95 %;
        `n` and `n_failed`, the windows of which something was said, and those where the answer
        could not be read or did not come; `quantiles`, the share of right answers from strong to
        weak firings; `baseline`, with `random`, the value for another feature's explanation, and
        `shuffled` (or `chance`), what 19 of 20 random orders of the same answers do not exceed.
        Where there is nothing to compute, values are NaN.

    Raises
    ------
    TypeError
        If `client` cannot be asked.
    ValueError
        If there is no such feature or method, or a method needs a client and there is none.
    RuntimeError
        If no question got an answer.

    Warns
    -----
    UserWarning
        If some questions got no answer, or most answers cannot be read.

    See Also
    --------
    explain : Makes explanations.
    score_by_steering : Tests what a feature does, not where it fires.
    estimate_cost : How many questions this will be.

    Notes
    -----
    Intervals are Wilson's for shares, combined as Newcombe does for their mean; Newcombe's fifth
    method for the AUROC; and the bootstrap over windows for the correlation. They tell what other
    windows of the same feature might have given, not what another language model would have.

    References
    ----------
    S. Bills et al.: Language models can explain neurons in language models, OpenAI, 2023.
    (simulation)

    G. Paulo, A. Mallen, C. Juang, N. Belrose: Automatically Interpreting Millions of Features in
    Large Language Models, 2024. https://arxiv.org/abs/2410.13928 (detection, fuzzing, embedding)

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
    methods = _methods(methods, client)
    explanations = as_explanations(explanations)
    features_of(atlas, list(explanations))
    subjects, notes = _subjects(atlas, explanations, min_examples, baselines, random_state)
    plan = Plan(n_examples, per_question)
    asked = [q for s in subjects for q in questions_about(s, methods, plan, random_state)]
    options = {"max_concurrency": max_concurrency, "verbose": verbose}
    scores = asked_scores(client, asked, random_state, **options)
    if EMBEDDING in methods:
        scores |= {
            (number, EMBEDDING): score
            for number, score in embedding_scores(subjects, plan, embed, random_state).items()
        }
    return {
        number: replace(
            e,
            scores=e.scores
            | {
                m: scores.get((number, m)) or no_score(notes.get(number, _TOO_FEW)) for m in methods
            },
        )
        for number, e in explanations.items()
    }


def other_texts(explanations, random_state):
    """Return what is said of another feature, at random, for each feature where there is one."""
    found = {}
    for number, explanation in explanations.items():
        others = sorted({e.text for e in explanations.values()} - {explanation.text})
        if others:
            rng = np.random.default_rng([random_state, number])
            found[number] = others[rng.integers(len(others))]
    return found


def _methods(methods, client):
    if methods is None:
        methods = (EMBEDDING,) if client is None else ("detection", "fuzzing")
    methods = [methods] if isinstance(methods, str) else list(methods)
    for method in methods:
        check_option("each of methods", method, Option(*METHODS))
    needy = [method for method in methods if method in TESTS]
    if needy and client is None:
        raise ValueError(
            f"{needy[0]!r} asks a language model, and client is None; without a client there is "
            f"{EMBEDDING!r}."
        )
    if client is not None:
        check_client(client)
    return methods


def _subjects(atlas, explanations, min_examples, baselines, random_state):
    """Return a `Subject` for each feature that can be tested, and why others cannot."""
    sides, notes = {}, {}
    for number, explanation in explanations.items():
        feature = atlas.feature(number)
        both = split_examples(feature, seen=explanation.seen, random_state=random_state)
        note = too_rare(both[1], min_examples)
        if note is None:
            sides[number] = feature, both[1], joined(*both)
        else:
            notes[number] = note
    tested = {number: explanations[number] for number in sides}
    others = other_texts(tested, random_state) if baselines else {}
    subjects = [Subject(*s, tested[n].text, others.get(n)) for n, s in sides.items()]
    return subjects, notes
