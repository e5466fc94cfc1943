"""Files written by other libraries' own code, and what those compute, written down once more.

`expected.npz` beside each file holds X, features and reconstruction from the library itself; those
of Qwen Scope and Goodfire, which have no library, are made as they describe them. The formulas
below are in float64, so that a reader can be held to more digits than a file has.
"""

import json
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors.numpy import load_file
from sklearn.pipeline import Pipeline

from sksae import Transcoder

GOLDEN = Path(__file__).parents[1] / "golden"
FOLDERS = sorted(path for path in GOLDEN.glob("*/*") if path.is_dir())
REFUSED = {"sparsify/groupmax": "largest of each group"}


def name_of(path):
    return path.relative_to(GOLDEN).as_posix()


READ = [path for path in FOLDERS if name_of(path) not in REFUSED]


# Files that are read themselves; of other formats it is the folder.
FILES = {
    "circuit_tracer": "layer_0.safetensors",
    "goodfire": "Llama-3.1-8B-Instruct-SAE-l19.pth",
    "openai": "autoencoder.pt",
    "qwen_scope": "layer3.sae.pt",
}


def file_of(folder):
    return folder / FILES.get(folder.parent.name, "")


def expected(folder):
    with np.load(folder / "expected.npz") as file:
        return file["X"], file["features"], file["reconstruction"]


def codes_and_reconstruction(model, X):
    """What a user does: one line for an estimator, `restore` behind a normaliser."""
    codes = model.transform(X)
    if isinstance(model, Transcoder):
        return codes, model.predict(X)
    if not isinstance(model, Pipeline):
        return codes, model.inverse_transform(codes)
    return codes, model[0].restore(model[1].inverse_transform(codes), X)


def top_k(h, k):
    kept = np.zeros_like(h)
    order = np.argsort(-h, axis=1)[:, :k]
    np.put_along_axis(kept, order, np.take_along_axis(h, order, 1), 1)
    return kept


def relu(h):
    return np.maximum(h, 0)


def _numbers(tensors):
    return {
        n: np.asarray(t, np.float64) for n, t in tensors.items() if not isinstance(t, str | dict)
    }


def _layer_norm(X):
    mean, std = X.mean(1, keepdims=True), X.std(1, ddof=1, keepdims=True)
    return (X - mean) / (std + 1e-5), lambda Y: Y * std + mean


def saelens(folder, X):
    w = _numbers(load_file(folder / "sae_weights.safetensors"))
    cfg = json.loads((folder / "cfg.json").read_text())
    u, undo = X, lambda Y: Y
    if cfg["normalize_activations"] == "layer_norm":
        u, undo = _layer_norm(X)
    elif cfg["normalize_activations"] == "constant_norm_rescale":
        a = np.sqrt(X.shape[1]) / np.linalg.norm(X, axis=1, keepdims=True)
        u, undo = a * X, lambda Y: Y / a
    u = u - w["b_dec"] if cfg["apply_b_dec_to_input"] else u
    decoder = w["W_dec"]
    if cfg["architecture"] == "gated":
        a = u @ w["W_enc"]
        f = (a + w["b_gate"] > 0) * relu(a * np.exp(w["r_mag"]) + w["b_mag"])
    else:
        h = u @ w["W_enc"] + w["b_enc"]
        f = relu(h)
        if cfg["architecture"].startswith("jumprelu"):
            f = f * (h > w["threshold"])
        elif cfg["architecture"] == "topk":
            if cfg["rescale_acts_by_decoder_norm"]:
                norms = np.linalg.norm(decoder, axis=1)
                h, decoder = h * norms, decoder / norms[:, None]
            f = relu(top_k(h, cfg["k"]))
    return f, undo(f @ decoder + w["b_dec"] + (X @ w["W_skip"].T if "W_skip" in w else 0))


def gemma_scope(folder, X):
    with np.load(folder / "params.npz") as file:
        w = _numbers(dict(file))
    h = X @ w["W_enc"] + w["b_enc"]
    f = relu(h) * (h > w["threshold"])
    return f, f @ w["W_dec"] + w["b_dec"]


