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
