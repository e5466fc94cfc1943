from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sksae.language_models.extraction import TextReading, _tokenizing, batches, padded
from sksae.language_models.extraction._context_windows import cut, rows_of, text_of_rows
from sksae.language_models.extraction._tokenizing import Encoding, Frame, encode, frame_of, with_bos
from tests.cases import tries

ALPHABET = "ab the\n  특징은é👩‍🚀ㅎ\u1112\u1161"


def array(*values):
    return np.array(values, dtype=np.int64)


def frame(prefix=(), suffix=(), special=()):
    return Frame(array(*prefix), array(*suffix), array(*special))


# Texts of 5, 0 and 2 tokens.
ENCODING = Encoding(array(10, 11, 12, 13, 14, 20, 21), array(0, 5, 5, 7), None, None)


def test_long_texts_become_consecutive_windows():
    windows = cut(ENCODING, frame(), 2, include_special=False, drop_first=False)
    assert windows.ids.tolist() == [10, 11, 12, 13, 14, 20, 21]
    assert windows.bounds.tolist() == [0, 2, 4, 5, 7]
    assert windows.text.tolist() == [0, 0, 0, 2]
    assert windows.keep.all()


def test_each_window_has_its_special_tokens():
    around = frame([1], [2], [1, 2])
    windows = cut(ENCODING, around, 5, include_special=False, drop_first=False)
    assert windows.ids.tolist() == [1, 10, 11, 12, 2, 1, 13, 14, 2, 1, 20, 21, 2]
    assert windows.source.tolist() == [-1, 0, 1, 2, -1, -1, 3, 4, -1, -1, 5, 6, -1]
    assert windows.ids[windows.keep].tolist() == [10, 11, 12, 13, 14, 20, 21]
    everything = cut(ENCODING, around, 5, include_special=True, drop_first=False)
    assert everything.keep.all()


def test_special_tokens_inside_a_text_are_left_out():
    windows = cut(ENCODING, frame(special=[12]), 9, include_special=False, drop_first=False)
    assert windows.ids[windows.keep].tolist() == [10, 11, 13, 14, 20, 21]


def test_first_positions_are_left_out():
    windows = cut(ENCODING, frame(), 3, include_special=False, drop_first=True)
    assert windows.ids[windows.keep].tolist() == [11, 12, 14, 21]
    # With a special token in front, that one is the first, and its rule is another.
    around = frame([1], (), [1])
    windows = cut(ENCODING, around, 3, include_special=False, drop_first=True)
    assert windows.ids[windows.keep].tolist() == [10, 11, 12, 13, 14, 20, 21]
    windows = cut(ENCODING, around, 3, include_special=True, drop_first=True)
    assert windows.keep.all()
    # So with a special token that is part of the text.
    windows = cut(ENCODING, frame(special=[10]), 9, include_special=True, drop_first=True)
    assert windows.ids[windows.keep].tolist() == [10, 11, 12, 13, 14, 21]


def test_no_room_for_text():
    with pytest.raises(ValueError, match=r"max_length=2 leaves nothing for text.*2 special tokens"):
        cut(ENCODING, frame([1], [2]), 2, include_special=False, drop_first=False)


def test_batches_are_full_but_not_fuller():
    lengths = [3, 9, 1, 4, 4, 0, 2]
    encoding = Encoding(np.zeros(23, np.int64), np.cumsum([0, *lengths]), None, None)
    windows = cut(encoding, frame(), 100, include_special=False, drop_first=False)
    assert windows.text.tolist() == [0, 1, 2, 3, 4, 6]
    found = [batch.tolist() for batch in batches(windows, 8)]
    assert found == [[1], [3, 4], [0, 5], [2]]  # 9 alone, 2 x 4, 2 x 3, 1
    assert [batch.tolist() for batch in batches(windows, 10**9)] == [[1, 3, 4, 0, 5, 2]]


def test_padding_is_on_the_right():
    windows = cut(ENCODING, frame(special=[21]), 3, include_special=False, drop_first=False)
    ids, mask, keep = padded(windows, array(2, 0), pad=99)
    assert ids.tolist() == [[20, 21, 99], [10, 11, 12]]
    assert mask.tolist() == [[True, True, False], [True, True, True]]
    assert keep.tolist() == [[True, False, False], [True, True, True]]


def test_frame_is_what_the_tokenizer_adds(trained, wordpiece):
    assert [part.tolist() for part in frame_of(trained(), ["", "cat"])[:3]] == [[], [], [0]]
    assert [part.tolist() for part in frame_of(trained(bos=True), ["cat"])[:3]] == [[0], [], [0]]
    # [UNK], id 1, stands for a word.
    assert [part.tolist() for part in frame_of(wordpiece, ["cat"])[:3]] == [[2], [3], [0, 2, 3, 4]]


def test_frame_does_not_depend_on_the_texts(trained):
    # Read off a text that begins with the special token itself, it would come out as a suffix.
    tokenizer = trained(bos=True)
    assert frame_of(tokenizer, ["<|endoftext|>" * 2]).prefix.tolist() == [0]
    assert frame_of(tokenizer, []).prefix.tolist() == [0]


def test_a_prepended_token_is_there_once(trained):
    bare = trained()
    around = with_bos(bare, frame_of(bare, ["cat"]))
    assert [part.tolist() for part in around[:3]] == [[0], [], [0]]
    encoding = Encoding(array(0, 10, 11, 12, 13), array(0, 5), None, None)
    windows = cut(encoding, around, 3, include_special=False, drop_first=True)
    assert windows.ids.tolist() == [0, 10, 11, 0, 12, 13]
    assert windows.source.tolist() == [0, 1, 2, -1, 3, 4]
    assert windows.ids[windows.keep].tolist() == [10, 11, 12, 13]
    # Where the tokenizer has it in front anyway, nothing is added.
    own = frame_of(trained(bos=True), ["cat"])
    assert with_bos(trained(bos=True), own) is own


