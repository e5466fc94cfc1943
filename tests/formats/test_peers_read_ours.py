"""The other libraries read what is written for them, and compute the same. Where installed."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.pipeline import make_pipeline

from sksae import (
    BatchTopKSAE,
    GatedSAE,
    JumpReLUSAE,
    SparseAutoencoder,
    TopKSAE,
    Transcoder,
)
from sksae.formats import (
    RowNormalizer,
    write_circuit_tracer,
    write_dictionary_learning,
    write_saelens,
    write_sentence_transformers,
    write_sparsify,
)
from tests.cases import each_case
from tests.estimators import wide
from tests.formats.golden_files import codes_and_reconstruction

CLASSES = [SparseAutoencoder, TopKSAE, JumpReLUSAE, BatchTopKSAE, GatedSAE]

# What other libraries warn about while they are imported is not ours to fix.
pytestmark = pytest.mark.filterwarnings("default")


def assert_same(model, X, codes, rows):
    ours, our_rows = codes_and_reconstruction(model, X)
    assert_array_equal(codes != 0, ours != 0)
    assert_allclose(codes, ours, rtol=1e-4, atol=1e-4)
    assert_allclose(rows, our_rows, rtol=1e-4, atol=1e-4)


def fit(cls, X):
    X = X.astype(np.float32)
    return wide(cls, max_iter=3).fit(X), X, torch.from_numpy(X)


@each_case("cls", CLASSES)
def test_saelens(cls, X, tmp_path):
    sae_lens = pytest.importorskip("sae_lens")
    sae, X, rows = fit(cls, X)
    theirs = sae_lens.SAE.load_from_disk(write_saelens(tmp_path, sae))
    with torch.no_grad():
        codes = theirs.encode(rows)
        assert_same(sae, X, codes.numpy(), theirs.decode(codes).numpy())


@pytest.mark.parametrize("method", ["layer_norm", "norm"])
def test_saelens_that_normalises_rows(method, X, tmp_path):
    sae_lens = pytest.importorskip("sae_lens")
    X = X.astype(np.float32)
    model = make_pipeline(RowNormalizer(method), wide(TopKSAE, max_iter=3)).fit(X)
    theirs = sae_lens.SAE.load_from_disk(write_saelens(tmp_path, model))
    with torch.no_grad():
        codes = theirs.encode(torch.from_numpy(X))
        assert_same(model, X, codes.numpy(), theirs.decode(codes).numpy())


def test_saelens_knows_where_it_is_from(X, tmp_path):
    sae_lens = pytest.importorskip("sae_lens")
    sae, _, _ = fit(TopKSAE, X)
    hook = "blocks.3.hook_resid_post"
    theirs = sae_lens.SAE.load_from_disk(write_saelens(tmp_path, sae, metadata={"hook_name": hook}))
    assert theirs.cfg.metadata.hook_name == hook


def test_sparsify(X, tmp_path):
    sparsify = pytest.importorskip("sparsify")
    sae, X, rows = fit(TopKSAE, X)
    theirs = sparsify.SparseCoder.load_from_disk(write_sparsify(tmp_path, sae))
    with torch.no_grad():
        values, places, _ = theirs.encode(rows)
        codes = torch.zeros(len(X), 64).scatter(1, places, values).numpy()
        assert_same(sae, X, codes, codes @ theirs.W_dec.numpy() + theirs.b_dec.numpy())


@pytest.mark.parametrize("normalize", [False, True])
def test_sentence_transformers(normalize, X, tmp_path):
    modules = pytest.importorskip("sentence_transformers.sparse_encoder.models")
    X = X.astype(np.float32)
    model = wide(TopKSAE, max_iter=3)
    model = make_pipeline(RowNormalizer(), model).fit(X) if normalize else model.fit(X)
    sae = model[-1] if normalize else model
    sae.encoder_coef_ = sae.components_
    theirs = modules.SparseAutoEncoder.load(str(write_sentence_transformers(tmp_path, model)))
    with torch.no_grad():
        outputs = theirs.eval()({"sentence_embedding": torch.from_numpy(X)})
    codes, rows = outputs["sentence_embedding"], outputs["decoded_embedding_k"]
    assert_same(model, X, codes.numpy(), rows.numpy())


@each_case("cls", CLASSES)
def test_dictionary_learning(cls, X, tmp_path):
    library = pytest.importorskip("dictionary_learning.utils")
    sae, X, rows = fit(cls, X)
    theirs, _ = library.load_dictionary(str(write_dictionary_learning(tmp_path, sae)), "cpu")
    with torch.no_grad():
        codes = theirs.encode(rows)
        assert_same(sae, X, codes.numpy(), theirs.decode(codes).numpy())


def transcoder(X, autoencoder, *, skip, n_targets):
    X = X.astype(np.float32)
    Y = np.maximum(X @ np.ones((12, n_targets), np.float32), X[:, :1])
    model = Transcoder(autoencoder(64, max_iter=3, random_state=0), skip=skip)
    return model.fit(X, Y), X, torch.from_numpy(X)


@each_case("skip", [False, True])
@each_case("autoencoder", [SparseAutoencoder, JumpReLUSAE])
def test_transcoders_of_saelens(autoencoder, skip, X, tmp_path):
    sae_lens = pytest.importorskip("sae_lens")
    model, X, rows = transcoder(X, autoencoder, skip=skip, n_targets=7)
    theirs = sae_lens.SAE.load_from_disk(write_saelens(tmp_path, model))
    with torch.no_grad():
        assert_same(model, X, theirs.encode(rows).numpy(), theirs(rows).numpy())


@pytest.mark.parametrize("skip", [False, True])
def test_transcoders_of_sparsify(skip, X, tmp_path):
    sparsify = pytest.importorskip("sparsify")
    model, X, rows = transcoder(X, TopKSAE, skip=skip, n_targets=12)
    theirs = sparsify.SparseCoder.load_from_disk(write_sparsify(tmp_path, model))
    with torch.no_grad():
        values, places, _ = theirs.encode(rows)
        codes = torch.zeros(len(X), 64).scatter(1, places, values).numpy()
        assert_same(model, X, codes, theirs(rows, rows).sae_out.numpy())


@each_case("skip", [False, True])
@each_case("autoencoder", [SparseAutoencoder, JumpReLUSAE, BatchTopKSAE])
def test_transcoders_of_circuit_tracer(autoencoder, skip, X, tmp_path):
    library = pytest.importorskip("circuit_tracer.transcoder.single_layer_transcoder")
    model, X, rows = transcoder(X, autoencoder, skip=skip, n_targets=12)
    folder = write_circuit_tracer(tmp_path, [model, model], model="gpt2", site="mlp.hook_in")
    paths = {layer: str(folder / f"layer_{layer}.safetensors") for layer in range(2)}
    hooks = {"feature_input_hook": "mlp.hook_in", "feature_output_hook": "hook_mlp_out"}
    theirs = library.load_transcoder_set(paths, "mine", **hooks, device=torch.device("cpu"))
    with torch.no_grad():
        assert_same(model, X, theirs[1].encode(rows).numpy(), theirs[1](rows).numpy())
