import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kurtosis
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA

from sksae import TopKSAE
from sksae.language_models import logit_lens
from sksae.language_models.attribution._logit_lens import token_strings
from sksae.language_models.model import base_of, find_hook_point, short_inputs, visiting
from tests.cases import each_case, tries
from tests.language_models.families import build


class Directions(BaseEstimator):
    """An autoencoder with given directions."""

    def __init__(self, components):
        self.components = components
        self.components_ = np.asarray(components, dtype=np.float32)
        self.intercept_ = np.zeros(self.components_.shape[1], dtype=np.float32)

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return np.maximum(X @ self.components_.T, 0)

    def inverse_transform(self, Z):
        return Z @ self.components_ + self.intercept_


def drawn(n, width=16, seed=0):
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


@pytest.fixture(scope="module")
def llama():
    return build("llama", head=True)


def full(lens, n_known):
    """The logits of all tokens, in the order of the vocabulary, of a lens that lists all."""
    logits = np.empty((len(lens), n_known))
    np.put_along_axis(logits, lens.promoted_ids, lens.promoted_logits, axis=1)
    return logits


def by_hand(model, kind, direction, n_known):
    """Logits times scale, minus the same without the direction, at the last of six tokens.

    The scale is computed by the formula of the norm, the constant from its weights.
    """
    base = base_of(model)
    kept = []

    def visit(x, step):
        x = x + step * direction
        y = x - x.mean(-1, keepdim=True) if kind in ("gpt2", "cohere") else x
        kept.append((y.square().mean(-1) + 1e-5 * (kind in ("gpt2", "cohere"))).sqrt()[0, -1])
        return x

    products = []
    constant = 0
    if kind == "gpt2":
        constant = model.lm_head(model.transformer.ln_f.bias)
    for step in (0.0, 3.0):
        with visiting(
            base, [(find_hook_point(base, -1, "resid_post"), lambda x, s=step: visit(x, s))]
        ):
            logits = model(**short_inputs(base)).logits[0, -1]
        products.append((logits - constant) * kept[-1])
    change = (products[1] - products[0])[:n_known] / 3
    return (change - change.mean()).numpy()


@torch.no_grad()
@each_case("kind", ["llama", "gemma", "gpt2", "cohere", "granite"])
def test_it_is_the_change_of_the_models_logits_at_a_fixed_scale(kind, bpe):
    model = build(kind, head=True)
    W = drawn(3)
    n = len(bpe)
    lens = logit_lens(model, Directions(W), n_tokens=n, tokenizer=bpe)
    wanted = np.stack([by_hand(model, kind, torch.from_numpy(d), n) for d in W])
    np.testing.assert_allclose(full(lens, n), wanted, atol=3e-5)
    np.testing.assert_allclose(lens.kurtosis, kurtosis(wanted, axis=1), atol=1e-3)


def test_a_row_of_the_unembedding_promotes_its_token(bpe):
    model = build("llama", head=True)
    with torch.no_grad():
        model.model.norm.weight.fill_(1)
        rows = model.lm_head.weight
        rows /= rows.norm(dim=1, keepdim=True)
    ids = np.array([7, 100, 301])
    W = rows.detach().numpy()
    lens = logit_lens(model, Directions(W[ids]), n_tokens=3, tokenizer=bpe)
    assert lens.promoted_ids[:, 0].tolist() == ids.tolist()
    known = W[: len(bpe)]
    np.testing.assert_allclose(
        lens.promoted_logits[:, 0], 1 - (known @ W[ids].T).mean(0), atol=1e-6
    )
    opposite = logit_lens(model, Directions(-W[ids]), n_tokens=3, tokenizer=bpe)
    np.testing.assert_array_equal(opposite.suppressed_ids, lens.promoted_ids)
    np.testing.assert_allclose(opposite.suppressed_logits, -lens.promoted_logits, atol=1e-6)


@settings(max_examples=tries(20), deadline=None)
@given(block_size=st.integers(1, 40), n_tokens=st.integers(1, 12))
def test_blocks_and_length_do_not_change_the_ranking(llama, bpe, block_size, n_tokens):
    sae = Directions(drawn(33))
    whole = logit_lens(llama, sae, n_tokens=12, tokenizer=bpe)
    lens = logit_lens(llama, sae, n_tokens=n_tokens, block_size=block_size, tokenizer=bpe)
    np.testing.assert_array_equal(lens.promoted_ids, whole.promoted_ids[:, :n_tokens])
    np.testing.assert_array_equal(lens.suppressed_ids, whole.suppressed_ids[:, :n_tokens])
    np.testing.assert_allclose(lens.promoted_logits, whole.promoted_logits[:, :n_tokens], atol=1e-5)


