"""Every file of another library computes here what it computes there."""

import pickle
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline

from sksae import (
    BatchTopKSAE,
    GatedSAE,
    JumpReLUSAE,
    MatryoshkaSAE,
    SparseAutoencoder,
    TopKSAE,
    Transcoder,
)
from sksae.formats import read, read_dictionary_learning, read_gemma_scope
from tests.cases import each_case
from tests.formats.golden_files import (
    FOLDERS,
    FORMULAS,
    GOLDEN,
    READ,
    REFUSED,
    codes_and_reconstruction,
    expected,
    file_of,
    name_of,
)

CLASSES = {
    "relu": SparseAutoencoder,
    "standard": SparseAutoencoder,
    "AutoEncoder": SparseAutoencoder,
    "topk": TopKSAE,
    "normalize": TopKSAE,
    "SAE-Res-Qwen3": TopKSAE,
    "AutoEncoderTopK": TopKSAE,
    "jumprelu": JumpReLUSAE,
    "params": JumpReLUSAE,
    "JumpReluAutoEncoder": JumpReLUSAE,
    "gated": GatedSAE,
    "GatedAutoEncoder": GatedSAE,
    "batchtopk": BatchTopKSAE,
    "matryoshka": MatryoshkaSAE,
    "BatchTopKSAE": BatchTopKSAE,
    "MatryoshkaBatchTopKSAE": MatryoshkaSAE,
    "transcoder": Transcoder,
    "skip_transcoder": Transcoder,
    "jumprelu_transcoder": Transcoder,
    "skip": Transcoder,
    "transcode": Transcoder,
}
BIN = "pytorch_model.bin"
TRANSCODERS = ("circuit_tracer",)  # formats of nothing else

each_golden = pytest.mark.parametrize("folder", READ, ids=name_of)


def targets_of(model, X):
    """Nothing, or what a transcoder is asked to predict: other rows, of its width."""
    if not isinstance(model, Transcoder):
        return []
    return [np.sin(X @ np.ones((16, len(model.intercept_)), np.float32))]


def settings_of(model):
    """The estimator that has the parameters of training."""
    return model.estimator if isinstance(model, Transcoder) else model


def autoencoder_of(model):
    return model[-1] if isinstance(model, Pipeline) else model


def test_all_files_are_tested():
    assert len(FOLDERS) == 38
    assert set(REFUSED) <= {name_of(folder) for folder in FOLDERS}


@each_golden
def test_codes_and_reconstructions_are_those_of_the_library(folder):
    X, features, reconstruction = expected(folder)
    codes, rows = codes_and_reconstruction(read(file_of(folder)), X)
    assert codes.dtype == np.float32
    assert_array_equal(codes != 0, features != 0)
    assert_allclose(codes, features, rtol=1e-5, atol=1e-5)
    assert_allclose(rows, reconstruction, rtol=1e-5, atol=1e-5)


@each_golden
def test_the_formulas_hold_in_double_precision(folder):
    X = expected(folder)[0].astype(np.float64)
    codes, rows = codes_and_reconstruction(read(file_of(folder), dtype="float64"), X)
    features, reconstruction = FORMULAS[folder.parent.name](folder, X)
    assert codes.dtype == np.float64
    assert_array_equal(codes != 0, features != 0)
    assert_allclose(codes, features, rtol=1e-12, atol=1e-12)
    assert_allclose(rows, reconstruction, rtol=1e-12, atol=1e-12)


@each_golden
def test_the_class_tells_the_activation(folder):
    model = autoencoder_of(read(file_of(folder)))
    known = sorted((name for name in CLASSES if folder.name.startswith(name)), key=len)
    expected = Transcoder if folder.parent.name in TRANSCODERS else CLASSES[known[-1]]
    assert type(model) is expected
    assert model.source_["format"] == folder.parent.name


@each_golden
def test_it_is_an_estimator_like_any_other(folder):
    model = read(file_of(folder))
    X = expected(folder)[0]
    codes = model.transform(X)
    assert_array_equal(pickle.loads(pickle.dumps(model)).transform(X), codes)
    names = list(model.get_feature_names_out())
    assert len(names) == len(set(names)) == codes.shape[1] == 64
    autoencoder_of(model).set_output(transform="pandas")
    frame = model.transform(X)
    assert list(frame.columns) == names
    assert model.n_features_in_ == 16
    assert np.isfinite(model.score(X, *targets_of(model, X)))
    with pytest.raises(ValueError, match="features"):
        model.transform(X[:, :5])
    with pytest.raises(NotFittedError):
        autoencoder_of(clone(model)).transform(X)


