import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sksae._signs import columns, edges_visible, visible
from sksae.interpret import Example


def example(tokens, peak, **more):
    tokens = np.array(tokens, dtype=object)
    return Example(0, 0, 1.0, tokens, np.ones(len(tokens)), peak, **more)


@given(st.text())
def test_visible_text_stays_on_one_line_and_steers_nothing(string):
    shown = visible(string)
    assert len(shown) == len(string)
    assert len(shown.splitlines()) <= 1
    assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in shown)


def test_escape_sequences_and_overrides_are_defused():
    assert visible("\x1b[31mred\u202edlrow") == "�[31mred�dlrow"
    assert visible("👩‍💻 한\n\t") == "👩‍💻 한↵→"


@pytest.mark.parametrize(
    ("token", "shown"), [(" a b ", "␣a b␣"), ("  ", "␣␣"), ("", ""), ("\n ", "↵␣")]
)
def test_edges(token, shown):
    assert edges_visible(token) == shown


@given(
    st.lists(st.text(max_size=12), min_size=1, max_size=9),
    st.integers(0, 8),
    st.integers(6, 40),
    st.booleans(),
    st.booleans(),
)
def test_a_line_fits_its_width_and_shows_its_token(tokens, peak, width, before, after):
    peak = min(peak, len(tokens) - 1)
    line = example(tokens, peak, cut_before=before, cut_after=after).line(width=width)
    assert columns(line) <= width
    if columns(visible(tokens[peak])) <= width - 6:
        assert f"[[{visible(tokens[peak])}]]" in line


def test_short_sides_leave_their_room_to_the_other():
    assert example(["ab", "X", "c" * 30], 1).line(width=20) == "ab[[X]]" + "c" * 12 + "…"
    assert example(["a" * 30, "X", "bc"], 1).line(width=20) == "…" + "a" * 12 + "[[X]]bc"


def test_wide_characters_take_two_columns_and_escapes_none():
    one = example(["한글", "특징", "입니다"], 1)
    assert one.line(marks=("\x1b[1m", "\x1b[0m"), width=14) == "한글\x1b[1m특징\x1b[0m입니다"
    assert one.line(width=14) == "한글[[특징]]…"


def test_windows_that_are_cut_say_so():
    assert str(example(["a", "b"], 0, cut_before=True, cut_after=True)) == "…[[a]]b…"
