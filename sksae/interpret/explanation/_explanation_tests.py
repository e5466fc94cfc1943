"""Tests of an explanation: questions with known answers, and what the answers are worth.

Detection, fuzzing, simulation and intruder ask a language model; the embedding asks nobody.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import sparse

from sksae.interpret.explanation._explanation_prompts import (
    active,
    detect_messages,
    fuzz_messages,
    intrude_messages,
    line_of,
    marked,
    simulate_messages,
)
from sksae.interpret.explanation._intervals import (
    auroc_interval,
    auroc_threshold,
    correlation_interval,
    mean_share_interval,
    pearson,
    permutation_threshold,
    share_interval,
)

SILENT = -1  # the part of windows in which the feature does not fire
TOP = -2  # the part of the strongest windows, in a simulation
N_CHOICES = 5  # windows per question of an intruder test, of which one does not belong
_N_SHIFTS = 200


class Question(NamedTuple):
    """A question about some windows, with the right answer."""

    messages: list
    truth: tuple  # per window (per token of a simulation): the perfect answer
    parts: tuple  # per entry of `truth`: 0 for the strongest firings, 1, ..., SILENT or TOP


class QuestionPlan(NamedTuple):
    """How much is asked per feature."""

    n_examples: int  # windows in which it fires, and about as many others
    per_question: int  # windows per question


def detection(side, text, plan, rng):
    """Questions whether windows, without marks, hold what a text describes."""
    firing = spread(side.quantiles, plan.n_examples, rng)
    silent = mixed(side.silent, plan.n_examples, rng)
    items = [(line_of(example), 1, part) for part, example in firing]
    items += [(line_of(example), 0, SILENT) for example in silent]
    return _questions(items, text, detect_messages, plan, rng)


def fuzzing(side, text, plan, rng):
    """Questions whether marks are where a text says; as many of them are wrong as are right.

    Half of the wrong marks are in windows in which the feature fires, on tokens where it does not.
    """
    n_firing = sum(map(len, side.quantiles))
    firing = spread(side.quantiles, n_firing, rng)
    # A third of the windows is kept for wrong marks.
    n_right = min(plan.n_examples, max(1, 2 * n_firing // 3))
    right, spare = firing[:n_right], firing[n_right:]
    n_marks = _mean_n_marks([example for _, example in right]) if right else 1
    wrong = [e for _, e in spare if (np.asarray(e.activations) <= 0).any()][: n_right // 2]
    wrong += mixed(_markable(side), n_right - len(wrong), rng)
    items = [(marked(example), 1, part) for part, example in right]
    items += [(marked(e, random_marks(e, n_marks, rng)), 0, SILENT) for e in wrong]
    return _questions(items, text, fuzz_messages, plan, rng)


def intruder(side, text, plan, rng):
    """Questions which of some windows does not belong; no text is shown."""
    del text
    questions = []
    # Parts with as many windows as a question needs.
    parts = [i for i, part in enumerate(side.quantiles) if len(part) >= N_CHOICES - 1]
    intruders = mixed(_markable(side), plan.n_examples, rng)
    for number in range(min(plan.n_examples // 2, len(intruders)) if parts else 0):
        part = parts[number % len(parts)]
        chosen = rng.permutation(len(side.quantiles[part]))[: N_CHOICES - 1]
        windows = [side.quantiles[part][i] for i in chosen.tolist()]
        lines = [marked(example) for example in windows]
        position = int(rng.integers(N_CHOICES))
        # As many marks as the other windows have on average, to look alike.
        marks = random_marks(intruders[number], _mean_n_marks(windows), rng)
        lines.insert(position, marked(intruders[number], marks))
        questions.append(Question(intrude_messages(lines), (position,), (part,)))
    return questions


def simulation(side, text, plan, rng):
    """Questions how strongly the feature fires on each token of a window.

    A third of the windows are the strongest, a third from all strengths, a third silent ones.
    """
    n_each = max(1, plan.n_examples // 3)
    top = side.top[:n_each]
    top_rows = {example.row for example in top}
    # Of the windows drawn, as many may be among the strongest as there are of those.
    # Enough random windows that `n_each` are left without those of the top.
    random = spread(side.quantiles, len(top_rows) + n_each, rng)
    random = [(part, example) for part, example in random if example.row not in top_rows]
    silent = mixed({"random": side.silent.get("random", [])}, n_each, rng)
    windows = [(TOP, example) for example in top] + random[:n_each]
    windows += [(SILENT, example) for example in silent]
    return [
        Question(
            simulate_messages(text, example.tokens),
            tuple(np.asarray(example.activations, dtype=float).tolist()),
            (part,) * len(example.tokens),
        )
        for part, example in windows
    ]


def score_flags(questions, answers):
    """Balanced accuracy and F1 of answers of 0 and 1 per window, and recall per part."""
    truth, predicted, parts = _answered(questions, answers)  # each (n_answered,)
    n_true, n_false = int((truth == 1).sum()), int((truth == 0).sum())
    n_hits = int((predicted[truth == 1] == 1).sum())
    n_rejected = int((predicted[truth == 0] == 0).sum())
    score = {"value": math.nan, "low": math.nan, "high": math.nan}
    if n_true and n_false:
        # The balanced accuracy is the mean of two shares: hits among firing windows, rejections
        # among silent ones.
        low, high = mean_share_interval((n_hits, n_true), (n_rejected, n_false))
        score = {"value": (n_hits / n_true + n_rejected / n_false) / 2, "low": low, "high": high}
    n_positive = int((predicted == 1).sum())
    return {
        **score,
        # 2 TP / (2 TP + FN + FP).
        "f1": 2 * n_hits / (n_true + n_positive) if n_true + n_positive else math.nan,
        "sensitivity": n_hits / n_true if n_true else math.nan,
        "specificity": n_rejected / n_false if n_false else math.nan,
        **_counts(questions, answers),
        "quantiles": _share_per_part(parts[truth == 1], predicted[truth == 1] == 1),
        "baseline": {"shuffled": permutation_threshold(n_true, n_positive, len(truth))},
    }


def score_choices(questions, answers):
    """Share of the questions in which the right window was chosen."""
    truth, predicted, parts = _answered(questions, answers)
    n_hits = int((truth == predicted).sum())
    low, high = share_interval(n_hits, len(truth))
    return {
        "value": n_hits / len(truth) if len(truth) else math.nan,
        "low": low,
        "high": high,
        **_counts(questions, answers),
        "quantiles": _share_per_part(parts, truth == predicted),
        "baseline": {"chance": 1 / N_CHOICES},
    }


def score_simulation(questions, answers, rng):
    """Correlation of true and predicted activations over the tokens of all windows."""
    windows = [
        # (n_tokens,) each
        (question.parts[0] == TOP, (np.array(question.truth), np.array(answer, dtype=float)))
        for question, answer in zip(questions, answers, strict=True)
        if answer is not None
    ]
    pairs = [pair for _, pair in windows]
    low, high = correlation_interval(pairs, rng)
    return {
        "value": _correlation(pairs),
        "low": low,
        "high": high,
        "random": _correlation([pair for is_top, pair in windows if not is_top]),
        **_counts(questions, answers),
        "baseline": {"shuffled": _shift_threshold(pairs, rng)},
    }


def embedding_scores(subjects, plan, embed, random_state):
    """AUROC per feature of the cosines between its explanation and its windows.

    Parameters
    ----------
    subjects : list of Subject
        Features with their windows and explanations.
    plan : QuestionPlan
        How many windows.
    embed : callable or None
        Maps texts to an array of one vector per text. None is TF-IDF over all of them.
    random_state : int
        Chooses the windows.

    Returns
    -------
    scores : dict of int to dict
        By feature.
    """
    windows, truths = [], []
    for subject in subjects:
        rng = np.random.default_rng([random_state, subject.feature.feature])
        firing = [e for _, e in spread(subject.scoring.quantiles, plan.n_examples, rng)]
        silent = mixed(subject.scoring.silent, plan.n_examples, rng)
        # A window as one string.
        windows.append(["".join(example.tokens) for example in [*firing, *silent]])
        truths.append(np.arange(len(windows[-1])) < len(firing))
    texts = [text for lines in windows for text in lines]
    texts += [text for s in subjects for text in (s.text, s.other_text) if text is not None]
    rows = {text: i for i, text in enumerate(dict.fromkeys(texts))}  # of `vectors`
    vectors = _unit_vectors(_embedded(embed, list(rows)), len(rows)) if rows else None
    scores = {}
    for subject, lines, truth in zip(subjects, windows, truths, strict=True):
        window_vectors = vectors[[rows[text] for text in lines]]  # (n_windows, width)
        n_firing, n_silent = int(truth.sum()), int((~truth).sum())
        # Unit vectors: products are cosines, (n_windows, 1).
        auroc, other_auroc = (
            math.nan if text is None else _auroc(truth, window_vectors @ vectors[[rows[text]]].T)
            for text in (subject.text, subject.other_text)
        )
        low, high = auroc_interval(auroc, n_firing, n_silent)
        baseline = {"shuffled": auroc_threshold(n_firing, n_silent)}
        if subject.other_text is not None:
            baseline["random"] = other_auroc
        score = {"value": auroc, "low": low, "high": high, "n": len(truth), "n_failed": 0}
        scores[subject.feature.feature] = {**score, "baseline": baseline}
    return scores


def spread(parts, n, rng):
    """``(part, window)`` of at most n random windows, from all parts in turn."""
    orders = [rng.permutation(len(part)).tolist() for part in parts]
    windows = []
    # First one window of every part, then a second one.
    for depth in range(max(map(len, parts), default=0)):
        windows += [
            (i, parts[i][order[depth]]) for i, order in enumerate(orders) if depth < len(order)
        ]
    return windows[:n]


def mixed(silent, n, rng):
    """At most n different silent windows, of all kinds in turn: random, neighbours', lexical."""
    windows, rows = [], set()
    for _, example in spread(list(silent.values()), sum(map(len, silent.values())), rng):
        if example.row not in rows and len(windows) < n:
            rows.add(example.row)
            windows.append(example)
    return windows


