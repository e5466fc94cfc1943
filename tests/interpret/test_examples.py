import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from sksae._signs import columns, visible
from sksae.interpret import Example, _strongest, max_activating_examples
from sksae.language_models import TokenTable
from tests.cases import each_case, tries


@st.composite
def codes_and_table(draw):
    lengths = draw(st.lists(st.integers(1, 7), min_size=1, max_size=8))
    n = sum(lengths)
    values = draw(st.lists(st.integers(-1, 4), min_size=2 * n, max_size=2 * n))
    words = draw(st.lists(st.sampled_from(["a", "b", " c"]), min_size=n, max_size=n))
    text = np.repeat(np.arange(len(lengths)) * 3, lengths)
    return np.array(values, dtype=float).reshape(n, 2), {"text": text, "string": words}


def brute_force(codes, table, feature, n_examples, before, after, one_per_text):
    """The definition, in loops."""
    text, words = table["text"].tolist(), table["string"]
    rows = [row for row in range(len(codes)) if codes[row, feature] > 0]
    rows.sort(key=lambda row: (-codes[row, feature], row))
    candidates, texts = [], set()
    for row in rows:
        if one_per_text and text[row] in texts:
            continue
        texts.add(text[row])
        candidates.append(row)
    found, seen = [], set()
    for row in candidates[: 4 * n_examples]:
        window = [
            i
            for i in range(row - before, row + after + 1)
            if 0 <= i < len(text) and text[i] == text[row]
        ]
        key = (row - window[0], *(words[i] for i in window))
        if key not in seen and len(found) < n_examples:
            found.append((row, [words[i] for i in window], [codes[i, feature] for i in window]))
        seen.add(key)
    return found


@settings(max_examples=tries(150), deadline=None)
@given(
    codes_and_table(),
    st.integers(1, 3),
    st.integers(0, 3),
    st.integers(0, 2),
    st.booleans(),
    st.integers(1, 30),
    st.booleans(),
)
def test_examples_are_those_of_the_definition(
    data, n_examples, before, after, one_per_text, block, as_csr
):
    codes, table = data
    whole, _strongest.BLOCK_SIZE = _strongest.BLOCK_SIZE, block
    try:
        found = max_activating_examples(
            sparse.csr_array(codes) if as_csr else codes,
            table,
            n_examples=n_examples,
            before=before,
            after=after,
            one_per_text=one_per_text,
        )
    finally:
        _strongest.BLOCK_SIZE = whole
    for feature in range(2):
        expected = brute_force(codes, table, feature, n_examples, before, after, one_per_text)
        got = [(e.row, e.tokens.tolist(), e.activations.tolist()) for e in found[feature]]
        assert got == expected
        for example in found[feature]:
            assert example.activation == codes[example.row, feature]
            assert example.text == table["text"][example.row]
            assert example.tokens[example.peak] == table["string"][example.row]


@pytest.fixture
def korean():
    """Two Hangul syllables of three byte tokens each, after a Latin token."""
    text = "a 희소"
    span = [(0, 1), (1, 3), (2, 3), (2, 3), (3, 4), (3, 4), (3, 4)]
    start, end = np.array(span).T
    return TokenTable(
        text=np.zeros(7, int),
        position=np.arange(7),
        id=np.arange(7),
        string=np.array([text[s:e] for s, e in span], dtype=object),
        start=start,
        end=end,
        group=np.array([0, 1, 1, 1, 4, 4, 4]),
        texts=[text],
    )


@pytest.mark.parametrize("form", ["table", "pandas", "polars", "mapping"])
def test_tokens_of_one_character_are_one_piece(korean, form):
    codes = np.array([[0.0, 0, 0.5, 2, 0, 1, 0]]).T
    columns = {name: getattr(korean, name) for name in ("text", "position", "string", "group")}
    table = {
        "table": lambda: korean,
        "pandas": korean.to_frame,
        "mapping": lambda: columns,
        "polars": lambda: pl.DataFrame({**columns, "string": korean.string.tolist()}),
    }[form]()
    (example,) = max_activating_examples(codes, table)[0]
    assert example.tokens.tolist() == ["a", " 희", "소"]
    assert example.activations.tolist() == [0, 2, 1]
    assert (example.peak, example.row) == (1, 3)
    assert str(example) == "a[[ 희]]소"