@each_golden
def test_a_fit_learns_anew_with_the_same_width(folder):
    model = autoencoder_of(read(file_of(folder)))
    X = np.random.default_rng(0).normal(size=(100, 16)).astype(np.float32)
    before, targets = model.components_.copy(), targets_of(model, X)
    settings_of(model).set_params(max_iter=2, random_state=0)
    model.fit(X, *targets)
    fresh = clone(model).fit(X, *targets)
    assert_array_equal(model.components_, fresh.components_)
    assert model.components_.shape == before.shape
    assert not np.allclose(model.components_, before)
    assert (model.n_iter_, len(model.loss_curve_)) == (2, 2)


@each_golden
def test_sparse_codes_are_the_same(folder):
    model, X = read(file_of(folder)), expected(folder)[0]
    dense = model.transform(X)
    settings_of(autoencoder_of(model)).set_params(sparse_output=True)
    assert_allclose(model.transform(X).toarray(), dense, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_estimator_computes_is_refused(name):
    with pytest.raises(ValueError, match=REFUSED[name]):
        read(GOLDEN / name)


def test_rows_normalised_one_by_one_have_no_inverse():
    """Codes do not tell the size of a row; nothing pretends that they do."""
    model = read(GOLDEN / "openai/topk/autoencoder.pt")
    assert not hasattr(model, "inverse_transform")


def test_gemma_scope_tells_by_its_path_where_it_is_from(tmp_path):
    folder = tmp_path / "gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71"
    shutil.copytree(GOLDEN / "gemma_scope/params", folder)
    assert read(folder).source_ == {
        "format": "gemma_scope",
        "hook_name": "blocks.20.hook_resid_post",
        "layer": 20,
        "site": "resid_post",
        "model": "gemma-2-2b-pt",
        "l0": 71.0,
    }
    assert read_gemma_scope(folder / "params.npz").source_ == read(folder).source_


def test_openai_tells_by_its_path_where_it_is_from(tmp_path):
    file = tmp_path / "gpt2-small/resid_post_attn_v5_32k/autoencoders/8.pt"
    file.parent.mkdir(parents=True)
    shutil.copy(GOLDEN / "openai/topk/autoencoder.pt", file)
    assert read(file)[-1].source_ == {
        "format": "openai",
        "model": "gpt2-small",
        "layer": 8,
        "site": "resid_mid",
    }


def test_sparsify_tells_by_its_folder_where_it_is_from(tmp_path):
    for name, site in [("layers.5", "resid_post"), ("layers.5.mlp", "mlp_out")]:
        shutil.copytree(GOLDEN / "sparsify/topk", tmp_path / name)
        source = read(tmp_path / name).source_
        assert (source["layer"], source["site"], source["module"]) == (5, site, name)


def test_a_transcoder_of_sparsify_reads_what_enters_a_module(tmp_path):
    shutil.copytree(GOLDEN / "sparsify/transcode", tmp_path / "layers.5.mlp")
    source = read(tmp_path / "layers.5.mlp").source_
    assert (source["module"], source["module_out"]) == ("layers.5.mlp.input", "layers.5.mlp")
    assert source["layer"] == 5
    assert "site" not in source


def test_plain_files_tell_by_their_names_where_they_are_from(tmp_path):
    qwen = GOLDEN / "qwen_scope/SAE-Res-Qwen3-1.7B-Base-W64-L0_4/layer3.sae.pt"
    facts = {"model": "Qwen/Qwen3-1.7B-Base", "layer": 3, "site": "resid_post"}
    assert read(qwen).source_ == {"format": "qwen_scope", **facts}
    # In the cache of the hub two folders lie between.
    cached = (
        tmp_path / "models--Qwen--SAE-Res-Qwen3-8B-Base-W64K-L0_50/snapshots/abc/layer20.sae.pt"
    )
    cached.parent.mkdir(parents=True)
    shutil.copy(qwen, cached)
    assert (read(cached).k_, read(cached).source_["model"]) == (50, "Qwen/Qwen3-8B-Base")
    assert read(cached, k=3).k_ == 3
    shutil.copy(qwen, tmp_path / "layer3.sae.pt")
    with pytest.raises(ValueError, match="how many codes a row has: give k="):
        read(tmp_path / "layer3.sae.pt")
    with pytest.raises(ValueError, match=r"has autoencoders in layer3\.sae\.pt: name one of them"):
        read(tmp_path)
    llama = read(file_of(GOLDEN / "goodfire/relu")).source_
    facts = {"model": "meta-llama/Llama-3.1-8B-Instruct", "layer": 19, "site": "resid_post"}
    assert llama == {"format": "goodfire", **facts}


def test_a_module_is_found_in_its_sparse_encoder(tmp_path):
    """By the folder of the whole model, whose own configuration is the transformer's."""
    shutil.copytree(GOLDEN / "sentence_transformers/topk", tmp_path / "2_SparseAutoEncoder")
    (tmp_path / "modules.json").write_text("[]")
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    X, features, _ = expected(GOLDEN / "sentence_transformers/topk")
    for path in (tmp_path, tmp_path / "2_SparseAutoEncoder"):
        assert_allclose(read(path).transform(X), features, rtol=1e-5, atol=1e-5)


def test_one_matrix_under_two_names(tmp_path):
    """A file of torch.save has encoder and decoder, which have to be the same."""
    folder = tmp_path / "module"
    shutil.copytree(GOLDEN / "sentence_transformers/topk", folder)
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save({**weights, "encoder.weight": weights["decoder.linear.weight"]}, folder / BIN)
    X, features, _ = expected(GOLDEN / "sentence_transformers/topk")
    assert_allclose(read(folder).transform(X), features, rtol=1e-5, atol=1e-5)
    torch.save({**weights, "encoder.weight": torch.zeros(64, 16)}, folder / BIN)
    with pytest.raises(ValueError, match="decoder is not the transposed encoder"):
        read(folder)
    del weights["decoder.linear.weight"]
    torch.save(weights, folder / BIN)
    with pytest.raises(ValueError, match=r"it has no encoder\.weight"):
        read(folder)


def test_a_format_can_be_named():
    folder = GOLDEN / "dictionary_learning/AutoEncoderNew"
    named = read(folder, format="dictionary_learning", dtype="float64")
    assert named.components_.dtype == np.float64
    assert_array_equal(named.components_, read_dictionary_learning(folder).components_)
    with pytest.raises(ValueError, match="format must be one of 'auto'"):
        read(folder, format="pickle")


def test_what_is_not_recognised_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing at"):
        read(tmp_path / "absent")
    with pytest.raises(ValueError, match="no format that can be recognised"):
        read(tmp_path)
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="no format that can be recognised"):
        read(tmp_path / "weights.bin")


