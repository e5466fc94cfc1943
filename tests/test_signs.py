import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from sksae._signs import edges_visible, visible
from tests.cases import each_case


@given(st.text())
def test_visible_text_stays_on_one_line_and_steers_nothing(string):
    shown = visible(string)
    assert len(shown) == len(string)
    assert len(shown.splitlines()) <= 1
    assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in shown)


def test_escape_sequences_and_overrides_are_defused():
    assert visible("\x1b[31mred\u202edlrow") == "�[31mred�dlrow"
    assert visible("👩‍💻 한\n\t") == "👩‍💻 한↵→"


@each_case("token, shown", [(" a b ", "␣a b␣"), ("  ", "␣␣"), ("", ""), ("\n ", "↵␣")])
def test_edges(token, shown):
    assert edges_visible(token) == shown