def test_what_stands_between_tokens_is_shown():
    text = "the  cat" + "." * 30 + "sat"
    table = TokenTable(
        text=np.zeros(3, int),
        position=np.arange(3),
        id=np.arange(3),
        string=np.array(["the", "cat", "sat"], dtype=object),
        start=np.array([0, 5, 38]),
        end=np.array([3, 8, 41]),
        group=np.arange(3),
        texts=[text],
    )
    (example,) = max_activating_examples(np.array([[0.0], [0], [1]]), table)[0]
    assert example.tokens.tolist() == ["the", "  cat", "…sat"]


def test_labels_are_their_own_texts_and_never_merged():
    codes = np.array([[1.0], [3], [2]])
    found = max_activating_examples(codes, pd.Index(["x", "y", "x"]))[0]
    assert [str(e) for e in found] == ["[[y]]", "[[x]]", "[[x]]"]
    assert [str(e) for e in max_activating_examples(codes)[0]] == ["[[1]]", "[[2]]", "[[0]]"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tensors_and_chosen_features(dtype):
    codes = torch.tensor([[0.0, 1, 0], [2, 0, 4]], dtype=dtype)
    found = max_activating_examples(codes, ["x", "y"], features=[2, 0])
    assert list(found) == [2, 0]
    assert [e.activation for e in found[2]] == [4.0]


def test_a_feature_that_never_fires_has_no_examples():
    assert max_activating_examples(sparse.csr_array((3, 2))) == {0: [], 1: []}
    assert max_activating_examples(np.zeros((0, 1))) == {0: []}


@each_case(
    "arguments, message",
    [
        ({"tokens": ["a"]}, "codes has 2 rows, but tokens has 1"),
        ({"tokens": {"text": [0, 0], "word": ["a", "b"]}}, "needs the columns 'text' and 'string'"),
        ({"features": [2]}, "no feature 2"),
        ({"features": [-1]}, "no feature -1"),
        ({"features": [0, 0]}, "twice"),
        ({"features": [0.5]}, "column numbers"),
        ({"n_examples": 0}, "n_examples must be an int >= 1"),
        ({"before": -1}, "before must be an int >= 0"),
        ({"after": True}, "after must be an int >= 0"),
        ({"codes": np.ones(3)}, "2-D"),
        ({"codes": np.array([["a"]])}, "real numbers"),
        ({"codes": np.array([[np.nan], [1.0]])}, "NaN or infinity"),
        ({"codes": sparse.csr_array([[np.inf], [1.0]])}, "NaN or infinity"),
    ],
)
def test_errors_say_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        max_activating_examples(**{"codes": np.ones((2, 2)), **arguments})


def test_one_string_is_no_table():
    with pytest.raises(TypeError, match="one string"):
        max_activating_examples(np.ones((2, 1)), "ab")


def example(tokens, peak, **more):
    tokens = np.array(tokens, dtype=object)
    return Example(0, 0, 1.0, tokens, np.ones(len(tokens)), peak, **more)


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


def test_a_short_side_leaves_columns_to_the_long_one():
    assert example(["ab", "X", "c" * 30], 1).line(width=20) == "ab[[X]]" + "c" * 12 + "…"
    assert example(["a" * 30, "X", "bc"], 1).line(width=20) == "…" + "a" * 12 + "[[X]]bc"


def test_wide_characters_take_two_columns_and_escapes_none():
    wide = example(["한글", "특징", "입니다"], 1)
    assert wide.line(marks=("\x1b[1m", "\x1b[0m"), width=14) == "한글\x1b[1m특징\x1b[0m입니다"
    assert wide.line(width=14) == "한글[[특징]]…"


def test_windows_that_are_cut_say_so():
    assert str(example(["a", "b"], 0, cut_before=True, cut_after=True)) == "…[[a]]b…"
