import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sksae.language_models.extraction._tokenizing import (
    decoded_spans,
    encode,
    give_back_spaces,
    outer_spaces,
)
from tests.cases import tries


def spans(tokenizer, text):
    encoding = encode(tokenizer, [text], spans=True)
    return [text[s:e] for s, e in zip(encoding.starts, encoding.ends, strict=True)]


def test_trimmed_offsets_get_their_spaces_back(trained):
    text = "hello  world\n the cat "
    plain = spans(trained(), text)
    assert plain[:4] == ["hello", " ", " world", "\n"]
    assert spans(trained(trim_offsets=True), text) == plain


def test_spaces_are_given_back_up_to_the_next_token():
    starts, ends = np.array([0, 4, 9]), np.array([3, 6, 9])

    def found(*spaces):
        new = give_back_spaces(starts, ends, np.array(spaces), 10)
        return [bounds.tolist() for bounds in new]

    # Two leading spaces where only one character is free; three before an empty span.
    assert found([0, 0], [2, 0], [3, 0]) == [[0, 3, 6], [3, 6, 9]]
    assert found([0, 5], [0, 1], [0, 5]) == [[0, 4, 9], [4, 7, 10]]
    assert found([0, 0], [0, 0], [0, 0]) == [[0, 4, 9], [3, 6, 9]]


def test_outer_spaces(bpe):
    ids = bpe(" world world  x", add_special_tokens=False).input_ids
    assert outer_spaces(bpe, np.array(ids)).tolist() == [[1, 0], [1, 0], [1, 1], [1, 1], [0, 0]]


@given(st.text(alphabet="ab 특징é👩\n", max_size=12))
@settings(max_examples=tries(40), deadline=None)
def test_decoded_spans_of_single_bytes(text):
    import transformers

    # ByT5 has no offsets and one token a byte.
    tokenizer = transformers.ByT5Tokenizer()
    ids = tokenizer(text, add_special_tokens=False).input_ids
    starts, ends = decoded_spans(tokenizer, ids, text)
    expected = [i for i, character in enumerate(text) for _ in character.encode()]
    assert starts.tolist() == expected
    assert ends.tolist() == [i + 1 for i in expected]


def test_pieces_are_found_in_a_text_that_is_not_what_they_decode_to():
    class Lower:
        def decode(self, ids, **_):
            return " ".join(["the", "cat", "[UNK]", "sat"][i] for i in ids)

    text = "The  CAT 곰 sat"
    starts, ends = decoded_spans(Lower(), [0, 1, 2, 3], text)
    assert [text[s:e] for s, e in zip(starts, ends, strict=True)] == ["The", "CAT", "", "sat"]


@pytest.mark.parametrize("n", [0, 1])
def test_nothing_to_span(n, bpe):
    assert spans(bpe, " " * n) == [" "] * n
