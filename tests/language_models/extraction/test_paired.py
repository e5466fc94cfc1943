"""The same tokens in several models, side by side."""

import json

import numpy as np
import pytest
from tokenizers import Tokenizer

from sksae import BatchTopKSAE, Crosscoder
from sksae.language_models import ActivationExtractor, extract_paired
from tests.cases import each_case

TEXTS = [
    "The cat sat on the mat and the dog sat on the log.",
    "hello world, hello  again",
    "A sparse autoencoder",
]


@pytest.fixture(scope="module")
def models(tiny):
    return [tiny("llama"), tiny("gpt2")]


@pytest.fixture(scope="module")
def make(models, bpe):
    """``make(model, **parameters)``: an extractor of layer 1 of a model."""

    def extractor(model, **parameters):
        return ActivationExtractor(models[model], **{"layer": 1, "tokenizer": bpe, **parameters})

    return extractor


def test_columns_are_those_of_each_extractor(make):
    pair = {"base": make(0), "tuned": make(1, site="mlp_out")}
    rows, tokens, blocks = extract_paired(pair, iter(TEXTS))
    alone = {name: extractor.extract(TEXTS) for name, extractor in pair.items()}
    assert list(blocks) == ["base", "tuned"]
    assert list(blocks.values()) == [block.shape[1] for block, _ in alone.values()]
    np.testing.assert_array_equal(rows, np.hstack([block for block, _ in alone.values()]))
    np.testing.assert_array_equal(tokens.id, alone["base"][1].id)
    crosscoder = Crosscoder(BatchTopKSAE(4, k=1, max_iter=1), blocks=blocks).fit(rows)
    assert crosscoder.blocks_ == blocks


def test_several_sites_of_each_have_a_block_each(make):
    pair = {"base": make(0, layer=[0, 1]), "tuned": make(1)}
    rows, _, blocks = extract_paired(pair, TEXTS)
    assert list(blocks) == ["base.0.resid_post", "base.1.resid_post", "tuned"]
    assert rows.shape[1] == sum(blocks.values())


def test_names_of_columns_tell_a_crosscoder_the_sites(make):
    extractor = make(0, layer=[0, 1], site=["resid_mid", "mlp_out"]).set_output(transform="pandas")
    frame = extractor.transform(TEXTS)
    crosscoder = Crosscoder(BatchTopKSAE(4, k=1, max_iter=1)).fit(frame)
    widths = [block.shape[1] for block in extractor.split(frame.to_numpy()).values()]
    assert crosscoder.blocks_ == dict(zip(extractor.split(frame.to_numpy()), widths, strict=True))


@each_case(
    "parameters, message",
    [
        ({"drop_first_position": False}, r"text 0 has 14 rows, and 13 there"),
        ({"max_length": 4}, "text 0 has"),
        ({"max_length": 30}, "its windows have 30 tokens, and .* there"),
    ],
)
def test_other_tokens_are_refused(make, parameters, message):
    with pytest.raises(ValueError, match=f"The rows of 'b' are not those of 'a': {message}"):
        extract_paired({"a": make(0), "b": make(1, **parameters)}, TEXTS)


def test_another_tokenizer_is_refused(make, bpe):
    """The ids of two words are exchanged: as many tokens, but others."""
    state = json.loads(bpe.backend_tokenizer.to_str())
    ids = state["model"]["vocab"]
    first, second = bpe.convert_ids_to_tokens(bpe(TEXTS[0])["input_ids"])[2:4]
    ids[first], ids[second] = ids[second], ids[first]
    other = type(bpe)(tokenizer_object=Tokenizer.from_str(json.dumps(state)))
    with pytest.raises(ValueError, match=r"a token of text 0 is .* \(id .* there"):
        extract_paired({"a": make(0), "b": make(1, tokenizer=other)}, TEXTS)


def test_what_cannot_be_paired_is_refused(make):
    with pytest.raises(TypeError, match="must be a dict of ActivationExtractor"):
        extract_paired([make(0), make(1)], TEXTS)
    with pytest.raises(TypeError, match="must be a dict of ActivationExtractor"):
        extract_paired({"a": make(0), "b": "gpt2"}, TEXTS)
    with pytest.raises(ValueError, match=r"two or more. Got 1"):
        extract_paired({"a": make(0)}, TEXTS)
    with pytest.raises(ValueError, match="'b' has pooling='mean'"):
        extract_paired({"a": make(0), "b": make(1, pooling="mean")}, TEXTS)
    with pytest.raises(ValueError, match="Got one text"):
        extract_paired({"a": make(0), "b": make(1)}, TEXTS[0])