def test_features_come_in_the_order_asked_for(llama, bpe):
    sae = Directions(drawn(9))
    whole = logit_lens(llama, sae, tokenizer=bpe)
    some = logit_lens(llama, sae, [8, 2, 2], tokenizer=bpe)
    assert (len(whole), len(some), some.feature.tolist()) == (9, 3, [8, 2, 2])
    np.testing.assert_array_equal(some.promoted, whole.promoted[[8, 2, 2]])


def test_a_layer_norm_does_not_see_the_mean(bpe):
    model, W = build("gpt2", head=True), drawn(4)
    lens = logit_lens(model, Directions(W), tokenizer=bpe)
    shifted = logit_lens(model, Directions(W + 2), tokenizer=bpe)
    np.testing.assert_array_equal(lens.promoted_ids, shifted.promoted_ids)
    np.testing.assert_allclose(lens.promoted_logits, shifted.promoted_logits, atol=1e-5)


def test_a_direction_without_effect_has_no_kurtosis(llama, bpe):
    lens = logit_lens(llama, Directions(np.zeros((1, 16))), tokenizer=bpe)
    assert np.isnan(lens.kurtosis).all()
    assert (lens.promoted_logits == 0).all()


def test_fitted_autoencoders_and_paths(saved, bpe):
    sae = TopKSAE(12, k=2, max_iter=2, random_state=0).fit(drawn(64))
    lens = logit_lens(saved, sae, [0, 1], n_tokens=2)
    again = logit_lens(saved, Directions(sae.components_), [0, 1], n_tokens=2, tokenizer=bpe)
    np.testing.assert_array_equal(lens.promoted_ids, again.promoted_ids)


def test_padding_of_the_unembedding_is_not_listed(llama, bpe):
    assert len(bpe) < 384
    lens = logit_lens(llama, Directions(drawn(5)), n_tokens=len(bpe), tokenizer=bpe)
    assert lens.promoted_ids.max() == len(bpe) - 1
    np.testing.assert_allclose(lens.promoted_logits.sum(1), 0, atol=1e-3)


def test_names_of_tokens(bpe):
    half = bpe("특", add_special_tokens=False)["input_ids"][0]
    word = bpe(" the", add_special_tokens=False)["input_ids"][0]
    strings = token_strings(bpe, np.array([[half, word], [0, 380]]))
    assert strings[0, 0] == bpe.convert_ids_to_tokens(half)
    assert "\ufffd" not in strings[0, 0]
    assert strings[0, 1] == bpe.decode([word])
    assert strings[1].tolist() == ["<|endoftext|>", "[380]"]


def test_the_frame_and_the_lines(llama, bpe):
    lens = logit_lens(llama, Directions(drawn(3)), [2, 0], n_tokens=4, tokenizer=bpe)
    frame = lens.to_frame()
    assert frame.shape == (16, 7)
    one = frame[(frame.feature == 0) & (frame.side == "suppressed")]
    assert one["rank"].tolist() == [0, 1, 2, 3]
    assert one["id"].tolist() == lens.suppressed_ids[1].tolist()
    assert one["token"].tolist() == lens.suppressed[1].tolist()
    np.testing.assert_array_equal(one["logit"], lens.suppressed_logits[1])
    lines = lens.lines()
    assert len(lines) == 6
    assert lines[0].startswith("Feature 2: kurtosis ")
    assert f"{lens.promoted_logits[1, 0]:+.3g}" in lines[4]
    with pytest.raises(dataclasses.FrozenInstanceError):
        lens.feature = None


def test_bad_input(llama, bpe, bert, gpt2):
    sae = Directions(drawn(3))
    with pytest.raises(ValueError, match="'tokenizer' parameter is needed"):
        logit_lens(llama, sae)
    with pytest.raises(ValueError, match=r"directions of 15 features.*stream of the model has 16"):
        logit_lens(llama, Directions(drawn(3, 15)), tokenizer=bpe)
    with pytest.raises(ValueError, match="no feature 3: Directions has 3"):
        logit_lens(llama, sae, [3], tokenizer=bpe)
    for bad in (0, 1.5, len(bpe) + 1, True):
        with pytest.raises(ValueError, match="n_tokens must be an int"):
            logit_lens(llama, sae, n_tokens=bad, tokenizer=bpe)
    with pytest.raises(ValueError, match="block_size must be an int >= 1"):
        logit_lens(llama, sae, block_size=0, tokenizer=bpe)
    with pytest.raises(ValueError, match="block_size must be an int >= 1"):
        logit_lens("./nowhere", sae, block_size=0)  # before anything is loaded
    with pytest.raises(ValueError, match="does not predict the next token"):
        logit_lens(bert, sae, tokenizer=bpe)
    with pytest.raises(ValueError, match="does not predict the next token"):
        logit_lens(gpt2, sae, tokenizer=bpe)
    with pytest.raises(TypeError, match="str has no transform"):
        logit_lens(llama, "sae", tokenizer=bpe)
    with pytest.raises(ValueError, match="not fitted"):
        logit_lens(llama, PCA(2), tokenizer=bpe)
