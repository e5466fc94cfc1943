import re
from html.parser import HTMLParser

import numpy as np
import pytest

from sksae._files import replacing
from sksae.interpret import summarize_features
from sksae.report import feature_lines, render_page, table_lines, write_page

EVIL = ['<script>alert("1")</script>', "</style><img src=x onerror=alert(1)>", "\x00\u202e& '\""]
VOID = {"meta"}


class Outline(HTMLParser):
    """The tags of a page, and whether each is closed."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)


@pytest.fixture
def page():
    codes = np.array([[0, 1.0], [2, 0], [1, 0], [3, 0]])
    table = {"text": [0, 0, 0, 0], "string": [*EVIL, "끝\n"]}
    features = summarize_features(codes, table)
    return render_page(
        features,
        [0.75, 0.25, 0.0],
        4,
        title=EVIL[0],
        facts={EVIL[0]: EVIL[1], "layer": 3},
        table=[{"": EVIL[0], "rows": 4}],
    )


def test_text_is_data(page):
    outline = Outline(page)
    assert not outline.open
    assert not {"script", "img", "link", "iframe"} & set(outline.tags)
    assert not [name for name, _ in outline.attributes if name.startswith("on")]
    text = "".join(outline.text)
    assert text.count(EVIL[0]) >= 5  # title, heading, fact, table, tokens
    assert EVIL[1] in text
    assert not re.search("[\x00\u202e]", page)


def test_nothing_is_loaded(page):
    assert not re.search(r"(?:src|href)=\"(?!#)", page)
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page
    assert "width=device-width" in page
    assert "prefers-color-scheme: dark" in page


def test_colour_follows_activation(page):
    shades = re.findall(r'<mark( class="peak")? style="--a:([\d.]+)" title="([\d.]+)">', page)
    assert (' class="peak"', "1.00", "3") in shades
    assert ("", "0.70", "2") in shades
    assert "끝<i>↵</i>" in page


def test_histogram_counts_every_feature():
    density = np.concatenate([np.zeros(7), [1e-4, 1.0], np.full(11, 0.01), np.full(5, 0.3)])
    page = render_page([], density, 10_000)
    counts = [int(n) for n in re.findall(r"<title>[^<]*: (\d+) features</title>", page)]
    assert sum(counts) == len(density)
    assert "<title>dead: 7 features</title>" in page
    assert "7 of 25 features never" in page
    heights = re.findall(r'class="(?:bar|dead)"[^>]*height="([\d.]+)"', page)
    assert np.corrcoef(counts, [float(h) for h in heights])[0, 1] > 0.999


@pytest.mark.parametrize(("density", "n_rows"), [([0.0], 1), ([1.0], 1), ([0.5] * 3, 2), ([], 5)])
def test_histograms_of_little(density, n_rows):
    assert not Outline(render_page([], density, n_rows)).open


@pytest.mark.parametrize(
    ("density", "n_rows", "message"),
    [
        ([1.5], 2, "between 0 and 1"),
        ([np.nan], 2, "between 0 and 1"),
        ([[0.1]], 2, "between"),
        ([0.1], 0, "n_rows"),
    ],
)
def test_errors(density, n_rows, message):
    with pytest.raises(ValueError, match=message):
        render_page([], density, n_rows)


def test_a_page_is_whole_or_not_there(tmp_path):
    path = write_page(tmp_path / "new" / "index.html", [], [0.1], 10, title="first")

    def fail_halfway():
        with replacing(path) as part:
            part.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert "first" in path.read_text(encoding="utf-8")
    assert [p.name for p in path.parent.iterdir()] == ["index.html"]
    write_page(path, [], [0.1], 10, title="second")
    assert "second" in path.read_text(encoding="utf-8")


def test_a_terminal_gets_colour_and_a_pipe_brackets(monkeypatch):
    table = {"text": [0, 0], "string": ["a", " b"]}
    (summary,) = summarize_features([[0], [2]], table)
    assert feature_lines(summary)[-1] == "       2  a[[ b]]"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert feature_lines(summary)[-1] == "       2  a\x1b[1;30;43m b\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert feature_lines(summary)[-1] == "       2  a[[ b]]"


def test_tables_align():
    assert table_lines([{"": "x", "rows": "1,000"}, {"": "long", "rows": "2"}]) == [
        "       rows",
        "   x  1,000",
        "long      2",
    ]
