"""Attribution graphs: exact direct effects, in graphs small enough to know each of them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sksae import TopKSAE, Transcoder
from sksae.autoencoders import fitted
from sksae.language_models import attribution_graph, steer
from sksae.language_models.attribution._replacement_model import ReplacementModel
from sksae.language_models.model import find_target
from tests.language_models.families import CAUSAL, PARALLEL, build
from tests.language_models.frozen_models import WrittenOut
from tests.language_models.transcoders import linear_gpt2, neurons, relu_gpt2, skipping

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


@pytest.mark.parametrize("kind", ["gpt2", "gemma2"])
def test_a_graph_of_what_the_weights_of_norms_multiply(kind, bpe):
    """That of what the MLPs read, by encoders into which gain and bias of the norms are folded."""
    model, transcoders = build(kind, head=True), transcoders_for(False)
    folded = []
    for layer, transcoder in enumerate(transcoders):
        path = {"gpt2": "h.{}.ln_2", "gemma2": "layers.{}.pre_feedforward_layernorm"}[kind]
        norm = model.base_model.get_submodule(path.format(layer))
        gain = norm.weight.detach().numpy() + (kind == "gemma2")
        bias = norm.bias.detach().numpy() if kind == "gpt2" else np.zeros_like(gain)
        coef = transcoder.encoder_coef_
        arrays = {
            "encoder_coef": coef * gain,
            "encoder_intercept": transcoder.encoder_intercept_ + coef @ bias,
            "components": transcoder.components_,
            "intercept": transcoder.intercept_,
        }
        folded.append(fitted(Transcoder(TopKSAE(N_FEATURES, k=4)), arrays))
    options = {"max_logits": 3, "tokenizer": bpe}
    hook = "blocks.{layer}.ln2.hook_normalized"
    graphs = [
        attribution_graph(model, site, saes, PROMPT, **options)
        for site, saes in ((SITES[kind], transcoders), (hook, folded))
    ]
    assert (graphs[0].feature == graphs[1].feature).all()
    np.testing.assert_allclose(graphs[0].adjacency, graphs[1].adjacency, rtol=1e-4, atol=1e-3)


@pytest.fixture(scope="module", params=CASES, ids=[kind for kind, _ in CASES])
def case(request, bpe):
    kind, skip = request.param
    made = traced(kind, skip, bpe)
    made.kind, made.skip = kind, skip
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
            adjacency[target, source] = float((gradient @ vectors[source]).detach())
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


def replacement_of(case):
    """The replacement model of the case, from which its graph is made."""
    sites = [(i, "resid_mid") for i in range(N_LAYERS)]
    if "{layer}" in SITES[case.kind]:
        sites = [SITES[case.kind].replace("{layer}", str(i)) for i in range(N_LAYERS)]
    pairs = zip(sites, case.transcoders, strict=True)
    targets = [find_target(case.model, site, transcoder) for site, transcoder in pairs]
    ids = torch.tensor([PROMPT])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return ReplacementModel(case.model, targets, case.transcoders, inputs, ids[0] == 0)


def values_of(case, replacement, inputs):
    """Pre-activations of the features and logits of the graph, from inputs of the model."""
    graph, outputs = case.graph, replacement.outputs([x[None] for x in inputs])
    values = np.full(len(graph), np.nan)
    head = case.model.lm_head.weight.detach()
    norm = case.model.base_model.ln_f if case.kind == "gpt2" else case.model.base_model.norm
    written_out = WrittenOut(case.kind, case.model, PROMPT)
    final = written_out.norm(norm, outputs[-1][0])[-1]
    for n, kind in enumerate(graph.kind):
        i, t, j = int(graph.layer[n]), int(graph.position[n]), int(graph.feature[n])
        if kind == "feature":
            layer = replacement.layers[i]
            values[n] = float(outputs[i][0, t] @ layer.encoder[j] + layer.encoder_intercept[j])
        elif kind == "logit":
            values[n] = float(final @ (head[j] - head.mean(0)))
    return values


def removed(graph):
    """An early feature, an error and a token of the graph, by number."""
    error = np.flatnonzero((graph.kind == "error") & (graph.layer == 0))[3]
    return [3, int(error), int(np.flatnonzero(graph.kind == "token")[2])]


def without(case, replacement, nodes, codes):
    """Inputs of the replacement model with features at `codes` and without some nodes."""
    graph, inputs = case.graph, [x.clone() for x in replacement.inputs()]
    for n, kind in enumerate(graph.kind):
        i, t, j = int(graph.layer[n]), int(graph.position[n]), int(graph.feature[n])
        if kind == "feature":
            step = (0.0 if n in nodes else codes[n]) - float(graph.activation[n])
            inputs[i + 1][t] += step * torch.from_numpy(case.transcoders[i].components_[j])
        elif n in nodes:
            inputs[i + 1][t] -= inputs[0][t] if kind == "token" else replacement.layers[i].error[t]
    return inputs


@torch.no_grad()
def test_removed_nodes_change_their_targets_as_the_graph_says(case):
    graph, replacement = case.graph, replacement_of(case)
    clean = values_of(case, replacement, replacement.inputs())
    known = ~np.isnan(clean)
    for nodes in ([n] for n in removed(graph)):
        inputs = without(case, replacement, nodes, graph.activation)
        change = values_of(case, replacement, inputs) - clean
        expected = graph.predicted_change(nodes, direct=True)
        np.testing.assert_allclose(expected[known], change[known], rtol=1e-3, atol=2e-4)
        assert np.abs(change[known]).max() > 0.05


@torch.no_grad()
def test_features_that_change_change_others(case):
    graph, replacement = case.graph, replacement_of(case)
    clean = values_of(case, replacement, replacement.inputs())
    known, nodes = ~np.isnan(clean), removed(graph)
    codes = graph.activation.copy()
    for layer in range(N_LAYERS):  # the codes of a layer once those before it are known
        changed = values_of(case, replacement, without(case, replacement, nodes, codes)) - clean
        at_layer = (graph.kind == "feature") & (graph.layer == layer)
        codes[at_layer] = (graph.activation + changed)[at_layer]
    change = values_of(case, replacement, without(case, replacement, nodes, codes)) - clean
    expected = graph.predicted_change(np.isin(np.arange(len(graph)), nodes))
    np.testing.assert_allclose(expected[known], change[known], rtol=1e-3, atol=1e-3)
    assert np.abs(expected - graph.predicted_change(nodes, direct=True)).max() > 0.05


def test_batches_and_budgets_give_the_same_edges(case, bpe):
    whole = case.graph
    options = {"tokenizer": bpe, "max_logits": 3}
    one = traced(case.kind, case.skip, bpe, batch_size=1).graph
    np.testing.assert_allclose(one.adjacency, whole.adjacency, atol=1e-4)
    part = attribution_graph(
        case.model, SITES[case.kind], case.transcoders, PROMPT, max_feature_nodes=10, **options
    )
    assert (part.kind == "feature").sum() == 10
    assert part.n_active == whole.n_active
    among = np.isin(whole.node_ids, part.node_ids)
    np.testing.assert_allclose(part.adjacency, whole.adjacency[among][:, among], atol=1e-4)


def test_the_first_features_of_a_budget_are_those_with_the_largest_edges(case, bpe):
    """Until one is a node, influence is that on the logits alone."""
    whole = case.graph
    one = traced(case.kind, case.skip, bpe, max_feature_nodes=1).graph
    rows = np.abs(whole.adjacency[whole.kind == "logit"])
    direct = whole.logit_probabilities @ (rows / rows.sum(1, keepdims=True))
    strongest = np.argmax(np.where(whole.kind == "feature", direct, 0))
    assert one.node_ids[0] == whole.node_ids[strongest]


def test_transcoders_can_write_before_a_norm(bpe):
    """Gemma's norm behind the MLP is then a part of what lies between the nodes."""
    model, transcoders = build("gemma2", head=True), transcoders_for(True)
    graphs = [
        attribution_graph(
            model, SITES["gemma2"], transcoders, PROMPT, target_sites=target, tokenizer=bpe
        )
        for target in (None, "layers.{layer}.mlp", "mlp_out")
    ]
    np.testing.assert_array_equal(graphs[0].adjacency, graphs[2].adjacency)
    for graph in graphs[:2]:
        features, values = graph.kind == "feature", graph.adjacency.sum(1) + graph.bias
        np.testing.assert_allclose(values[features], graph.activation[features], atol=2e-4)
    assert np.abs(graphs[0].adjacency - graphs[1].adjacency).max() > 0.1


