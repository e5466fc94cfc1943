import numpy as np
import pandas as pd
import pytest

from sksae._signs import visible
from sksae.interpret import Explanation, validate
from sksae.report import write_page
from tests.cases import each_case
from tests.report.decoding import read_features, read_index
from tests.report.synthetic_atlas import SyntheticAtlas

EVIL = "</script>\u202e"
N_TEXTS = 2000  # of a synthetic atlas


def index_of(path):
    return read_index(path.read_text(encoding="utf-8"))


def test_columns_are_those_of_the_texts_that_are_shown(tmp_path):
    frame = pd.DataFrame(
        {
            "stars": np.arange(N_TEXTS) + 123456.0,
            "share": np.arange(N_TEXTS) / 3,
            "day": pd.date_range("2024-01-01", periods=N_TEXTS),
            EVIL: [EVIL, None] * (N_TEXTS // 2),
            "new": [True] * N_TEXTS,
        }
    )
    path = write_page(tmp_path / "index.html", SyntheticAtlas(12), columns=frame)
    columns = index_of(path)["columns_of_texts"]
    shown = {e["text"] for f in read_features(path) for g in f["groups"] for e in g["examples"]}
    assert set(columns["texts"]) == shown
    assert columns["names"] == ["stars", "share", "day", visible(EVIL), "new"]
    values = dict(zip(columns["names"], columns["values"], strict=True))
    number = columns["texts"].index(min(shown))
    text = min(shown)
    assert values["stars"][number] == text + 123456
    assert values["share"][number] == pytest.approx(text / 3, rel=1e-5)
    assert values["day"][number] == str(frame["day"].iloc[text])
    assert values[visible(EVIL)][number] == (visible(EVIL) if text % 2 == 0 else None)
    assert values["new"][number] == "True"


@each_case(
    "columns, error, message",
    [
        ([1, 2], TypeError, "columns must be a data frame or a mapping of columns. Got list"),
        ({"a": [1]}, ValueError, r"one line for each of 2000 texts in every column.*\[1\]"),
        ({"a": [1] * 2000, "b": [1] * 2001}, ValueError, r"\[2000, 2001\] lines"),
    ],
)
def test_columns_that_do_not_fit(tmp_path, columns, error, message):
    with pytest.raises(error, match=message):
        write_page(tmp_path / "index.html", SyntheticAtlas(4), columns=columns)
    assert not list(tmp_path.iterdir())


def rated():
    texts = [f"{'great' if i % 3 else 'dull'} plot {i}" for i in range(60)]
    return texts, [4 + i % 2 if i % 3 else 1 + 3 * (i % 2) for i in range(60)]


def test_statements_of_validate(tmp_path):
    texts, rating = rated()
    table = validate(texts, rating, {2: '"great"', 5: '"plot"'}, target_type="ordinal")
    path = write_page(
        tmp_path / "index.html",
        SyntheticAtlas(12),
        statements=table,
        tested_on={"text": texts, "rating": rating},
    )
    index = index_of(path)
    great, plot = index["statements"]
    assert (great["feature"], great["text"], great["survives"]) == (2, '"great"', True)
    assert (great["n_texts"], great["with"], great["without"]) == (40, 4.5, 2.5)
    assert (great["class"], great["found"], great["f1"]) == (None, None, None)
    assert plot["survives"] is False
    # 4 and 5 stars are above 2.5, the mean of the others; nothing that is great is below.
    assert (len(great["for"]), great["against"]) == (5, [])
    tested = index["tested_on"]
    assert tested["texts"] == [*great["for"], *plot["for"], *plot["against"]]
    assert tested["strings"] == [texts[number] for number in tested["texts"]]
    assert tested["names"] == ["rating"]
    assert tested["values"] == [[rating[number] for number in tested["texts"]]]


@each_case(
    "statements, tested_on, error, message",
    [
        ([{"text": "a"}], None, TypeError, "the data frame of validate. Got list"),
        (pd.DataFrame({"text": ["a"]}), None, ValueError, "'survives' is missing"),
        ("valid", {"rating": [1] * 60}, ValueError, "in a column 'text'. Got rating"),
        ("valid", {"text": ["a"]}, ValueError, "tested_on has 1 lines"),
        ("valid", 3, TypeError, "tested_on must be a data frame"),
        ("far", None, ValueError, "features from 0 to 3"),
    ],
)
def test_statements_that_do_not_fit(tmp_path, statements, tested_on, error, message):
    if isinstance(statements, str):
        feature = 7 if statements == "far" else 1
        statements = validate(*rated(), {feature: '"great"'}, target_type="ordinal")
    with pytest.raises(error, match=message):
        write_page(
            tmp_path / "index.html",
            SyntheticAtlas(4),
            statements=statements,
            tested_on=tested_on,
        )
    assert not list(tmp_path.iterdir())


class Scored(str):
    def __new__(cls, **score):
        scored = super().__new__(cls, "words")
        scored.scores = {"detection": score}
        return scored


def test_words_are_doubted_by_the_rule_of_explanations(tmp_path):
    """Whatever their class; by all scores, not by the one that the list shows."""
    weak = {"value": 0.6, "low": 0.4, "baseline": {"random": 0.5}}
    clear = {"value": 0.9, "low": 0.8, "baseline": {"random": 0.5}}
    explanations = {
        0: Scored(value=0.9, low=0.7, baseline={"random": 0.6, "shuffled": 0.65}),
        1: Scored(value=0.9, low=0.6, baseline={"random": 0.6, "shuffled": 0.5}),
        2: Scored(value=0.55, baseline=0.5),
        3: Scored(value=0.4),
        4: Explanation(4, "rivers", scores={"fuzzing": weak, "detection": clear}),
    }
    path = write_page(tmp_path / "index.html", SyntheticAtlas(5), explanations=explanations)
    assert index_of(path)["columns"]["doubted"] == [0, 1, 0, 0, 0]
    explanations[4] = Explanation(4, "rivers", scores={"fuzzing": weak})
    path = write_page(tmp_path / "other.html", SyntheticAtlas(5), explanations=explanations)
    assert index_of(path)["columns"]["doubted"] == [0, 1, 0, 0, 1]
