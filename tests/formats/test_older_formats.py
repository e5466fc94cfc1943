"""SAELens before version 6, Llama Scope and OpenMOSS, Gemma Scope 2: by their formulas."""

import json

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.numpy import save_file

from sksae import JumpReLUSAE, SparseAutoencoder, TopKSAE, Transcoder
from sksae.autoencoders import fitted
from sksae.formats import read, read_llama_scope, read_saelens
from sksae.formats._raw_units import center_rows

N, D = 12, 5


def relu(h):
    return np.maximum(h, 0)


def top_k(h, k):
    return np.where(h >= np.sort(h, axis=1)[:, [-k]], h, 0)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def rows(rng):
    return 10 * rng.normal(size=(40, D))


@pytest.fixture
def parts(rng):
    """Encoder and decoder with a row a latent, and the biases; float64."""
    return {
        "E": rng.normal(size=(N, D)),
        "W": rng.normal(size=(N, D)) * rng.uniform(0.5, 3, size=(N, 1)),
        "b": rng.normal(size=N),
        "c": rng.normal(size=D),
    }


def store(folder, weights, name, config, config_name):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    weights = {key: np.array(value, order="C") for key, value in weights.items()}
    save_file(weights, folder / name)
    (folder / config_name).write_text(json.dumps(config))
    return folder


def saelens(folder, parts, more=None, **config):
    weights = {"W_enc": parts["E"].T, "W_dec": parts["W"], "b_enc": parts["b"], "b_dec": parts["c"]}
    config = {"d_in": D, "d_sae": N, "dtype": "float64", **config}
    return store(folder, {**weights, **(more or {})}, "sae_weights.safetensors", config, "cfg.json")


def test_saelens_before_6(tmp_path, parts, rows):
    folder = saelens(
        tmp_path,
        parts,
        hook_point="blocks.2.hook_mlp_out",
        activation_fn_str="topk",
        activation_fn_kwargs={"k": 3},
        model_name="gpt2-small",
        normalize_activations=False,
    )
    model = read(folder)
    assert (type(model), model.k_) == (TopKSAE, 3)
    source = model.source_
    assert (source["hook_name"], source["layer"], source["site"], source["model"]) == (
        "blocks.2.hook_mlp_out",
        2,
        "mlp_out",
        "gpt2-small",
    )
    h = (rows - parts["c"]) @ parts["E"].T + parts["b"]
    assert_allclose(model.transform(rows), relu(top_k(h, 3)), rtol=1e-12, atol=1e-12)


def test_saelens_finetuned_scale_is_part_of_the_dictionary(tmp_path, parts, rows, rng):
    scale = rng.uniform(0.5, 2, size=N)
    model = read(saelens(tmp_path, parts, {"scaling_factor": scale}))
    f = relu((rows - parts["c"]) @ parts["E"].T + parts["b"])
    assert type(model) is SparseAutoencoder
    assert_allclose(model.transform(rows), f, rtol=1e-12, atol=1e-12)
    expected = (f * scale) @ parts["W"] + parts["c"]
    assert_allclose(model.inverse_transform(f), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("value", ["expected_average_only_in", True])
def test_saelens_scale_that_is_not_in_the_files(tmp_path, parts, rows, value):
    folder = saelens(tmp_path, parts, normalize_activations=value)
    with pytest.raises(ValueError, match="give it as input_scale"):
        read(folder)
    s = 0.25
    model = read_saelens(folder, input_scale=s)
    f = relu((s * rows - parts["c"]) @ parts["E"].T + parts["b"])
    assert_allclose(model.transform(rows), f, rtol=1e-12, atol=1e-12)
    expected = (f @ parts["W"] + parts["c"]) / s
    assert_allclose(model.inverse_transform(f), expected, rtol=1e-12, atol=1e-12)


def test_saelens_scale_that_is_not_asked_for(tmp_path, parts):
    folder = saelens(tmp_path, parts)
    with pytest.raises(ValueError, match="leave input_scale out"):
        read_saelens(folder, input_scale=2.0)
    with pytest.raises(ValueError, match="input_scale must be a float > 0"):
        read_saelens(folder, input_scale=0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architecture": "temporal"}, "no estimator here computes"),
        ({"architecture": "batchtopk"}, "checkpoint of training"),
        ({"architecture": "topk"}, "has no 'k'"),
        ({"architecture": "topk", "k": 0}, "'k' in .* must be an int >= 1"),
        ({"activation_fn": "tanh-relu"}, "tanh-relu"),
        ({"normalize_activations": "covariance_whitening"}, "covariance_whitening"),
        ({"d_in": D + 1}, r"W_enc has shape \(5, 12\), not \(6, 12\)"),
        ({"d_sae": "12"}, "'d_sae' in .* must be an int"),
    ],
)
def test_saelens_that_cannot_be_read(tmp_path, parts, config, message):
    with pytest.raises(ValueError, match=message):
        read(saelens(tmp_path, parts, **config))