def test_special_tokens_can_have_features(bpe):
    made = traced("gpt2", False, bpe, include_special_tokens=True)
    graph = made.graph
    assert ((graph.kind == "feature") & (graph.position == 0)).sum() == N_LAYERS * 4
    values = graph.adjacency.sum(1) + graph.bias
    features = graph.kind == "feature"
    np.testing.assert_allclose(values[features], graph.activation[features], rtol=1e-3, atol=1e-4)


def test_names_come_with_the_features(bpe):
    case = traced("gpt2", False, bpe)
    layer, feature = int(case.graph.layer[0]), int(case.graph.feature[0])
    names = [{feature: "first"} if i == layer else {} for i in range(N_LAYERS)]
    graph = traced("gpt2", False, bpe, names=names).graph
    named = (graph.layer == layer) & (graph.feature == feature) & (graph.kind == "feature")
    np.testing.assert_array_equal(graph.name == "first", named)
    everywhere = traced("gpt2", False, bpe, names={feature: "first"}).graph
    named = (graph.feature == feature) & (graph.kind == "feature")
    np.testing.assert_array_equal(everywhere.name == "first", named)


def test_exact_transcoders_leave_no_error(bpe):
    model = relu_gpt2()
    transcoders = [neurons(model, layer) for layer in range(N_LAYERS)]
    graph = attribution_graph(model, SITES["gpt2"], transcoders, PROMPT, tokenizer=bpe)
    largest = np.abs(graph.adjacency).max()
    assert np.abs(graph.adjacency[:, graph.kind == "error"]).max() < 1e-5 * largest
    assert graph.scores() == pytest.approx({"replacement": 1, "completeness": 1}, abs=1e-4)


