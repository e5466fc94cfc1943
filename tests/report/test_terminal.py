import pytest

from sksae.interpret import FeatureAtlas
from sksae.report import feature_lines, table_lines


def test_a_terminal_gets_colour_and_a_pipe_brackets(monkeypatch):
    table = {"text": [0, 0], "string": ["a", " b"]}
    feature = FeatureAtlas().fit([[0], [2]], tokens=table).feature(0)
    assert feature_lines(feature)[-1] == "       2  a[[ b]]"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert feature_lines(feature)[-1] == "       2  a\x1b[1;30;43m b\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert feature_lines(feature)[-1] == "       2  a[[ b]]"


def test_tables_align():
    assert table_lines([{"": "x", "rows": "1,000"}, {"": "long", "rows": "2"}]) == [
        "       rows",
        "   x  1,000",
        "long      2",
    ]


def test_a_table_without_lines_has_none():
    assert table_lines([]) == table_lines(()) == []


def test_a_dead_feature_fires_on_nothing():
    (heading,) = feature_lines(FeatureAtlas().fit([[0], [0]]).feature(0))
    assert heading == "Feature 0: fires on 0.00% of rows, in 0 texts, at most 0"


def test_the_number_of_examples_is_none_or_more():
    feature = FeatureAtlas().fit([[1], [2]], tokens=["a", "b"]).feature(0)
    assert len(feature_lines(feature, n_examples=0)) == 2
    assert len(feature_lines(feature)) == 4
    with pytest.raises(ValueError, match="n_examples must be an int >= 0"):
        feature_lines(feature, n_examples=-1)


def test_cells_of_a_table_cannot_steer_a_terminal():
    lines = table_lines([{"\x1b[1mname": "\x1b[2Ja\nb", "n": 3}, {"n": 4, "\x1b[1mname": "한"}])
    assert lines == ["\ufffd[1mname  n", " \ufffd[2Ja↵b  3", "      한  4"]
    with pytest.raises(ValueError, match="the same keys"):
        table_lines([{"a": 1}, {"b": 2}])
