import pytest

from sksae.language_models._prompts import read_prompt


def test_an_unknown_word_is_a_word(bert, wordpiece):
    prompt = read_prompt(bert, wordpiece, "the zebra")
    assert prompt.tokens.id.tolist() == wordpiece("the zebra").input_ids
    assert wordpiece.unk_token_id in prompt.tokens.id
    assert prompt.special.tolist() == [True, False, False, True]
    assert prompt.inputs["input_ids"].tolist() == [prompt.tokens.id.tolist()]


def test_a_prompt_fits_the_model_and_has_tokens(gpt2, bpe):
    for wrong in ("", "the cat sat on the mat and " * 12):
        with pytest.raises(ValueError, match=r"A prompt has 1 to 32 tokens for GPT2Model"):
            read_prompt(gpt2, bpe, wrong)
    with pytest.raises(ValueError, match="'tokenizer' parameter is needed"):
        read_prompt(gpt2, None, "a")


def test_a_prompt_is_text_in_any_form(gpt2, bpe, trained, tiny):
    ids = bpe("the cat sat").input_ids
    row = {"input_ids": [7, 7, *ids, 7], "attention_mask": [0, 0, *[1] * len(ids), 0]}
    for prompt in ("the cat sat", ids, row):
        assert read_prompt(gpt2, bpe, prompt).ids.tolist() == [ids]
    # One start token, whether or not the text has it.
    for prompt in ("the cat sat", "<|endoftext|>the cat sat"):
        found = read_prompt(gpt2, trained(bos=True), prompt)
        assert found.ids.tolist() == [[0, *ids]]
        assert found.special.tolist() == [True] + [False] * len(ids)
    with pytest.raises(ValueError, match="reads images"):
        read_prompt(tiny("vit"), bpe, "a")


def test_reading_a_prompt_runs_nothing(tiny, bpe, monkeypatch):
    model = tiny("gpt2")

    def refuse(*_, **__):
        raise AssertionError("the model ran")

    monkeypatch.setattr(model, "forward", refuse)
    assert read_prompt(model, bpe, "hello").ids.tolist() == [bpe("hello").input_ids]
