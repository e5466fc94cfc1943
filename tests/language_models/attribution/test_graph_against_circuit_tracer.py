"""Attribution graphs equal to those of circuit-tracer 0.5.0, which golden files hold."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from sksae import SparseAutoencoder, Transcoder
from sksae.autoencoders import fitted
from sksae.language_models import attribution_graph

GOLDEN = Path(__file__).parents[2] / "golden" / "circuit_tracer"
PROMPT = [0, 9, 30, 7, 44, 12]
COMMON = {"vocab_size": 48, "bos_token_id": 0, "eos_token_id": 0}
GROUPED = {
    **COMMON,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 32,
    "head_dim": 8,
    "pad_token_id": 0,
}
GPT = {**COMMON, "n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 32}
CASES = {
    "gpt2": (GPT, "h.{layer}.mlp.input"),
    "llama": (GROUPED, "resid_mid"),
    "gemma2": ({**GROUPED, "query_pre_attn_scalar": 8}, "layers.{layer}.mlp.input"),
    "gpt2_across": (GPT, "h.{layer}.mlp.input"),  # one cross-layer transcoder
}
NAMES = {
    "W_enc": "encoder_coef",
    "b_enc": "encoder_intercept",
    "W_dec": "components",
    "b_dec": "intercept",
    "W_skip": "skip_coef",
}


def across_layers(arrays):
    """The transcoders of a cross-layer transcoder, which write to their layer and later ones."""
    transcoders = []
    for layer in range(3):
        decoder = arrays[f"transcoders/W_dec.{layer}"]  # (n_features, 3 - layer, width)
        intercept = np.zeros(decoder.shape[1:], decoder.dtype)
        intercept[0] = arrays["transcoders/b_dec"][layer]
        weights = {
            "encoder_coef": arrays["transcoders/W_enc"][layer],
            "encoder_intercept": arrays["transcoders/b_enc"][layer],
            "components": decoder.reshape(len(decoder), -1),
            "intercept": intercept.ravel(),
        }
        transcoders.append(fitted(Transcoder(SparseAutoencoder(12)), weights))
    return transcoders


@pytest.fixture(scope="module", params=CASES)
def golden(request):
    """Arrays of a case, its model, its transcoders and where they read."""
    settings, site = CASES[request.param]
    with np.load(GOLDEN / f"{request.param}.npz") as file:
        arrays = dict(file)
    config = transformers.AutoConfig.for_model(request.param.removesuffix("_across"), **settings)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    state = {
        name.removeprefix("model/"): torch.from_numpy(x).float()
        for name, x in arrays.items()
        if name.startswith("model/")
    }
    model.load_state_dict(state)
    if request.param.endswith("across"):
        return arrays, model, across_layers(arrays), site
    transcoders = []
    for layer in range(3):
        weights = {
            name: arrays[f"transcoders/{layer}.{theirs}"]
            for theirs, name in NAMES.items()
            if f"transcoders/{layer}.{theirs}" in arrays
        }
        skip = "skip_coef" in weights
        transcoders.append(fitted(Transcoder(SparseAutoencoder(12), skip=skip), weights))
    return arrays, model, transcoders, site


@pytest.mark.parametrize(("name", "budget"), [("all", 8192), ("some", 24)])
def test_graph_is_that_of_circuit_tracer(golden, bpe, name, budget):
    arrays, model, transcoders, site = golden
    theirs = {
        key.removeprefix(f"{name}/"): x for key, x in arrays.items() if key.startswith(f"{name}/")
    }
    options = {"max_logits": 3, "max_feature_nodes": budget, "batch_size": 4, "tokenizer": bpe}
    graph = attribution_graph(model, site, transcoders, PROMPT, **options)
    features, logits = graph.kind == "feature", graph.kind == "logit"
    places = np.stack([graph.layer, graph.position, graph.feature], 1)[features]
    np.testing.assert_array_equal(places, theirs["features"])
    np.testing.assert_allclose(
        graph.activation[features], theirs["activation"], rtol=1e-5, atol=1e-5
    )
    np.testing.assert_array_equal(graph.feature[logits], theirs["logits"])
    np.testing.assert_allclose(graph.logit_probabilities, theirs["probabilities"], rtol=1e-4)
    np.testing.assert_allclose(graph.adjacency, theirs["adjacency"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(graph.cumulative_influence, theirs["cumulative"], atol=1e-5)
    np.testing.assert_allclose(list(graph.scores().values()), theirs["scores"], atol=1e-5)
    pruned = graph.prune(0.6, 0.9)
    nodes = theirs["nodes"]
    np.testing.assert_array_equal(pruned.node_ids, np.array(graph.node_ids)[nodes])
    np.testing.assert_array_equal(pruned.adjacency != 0, theirs["edges"][nodes][:, nodes])
