import json
import math
from decimal import Decimal
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

from sksae.interpret import (
    Explanation,
    FeatureAtlas,
    estimate_cost,
    explain,
    load_explanations,
    save_explanations,
    score_explanations,
    split_examples,
)
from sksae.interpret.explanation import _explanation_prompts as prompts
from sksae.interpret.explanation._candidates import CandidateQuestions
from tests.cases import each_case, tries
from tests.interpret.explanation.planted import (
    WORDS,
    Constant,
    Oracle,
    Recording,
    lines_of,
    planted_atlas,
)

NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9)
SCORES = st.dictionaries(
    st.text(max_size=5),
    st.dictionaries(st.text(max_size=5), NUMBERS | st.lists(NUMBERS), max_size=3),
)
TEXTS = st.text(st.characters(codec=None), max_size=20)
EXPLANATIONS = st.dictionaries(
    st.integers(0, 10**6),
    st.tuples(TEXTS, TEXTS, SCORES, st.lists(st.integers() | TEXTS, max_size=3).map(tuple)),
    max_size=4,
).map(lambda found: {i: Explanation(i, *rest) for i, rest in found.items()})


@pytest.fixture(scope="module")
def atlas():
    return planted_atlas()


def test_without_a_client_all_features_that_fire_are_described(atlas):
    explanations = explain(atlas)
    assert {i: str(e).partition(" after ")[0] for i, e in explanations.items()} == {
        0: '"tea"',
        1: '"rain"',
        2: '"stone"',
    }
    assert {e.source for e in explanations.values()} == {"tokens"}


def test_with_a_client_each_feature_is_one_question(atlas):
    client = Oracle()
    explanations = explain(atlas, client, [2, 0])
    assert list(explanations) == [2, 0]
    assert [str(e) for e in explanations.values()] == ["stone", "tea"]
    assert explanations[2].source == "oracle"
    assert len(client.asked) == 2


def test_a_feature_that_never_fires_is_not_asked_about(atlas):
    client = Oracle()
    found = explain(atlas, client, [3])
    assert found == {3: Explanation(3, "never fires", "tokens")}
    assert client.asked == []


def test_only_windows_to_explain_from_are_shown(atlas):
    class Looking(Recording):
        def answer(self, system, user):
            return f"EXPLANATION: {len(user)}"

    client = Looking()
    explanation = explain(atlas, client, [0], n_examples=12)[0]
    explaining, scoring = split_examples(atlas.feature(0))
    shown = client.asked[0][1]["content"]
    lines = {prompts.marked(e): e for e in explaining.windows()}
    assert sum(line in shown for line in lines) == 12
    assert not any(prompts.marked(e) in shown for e in scoring.windows())
    assert set(explanation.seen) == {e.text for line, e in lines.items() if line in shown}
    # The strongest first, then some of all parts.
    strongest = [prompts.marked(e) for e in explaining.top[:6]]
    assert [shown.index(line) for line in strongest] == sorted(map(shown.index, strongest))
    assert all(any(prompts.marked(e) in shown for e in part) for part in explaining.quantiles)


def test_the_result_does_not_depend_on_the_other_features_or_the_bound(atlas):
    every = explain(atlas, Oracle(), max_concurrency=8)
    assert explain(atlas, Oracle(), [1], max_concurrency=1) == {1: every[1]}


def test_one_failure_does_not_lose_the_others(atlas):
    class Sometimes(Oracle):
        def answer(self, system, user):
            if user.count("rain") > 3:
                raise ConnectionError("gone")
            return super().answer(system, user)

    with pytest.warns(UserWarning, match="1 of 3 .*: 1; feature 1: ConnectionError: gone"):
        explanations = explain(atlas, Sometimes())
    assert list(explanations) == [0, 2]


@pytest.mark.parametrize(("answer", "reason"), [("", "describes nothing"), (None, "not a string")])
def test_if_nothing_comes_that_is_an_error(atlas, answer, reason):
    with pytest.raises(RuntimeError, match=f"None of 3 features could be explained.*{reason}"):
        explain(atlas, Constant(answer))


def test_the_warning_points_to_the_call(atlas):
    class Second(Oracle):
        def answer(self, system, user):
            return "..." if user.count("tea") > 3 else super().answer(system, user)

    with pytest.warns(UserWarning, match="feature 0: ValueError: it describes nothing") as found:
        explain(atlas, Second())
    assert found[0].filename == __file__


def test_wrong_input_is_refused_before_anything_is_asked(atlas):
    client = Oracle()
    with pytest.raises(ValueError, match="n_examples must be an int >= 1"):
        explain(atlas, client, n_examples=0)
    with pytest.raises(ValueError, match="4"):
        explain(atlas, client, [0, 4])
    with pytest.raises(TypeError, match="method complete"):
        explain(atlas, "gpt")
    assert client.asked == []
    assert explain(atlas, client, []) == {}


