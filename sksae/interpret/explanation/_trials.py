"""Questions that test an explanation, with the right answers; and what the answers are worth."""

import math
from typing import NamedTuple

import numpy as np

from sksae.interpret.explanation._intervals import chance_of_flags, mean_of_shares, wilson
from sksae.interpret.explanation._prompts import (
    active,
    detect_messages,
    fuzz_messages,
    intrude_messages,
    line_of,
    marked,
)

SILENT = -1  # the part of windows in which the feature does not fire
N_ODD = 5  # windows of which one does not belong


class Trial(NamedTuple):
    """One question about some windows."""

    messages: list
    truth: tuple  # of each window, what a perfect answer says
    parts: tuple  # of each window, its part from strong to weak


class Plan(NamedTuple):
    """How much is asked about a feature."""

    n_examples: int  # windows in which it fires, and about as many others
    per_question: int


def detection(feature, side, text, plan, rng):
    """Return questions whether windows, without marks, hold what a text describes."""
    del feature
    firing = spread(side.quantiles, plan.n_examples, rng)
    silent = mixed(side.silent, plan.n_examples, rng)
    items = [(line_of(e), 1, part) for part, e in firing]
    items += [(line_of(e), 0, SILENT) for e in silent]
    return _questions(items, text, detect_messages, plan, rng)


def fuzzing(feature, side, text, plan, rng):
    """Return questions whether marks are where a text says: wrong ones are as many as right ones.

    Half of the wrong marks are in windows in which the feature fires, on pieces where it does not.
    """
    del feature
    total = sum(map(len, side.quantiles))
    firing = spread(side.quantiles, total, rng)
    n_right = min(plan.n_examples, max(1, 2 * total // 3))
    right, others = firing[:n_right], firing[n_right:]
    n_marks = math.ceil(np.mean([active(e).sum() for _, e in right])) if right else 1
    wrong = [e for _, e in others if (np.asarray(e.activations) <= 0).any()][: n_right // 2]
    silent = mixed(_to_be_marked(side), n_right - len(wrong), rng)
    items = [(marked(e), 1, part) for part, e in right]
    items += [(marked(e, random_marks(e, n_marks, rng)), 0, SILENT) for e in [*wrong, *silent]]
    return _questions(items, text, fuzz_messages, plan, rng)


def intruder(feature, side, text, plan, rng):
    """Return questions which of some windows does not belong; no description is needed."""
    del feature, text
    trials = []
    parts = [i for i, part in enumerate(side.quantiles) if len(part) >= N_ODD - 1]
    strangers = mixed(_to_be_marked(side), plan.n_examples, rng)
    for number in range(min(plan.n_examples // 2, len(strangers)) if parts else 0):
        part = parts[number % len(parts)]
        chosen = rng.permutation(len(side.quantiles[part]))[: N_ODD - 1]
        windows = [side.quantiles[part][i] for i in chosen.tolist()]
        n_marks = math.ceil(np.mean([active(e).sum() for e in windows]))
        lines = [marked(e) for e in windows]
        place = int(rng.integers(N_ODD))
        stranger = strangers[number]
        lines.insert(place, marked(stranger, random_marks(stranger, n_marks, rng)))
        trials.append(Trial(intrude_messages(lines), (place,), (part,)))
    return trials


def score_flags(trials, answers):
    """Return balanced accuracy and F1 of what was said of windows, and recall by part."""
    truth, said, parts = answered(trials, answers)
    n_true, n_false = int((truth == 1).sum()), int((truth == 0).sum())
    hits, rejected = int((said[truth == 1] == 1).sum()), int((said[truth == 0] == 0).sum())
    score = {"value": math.nan, "low": math.nan, "high": math.nan}
    if n_true and n_false:
        low, high = mean_of_shares((hits, n_true), (rejected, n_false))
        score = {"value": (hits / n_true + rejected / n_false) / 2, "low": low, "high": high}
    n_said = int((said == 1).sum())
    return {
        **score,
        "f1": 2 * hits / (n_true + n_said) if n_true + n_said else math.nan,
        "sensitivity": hits / n_true if n_true else math.nan,
        "specificity": rejected / n_false if n_false else math.nan,
        **counts(trials, answers),
        "quantiles": _by_part(parts[truth == 1], said[truth == 1] == 1),
        "baseline": {"shuffled": chance_of_flags(n_true, n_said, len(truth))},
    }


def score_choices(trials, answers):
    """Return the share of questions in which the right window was chosen."""
    truth, said, parts = answered(trials, answers)
    hits = int((truth == said).sum())
    low, high = wilson(hits, len(truth))
    return {
        "value": hits / len(truth) if len(truth) else math.nan,
        "low": low,
        "high": high,
        **counts(trials, answers),
        "quantiles": _by_part(parts, truth == said),
        "baseline": {"chance": 1 / N_ODD},
    }


def counts(trials, answers):
    """Return of how many windows (or choices) something was said, and of how many nothing."""
    lengths = [len(trial.truth) for trial in trials]
    failed = sum(n for n, answer in zip(lengths, answers, strict=True) if answer is None)
    return {"n": sum(lengths) - failed, "n_failed": failed}


def answered(trials, answers):
    """Return truth, answers and parts as arrays, of the questions that were answered."""
    lines = [
        line
        for trial, answer in zip(trials, answers, strict=True)
        if answer is not None
        for line in zip(trial.truth, answer, trial.parts, strict=True)
    ]
    return np.array(lines, dtype=int).reshape(-1, 3).T


def spread(parts, n, rng):
    """Return ``(part, window)`` of at most n random windows, as many of each part as there are."""
    orders = [rng.permutation(len(part)).tolist() for part in parts]
    found = []
    for place in range(max(map(len, parts), default=0)):
        found += [
            (i, parts[i][order[place]]) for i, order in enumerate(orders) if place < len(order)
        ]
    return found[:n]


def _to_be_marked(side):
    """Return the silent windows that can be marked at random.

    In lexical ones a mark may hit the token that the feature fires on elsewhere, and look right.
    """
    return {kind: windows for kind, windows in side.silent.items() if kind != "lexical"}


def mixed(silent, n, rng):
    """Return at most n silent windows, in turn random ones, neighbours' and lexical ones."""
    found, rows = [], set()
    for _, example in spread(list(silent.values()), sum(map(len, silent.values())), rng):
        if example.row not in rows and len(found) < n:
            rows.add(example.row)
            found.append(example)
    return found


def random_marks(example, n, rng):
    """Return a mask of at most n random pieces on which the feature does not fire."""
    free = [
        i
        for i, value in enumerate(np.asarray(example.activations).tolist())
        if value <= 0 and example.tokens[i].strip()
    ] or list(range(len(example.tokens)))
    mask = np.zeros(len(example.tokens), dtype=bool)
    mask[rng.permutation(free)[:n]] = True
    return mask


def _questions(items, text, messages, plan, rng):
    """Return the trials for ``(line, truth, part)`` in a random order, some to a question."""
    items = [items[i] for i in rng.permutation(len(items)).tolist()]
    trials = []
    for start in range(0, len(items), plan.per_question):
        lines, truth, parts = zip(*items[start : start + plan.per_question], strict=True)
        trials.append(Trial(messages(text, lines), truth, parts))
    return trials


def _by_part(parts, right):
    return [
        {
            "quantile": int(part),
            "n": int((parts == part).sum()),
            "value": float(right[parts == part].mean()),
        }
        for part in np.unique(parts)
    ]