@each_case(
    "name, autoencoder, skip",
    [
        ("saelens/transcoder", SparseAutoencoder, False),
        ("saelens/skip_transcoder", SparseAutoencoder, True),
        ("saelens/jumprelu_transcoder", JumpReLUSAE, False),
        ("sparsify/skip", TopKSAE, True),
        ("sparsify/transcode", TopKSAE, False),
        ("circuit_tracer/relu", SparseAutoencoder, False),
        ("circuit_tracer/jumprelu", JumpReLUSAE, False),
        ("circuit_tracer/topk", TopKSAE, False),
        ("circuit_tracer/skip", SparseAutoencoder, True),
    ],
)
def test_the_parameters_of_transcoders(name, autoencoder, skip):
    model = read(file_of(GOLDEN / name))
    assert (type(model.estimator), model.skip) == (autoencoder, skip)
    assert hasattr(model, "skip_coef_") == skip


@pytest.mark.parametrize(
    "name", ["saelens/matryoshka_batchtopk", "dictionary_learning/MatryoshkaBatchTopKSAE"]
)
def test_nested_dictionaries_keep_their_widths(name):
    model = read(GOLDEN / name)
    assert type(model) is MatryoshkaSAE
    assert model.k_ == 5
    assert model.widths_ == (16, 32, 64)
    X = expected(GOLDEN / name)[0]
    first = model.prefix(16)
    assert_allclose(first.transform(X), model.transform(X)[:, :16], rtol=1e-5, atol=1e-6)