@pytest.mark.parametrize("by_norm", [False, True])
def test_llama_scope_takes_all_three_steps(tmp_path, parts, rows, by_norm):
    norm_in, norm_out, threshold = 8.0, 11.0, 0.4
    config = {
        "d_model": D,
        "d_sae": N,
        "jump_relu_threshold": threshold,
        "dataset_average_activation_norm": {"in": norm_in, "out": norm_out},
        "norm_activation": "dataset-wise",
        "sparsity_include_decoder_norm": by_norm,
        "hook_point_in": "blocks.1.hook_resid_post",
        "hook_point_out": "blocks.1.hook_resid_post",
    }
    weights = {
        "encoder.weight": parts["E"],
        "encoder.bias": parts["b"],
        "decoder.weight": parts["W"].T,
        "decoder.bias": parts["c"],
    }
    folder = store(tmp_path, weights, "checkpoints/final.safetensors", config, "hyperparams.json")
    s_in, s_out = np.sqrt(D) / norm_in, np.sqrt(D) / norm_out
    bias, decoder, intercept = parts["b"] / s_in, parts["W"] * s_in / s_out, parts["c"] / s_out
    v = np.linalg.norm(decoder, axis=1) if by_norm else np.ones(N)
    h = rows @ (parts["E"] * v[:, None]).T + bias * v
    f = h * (h > threshold)
    model = read(folder)
    assert type(model) is JumpReLUSAE
    assert model.source_["layer"] == 1
    assert_allclose(model.transform(rows), f, rtol=1e-12, atol=1e-12)
    expected = f @ (decoder / v[:, None]) + intercept
    assert_allclose(model.inverse_transform(f), expected, rtol=1e-12, atol=1e-11)
    store(
        tmp_path,
        weights,
        "checkpoints/final.safetensors",
        {**config, "hook_point_out": "blocks.1.hook_mlp_out"},
        "hyperparams.json",
    )
    transcoder = read(folder)
    assert type(transcoder) is Transcoder
    assert transcoder.source_["hook_name_out"] == "blocks.1.hook_mlp_out"
    assert_allclose(transcoder.transform(rows), f, rtol=1e-12, atol=1e-12)
    assert_allclose(transcoder.predict(rows), expected, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("act", ["relu", "topk", "jumprelu"])
@pytest.mark.parametrize("by_norm", [False, True])
@pytest.mark.parametrize("method", ["dataset-wise", "inference"])
def test_openmoss(tmp_path, parts, rows, rng, act, by_norm, method):
    hook, mean_norm = "blocks.1.hook_resid_post", 9.0
    weights = {
        "W_E": parts["E"].T,
        "b_E": parts["b"],
        "W_D": parts["W"],
        "b_D": parts["c"],
        f"dataset_average_activation_norm.{hook}": np.array(mean_norm),
    }
    logs = rng.normal(size=N)
    if act == "jumprelu":
        weights["activation_function.log_jumprelu_threshold"] = logs
    config = {
        "sae_type": "sae",
        "d_model": D,
        "expansion_factor": N / D,
        "act_fn": act,
        "top_k": 3,
        "norm_activation": method,
        "sparsity_include_decoder_norm": by_norm,
        "hook_point_in": hook,
        "hook_point_out": hook,
    }
    model = read(store(tmp_path, weights, "sae_weights.safetensors", config, "config.json"))
    s = np.sqrt(D) / mean_norm if method == "dataset-wise" else 1.0
    v = np.linalg.norm(parts["W"], axis=1) if by_norm else np.ones(N)
    h = (s * rows @ parts["E"].T + parts["b"]) * v
    active = {
        "relu": relu(h),
        "topk": relu(top_k(h, 3)),
        "jumprelu": h * (h > np.exp(logs)),
    }[act]
    codes, unit = active / v, v if act == "topk" else 1.0  # ours by the norm, as documented
    assert_allclose(model.transform(rows), codes * unit, rtol=1e-12, atol=1e-12)
    expected = (codes @ parts["W"] + parts["c"]) / s
    assert_allclose(model.inverse_transform(codes * unit), expected, rtol=1e-11, atol=1e-11)

    weights["dataset_average_activation_norm.out"] = np.array(5.0)
    config["hook_point_out"] = "out"
    model = read(store(tmp_path, weights, "sae_weights.safetensors", config, "config.json"))
    assert type(model) is Transcoder
    s_out = np.sqrt(D) / 5.0 if method == "dataset-wise" else 1.0
    expected = (codes @ parts["W"] + parts["c"]) / s_out
    assert_allclose(model.predict(rows), expected, rtol=1e-11, atol=1e-11)


def test_llama_scope_r1_distill_needs_a_scale(tmp_path, parts, rows, rng):
    logs = rng.normal(size=N)
    weights = {
        "encoder.weight": parts["E"],
        "encoder.bias": parts["b"],
        "decoder.weight": parts["W"].T,
        "decoder.bias": parts["c"],
        "log_jumprelu_threshold": logs,
    }
    config = {"d_model": D, "expansion_factor": N / D, "hook_point_in": "blocks.1.hook_resid_post"}
    folder = store(tmp_path, weights, "sae_weights.safetensors", config, "config.json")
    with pytest.raises(ValueError, match="give input_scale"):
        read(folder)
    s = 0.3
    model = read_llama_scope(folder, input_scale=s)
    h = s * rows @ parts["E"].T + parts["b"]
    f = relu(h) * (h > np.exp(logs))
    assert_allclose(model.transform(rows), f, rtol=1e-12, atol=1e-12)
    expected = (f @ parts["W"] + parts["c"]) / s
    assert_allclose(model.inverse_transform(f), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"sae_type": "crosscoder"}, "sae_type 'crosscoder'"),
        ({"use_glu_encoder": True}, "gated linear encoder"),
        ({"act_fn": "batchtopk"}, "'act_fn' in .* must be one of"),
        ({"hook_point_in": "a", "hook_point_out": "b"}, "mean norm of rows"),
        ({"norm_activation": "token-wise"}, "token-wise"),
    ],
)
def test_openmoss_that_cannot_be_read(tmp_path, parts, config, message):
    weights = {"W_E": parts["E"].T, "b_E": parts["b"], "W_D": parts["W"], "b_D": parts["c"]}
    config = {"d_model": D, "expansion_factor": N / D, "act_fn": "relu", **config}
    with pytest.raises(ValueError, match=message):
        read(store(tmp_path, weights, "sae_weights.safetensors", config, "config.json"))