@pytest.mark.parametrize(
    ("atlas", "error", "message"),
    [
        (FeatureAtlas(), NotFittedError, "not fitted"),
        (np.eye(3), TypeError, "fitted FeatureAtlas. Got ndarray"),
    ],
    ids=["unfitted", "codes"],
)
def test_an_atlas_is_needed(atlas, error, message):
    for use in (explain, estimate_cost, partial(score_explanations, explanations={0: "tea"})):
        with pytest.raises(error, match=message):
            use(atlas)


@each_case(
    "features, message",
    [(3, "list of column numbers"), (np.array([True, False]), "flatnonzero"), ([9], "feature 9")],
)
def test_features_are_numbers_in_a_list(features, message):
    atlas = FeatureAtlas().fit(np.eye(2))
    with pytest.raises(ValueError, match=message):
        explain(atlas, features=features)


def test_any_iterable_of_features_will_do():
    atlas = FeatureAtlas().fit(np.eye(3))
    assert list(explain(atlas, features={2: "a", 0: "b"}.keys())) == [2, 0]
    assert explain(atlas, features=()) == {}


@settings(max_examples=tries(60), deadline=None)
@given(EXPLANATIONS)
def test_what_was_saved_is_what_is_loaded(tmp_path_factory, explanations):
    path = tmp_path_factory.mktemp("saved") / "e.json"
    assert save_explanations(path, explanations) == path
    assert load_explanations(path) == explanations


def test_numbers_of_numpy_and_missing_ones_survive(tmp_path):
    scores = {"detection": {"value": math.nan, "n": np.int64(3), "low": np.float32(0.5)}}
    one = Explanation(np.int64(4), "한국어 🫖", "tokens", scores, (np.int32(7),))
    loaded = load_explanations(save_explanations(tmp_path / "e.json", {4: one}))[4]
    assert math.isnan(loaded.scores["detection"]["value"])
    assert loaded.scores["detection"]["n"] == 3
    assert loaded.scores["detection"]["low"] == 0.5
    assert (loaded.text, loaded.seen, str(loaded)) == ("한국어 🫖", (7,), "한국어 🫖")
    assert "NaN" not in (tmp_path / "e.json").read_text("ascii")


@pytest.mark.parametrize(
    ("score", "seen", "message"),
    [
        ({"value": math.inf}, (), "feature 4 .* score 'fuzzing' .* value has inf, .* not finite"),
        ({"value": [0.5, -np.inf]}, (), "score 'fuzzing' .* value has -inf"),
        ({1: 0.5}, (), "the key 1 is a int and not a str"),
        ({"value": Decimal("0.5")}, (), "value has a Decimal"),
        ({"value": np.ones(2)}, (), "value has a ndarray"),
        ({"value": None}, (), "value has a NoneType"),
        ({"value": (1, 2)}, (), "value has a tuple"),
        ({}, (math.inf,), "seen is wrong, it has inf"),
        ({}, ("a", math.nan), "seen is wrong, it has nan"),
        ({}, (Decimal(1),), "seen is wrong, it has a Decimal"),
        ({}, (np.ones(1),), "feature 4 cannot be saved"),
    ],
)
def test_what_would_be_read_back_otherwise_is_not_saved(tmp_path, score, seen, message):
    one = Explanation(4, "a", scores={"fuzzing": score}, seen=seen)
    with pytest.raises(ValueError, match=message):
        save_explanations(tmp_path / "e.json", {4: one})
    assert not list(tmp_path.iterdir())


def test_a_file_by_hand_has_no_infinite_score(tmp_path):
    line = {"feature": 7, "text": "a", "source": "b", "scores": {"s": {"low": math.inf}}}
    path = tmp_path / "e.json"
    path.write_bytes(whole({**line, "seen": []}))
    assert b"Infinity" in path.read_bytes()
    with pytest.raises(ValueError, match="of feature 7, is damaged: low has inf"):
        load_explanations(path)
    path.write_bytes(whole({**line, "scores": {"s": {"low": math.nan}}, "seen": []}))
    assert math.isnan(load_explanations(path)[7].scores["s"]["low"])


GOOD = {"feature": 1, "text": "a", "source": "b", "scores": {}, "seen": []}


def whole(*lines, **changes):
    content = {"format": "sksae explanations", "version": 1, "explanations": list(lines)}
    return json.dumps({**content, **changes}).encode()


