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