def gemma_scope_2(folder, parts, more=None, **config):
    weights = {"w_enc": parts["E"].T, "w_dec": parts["W"], "b_enc": parts["b"], "b_dec": parts["c"]}
    weights = {**weights, "threshold": np.full(N, 0.5), **(more or {})}
    hooks = {
        "hf_hook_point_in": "model.layers.3.output",
        "hf_hook_point_out": "model.layers.3.output",
    }
    config = {"architecture": "jump_relu", "model_name": "gemma-3-1b-pt", **hooks, **config}
    return store(folder, weights, "params.safetensors", config, "config.json")


def test_gemma_scope_2(tmp_path, parts, rows):
    model = read(gemma_scope_2(tmp_path, parts))
    h = rows @ parts["E"].T + parts["b"]
    assert_allclose(model.transform(rows), h * (h > 0.5), rtol=1e-12, atol=1e-12)
    assert_array_equal(model.components_, parts["W"])
    assert model.source_["model"] == "gemma-3-1b-pt"


def test_gemma_scope_2_transcoders(tmp_path, parts, rows):
    h = rows @ parts["E"].T + parts["b"]
    codes = h * (h > 0.5)
    other = {"hf_hook_point_out": "model.layers.3.mlp.output"}
    plain = read(gemma_scope_2(tmp_path / "a", parts, **other))
    assert plain.source_["hook_name_out"] == "model.layers.3.mlp.output"
    expected = codes @ parts["W"] + parts["c"]
    assert_allclose(plain.predict(rows), expected, rtol=1e-12, atol=1e-12)
    skip = np.random.default_rng(5).normal(size=(D, D))
    skipping = read(gemma_scope_2(tmp_path / "b", parts, {"affine_skip_connection": skip}, **other))
    assert_allclose(skipping.transform(rows), codes, rtol=1e-12, atol=1e-12)
    assert_allclose(skipping.predict(rows), expected + rows @ skip, rtol=1e-12, atol=1e-12)
    wide = {"w_dec": np.ones((N, D + 1)), "b_dec": np.zeros(D + 1)}
    assert read(gemma_scope_2(tmp_path / "d", parts, wide)).predict(rows).shape[1] == D + 1
    with pytest.raises(ValueError, match="w_dec has shape"):
        read(gemma_scope_2(tmp_path / "c", parts, {"w_dec": np.zeros((N, 2, D))}))


