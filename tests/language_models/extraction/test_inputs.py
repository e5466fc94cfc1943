"""What goes in besides plain texts, and which positions become rows."""

import json

import numpy as np
import pytest
import torch
from sklearn.base import clone

from sksae import TopKSAE
from sksae.language_models import ActivationExtractor, downstream_metrics
from sksae.language_models.extraction import ActivationReader, _activation_reader, tokenized_prompt
from sksae.language_models.extraction._context_windows import _missing_behind, _missing_in_front
from tests.cases import each_case

TEXTS = ["The cat sat on the mat.", "hello", "희소 특징 👩", "a dog and a log and a cat and a mat"]
LONG = "the cat sat on the mat and " * 12
TEMPLATE = "{% for m in messages %}<|endoftext|>{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
TALKS = [
    [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": "sat on 특징"}],
    [{"role": "user", "content": "hello world"}],
]


@pytest.fixture(scope="module")
def extractor(gpt2, bpe):
    return ActivationExtractor(gpt2, 1, tokenizer=bpe, drop_first_position=False)


def same_tables(one, other):
    assert one.to_frame().equals(other.to_frame())
    assert one.texts == other.texts


# Token ids


def test_ids_of_texts_are_the_texts(extractor, bpe):
    texts = [*TEXTS, LONG, ""]
    rows, tokens = extractor.extract(texts)
    ids = bpe(texts, add_special_tokens=False).input_ids
    ids_rows, ids_tokens = extractor.extract(ids)
    np.testing.assert_array_equal(ids_rows, rows)
    same_tables(ids_tokens, tokens)
    assert (tokens.policy["input"], ids_tokens.policy["input"]) == ("text", "input_ids")


def test_ids_get_no_special_tokens(bert, wordpiece):
    extractor = ActivationExtractor(bert, 1, tokenizer=wordpiece)
    texts = ["the cat", "hello hello world ."]
    ids = wordpiece(texts).input_ids
    rows, tokens = extractor.extract(ids)
    np.testing.assert_allclose(rows, extractor.transform(texts), atol=1e-5)
    assert tokens.string.tolist() == ["the", "cat", "hello", "hello", "world", "."]
    assert tokens.texts[0] == "[CLS] the cat [SEP]"
    # Where nothing special stands in front, the first position is a word and is lost.
    bare = wordpiece(texts, add_special_tokens=False).input_ids
    assert extractor.extract(bare)[1].string.tolist() == ["cat", "hello", "world", "."]


def test_ids_that_no_text_has(extractor, bpe):
    letters = [bpe(letter).input_ids[0] for letter in "hello"]
    syllable = bpe("특").input_ids
    assert len(syllable) == 3
    _, tokens = extractor.extract([[*letters, *syllable, syllable[0]]])
    assert tokens.id.tolist() == [*letters, *syllable, syllable[0]]
    assert tokens.string.tolist() == [*"hello", "특", "특", "특", "\ufffd"]
    assert tokens.group.tolist() == [0, 1, 2, 3, 4, 5, 5, 5, 8]
    assert tokens.texts == ["hello특\ufffd"]


# Conversations and data sets


def test_conversations_are_written_by_the_template(gpt2, trained):
    tokenizer = trained(bos=True)
    tokenizer.chat_template = TEMPLATE
    extractor = ActivationExtractor(gpt2, 1, tokenizer=tokenizer, include_special_tokens=True)
    rows, tokens = extractor.extract(TALKS)
    for i, talk in enumerate(TALKS):
        ids = tokenizer.apply_chat_template(talk, tokenize=True, return_dict=False)
        assert tokens.id[tokens.text == i].tolist() == list(ids)
        assert tokens.texts[i] == tokenizer.apply_chat_template(talk, tokenize=False)
        with torch.no_grad():
            states = gpt2(torch.tensor([ids]), output_hidden_states=True).hidden_states
        np.testing.assert_allclose(rows[tokens.text == i], states[2][0].numpy(), atol=1e-5)
    # Special tokens that the template wrote are special.
    _, tokens = clone(extractor).set_params(include_special_tokens=False).extract(TALKS)
    assert "".join(tokens.string[tokens.text == 1]) == "user: hello world\n"


def test_conversations_need_a_template(extractor):
    with pytest.raises(ValueError, match="no chat template"):
        extractor.transform(TALKS)


def test_rows_of_a_data_set_in_any_form(extractor, bpe):
    expected = extractor.transform(TEXTS)
    rows = [{"label": 0, "text": text} for text in TEXTS]
    np.testing.assert_array_equal(extractor.transform(rows), expected)
    np.testing.assert_array_equal(extractor.transform(iter(rows)), expected)
    rows = [{"input_ids": bpe(text).input_ids, "text": "other"} for text in TEXTS]
    np.testing.assert_array_equal(extractor.transform(rows), expected)


def with_padding(ids, side, fill, n=5):
    """A row as tokenizers pad it."""
    pad, hide, ones = [fill] * n, [0] * n, [1] * len(ids)
    if side == "left":
        return {"input_ids": pad + ids, "attention_mask": hide + ones}
    return {"input_ids": ids + pad, "attention_mask": ones + hide}


@each_case("kind", ["bert", "clip_text", "gpt2", "llama", "modernbert", "roberta"])
def test_padding_of_a_row_is_cut_off(kind, tiny, bpe):
    extractor = ActivationExtractor(tiny(kind), 1, tokenizer=bpe, drop_first_position=False)
    ids = [bpe(text).input_ids for text in TEXTS]
    expected, table = extractor.extract(ids)
    pooled = clone(extractor).set_params(pooling="mean")
    for side in ("left", "right"):
        for fill in (bpe.eos_token_id, bpe.unk_token_id, 7):
            rows = [with_padding(one, side, fill) for one in ids]
            values, tokens = extractor.extract(rows)
            np.testing.assert_array_equal(values, expected)
            same_tables(tokens, table)
            np.testing.assert_array_equal(extractor.transform(rows), expected)
            np.testing.assert_array_equal(pooled.transform(rows), pooled.transform(ids))


def test_padding_is_cut_off_wherever_rows_are_given(tiny, bpe, tmp_path):
    model = tiny("gpt2", head=True)
    extractor = ActivationExtractor(model, 1, tokenizer=bpe)
    ids = [bpe(text).input_ids for text in TEXTS]
    rows = [
        with_padding(one, side, 9) for one, side in zip(ids, ["left", "right"] * 2, strict=True)
    ]
    expected = extractor.transform(ids)
    stored, table = extractor.to_memmap(rows, tmp_path / "rows", dtype="float32")
    np.testing.assert_array_equal(stored, expected)
    assert len(table.texts[0]) == len(TEXTS[0])
    mixed = np.concatenate(list(extractor.stream(rows, random_state=0)))
    order = [np.lexsort(values.T) for values in (mixed, expected)]
    np.testing.assert_array_equal(mixed[order[0]], expected[order[1]])
    sae = TopKSAE(16, k=4, max_iter=2, random_state=0).fit(expected)
    assert downstream_metrics(extractor, sae, rows) == downstream_metrics(extractor, sae, ids)
    prompt = tokenized_prompt(model, bpe, rows[0])
    assert prompt.ids.tolist() == [ids[0]]


def test_masks_in_any_form(extractor, bpe):
    ids = bpe(TEXTS[0]).input_ids
    expected = extractor.transform([ids])
    row = with_padding(ids, "right", 9)
    for form in (np.array, torch.tensor, tuple, lambda mask: np.array(mask, dtype=bool)):
        given = {"input_ids": row["input_ids"], "attention_mask": form(row["attention_mask"])}
        np.testing.assert_array_equal(extractor.transform([given]), expected)
    given = {**row, "token_type_ids": [0] * len(ids) + [3] * 5, "position_ids": None}
    np.testing.assert_array_equal(extractor.transform([given]), expected)
    np.testing.assert_array_equal(extractor.transform([bpe(TEXTS[0])]), expected)
    nothing = {"input_ids": [3, 4], "attention_mask": [0, 0]}
    np.testing.assert_array_equal(extractor.transform([nothing, row]), expected)


def test_columns_of_a_tokenised_batch(extractor, trained):
    tokenizer = trained()
    tokenizer.pad_token = tokenizer.eos_token
    for options in ({}, {"return_tensors": "pt"}, {"return_tensors": "np"}):
        columns = tokenizer(TEXTS, padding=True, **options)
        for X in (columns, dict(columns)):
            with pytest.raises(ValueError, match=r"one mapping per row, with its mask"):
                extractor.transform(X)
        pairs = zip(columns["input_ids"], columns["attention_mask"], strict=True)
        rows = [{"input_ids": ids, "attention_mask": mask} for ids, mask in pairs]
        np.testing.assert_array_equal(extractor.transform(rows), extractor.transform(TEXTS))


@each_case(
    "more, message",
    [
        ({"attention_mask": [1, 1]}, r"X\[1\]\['attention_mask'\] must have one entry per token"),
        ({"attention_mask": [[1, 1, 1, 1]]}, r"Got shape \(1, 4\)"),
        ({"attention_mask": [1, 0, 1, 1]}, "is 0 at position 1, between"),
        ({"attention_mask": [1, 2, 2, 1]}, "no entries but 0, for padding, and 1"),
        ({"attention_mask": [1.0, 1.0, 0.5, 0.0]}, "no entries but 0, for padding, and 1"),
        ({"token_type_ids": [0, 0, 1, 1]}, r"\['token_type_ids'\] must be all 0"),
        ({"pixel_values": np.zeros((3, 4, 4))}, "has 'pixel_values' beside token ids"),
        ({"bbox": np.zeros((4, 4))}, "has 'bbox' beside token ids"),
        ({"global_attention_mask": [1, 0, 0, 0]}, "has 'global_attention_mask' beside token ids"),
        ({"position_ids": [0, 1, 0, 1]}, r"\['position_ids'\] must be 0, 1, 2"),
    ],
)
def test_columns_that_cannot_be_honoured_are_refused(extractor, more, message):
    with pytest.raises(ValueError, match=message):
        extractor.transform([{"input_ids": [3]}, {"input_ids": [3, 4, 5, 6], **more}])


@each_case("name", ["tools", "documents", "chat_template_kwargs"])
def test_what_a_template_would_read_besides_is_refused(gpt2, trained, name):
    tokenizer = trained()
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}{{ tools }}"
    extractor = ActivationExtractor(gpt2, 1, tokenizer=tokenizer)
    messages = [{"role": "user", "content": "hello world"}]
    for nothing in (None, [], {}):
        rows = extractor.transform([{"messages": messages, name: nothing}])
        np.testing.assert_array_equal(rows, extractor.transform([messages]))
    with pytest.raises(ValueError, match=rf"X\[0\] has '{name}' beside a conversation"):
        extractor.transform([{"messages": messages, name: [{"name": "search"}]}])


