"""What is written is read back as it was, here and by the formulas of the other libraries."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sksae import (
    BatchTopKSAE,
    DummySAE,
    GatedSAE,
    JumpReLUSAE,
    SparseAutoencoder,
    TopKSAE,
    Transcoder,
)
from sksae.autoencoders import fitted
from sksae.formats import (
    RowNormalizer,
    read,
    write_dictionary_learning,
    write_gemma_scope,
    write_saelens,
    write_sentence_transformers,
    write_sparsify,
)
from tests.cases import each_case, tries
from tests.estimators import arrays_of, wide
from tests.formats.golden_files import (
    FORMULAS,
    READ,
    codes_and_reconstruction,
    expected,
    file_of,
)

WRITERS = {
    "saelens": write_saelens,
    "dictionary_learning": write_dictionary_learning,
    "sparsify": write_sparsify,
    "gemma_scope": write_gemma_scope,
    "sentence_transformers": write_sentence_transformers,
}
HAVE_WRITERS = [folder for folder in READ if folder.parent.name in WRITERS]


@each_case("folder", HAVE_WRITERS)
def test_golden_files_survive_their_own_writer(folder, tmp_path):
    """By our reader, and by the formulas of the library on what was written."""
    kind, model = folder.parent.name, read(file_of(folder))
    X, features, reconstruction = expected(folder)
    WRITERS[kind](tmp_path, model)
    again = read(tmp_path)
    assert type(again) is type(model)
    if isinstance(model, Pipeline):
        assert repr(again) == repr(model)
        again_codes = again[-1].components_
        assert_array_equal(again_codes, model[-1].components_)
    else:
        assert repr(again) == repr(model)
        assert_array_equal(again.components_, model.components_)
    codes, rows = codes_and_reconstruction(again, X)
    assert_array_equal(codes != 0, features != 0)
    assert_allclose(codes, features, rtol=1e-5, atol=1e-5)
    assert_allclose(rows, reconstruction, rtol=1e-5, atol=1e-5)
    theirs, their_rows = FORMULAS[kind](tmp_path, X.astype(np.float64))
    assert_array_equal(theirs != 0, features != 0)
    assert_allclose(theirs, features, rtol=1e-5, atol=1e-5)
    assert_allclose(their_rows, reconstruction, rtol=1e-5, atol=1e-5)


EXACT = [
    (write_saelens, SparseAutoencoder),
    (write_saelens, TopKSAE),
    (write_saelens, JumpReLUSAE),
    (write_saelens, BatchTopKSAE),
    (write_dictionary_learning, SparseAutoencoder),
    (write_dictionary_learning, JumpReLUSAE),
    (write_gemma_scope, JumpReLUSAE),
]
ROUNDED = [
    (write_saelens, GatedSAE),
    (write_dictionary_learning, TopKSAE),
    (write_dictionary_learning, GatedSAE),
    (write_sparsify, TopKSAE),
]


def ids(pair):
    return getattr(pair, "__name__", None)


@each_case("dtype", [np.float32, np.float64])
@each_case("write, cls", EXACT)
def test_every_bit_comes_back(write, cls, dtype, X, tmp_path):
    sae = wide(cls, max_iter=3).fit(X.astype(dtype))
    again = read(write(tmp_path, sae))
    assert type(again) is cls
    stored = arrays_of(again)
    assert set(stored) >= {"components_", "encoder_coef_", "encoder_intercept_", "intercept_"}
    for name in set(stored) - {"activation_frequency_"}:
        assert stored[name].dtype == dtype
        assert_array_equal(stored[name], getattr(sae, name), err_msg=name)
    if hasattr(sae, "k_"):
        assert again.k_ == sae.k_
    assert_array_equal(again.transform(X), sae.transform(X))


@each_case("dtype", [np.float32, np.float64])
@each_case("write, cls", ROUNDED)
def test_the_rest_comes_back_to_the_last_digits(write, cls, dtype, X, tmp_path):
    sae = wide(cls, max_iter=3).fit(X.astype(dtype))
    again = read(write(tmp_path, sae))
    assert type(again) is cls
    near = {"rtol": 1e-5, "atol": 1e-5} if dtype == np.float32 else {"rtol": 1e-12, "atol": 1e-12}
    for name in set(arrays_of(again)) - {"activation_frequency_"}:
        assert_allclose(getattr(again, name), getattr(sae, name), **near, err_msg=name)
    assert_allclose(again.transform(X), sae.transform(X), **near)


def test_one_threshold_makes_a_batch_topk_of_dictionary_learning(X, tmp_path):
    sae = wide(BatchTopKSAE, max_iter=3).fit(X)
    sae.threshold_ = np.full_like(sae.threshold_, 0.5)
    again = read(write_dictionary_learning(tmp_path, sae))
    assert (type(again), again.k_) == (BatchTopKSAE, 5.0)
    assert_allclose(again.transform(X), sae.transform(X), rtol=1e-12, atol=1e-12)
    sae.threshold_[0] = 0.7
    again = read(write_dictionary_learning(tmp_path, sae))
    assert type(again) is JumpReLUSAE
    assert_array_equal(again.transform(X), sae.transform(X))


@each_case("cls", [BatchTopKSAE, GatedSAE, SparseAutoencoder])
def test_gemma_scope_holds_whatever_is_a_threshold(cls, X, tmp_path):
    sae = wide(cls, max_iter=3).fit(X)
    again = read(write_gemma_scope(tmp_path / "mine.npz", sae), format="gemma_scope")
    assert type(again) is JumpReLUSAE
    assert_array_equal(again.transform(X), sae.transform(X))


def test_how_often_latents_fire_goes_to_saelens(X, tmp_path):
    sae = wide(TopKSAE, max_iter=3).fit(X)
    again = read(write_saelens(tmp_path, sae))
    assert_allclose(again.activation_frequency_, sae.activation_frequency_, atol=1e-6)


def test_where_it_is_from_goes_along(X, tmp_path):
    sae = wide(TopKSAE, max_iter=1).fit(X)
    hook = {"hook_name": "blocks.3.hook_resid_post", "model_name": "gpt2 모델 📅"}
    first = read(write_saelens(tmp_path / "a", sae, metadata=hook))
    assert first.source_ == {
        "format": "saelens",
        "hook_name": "blocks.3.hook_resid_post",
        "layer": 3,
        "site": "resid_post",
        "model": "gpt2 모델 📅",
        "architecture": "topk",
    }
    assert read(write_saelens(tmp_path / "b", first)).source_ == first.source_
    folder = write_dictionary_learning(tmp_path / "c", first)
    trainer = json.loads((folder / "config.json").read_text())["trainer"]
    assert (trainer["layer"], trainer["lm_name"], trainer["k"]) == (3, "gpt2 모델 📅", 5)


@each_case(
    "write, cls, reason",
    [
        (write_sparsify, JumpReLUSAE, "sparsify can hold the k largest of a row"),
        (write_sparsify, SparseAutoencoder, "made by a ReLU"),
        (write_sparsify, GatedSAE, "made by a gate"),
        (write_gemma_scope, TopKSAE, "made by the k largest of a row"),
        (write_sentence_transformers, BatchTopKSAE, "made by a threshold per latent"),
        (write_sentence_transformers, TopKSAE, "transposed encoder, but components_ are not"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(write, cls, reason, X, tmp_path):
    sae = wide(cls, max_iter=1).fit(X)
    with pytest.raises(ValueError, match=reason):
        write(tmp_path, sae)
    assert not list(tmp_path.iterdir())


@each_case("write", WRITERS.values())
def test_what_is_no_fitted_autoencoder_is_refused(write, X, tmp_path):
    with pytest.raises(NotFittedError):
        write(tmp_path, TopKSAE(8))
    with pytest.raises(TypeError, match="No format can hold a PCA"):
        write(tmp_path, PCA(2).fit(X))
    scaled = make_pipeline(StandardScaler(), wide(TopKSAE, max_iter=1)).fit(X)
    with pytest.raises(ValueError, match="StandardScaler changes the rows"):
        write(tmp_path, scaled)
    normalized = make_pipeline(RowNormalizer(), wide(TopKSAE, max_iter=1)).fit(X)
    if write not in (write_saelens, write_sentence_transformers):
        with pytest.raises(ValueError, match="no place for RowNormalizer"):
            write(tmp_path, normalized)
    assert not list(tmp_path.iterdir())


@each_case("dtype", [np.float32, np.float64])
@each_case("cls", [TopKSAE, DummySAE])
def test_an_encoder_alone_keeps_all_codes(cls, dtype, X, tmp_path):
    """sentence-transformers has one matrix for encoder and decoder."""
    sae, X = wide(cls, max_iter=3).fit(X.astype(dtype)), X.astype(dtype)
    again = read(write_sentence_transformers(tmp_path, sae, codes_only=True))
    assert repr(again) == repr(TopKSAE(64, k=5))
    assert_array_equal(again.encoder_coef_, sae.encoder_coef_)
    near = {"rtol": 1e-5, "atol": 1e-5} if dtype == np.float32 else {"rtol": 1e-12, "atol": 1e-12}
    assert_allclose(again.transform(X), sae.transform(X), **near)
    theirs, _ = FORMULAS["sentence_transformers"](tmp_path, X.astype(np.float64))
    assert_allclose(theirs, sae.transform(X), rtol=1e-5, atol=1e-5)


sizes = st.integers(1, 6)


@settings(max_examples=tries(25), deadline=None)
@given(n=sizes, d=sizes, seed=st.integers(0, 2**32 - 1), data=st.data())
def test_one_matrix_survives_sentence_transformers(tmp_path_factory, n, d, seed, data):
    """Of any shape and k; where nothing is subtracted the bias is the same bits, too."""
    rng, dtype = np.random.default_rng(seed), data.draw(st.sampled_from(["f4", "f8"]))
    matrix = rng.normal(size=(n, d)).astype(dtype)
    weights = {"components": matrix, "encoder_coef": matrix}
    weights["encoder_intercept"] = rng.normal(size=n).astype(dtype)
    weights["intercept"] = np.zeros(d, dtype)
    sae = fitted(TopKSAE(n, k=data.draw(st.integers(1, n))), weights)
    again = read(write_sentence_transformers(tmp_path_factory.mktemp("any"), sae))
    assert repr(again) == repr(sae)
    for name, value in weights.items():
        assert_array_equal(getattr(again, name + "_"), value)
        assert getattr(again, name + "_").dtype == value.dtype


@settings(max_examples=tries(25), deadline=None)
@given(n=sizes, d=sizes, seed=st.integers(0, 2**32 - 1), dtype=st.sampled_from(["f4", "f8"]))
def test_weights_of_any_shape_survive(tmp_path_factory, n, d, seed, dtype):
    """Also a decoder of any norm, and one row or one column."""
    rng = np.random.default_rng(seed)
    weights = {
        "components": rng.normal(size=(n, d)),
        "encoder_coef": rng.normal(size=(n, d)),
        "encoder_intercept": rng.normal(size=n),
        "intercept": rng.normal(size=d),
        "threshold": rng.normal(size=n),
    }
    weights = {name: value.astype(dtype) for name, value in weights.items()}
    sae = fitted(JumpReLUSAE(n), weights)
    folder = tmp_path_factory.mktemp("any")
    for write in (write_saelens, write_dictionary_learning, write_gemma_scope):
        again = read(write(folder / write.__name__, sae))
        for name, value in weights.items():
            assert_array_equal(getattr(again, name + "_"), value)
            assert getattr(again, name + "_").dtype == value.dtype


def transcoder(X, autoencoder, *, skip, n_targets=12):
    Y = np.maximum(X @ np.random.default_rng(3).normal(size=(12, n_targets)), 0).astype(X.dtype)
    k = {"k": 5} if "k" in autoencoder._param_rules else {}
    return Transcoder(autoencoder(64, max_iter=3, random_state=0, **k), skip=skip).fit(X, Y)


@each_case("skip", [False, True])
@each_case("autoencoder", [SparseAutoencoder, JumpReLUSAE, BatchTopKSAE, GatedSAE])
def test_transcoders_in_saelens(autoencoder, skip, X, tmp_path):
    model = transcoder(X, autoencoder, skip=skip, n_targets=7)
    source = {"hook_name": "blocks.1.ln2.hook_normalized", "hook_name_out": "blocks.1.hook_mlp_out"}
    again = read(write_saelens(tmp_path, model, metadata=source))
    expected = SparseAutoencoder if autoencoder is SparseAutoencoder else JumpReLUSAE
    assert (type(again.estimator), again.skip) == (expected, skip)
    assert again.source_.items() >= source.items()
    assert_array_equal(again.transform(X), model.transform(X))
    assert_array_equal(again.predict(X), model.predict(X))
    codes, predicted = FORMULAS["saelens"](tmp_path, X)
    assert_allclose(codes, model.transform(X), rtol=1e-12, atol=1e-12)
    assert_allclose(predicted, model.predict(X), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("skip", [False, True], ids=["codes alone", "skip"])
def test_transcoders_in_sparsify(skip, X, tmp_path):
    model = transcoder(X, TopKSAE, skip=skip)
    again = read(write_sparsify(tmp_path, model))
    assert repr(again) == repr(Transcoder(TopKSAE(64, k=5), skip=skip))
    assert_array_equal(again.predict(X), model.predict(X))
    codes, predicted = FORMULAS["sparsify"](tmp_path, X)
    assert_allclose(codes, model.transform(X), rtol=1e-12, atol=1e-12)
    assert_allclose(predicted, model.predict(X), rtol=1e-12, atol=1e-12)


def test_transcoders_that_a_format_cannot_hold(X, tmp_path):
    model = transcoder(X, TopKSAE, skip=False, n_targets=5)
    with pytest.raises(ValueError, match="5 is not 12"):
        write_sparsify(tmp_path, model)
    with pytest.raises(ValueError, match="A transcoder of SAELens can hold a ReLU or a threshold"):
        write_saelens(tmp_path, model)
    with pytest.raises(ValueError, match="largest of a row"):
        write_sparsify(tmp_path, transcoder(X, SparseAutoencoder, skip=False))
    for write in (write_gemma_scope, write_dictionary_learning, write_sentence_transformers):
        with pytest.raises(ValueError, match="other activations are predicted"):
            write(tmp_path, model)
    assert not list(tmp_path.iterdir())
