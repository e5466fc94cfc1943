"""All questions about all features, asked together; and what comes back, by feature and method."""

import math
import warnings
from typing import NamedTuple

import numpy as np

from sksae._signs import visible
from sksae.interpret.explanation._answers import read_choice, read_flags, read_levels
from sksae.interpret.explanation._asking import ask, warn_of_failures
from sksae.interpret.explanation._prompts import LEVELS
from sksae.interpret.explanation._simulation import score_simulation, simulation
from sksae.interpret.explanation._splitting import ExampleSide
from sksae.interpret.explanation._trials import (
    N_ODD,
    Trial,
    detection,
    fuzzing,
    intruder,
    score_choices,
    score_flags,
)

TESTS = {
    "detection": detection,
    "fuzzing": fuzzing,
    "simulation": simulation,
    "intruder": intruder,
}
WITHOUT_TEXT = {"intruder"}  # another feature's explanation changes nothing


class Subject(NamedTuple):
    """A feature to ask about."""

    feature: object
    scoring: ExampleSide  # windows that the explanation was not made from
    whole: ExampleSide  # all windows
    text: str
    other: str | None  # what is said about another feature


class Asked(NamedTuple):
    """A question, and what it is for."""

    number: int
    method: str
    other: bool  # whether it is about another feature's explanation
    trial: Trial


def joined(first, second):
    """Return an `ExampleSide` with the windows of both."""
    return ExampleSide(
        sorted(first.top + second.top, key=lambda e: (-e.activation, e.row)),
        [a + b for a, b in zip(first.quantiles, second.quantiles, strict=True)],
        {kind: some + second.silent[kind] for kind, some in first.silent.items()},
    )


def questions_about(subject, methods, plan, random_state):
    """Return every `Asked` about a `Subject`; the windows do not depend on the explanation."""
    number, found = subject.feature.feature, []
    for place, method in enumerate(TESTS):
        if method not in methods:
            continue
        side = subject.whole if method in WITHOUT_TEXT else subject.scoring
        for other, text in enumerate((subject.text, subject.other)):
            if text is None or (other and method in WITHOUT_TEXT):
                continue
            rng = np.random.default_rng([random_state, number, place])
            trials = TESTS[method](subject.feature, side, text, plan, rng)
            found += [Asked(number, method, bool(other), trial) for trial in trials]
    return found


def asked_scores(client, asked, random_state, **options):
    """Return the score by feature and method, of all questions.

    Raises
    ------
    RuntimeError
        If there are questions and none got an answer.

    Warns
    -----
    UserWarning
        If some questions got no answer, or most answers cannot be read.
    """
    if not asked:
        return {}
    answers = ask(client, [one.trial.messages for one in asked], name="score", **options)
    warn_of_failures(answers, stacklevel=4)
    read = [_read(one, answer) for one, answer in zip(asked, answers, strict=True)]
    _warn_of_unread(asked, answers, read)
    groups = {}
    for one, answer in zip(asked, read, strict=True):
        group = groups.setdefault((one.number, one.method, one.other), ([], []))
        group[0].append(one.trial)
        group[1].append(answer)
    scores = {}
    for (number, method, other), (trials, found) in groups.items():
        if not other:
            scores[number, method] = _score(method, trials, found, [random_state, number])
    for (number, method, other), (trials, found) in groups.items():
        if other:
            score = _score(method, trials, found, [random_state, number])
            baseline = scores[number, method]["baseline"]
            baseline |= {"random": score["value"], "random_n_failed": score["n_failed"]}
    return scores


def _warn_of_unread(asked, answers, read):
    """Warn if most answers cannot be read, or all of one score."""
    unread, by_score = [], {}
    for one, answer, found in zip(asked, answers, read, strict=True):
        if not isinstance(answer, Exception):
            by_score.setdefault((one.number, one.method, one.other), []).append(found is not None)
            unread += [answer] if found is None else []
    lost = [score for score, were_read in by_score.items() if not any(were_read)]
    if 2 * len(unread) > len(answers) or lost:
        first = unread[0]
        shown = repr(visible(first[:80])) if isinstance(first, str) else f"a {type(first).__name__}"
        of = f", all of {lost[0][1]} of feature {lost[0][0]}" if lost else ""
        warnings.warn(
            f"{len(unread)} of {len(answers)} answers could not be read and count as failed{of}; "
            f"the first of them is {shown}.",
            stacklevel=4,
        )


def too_rare(side, min_examples):
    """Return why there are too few windows to test on; None where there are enough."""
    n_firing, n_silent = (sum(map(len, w)) for w in (side.quantiles, side.silent.values()))
    if min(n_firing, n_silent) >= min_examples:
        return None
    return f"too rare: {n_firing} windows with the feature and {n_silent} without to test on"


def no_score(note):
    """Return the score of a feature that could not be tested."""
    nothing = dict.fromkeys(("value", "low", "high"), math.nan)
    return {**nothing, "n": 0, "n_failed": 0, "baseline": {}, "note": note}


def _score(method, trials, answers, seed):
    if method == "simulation":
        return score_simulation(trials, answers, np.random.default_rng(seed))
    return (score_choices if method == "intruder" else score_flags)(trials, answers)


def _read(one, answer):
    """Return what an answer says of each window; None if it cannot be read or did not come."""
    if isinstance(answer, Exception):
        return None
    n = len(one.trial.truth)
    try:
        if one.method == "simulation":
            return read_levels(answer, n, LEVELS)
        if one.method == "intruder":
            return [read_choice(answer, N_ODD)]
        return read_flags(answer, n)
    except ValueError:
        return None