def dictionary_learning(folder, X):
    w = _numbers(torch.load(folder / "ae.pt", weights_only=True))
    kind = json.loads((folder / "config.json").read_text())["trainer"]["dict_class"]
    if kind == "GatedAutoEncoder":
        a = (X - w["decoder_bias"]) @ w["encoder.weight"].T
        f = (a + w["gate_bias"] > 0) * relu(np.exp(w["r_mag"]) * a + w["mag_bias"])
        return f, f @ w["decoder.weight"].T + w["decoder_bias"]
    encoder = w["W_enc"] if "W_enc" in w else w["encoder.weight"].T
    decoder = w["W_dec"] if "W_dec" in w else w["decoder.weight"].T
    bias = w["b_enc"] if "b_enc" in w else w["encoder.bias"]
    last = next(w[name] for name in ("b_dec", "bias", "decoder.bias") if name in w)
    subtracted = 0 if kind in ("AutoEncoderNew", "JumpReluAutoEncoder") else last
    h = (X - subtracted) @ encoder + bias
    if kind == "AutoEncoderTopK":
        f = top_k(relu(h), int(w["k"]))
    else:
        f = relu(h) * (relu(h) > w.get("threshold", -1))
    return f, f @ decoder + last


def sparsify(folder, X):
    w = _numbers(load_file(folder / "sae.safetensors"))
    cfg = json.loads((folder / "cfg.json").read_text())
    u = X if cfg["transcode"] else X - w["b_dec"]
    f = top_k(relu(u @ w["encoder.weight"].T + w["encoder.bias"]), cfg["k"])
    return f, f @ w["W_dec"] + w["b_dec"] + (X @ w["W_skip"].T if "W_skip" in w else 0)


def openai(folder, X):
    content = torch.load(folder / "autoencoder.pt", weights_only=True)
    w = {n: t.double().numpy() for n, t in content.items() if isinstance(t, torch.Tensor)}
    u, undo = X, lambda Y: Y
    if content["activation"] == "TopK":
        u, undo = _layer_norm(X)
    h = (u - w["pre_bias"]) @ w["encoder.weight"].T + w["latent_bias"]
    state = content["activation_state_dict"]
    f = relu(top_k(h, state["k"]) if "k" in state else h)
    return f, undo(f @ w["decoder.weight"].T + w["pre_bias"])


def circuit_tracer(folder, X):
    w = _numbers(load_file(folder / "layer_0.safetensors"))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    h = X @ w["W_enc"].T + w["b_enc"]
    f = relu(top_k(h, config["k"]) if config.get("activation") == "topk" else h)
    f = f * (h > w.get("activation_function.threshold", 0))
    return f, f @ w["W_dec"] + w["b_dec"] + (X @ w["W_skip"].T if "W_skip" in w else 0)


def qwen_scope(folder, X):
    w = _numbers(torch.load(folder / "layer3.sae.pt", weights_only=True))
    f = relu(top_k(X @ w["W_enc"].T + w["b_enc"], int(folder.name.rpartition("_")[2])))
    return f, f @ w["W_dec"].T + w["b_dec"]


def goodfire(folder, X):
    w = _numbers(torch.load(folder / FILES["goodfire"], weights_only=True))
    f = relu(X @ w["encoder_linear.weight"].T + w["encoder_linear.bias"])
    return f, f @ w["decoder_linear.weight"].T + w["decoder_linear.bias"]


def sentence_transformers(folder, X):
    w = _numbers(load_file(folder / "model.safetensors"))
    config = json.loads((folder / "config.json").read_text())
    u, undo = _layer_norm(X) if config["normalize"] else (X, lambda Y: Y)
    encoder = w["decoder.linear.weight"]
    f = relu(top_k((u - w["pre_bias"]) @ encoder.T + w["latent_bias"], config["k"]))
    return f, undo(f @ encoder + w["pre_bias"])


FORMULAS = {
    "circuit_tracer": circuit_tracer,
    "goodfire": goodfire,
    "qwen_scope": qwen_scope,
    "sentence_transformers": sentence_transformers,
    "saelens": saelens,
    "gemma_scope": gemma_scope,
    "dictionary_learning": dictionary_learning,
    "sparsify": sparsify,
    "openai": openai,
}
