import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sksae.interpret import Explanation, load_explanations, save_explanations

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


@settings(max_examples=60, deadline=None)
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


GOOD = {"feature": 1, "text": "a", "source": "b", "scores": {}, "seen": []}


def whole(*lines, **changes):
    content = {"format": "sksae explanations", "version": 1, "explanations": list(lines)}
    return json.dumps({**content, **changes}).encode()


@pytest.mark.parametrize(
    ("content", "message"),
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
    ids=range(15),
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


@pytest.mark.parametrize(
    ("explanations", "error", "message"),
    [
        ([Explanation(1, "a")], TypeError, "dict by feature.*Got list"),
        ("e.json", TypeError, "dict by feature.*Got str"),
        ({2: Explanation(1, "a")}, ValueError, "must be the Explanation of feature 2"),
        ({-1: "a"}, ValueError, "int >= 0"),
        ({1: 3}, ValueError, "or a str. Got 3"),
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