def test_a_linear_model_has_no_features(bpe):
    """Its skip connections are all that there is: logits are tokens and constants."""
    model = linear_gpt2()
    transcoders = [skipping(model, layer) for layer in range(N_LAYERS)]
    graph = attribution_graph(model, SITES["gpt2"], transcoders, PROMPT, tokenizer=bpe)
    logits = graph.kind == "logit"
    assert (graph.n_active, len(graph)) == (0, (N_LAYERS + 1) * len(PROMPT) + logits.sum())
    with torch.no_grad():
        last = model(torch.tensor([PROMPT])).logits[0, -1]
    expected = (last - last.mean())[torch.from_numpy(graph.feature[logits])]
    values = graph.adjacency[:, graph.kind == "token"].sum(1) + graph.bias
    np.testing.assert_allclose(values[logits], expected, rtol=1e-3, atol=1e-3)


def test_one_token_is_a_prompt(bpe):
    model, transcoders = build("llama", head=True), transcoders_for(False)
    graph = attribution_graph(model, "resid_mid", transcoders, [9], tokenizer=bpe)
    features = graph.kind == "feature"
    values = graph.adjacency.sum(1) + graph.bias
    np.testing.assert_allclose(values[features], graph.activation[features], rtol=1e-3, atol=1e-4)
    alone = attribution_graph(model, "resid_mid", transcoders, [0], tokenizer=bpe)
    assert alone.n_active == 0  # a special token: what MLPs add is a constant


def test_bfloat16_is_read_in_float32(bpe):
    model = build("llama", head=True).to(torch.bfloat16)
    graph = attribution_graph(model, "resid_mid", transcoders_for(True), PROMPT, tokenizer=bpe)
    assert graph.adjacency.dtype == np.float32
    features = graph.kind == "feature"
    values = (graph.adjacency.sum(1) + graph.bias)[features]
    np.testing.assert_allclose(values, graph.activation[features], atol=0.3)  # 8 bits of 10 or so


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_graph_on_a_gpu_is_that_of_the_cpu(case, bpe):
    model = build(case.kind, head=True).to("cuda")
    options = {"max_logits": 3, "tokenizer": bpe}
    graph = attribution_graph(model, SITES[case.kind], case.transcoders, PROMPT, **options)
    assert graph.node_ids == case.graph.node_ids
    largest = np.abs(graph.adjacency).max()
    np.testing.assert_allclose(graph.adjacency, case.graph.adjacency, atol=1e-2 * largest)


@pytest.mark.slow
@pytest.mark.parametrize("kind", CAUSAL)
def test_edges_and_bias_sum_up_in_every_family(kind, bpe):
    site = "resid_pre" if kind in PARALLEL else "resid_mid"
    model, transcoders = build(kind, head=True), transcoders_for(skip=True)
    graph = attribution_graph(model, site, transcoders, PROMPT, tokenizer=bpe)
    values, features = graph.adjacency.sum(1) + graph.bias, graph.kind == "feature"
    np.testing.assert_allclose(values[features], graph.activation[features], atol=2e-4)