@each_case(
    "content, message",
    [
        (b"", "not a file of explanations, or not all"),
        (whole(GOOD)[:-9], "or not all of it"),
        (b"\xff\xfe", "not a file of explanations"),
        (b"[" * 100_000, "not a file of explanations"),
        (b"[]", "not a file that save_explanations wrote"),
        (whole(format="other"), "not a file that save_explanations wrote"),
        (whole(version=2), "version 2 of the format; this sksae reads version 1"),
        (whole(explanations=None), "no list of explanations"),
        (whole(GOOD, 3), "Explanation 1 of .* is damaged"),
        (whole({**GOOD, "feature": -1}), "Explanation 0"),
        (whole({**GOOD, "feature": True}), "Explanation 0"),
        (whole({**GOOD, "text": 3}), "Explanation 0"),
        (whole({**GOOD, "scores": {"detection": 1}}), "Explanation 0"),
        (whole({**GOOD, "seen": [[1]]}), "Explanation 0"),
        (whole(GOOD, GOOD), "a second one of its feature"),
    ],
)
def test_files_that_are_not_ours_are_refused(tmp_path, content, message):
    path = tmp_path / "e.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_explanations(path)


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = save_explanations(tmp_path / "e.json", {1: Explanation(1, "first")})
    circle = {}
    circle["in"] = circle
    with pytest.raises(RecursionError):
        save_explanations(path, {1: Explanation(1, "second", scores=circle)})
    assert load_explanations(path)[1].text == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["e.json"]


def test_words_alone_are_explanations_by_hand(tmp_path):
    path = save_explanations(tmp_path / "e.json", {np.int64(3): "강", 1: Explanation(1, "rivers")})
    found = load_explanations(path)
    assert list(found) == [1, 3]
    assert found[3] == Explanation(3, "강")


@each_case(
    "explanations, error, message",
    [
        ([Explanation(1, "a")], TypeError, "dict by feature.*Got list"),
        ("e.json", TypeError, "dict by feature.*Got str"),
        ({2: Explanation(1, "a")}, ValueError, "must be the Explanation of feature 2"),
        ({-1: "a"}, ValueError, "int >= 0"),
        ({1: 3}, ValueError, "or a str. Got 3"),
        ({1: Explanation(1, "a", scores={"detection": 0.5})}, ValueError, "feature 1 cannot"),
        ({1: Explanation(1, "a", scores={"detection": float("nan")})}, ValueError, "cannot be"),
        ({1: Explanation(1, None)}, ValueError, "text and source must be strings"),
    ],
)
def test_what_is_no_explanation_is_not_written(tmp_path, explanations, error, message):
    with pytest.raises(error, match=message):
        save_explanations(tmp_path / "e.json", explanations)
    assert not list(tmp_path.iterdir())


def test_as_a_string_an_explanation_cannot_steer_a_terminal():
    one = Explanation(7, "days\x1b[2J\x07 of\nthe week")
    assert str(one) == f"{one}" == "days\ufffd[2J\ufffd of↵the week"
    assert one.text == "days\x1b[2J\x07 of\nthe week"  # data, as in the file


class SecondThought(Oracle):
    """Says something else of every window the first time."""

    def answer(self, system, user):
        n_explained = sum(messages[0]["content"] == prompts._EXPLAIN for messages in self.asked)
        if system == prompts._EXPLAIN and n_explained % 2:
            return "EXPLANATION: sand"
        return super().answer(system, user)


def test_the_best_of_several_candidates_is_kept(atlas):
    options = {"max_concurrency": 1, "random_state": 0}
    assert explain(atlas, SecondThought(), [0], **options)[0].text == "sand"
    client = SecondThought()
    explanations = explain(atlas, client, n_candidates=2, **options)
    assert [explanations[i].text for i in range(3)] == list(WORDS)
    detections = [m for m in client.asked if m[0]["content"] == prompts._DETECT]
    assert len(detections) >= 6


def test_the_windows_of_the_choice_are_not_scored_on(atlas):
    client = SecondThought()
    explanation = explain(atlas, client, [0], n_candidates=2, max_concurrency=1)[0]
    asked = [m[1]["content"] for m in client.asked if m[0]["content"] == prompts._DETECT]
    chosen_by = {line for user in asked for line in lines_of(user)}
    _, scoring = split_examples(atlas.feature(0), seen=explanation.seen, random_state=0)
    windows = [*scoring.windows(), *(e for part in scoring.silent.values() for e in part)]
    scored_on = {prompts.line_of(example) for example in windows}
    assert len(chosen_by) > 10 < len(scored_on)
    assert not chosen_by & scored_on


def test_questions_are_written_as_they_are_asked(atlas):
    questions = CandidateQuestions(atlas, 6, 2, 0)
    assert questions.add(atlas.feature(1))
    assert not questions.add(atlas.feature(3))
    first, second = questions
    assert first != second
    assert questions[0] == first
    assert questions.jobs == [(1, 0), (1, 1)]