@given(
    lengths=st.lists(st.integers(0, 20), max_size=5),
    max_length=st.integers(3, 9),
    prefix=st.sampled_from([[], [1]]),
    suffix=st.sampled_from([[], [2]]),
    drop_first=st.booleans(),
    include_special=st.booleans(),
)
@settings(max_examples=tries(100), deadline=None)
def test_windows_hold_each_token_once(
    lengths, max_length, prefix, suffix, drop_first, include_special
):
    ids = 10 + np.arange(sum(lengths))
    encoding = Encoding(ids, np.cumsum([0, *lengths]), None, None)
    around = frame(prefix, suffix, prefix + suffix)
    windows = cut(
        encoding, around, max_length, include_special=include_special, drop_first=drop_first
    )
    sizes = np.diff(windows.bounds)
    assert np.all(sizes <= max_length)
    inner = windows.source >= 0
    assert windows.ids[inner].tolist() == ids.tolist()
    assert windows.source[inner].tolist() == list(range(len(ids)))
    room = max_length - len(prefix) - len(suffix)
    n_windows = [-(-length // room) for length in lengths]
    assert np.bincount(windows.text, minlength=len(lengths)).tolist() == n_windows
    lost = drop_first * (not prefix)
    rows = [n - w * lost for n, w in zip(lengths, n_windows, strict=True)]
    rows = np.array(rows, dtype=int) + include_special * len(prefix + suffix) * np.array(
        n_windows, dtype=int
    )
    assert np.bincount(text_of_rows(windows), minlength=len(lengths)).tolist() == rows.tolist()
    assert rows_of(windows).sum() == rows.sum()


def test_many_texts_are_encoded_in_pieces(bpe, monkeypatch):
    texts = ["hello", "", "the cat", "특징", "a"]
    whole = encode(bpe, texts, spans=True)
    monkeypatch.setattr(_tokenizing, "_TEXTS_AT_A_TIME", 2)
    for a, b in zip(whole, encode(bpe, texts, spans=True), strict=True):
        assert a.tolist() == b.tolist()
    assert encode(bpe, [], spans=True).ids.shape == (0,)
    assert encode(bpe, texts, spans=False).starts is None


def table_of(tokenizer, texts, encoding, windows):
    source = SimpleNamespace(tokenizer=tokenizer)  # all of it that a table reads
    return TextReading(source, windows, texts, encoding).table(windows, {})


def table(tokenizer, texts, max_length=10**6):
    encoding = encode(tokenizer, texts, spans=True)
    windows = cut(
        encoding, frame_of(tokenizer, texts), max_length, include_special=False, drop_first=False
    )
    return table_of(tokenizer, texts, encoding, windows)


@pytest.fixture(scope="module", params=[False, True], ids=["spans", "trimmed"])
def tokenizer(request, trained):
    return trained(trim_offsets=request.param, bos=request.param)


@given(texts=st.lists(st.text(ALPHABET, max_size=20), max_size=4), window=st.integers(2, 9))
@settings(max_examples=tries(60), deadline=None)
def test_groups_of_byte_level_tokens_rebuild_the_texts(tokenizer, texts, window):
    tokens = table(tokenizer, texts, window)
    merged, _ = tokens.merged()
    for i, text in enumerate(texts):
        assert "".join(merged.string[merged.text == i]) == text
        mine = tokens[tokens.text == i]
        assert mine.position.tolist() == list(range(len(mine)))
        assert mine.id.tolist() == tokenizer(text, add_special_tokens=False).input_ids
    spans = zip(tokens.text, tokens.start, tokens.end, strict=True)
    assert tokens.string.tolist() == [texts[t][s:e] for t, s, e in spans]
    assert np.all(tokens.group <= tokens.position)


def test_korean_and_emoji(tokenizer):
    tokens = table(tokenizer, ["hello 특징👩"])
    assert tokens.string.tolist() == ["hello", " ", *["특"] * 3, *["징"] * 3, *["👩"] * 4]
    assert tokens.group.tolist() == [0, 1, 2, 2, 2, 5, 5, 5, 8, 8, 8, 8]
    assert tokens.start.tolist() == [0, 5, 6, 6, 6, 7, 7, 7, 8, 8, 8, 8]


def test_words_of_a_lower_casing_tokenizer(wordpiece):
    tokens = table(wordpiece, ["The  cats 특징 곰."])
    assert tokens.string.tolist() == ["The", "cat", "s", "특징", "곰", "."]
    assert tokens.id.tolist() == [5, 6, 10, 1, 1, 13]
    assert tokens.group.tolist() == [0, 1, 2, 3, 4, 5]


def test_special_tokens_in_the_table(wordpiece):
    encoding = encode(wordpiece, ["", "the cat"], spans=True)
    around = frame_of(wordpiece, ["", "the cat"])
    windows = cut(encoding, around, 9, include_special=True, drop_first=False)
    tokens = table_of(wordpiece, ["", "the cat"], encoding, windows)
    assert tokens.string.tolist() == ["[CLS]", "the", "cat", "[SEP]"]
    assert tokens.text.tolist() == [1, 1, 1, 1]
    assert tokens.position.tolist() == [-1, 0, 1, -1]
    assert tokens.start.tolist() == [-1, 0, 4, -1]
    assert tokens.merged()[1].tolist() == [0, 1, 2, 3]