def test_a_constant_step_of_steering_is_a_constant_of_the_graph(bpe):
    model, transcoders = build("llama", head=True), transcoders_for(False)
    with steer(model, "1.resid_mid", transcoders[1], {3: 4.0}, "add"):
        graph = attribution_graph(model, "resid_mid", transcoders, PROMPT, tokenizer=bpe)
        with torch.no_grad():
            last = model(torch.tensor([PROMPT])).logits[0, -1]
    logits, values = graph.kind == "logit", graph.adjacency.sum(1) + graph.bias
    expected = (last - last.mean())[torch.from_numpy(graph.feature[logits])]
    np.testing.assert_allclose(values[logits], expected, rtol=1e-3, atol=1e-4)


def test_steering_that_depends_on_what_it_changes_is_refused(bpe):
    model, transcoders = build("llama", head=True), transcoders_for(False)
    site = {"target_site": "1.resid_post"}  # what is written to an MLP's output is an error
    with steer(model, "1.resid_mid", transcoders[1], range(N_FEATURES), "ablate", **site):
        refused(bpe, "being steered", model=model, transcoders=transcoders, sites="resid_mid")


def test_a_model_is_left_as_it_was(bpe):
    model = build("gpt2", head=True)
    state = {name: x.clone() for name, x in model.state_dict().items()}
    with torch.no_grad():
        before = model(torch.tensor([PROMPT])).logits
        attribution_graph(model, SITES["gpt2"], transcoders_for(False), PROMPT, tokenizer=bpe)
        torch.testing.assert_close(model(torch.tensor([PROMPT])).logits, before, rtol=0, atol=0)
    assert all(torch.equal(x, state[name]) for name, x in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def refused(bpe, match, error=ValueError, model=None, transcoders=None, **options):
    model = build("gpt2", head=True) if model is None else model
    transcoders = transcoders_for(False) if transcoders is None else transcoders
    sites = options.pop("sites", SITES["gpt2"])
    with pytest.raises(error, match=match):
        attribution_graph(model, sites, transcoders, PROMPT, tokenizer=bpe, **options)


def test_what_makes_no_graph_is_refused(bpe):
    transcoders = transcoders_for(False)
    refused(bpe, "2 transcoders, 3 sites and 3 target sites", transcoders=transcoders[:2])
    refused(
        bpe, "none for layer 1", transcoders=transcoders[::2], sites=["0.resid_mid", "2.resid_mid"]
    )
    refused(bpe, "two transcoders for layer 0", sites=["0.resid_mid"] * 3)
    refused(bpe, "1 target sites", target_sites=["0.mlp_out"])
    targets = ["h.0.mlp.c_fc", "1.mlp_out", "2.mlp_out"]  # of which the MLP is not replaced
    refused(bpe, "directions of 16 columns", target_sites=targets)
    targets = ["0.attn_out", "1.mlp_out", "2.mlp_out"]
    refused(bpe, "not linear between its MLPs", sites="resid_pre", target_sites=targets)
    sae = TopKSAE(8, k=2, max_iter=1).fit(np.random.default_rng(0).normal(size=(50, 16)))
    refused(bpe, "use feature_circuit", TypeError, transcoders=[sae] * 3)
    refused(bpe, "names must map", TypeError, names=["a", "b", "c"])
    refused(bpe, "one mapping or one per", TypeError, names=[{}])
    for name in ("max_logits", "max_feature_nodes", "batch_size"):
        refused(bpe, name, **{name: 0})
    refused(bpe, "logit_probability", logit_probability=0.0)
    refused(bpe, "include_special_tokens", include_special_tokens="yes")


def test_a_nonlinear_part_that_is_not_frozen_is_refused(bpe):
    class Squashed(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return torch.tanh(self.inner(x))

    model = build("gpt2", head=True)
    attention = model.transformer.h[1].attn
    attention.c_proj = Squashed(attention.c_proj)
    refused(bpe, "not linear between its MLPs", model=model)


def test_codes_must_be_linear_where_they_fire(bpe):
    transcoders = transcoders_for(False)
    transform = transcoders[1].transform
    transcoders[1].transform = lambda X: transform(X) ** 2
    refused(bpe, "wherever they are not zero", transcoders=transcoders)
