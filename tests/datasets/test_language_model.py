"""The packaged language model: its files, its tokenizer, and a floor under its quality."""

import socket

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedTokenizerFast

from sksae.datasets import TINY_LM_PATH, load_corpus, load_tiny_lm
from tests.cases import each_case

# 2.57 was measured; a model that knows only how frequent each token is reaches 6.6
HELD_OUT_LOSS = 2.8
TEXTS = [
    "Compute the mean of an array along an axis.",
    "def f(x):\n    return x  # twice\n\n\tTab, trailing space ",
    "희소 오토인코더는 재미있다",
    "emoji 🙂👩‍🔬 and naïve café, ∑ xᵢ² ≤ 1",
    "",
]


@pytest.fixture(scope="module")
def tiny_lm():
    return load_tiny_lm()


def token_losses(model, tokenizer, texts):
    """Loss of every token of the texts but the first of each, in nats."""
    encoded = tokenizer(texts, return_tensors="pt", padding=True, truncation=True)
    with torch.no_grad():
        scores = model(**encoded).logits[:, :-1].log_softmax(-1)
    targets = encoded["input_ids"][:, 1:]
    losses = -scores.gather(-1, targets[..., None])[..., 0]
    return losses[encoded["attention_mask"][:, 1:].bool()]


def test_folder_is_small():
    files = {path.name: path.stat().st_size for path in TINY_LM_PATH.iterdir()}
    assert sum(files.values()) <= 8_000_000
    assert set(files) == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_half_precision_on_disk():
    with safe_open(TINY_LM_PATH / "model.safetensors", framework="np") as file:
        tensors = [file.get_tensor(key) for key in file.keys()]  # noqa: SIM118 (not a dict)
    assert {tensor.dtype for tensor in tensors} == {np.dtype(np.float16)}
    assert sum(tensor.size for tensor in tensors) == 3_000_384
    assert all(np.isfinite(tensor).all() for tensor in tensors)


def test_real_objects_ready_for_inference(tiny_lm):
    model, tokenizer = tiny_lm
    assert isinstance(model, LlamaForCausalLM)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not any(module.training for module in model.modules())
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.num_parameters() == 3_000_384
    assert len(tokenizer) == model.config.vocab_size == 4096
    assert tokenizer.model_max_length == model.config.max_position_embeddings == 256


def test_loads_by_path_in_single_precision():
    assert AutoModelForCausalLM.from_pretrained(TINY_LM_PATH).dtype == torch.float32


def test_loading_prints_nothing_and_asks_no_network(monkeypatch, capfd, recwarn):
    def refuse(*args):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    load_tiny_lm()
    assert tuple(capfd.readouterr()) == ("", "")
    assert not recwarn.list


def test_progress_bars_are_left_as_they_were():
    from transformers.utils import logging

    assert logging.is_progress_bar_enabled()
    load_tiny_lm()
    assert logging.is_progress_bar_enabled()


@each_case("text", TEXTS)
def test_text_survives_the_tokenizer(tiny_lm, text):
    _, tokenizer = tiny_lm
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert tokenizer.decode(ids[1:]) == text


def test_offsets_point_at_the_tokens_text(tiny_lm):
    _, tokenizer = tiny_lm
    text = "Returns\n-------\nout : ndarray of shape (n_samples,)"
    encoded = tokenizer(text, return_offsets_mapping=True)
    spans = encoded["offset_mapping"]
    assert spans[0] == (0, 0)
    assert [text[a:b] for a, b in spans[1:]] == tokenizer.batch_decode(
        [[token] for token in encoded["input_ids"][1:]]
    )


@pytest.mark.parametrize("text", TEXTS[2:4])
def test_offsets_cover_whole_characters(tiny_lm, text):
    _, tokenizer = tiny_lm
    spans = tokenizer(text, return_offsets_mapping=True)["offset_mapping"][1:]
    assert spans == sorted(spans)
    covered = set()
    for a, b in spans:
        assert b > a
        covered |= set(range(a, b))
    assert covered == set(range(len(text)))


def test_special_tokens_are_distinct(tiny_lm):
    model, tokenizer = tiny_lm
    ids = [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id]
    assert ids == [0, 1, 2]
    config = model.config
    assert ids == [config.bos_token_id, config.eos_token_id, config.pad_token_id]
    assert ids[0] == model.generation_config.bos_token_id


def test_padding_changes_no_result(tiny_lm):
    model, tokenizer = tiny_lm
    short, long = "Compute the mean", "Return the indices of the largest entries of an array"
    padded = tokenizer([short, long], return_tensors="pt", padding=True)
    alone = tokenizer([short], return_tensors="pt")
    n = alone["input_ids"].shape[1]
    assert padded["attention_mask"][0].sum() == n
    assert (padded["input_ids"][0, n:] == tokenizer.pad_token_id).all()
    with torch.no_grad():
        together, single = model(**padded).logits[0, :n], model(**alone).logits[0]
    torch.testing.assert_close(together, single, rtol=0, atol=1e-3)


@pytest.mark.parametrize("n_documents", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_held_out_loss(tiny_lm, n_documents):
    """Documents of modules that it was not trained on, equally many of each source."""
    corpus = load_corpus()
    chosen = [np.flatnonzero(corpus.target == label)[::6][:n_documents] for label in range(6)]
    texts = [corpus.data[i] for i in np.concatenate(chosen)]
    assert token_losses(*tiny_lm, texts).mean() < HELD_OUT_LOSS


def test_knows_the_shape_of_a_docstring(tiny_lm):
    """Where only one continuation makes sense, the model gives it a high probability."""
    underline = token_losses(*tiny_lm, ["Parameters\n----------"])[-1]
    assert underline.exp() < 2


def test_greedy_text_is_repeatable_and_varied(tiny_lm):
    model, tokenizer = tiny_lm
    encoded = tokenizer("Compute the", return_tensors="pt")
    options = {"max_new_tokens": 40, "do_sample": False}
    tokens = model.generate(**encoded, **options)[0]
    assert torch.equal(tokens, model.generate(**encoded, **options)[0])
    assert len(set(tokens.tolist())) > 15