@each_case("ids", [[3, 2**70], [3, 2**63], np.array([3, 2**63 + 5], np.uint64)])
def test_ids_that_no_integer_of_numpy_holds(extractor, ids):
    with pytest.raises(ValueError, match="tokenizer does not belong to the model"):
        extractor.transform([ids])


def test_images_are_for_models_of_images(extractor):
    with pytest.raises(ValueError, match=r"X\[0\] is an image, but GPT2Model reads text"):
        extractor.transform(np.zeros((1, 3, 8, 8), np.float32))


# Which positions become rows


def test_no_word_is_lost_behind_a_special_token(gpt2, trained):
    tokenizer = trained(bos=True)
    extractor = ActivationExtractor(gpt2, 1, tokenizer=tokenizer, max_length=8)
    rows, tokens = extractor.extract([LONG, "hello"])
    assert "".join(tokens.string[tokens.text == 0]) == LONG
    everything = clone(extractor).set_params(include_special_tokens=True)
    all_rows, all_tokens = everything.extract([LONG, "hello"])
    np.testing.assert_array_equal(all_rows[all_tokens.position >= 0], rows)
    n_windows = -(-len(tokenizer(LONG).input_ids[1:]) // 7) + 1
    assert (all_tokens.position < 0).sum() == n_windows


@pytest.mark.parametrize("prepend_bos", [False, True])
def test_a_start_token_in_the_text_is_the_only_one(gpt2, trained, prepend_bos):
    # Windows of 8 tokens: the later ones of a long text have a start token as well.
    extractor = ActivationExtractor(
        gpt2, 1, tokenizer=trained(bos=True), prepend_bos=prepend_bos, max_length=8
    )
    texts = [*TEXTS, LONG]
    np.testing.assert_array_equal(
        extractor.transform(["<|endoftext|>" + text for text in texts]), extractor.transform(texts)
    )
    everything = clone(extractor).set_params(include_special_tokens=True)
    _, tokens = everything.extract(["<|endoftext|>hello", "hello", "<|endoftext|>"])
    assert tokens.id[tokens.text == 0].tolist() == tokens.id[tokens.text == 1].tolist()
    assert tokens.id[tokens.text == 2].tolist() == [0]
    assert tokens.position[:2].tolist() == [0, 1]  # the text has the token itself


def test_special_tokens_that_a_text_has_on_both_sides(bert, wordpiece):
    extractor = ActivationExtractor(bert, 1, tokenizer=wordpiece, include_special_tokens=True)
    expected = extractor.transform(["the cat sat"])
    for text in ("[CLS] the cat sat [SEP]", "[CLS] the cat sat", "the cat sat [SEP]"):
        np.testing.assert_array_equal(extractor.transform([text]), expected)
    _, tokens = extractor.extract(["[CLS] the [SEP] cat [SEP]"])
    assert tokens.string.tolist() == ["[CLS]", "the", "[SEP]", "cat", "[SEP]"]


def test_a_part_of_several_special_tokens_in_the_text():
    prefix = np.array([1, 2, 3])
    for begins, missing in (
        ([9, 9], [1, 2, 3]),
        ([1, 2, 3, 9], []),
        ([2, 3, 9], [1]),
        ([3, 9], [1, 2]),
        ([1, 9], []),
        ([2, 9], [1, 2, 3]),
    ):
        assert _missing_in_front(prefix, np.array(begins)).tolist() == missing
    assert _missing_behind(prefix, np.array([9, 1])).tolist() == [2, 3]


def loud(tiny, token):
    """A model in which one token is a thousand times as long as the others."""
    model = tiny("gpt2")
    with torch.no_grad():
        model.wte.weight[token] *= 1000
    return model


def test_rows_of_outlying_norm_are_left_out(tiny, bpe):
    dog = bpe(" dog").input_ids
    texts = ["the cat sat on the dog and the dog", "a dog", "hello hello", "hello"]
    model = loud(tiny, dog[0])
    rest = {"tokenizer": bpe, "drop_first_position": False, "site": "resid_pre"}
    rows, tokens = ActivationExtractor(model, 0, **rest).extract(texts)
    norms = np.linalg.norm(rows, axis=1)
    limit = np.array(
        [
            10 * np.sort(norms[tokens.text == i])[(n - 1) // 2]
            for i, n in enumerate(np.bincount(tokens.text))
        ]
    )
    kept = norms <= limit[tokens.text]
    assert set(tokens.id[~kept]) == {dog[0]}
    strict = ActivationExtractor(model, 0, max_norm_ratio=10, **rest)
    for batch_tokens in (1, 16, 10**6):
        some, table = strict.set_params(batch_tokens=batch_tokens).extract(texts)
        np.testing.assert_allclose(some, rows[kept], atol=1e-5)
        same_tables(table, tokens[kept])
    assert table.policy["max_norm_ratio"] == 10
    mean = clone(strict).set_params(pooling="mean").transform(texts)
    expected = [rows[kept & (tokens.text == i)].mean(0) for i in range(4)]
    np.testing.assert_allclose(mean, expected, atol=1e-4)
    chunks = list(ActivationReader(strict).chunks(texts, table=True))
    np.testing.assert_allclose(chunks[0].rows, rows[kept], atol=1e-5)
    assert chunks[0].text.tolist() == tokens.text[kept].tolist()


def test_norms_are_compared_within_a_window(tiny, bpe):
    dog = bpe(" dog").input_ids[0]
    rest = {"tokenizer": bpe, "drop_first_position": False, "site": "resid_pre"}
    strict = ActivationExtractor(loud(tiny, dog), 0, max_norm_ratio=10, max_length=4, **rest)
    # The second window has nothing but dogs, among which no dog is an outlier.
    ids = bpe("the cat sat on").input_ids[:3] + [dog] * 5
    assert len(ids) == 8
    assert strict.extract([ids])[1].position.tolist() == [0, 1, 2, 4, 5, 6, 7]


@each_case("kind", ["gpt2", "llama", "bert", "roberta"])
def test_explicit_positions_are_the_models_own(kind, tiny, bpe, wordpiece):
    tokenizer = wordpiece if kind == "bert" else bpe
    extractor = ActivationExtractor(tiny(kind), 1, tokenizer=tokenizer)
    expected = extractor.transform([*TEXTS, LONG])
    rows = clone(extractor).set_params(position_ids=True).transform([*TEXTS, LONG])
    np.testing.assert_allclose(rows, expected, atol=1e-5)


def test_models_without_position_ids(tiny, bpe):
    with pytest.raises(ValueError, match="BloomModel takes no position_ids"):
        ActivationExtractor(tiny("bloom"), 0, tokenizer=bpe, position_ids=True).transform(["a"])


def test_a_prepended_bos(gpt2, bpe, trained, bert, wordpiece):
    extractor = ActivationExtractor(gpt2, 1, tokenizer=bpe, prepend_bos=True, max_length=8)
    rows, tokens = extractor.extract([*TEXTS, LONG])
    like = ActivationExtractor(gpt2, 1, tokenizer=trained(bos=True), max_length=8)
    like_rows, like_tokens = like.extract([*TEXTS, LONG])
    np.testing.assert_array_equal(rows, like_rows)
    same_tables(tokens, like_tokens)
    np.testing.assert_array_equal(like.set_params(prepend_bos=True).transform([*TEXTS, LONG]), rows)
    # Ids get it as well, unless they have it.
    ids = [bpe(text).input_ids for text in TEXTS]
    expected = extractor.transform(TEXTS)
    np.testing.assert_array_equal(extractor.transform(ids), expected)
    np.testing.assert_array_equal(extractor.transform([[0, *row] for row in ids]), expected)
    with pytest.raises(ValueError, match="prepend_bos=True, but the BertTokenizer has no token"):
        ActivationExtractor(bert, 1, tokenizer=wordpiece, prepend_bos=True).transform(["a"])


# What a table says


def test_the_policy_travels_with_the_rows(gpt2, bpe):
    extractor = ActivationExtractor(
        gpt2, np.int64(1), tokenizer=bpe, max_norm_ratio=np.float64(20), max_length=16
    )
    _, tokens = extractor.extract(TEXTS)
    expected = {
        "model": "GPT2Model",
        "layer": 1,
        "site": "resid_post",
        "input": "text",
        "include_special_tokens": False,
        "drop_first_position": True,
        "max_norm_ratio": 20.0,
        "max_length": 16,
        "prepend_bos": False,
        "position_ids": False,
    }
    assert tokens.policy == expected
    assert json.loads(json.dumps(tokens.policy)) == expected
    assert tokens[3:5].policy == expected
    assert tokens.merged()[0].policy == expected


def test_a_named_model_is_named(saved):
    _, tokens = ActivationExtractor(saved, 1).extract(TEXTS)
    assert tokens.policy["model"] == str(saved)


# Chunks


@each_case("size", [1, 10, 40, 10**6])
def test_chunks_are_the_whole(extractor, size, monkeypatch):
    monkeypatch.setattr(_activation_reader, "CHUNK_TOKENS", size)
    texts = [*TEXTS, "", LONG, "hello"]
    rows, tokens = extractor.extract(texts)
    chunks = list(ActivationReader(extractor).chunks(iter(texts), table=True))
    assert [chunk.first for chunk in chunks] == [
        sum(c.n_texts for c in chunks[:i]) for i in range(len(chunks))
    ]
    assert sum(chunk.n_texts for chunk in chunks) == len(texts)
    assert size > 1 or len(chunks) == len(texts)
    np.testing.assert_allclose(np.concatenate([c.rows for c in chunks]), rows, atol=1e-5)
    text = np.concatenate([chunk.first + chunk.text for chunk in chunks])
    assert text.tolist() == tokens.text.tolist()
    for column in ("position", "id", "string", "start", "end", "group"):
        whole = np.concatenate([getattr(chunk.tokens, column) for chunk in chunks])
        assert whole.tolist() == getattr(tokens, column).tolist()
    assert [text for chunk in chunks for text in chunk.tokens.texts] == texts
    assert all(
        chunk.tokens is None for chunk in ActivationReader(extractor).chunks(texts, table=False)
    )


def test_chunks_are_read_as_they_are_asked_for(extractor, monkeypatch):
    monkeypatch.setattr(_activation_reader, "CHUNK_TOKENS", 1)

    def texts():
        yield "hello"
        raise RuntimeError("too early")

    assert len(next(ActivationReader(extractor).chunks(texts(), table=False)).rows) == 1


def test_progress_of_chunks(extractor, capsys, monkeypatch):
    monkeypatch.setattr(_activation_reader, "CHUNK_TOKENS", 1)
    loud = clone(extractor).set_params(verbose=1)
    list(ActivationReader(loud).chunks(["hello", "the cat"], table=False))
    shown = capsys.readouterr().out
    assert "ActivationExtractor: 4 tokens [" in shown
    assert shown.endswith("2/2 texts]\n")
    list(ActivationReader(loud).chunks(iter(["hello", "the cat"]), table=False))
    assert ", 2 texts]" in capsys.readouterr().out
