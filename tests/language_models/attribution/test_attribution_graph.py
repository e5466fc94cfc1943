"""Attribution graphs: exact direct effects, in graphs small enough to know each of them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sksae import TopKSAE, Transcoder
from sksae.autoencoders import fitted
from sksae.language_models import attribution_graph
from tests.language_models.families import build
from tests.language_models.frozen_models import WrittenOut

PROMPT = [0, 9, 30, 7, 44, 12]  # 0 is a special token
N_LAYERS, WIDTH, N_FEATURES = 3, 16, 12
SITES = {
    "gpt2": "h.{layer}.mlp.input",
    "llama": "resid_mid",
    "gemma2": "layers.{layer}.mlp.input",
}


def transcoders_for(skip, seed=0):
    """Random transcoders of three layers."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    made = []
    for _ in range(N_LAYERS):
        weights = {
            "encoder_coef": normal(N_FEATURES, WIDTH),
            "encoder_intercept": normal(N_FEATURES),
            "components": normal(N_FEATURES, WIDTH),
            "intercept": normal(WIDTH),
        }
        if skip:
            weights["skip_coef"] = normal(WIDTH, WIDTH) / 4
        made.append(fitted(Transcoder(TopKSAE(N_FEATURES, k=4), skip=skip), weights))
    return made


def traced(kind, skip, bpe, **options):
    """A model, transcoders and the graph of the prompt."""
    model = build(kind, head=True)
    transcoders = transcoders_for(skip)
    options = {"batch_size": 5, "max_logits": 3, "tokenizer": bpe, **options}
    graph = attribution_graph(model, SITES[kind], transcoders, PROMPT, **options)
    return SimpleNamespace(model=model, transcoders=transcoders, graph=graph)


CASES = (("gpt2", False), ("llama", True), ("gemma2", False))


@pytest.fixture(scope="module", params=CASES, ids=[kind for kind, _ in CASES])
def case(request, bpe):
    kind, skip = request.param
    made = traced(kind, skip, bpe)
    made.kind = kind
    return made


def written_by_nodes(graph, transcoders, reads, added, embeddings):
    """What each node writes, (n_nodes, width); logits write nothing."""
    vectors = torch.zeros(len(graph), WIDTH)
    for s, kind in enumerate(graph.kind):
        i, t, j = int(graph.layer[s]), int(graph.position[s]), int(graph.feature[s])
        if kind == "token":
            vectors[s] = embeddings[t]
        elif kind != "logit":
            transcoder, row = transcoders[i], reads[i][t : t + 1].numpy()
            code, predicted = transcoder.transform(row)[0], transcoder.predict(row)[0]
            if kind == "feature":
                vectors[s] = torch.from_numpy(code[j] * transcoder.components_[j])
            elif t > 0:  # special tokens have no error
                vectors[s] = added[i][t] - torch.from_numpy(predicted)
    return vectors


def by_hand(kind, model, transcoders, graph):
    """The adjacency matrix by a backward pass per target and a product per edge."""
    written_out = WrittenOut(kind, model, PROMPT)
    added, none = written_out.mlp_outputs(), [None] * N_LAYERS
    reads, _ = written_out.run(written_out.embeddings, added, none)
    reads = [x.detach() for x in reads]
    vectors = written_by_nodes(graph, transcoders, reads, added, written_out.embeddings)
    skips = [getattr(t, "skip_coef_", None) for t in transcoders]
    skips = [None if skip is None else torch.from_numpy(skip) for skip in skips]
    past = [0 if s is None else x @ s.T for s, x in zip(skips, reads, strict=True)]
    leaves = [written_out.embeddings, *(x - p for x, p in zip(added, past, strict=True))]
    leaves = [x.clone().requires_grad_() for x in leaves]
    reads, final = written_out.run(leaves[0], leaves[1:], skips)
    adjacency = np.zeros((len(graph), len(graph)))
    for target in np.flatnonzero((graph.kind == "feature") | (graph.kind == "logit")):
        i, t, j = (int(x[target]) for x in (graph.layer, graph.position, graph.feature))
        if graph.kind[target] == "feature":
            value = reads[i][t] @ torch.from_numpy(transcoders[i].encoder_coef_[j])
        else:
            value = final[t] @ (written_out.head[j] - written_out.head.mean(0))
        gradients = torch.autograd.grad(value, leaves, retain_graph=True, materialize_grads=True)
        for source in np.flatnonzero(graph.kind != "logit"):
            gradient = gradients[int(graph.layer[source]) + 1][int(graph.position[source])]
            adjacency[target, source] = float(gradient @ vectors[source])
    return adjacency


def test_edges_are_those_of_a_plain_loop(case):
    graph = case.graph
    expected = by_hand(case.kind, case.model, case.transcoders, graph)
    np.testing.assert_allclose(graph.adjacency, expected, atol=1e-5 * np.abs(expected).max())


def test_nodes_are_the_active_features_errors_tokens_and_logits(case):
    graph, features = case.graph, case.graph.kind == "feature"
    written_out = WrittenOut(case.kind, case.model, PROMPT)
    reads, _ = written_out.run(written_out.embeddings, written_out.mlp_outputs(), [None] * N_LAYERS)
    codes = np.stack(
        [t.transform(x.detach().numpy()) for t, x in zip(case.transcoders, reads, strict=True)]
    )
    codes[:, 0] = 0  # the special token
    places = np.nonzero(codes)
    for name, expected in zip(("layer", "position", "feature"), places, strict=True):
        np.testing.assert_array_equal(getattr(graph, name)[features], expected)
    np.testing.assert_allclose(graph.activation[features], codes[places], rtol=1e-4)
    assert graph.n_active == features.sum() == len(places[0])
    n_tokens = len(PROMPT)
    counts = [(graph.kind == kind).sum() for kind in ("error", "token", "logit")]
    assert counts[:2] == [N_LAYERS * n_tokens, n_tokens]
    np.testing.assert_array_equal(graph.feature[graph.kind == "token"], PROMPT)
    with torch.no_grad():
        logits = case.model(torch.tensor([PROMPT])).logits[0, -1]
    probabilities, ids = logits.softmax(-1).topk(3)
    n = min(3, int((probabilities.cumsum(0) < 0.95).sum()) + 1)
    np.testing.assert_array_equal(graph.feature[graph.kind == "logit"], ids[:n])
    np.testing.assert_allclose(graph.logit_probabilities, probabilities[:n], rtol=1e-4)


def test_edges_and_bias_sum_to_what_a_node_is(case):
    graph = case.graph
    values = graph.adjacency.sum(1) + graph.bias
    features = graph.kind == "feature"
    np.testing.assert_allclose(values[features], graph.activation[features], rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        logits = case.model(torch.tensor([PROMPT])).logits[0, -1]
    if case.kind == "gemma2":
        cap = case.model.config.final_logit_softcapping
        logits = cap * torch.atanh(logits / cap)
    chosen = logits[torch.from_numpy(graph.feature[graph.kind == "logit"])] - logits.mean()
    np.testing.assert_allclose(values[graph.kind == "logit"], chosen, rtol=1e-3, atol=1e-4)