def random_marks(example, n, rng):
    """Mask of at most n random tokens on which the feature does not fire."""
    free = [
        i
        for i, activation in enumerate(np.asarray(example.activations).tolist())
        if activation <= 0 and example.tokens[i].strip()
        # Where every token fires or is white space, any token may be marked.
    ] or list(range(len(example.tokens)))
    mask = np.zeros(len(example.tokens), dtype=bool)
    mask[rng.permutation(free)[:n]] = True
    return mask


def _markable(side):
    """Silent windows by kind, without those in which a mark at random may look right.

    Lexical ones hold the very token that the feature fires on elsewhere.
    """
    return {kind: windows for kind, windows in side.silent.items() if kind != "lexical"}


def _mean_n_marks(windows):
    return math.ceil(np.mean([active(example).sum() for example in windows]))


def _questions(items, text, messages, plan, rng):
    """Questions about ``(line, truth, part)`` in a random order, `per_question` lines each."""
    items = [items[i] for i in rng.permutation(len(items)).tolist()]
    questions = []
    for start in range(0, len(items), plan.per_question):
        lines, truth, parts = zip(*items[start : start + plan.per_question], strict=True)
        questions.append(Question(messages(text, lines), truth, parts))
    return questions


def _answered(questions, answers):
    """Truth, answers and parts as arrays, of the questions that were answered."""
    rows = [
        row
        for question, answer in zip(questions, answers, strict=True)
        if answer is not None
        for row in zip(question.truth, answer, question.parts, strict=True)
    ]
    return np.array(rows, dtype=int).reshape(-1, 3).T  # rows: truth, answer, part