def test_openmoss_in_a_torch_file(tmp_path, parts, rows):
    weights = {"W_E": parts["E"].T, "b_E": parts["b"], "W_D": parts["W"], "b_D": parts["c"]}
    tensors = {name: torch.from_numpy(np.ascontiguousarray(w)) for name, w in weights.items()}
    torch.save({"sae": tensors, "version": "2.0.0"}, tmp_path / "sae_weights.pt")
    config = {"d_model": D, "expansion_factor": N / D, "act_fn": "relu"}
    config["norm_activation"] = "inference"
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = read(tmp_path)
    codes = relu(rows @ parts["E"].T + parts["b"])
    assert_allclose(model.transform(rows), codes, rtol=1e-12, atol=1e-12)
    torch.save({"sae": [1], "version": "2.0.0"}, tmp_path / "sae_weights.pt")
    with pytest.raises(ValueError, match="it has no W_D"):
        read(tmp_path)


def test_saelens_of_a_centred_stream(tmp_path, parts, rows):
    """Rows of the model as it is give the codes that the centred rows had."""
    hook = {"hook_name": "blocks.1.hook_resid_pre"}
    plain = read(saelens(tmp_path / "a", parts, **hook))
    kwargs = {"center_writing_weights": True}
    folded = read(saelens(tmp_path / "b", parts, model_from_pretrained_kwargs=kwargs, **hook))
    centred = rows - rows.mean(1, keepdims=True)
    assert_allclose(folded.transform(rows), plain.transform(centred), rtol=1e-12, atol=1e-12)
    assert_allclose(folded.transform(centred), plain.transform(centred), rtol=1e-12, atol=1e-12)
    assert folded.source_["centered_rows"] is True
    assert "centered_rows" not in plain.source_
    # What has RMSNorm is never centred, whatever TransformerLens was told.
    gemma = {"model_name": "gemma-2-2b", "model_from_pretrained_kwargs": kwargs}
    rms = read(saelens(tmp_path / "d", parts, **gemma, **hook))
    assert_allclose(rms.transform(rows), plain.transform(rows), rtol=1e-12, atol=1e-12)
    skip = np.random.default_rng(6).normal(size=(D, D))
    weights = {"components": parts["W"], "encoder_coef": parts["E"], "skip_coef": skip}
    weights |= {"encoder_intercept": parts["b"], "intercept": parts["c"]}
    skipping = fitted(Transcoder(SparseAutoencoder(N), skip=True), weights)
    expected = skipping.predict(centred)
    center_rows(skipping)
    assert_allclose(skipping.predict(rows), expected, rtol=1e-12, atol=1e-12)
    inside = read(saelens(tmp_path / "c", parts, model_from_pretrained_kwargs=kwargs))
    assert_allclose(inside.transform(rows), plain.transform(rows), rtol=1e-12, atol=1e-12)


def test_gemma_scope_of_the_embedding(tmp_path, parts, rows):
    """Trained on rows of the embedding matrix, read for those that the model makes of them."""
    folder = tmp_path / "gemma-scope-2b-pt-res/embedding/width_4k/average_l0_6"
    folder.mkdir(parents=True)
    weights = {"W_enc": parts["E"].T, "W_dec": parts["W"], "b_enc": parts["b"], "b_dec": parts["c"]}
    np.savez(folder / "params.npz", threshold=np.full(N, 0.5), **weights)
    model = read(folder)
    h = rows @ parts["E"].T + parts["b"]
    codes = h * (h > 0.5)
    assert_allclose(model.transform(np.sqrt(D) * rows), codes, rtol=1e-12, atol=1e-12)
    expected = np.sqrt(D) * (codes @ parts["W"] + parts["c"])
    assert_allclose(model.inverse_transform(codes), expected, rtol=1e-12, atol=1e-12)
    assert model.source_["site"] == "embeddings"
