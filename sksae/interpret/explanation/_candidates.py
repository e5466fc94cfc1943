"""Candidate explanations of features: questions for them, and the choice of the best one."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sksae.interpret.explanation._client_calls import ask
from sksae.interpret.explanation._explanation_prompts import explain_messages, read_flags
from sksae.interpret.explanation._explanation_tests import QuestionPlan, detection, score_flags
from sksae.interpret.explanation._splitting import ExampleSide, key_of, split_examples

_FEWEST = 3  # windows of each kind to choose by
_AT_A_TIME = 200  # features whose candidates are tested at once
_PER_QUESTION = 5


class Sides(NamedTuple):
    """Windows of a feature to write candidates from, and others to choose one by."""

    writing: ExampleSide
    choosing: ExampleSide | None  # None where a single candidate is written
    seen: tuple  # texts of both


def candidate_sides(feature, n_candidates, random_state):
    """Return the `Sides` of a feature; scores of the chosen explanation use neither.

    Half of the texts to explain from are kept to choose by, and half of those on which the feature
    is silent. With too few of them, a single candidate is written, from all.
    """
    explaining, scoring = split_examples(feature, random_state=random_state)
    texts = _texts(explaining.windows())
    if n_candidates == 1:
        return Sides(explaining, None, texts)
    # The last number tells apart what is drawn for a feature.
    rng = np.random.default_rng([random_state, feature.feature, 1])
    for_choosing = {texts[i] for i in rng.permutation(len(texts))[: len(texts) // 2].tolist()}
    firing = set(_texts(scoring.windows()))
    # Texts without a firing window.
    free = {key_of(e.text) for part in scoring.silent.values() for e in part} - firing
    # Of strings and numbers; the order of a set differs between processes.
    free = sorted(free, key=repr)
    for_choosing |= {free[i] for i in rng.permutation(len(free))[: len(free) // 2].tolist()}
    silent = {
        kind: [
            e for e in [*explaining.silent.get(kind, []), *part] if key_of(e.text) in for_choosing
        ]
        for kind, part in scoring.silent.items()
    }
    choosing = _restricted(explaining, for_choosing)._replace(silent=silent)
    n_firing, n_silent = sum(map(len, choosing.quantiles)), sum(map(len, silent.values()))
    if min(n_firing, n_silent) < _FEWEST:
        return Sides(explaining, None, texts)
    writing = _restricted(explaining, set(texts) - for_choosing)
    return Sides(writing, choosing, tuple(dict.fromkeys([*texts, *for_choosing])))


def chosen_windows(side, n_examples):
    """Windows for an explanation: the strongest, then those of each part in turn."""
    n_top = (n_examples + 1) // 2  # half of the windows, rounded up
    by_row = {example.row: example for example in side.top[:n_top]}
    # The strongest window of every part, then the second strongest, as long as there is room.
    for depth in range(max(map(len, side.quantiles), default=0)):
        for part in side.quantiles:
            if depth < len(part) and len(by_row) < n_examples:
                by_row.setdefault(part[depth].row, part[depth])
    return list(by_row.values())


class CandidateQuestions(Sequence):
    """Questions for explanations, which are written as they are asked.

    Parameters
    ----------
    atlas : FeatureAtlas
    n_examples : int
        Windows per question.
    n_candidates : int
        Questions per feature, each with other windows.
    random_state : int
    """

    def __init__(self, atlas, n_examples, n_candidates, random_state):
        self.atlas, self.n_examples = atlas, n_examples
        self.n_candidates, self.random_state = n_candidates, random_state
        self.jobs = []  # (feature, candidate) of each question
        self.seen = {}  # texts that an explanation is made from, by feature

    def add(self, feature):
        """Add the questions about a `Feature`; return whether it has windows."""
        sides = candidate_sides(feature, self.n_candidates, self.random_state)
        windows = chosen_windows(sides.writing, self.n_examples)
        if not windows:
            return False
        number, is_single = feature.feature, sides.choosing is None
        # Numbers of the candidates.
        self.jobs += [(number, c) for c in range(1 if is_single else self.n_candidates)]
        self.seen[number] = _texts(windows) if is_single else sides.seen
        return True

    def __len__(self):
        return len(self.jobs)

    def __getitem__(self, index):
        """The messages of a question."""
        number, candidate = self.jobs[index]
        feature = self.atlas.feature(number)
        side = candidate_sides(feature, self.n_candidates, self.random_state).writing
        if candidate:
            rng = np.random.default_rng([self.random_state, number, 2, candidate])
            # The strongest half and the parts in another order: other windows are shown.
            side = ExampleSide(
                _shuffled(side.top, rng), [_shuffled(p, rng) for p in side.quantiles], {}
            )
        return explain_messages(feature, chosen_windows(side, self.n_examples))

    def best(self, client, candidates, **options):
        """Return the best description of each feature, by detection on windows kept for that.

        Parameters
        ----------
        client : object
        candidates : dict of int to list of str
            Different descriptions, by feature.
        **options : dict
            Of `ask`.
        """
        best = {number: texts[0] for number, texts in candidates.items()}
        several = [number for number, texts in candidates.items() if len(texts) > 1]
        for start in range(0, len(several), _AT_A_TIME):
            comparisons = []  # feature, description, question
            for number in several[start : start + _AT_A_TIME]:
                for text in candidates[number]:
                    tests = self.tests(number, [text])
                    comparisons += [(number, text, question) for question in tests]
            messages = [question.messages for _, _, question in comparisons]
            answers = ask(client, messages, name="choose", **options)
            values = _values(comparisons, answers)
            for number in several[start : start + _AT_A_TIME]:
                # The first of equal ones; nothing is better than no answer.
                texts = candidates[number]
                # Balanced accuracies are at least 0.
                best[number] = max(texts, key=lambda text: values.get((number, text), -1.0))
        return best

    @property
    def n_different(self):
        """The largest number of candidates that are tested, where all differ; 0 of a single one."""
        return len(self.jobs) if len(self.jobs) > 1 else 0

    def tests(self, number, texts):
        """Yield the questions by which descriptions of a feature are compared."""
        if not texts:
            return
        feature = self.atlas.feature(number)
        choosing = candidate_sides(feature, self.n_candidates, self.random_state).choosing
        plan = QuestionPlan(self.n_examples, _PER_QUESTION)
        for text in texts:
            # The same generator for each text: all are compared by the same questions.
            rng = np.random.default_rng([self.random_state, number, 3])
            yield from detection(choosing, text, plan, rng)


def _values(comparisons, answers):
    """Return the balanced accuracy of each description that has one, by feature and text."""
    groups = {}
    for (number, text, question), answer in zip(comparisons, answers, strict=True):
        questions, flags = groups.setdefault((number, text), ([], []))
        questions.append(question)
        try:
            flags.append(read_flags(answer, len(question.truth)))
        except ValueError:  # it is an exception, or cannot be read
            flags.append(None)
    values = {key: score_flags(*group)["value"] for key, group in groups.items()}
    # NaN differs from itself.
    return {key: value for key, value in values.items() if value == value}


def _restricted(side, texts):
    """Return an `ExampleSide` with the windows of some texts."""

    def selected(windows):
        return [e for e in windows if key_of(e.text) in texts]

    silent = {kind: selected(part) for kind, part in side.silent.items()}
    return ExampleSide(selected(side.top), [selected(part) for part in side.quantiles], silent)


def _shuffled(windows, rng):
    return [windows[i] for i in rng.permutation(len(windows)).tolist()]


def _texts(windows):
    return tuple(dict.fromkeys(key_of(e.text) for e in windows))