def _counts(questions, answers):
    """Numbers of windows (tokens, choices) with and without an answer that could be read."""
    lengths = [len(question.truth) for question in questions]
    n_failed = sum(n for n, answer in zip(lengths, answers, strict=True) if answer is None)
    return {"n": sum(lengths) - n_failed, "n_failed": n_failed}


def _share_per_part(parts, right):
    return [
        {
            "quantile": int(part),
            "n": int((parts == part).sum()),
            "value": float(right[parts == part].mean()),
        }
        for part in np.unique(parts)
    ]


def _correlation(pairs):
    if not pairs:
        return math.nan
    return pearson(*map(np.concatenate, zip(*pairs, strict=True)))


def _shift_threshold(pairs, rng):
    """95th percentile of the correlation under shifts of the predictions along the tokens.

    Shifts, unlike permutations, keep the correlation between neighbours.
    """
    if not pairs or math.isnan(_correlation(pairs)):
        return math.nan
    truth, predicted = map(np.concatenate, zip(*pairs, strict=True))
    correlations = [
        # A shift keeps the run lengths of the predictions, which permuted tokens would not.
        pearson(truth, np.roll(predicted, int(shift)))
        for shift in rng.integers(1, max(len(truth), 2), size=_N_SHIFTS)
    ]
    return float(np.quantile(correlations, 0.95))


def _embedded(embed, texts):
    if embed is not None:
        return embed(texts)
    from sklearn.feature_extraction.text import TfidfVectorizer

    pieces = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    words = TfidfVectorizer(token_pattern=r"\w+|[^\w\s]", ngram_range=(1, 2), sublinear_tf=True)
    blocks = []
    for vectorizer in (pieces, words):
        try:
            blocks.append(vectorizer.fit_transform(texts))
        except ValueError:  # an empty vocabulary: spaces only, for example
            continue
    return sparse.hstack(blocks, format="csr") if blocks else np.zeros((len(texts), 1))


def _unit_vectors(vectors, n):
    """Vectors of length one, zero where they are zero; a ValueError where they do not fit."""
    if not sparse.issparse(vectors):
        vectors = np.asarray(vectors, dtype=np.float64)
    if vectors.ndim != 2 or vectors.shape[0] != n:
        raise ValueError(
            f"embed must return one vector per text, an array of shape ({n}, width); it returned "
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
    # Rounded, so that ties do not depend on the order of a sum.
    return float(roc_auc_score(truth, np.round(cosines.ravel(), 12)))
