import json
import xml.etree.ElementTree as ElementTree

import networkx
import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from sksae import BatchTopKSAE, GatedSAE, JumpReLUSAE, SparseAutoencoder
from sksae.language_models import FeatureCircuit, attribute, feature_circuit
from sksae.language_models.model import TorchDictionary, base_of, find_hook_point
from tests.cases import each_case
from tests.language_models.attribution.test_attribution import (
    OTHER,
    PAIR,
    PROMPT,
    at,
    fit,
    hooks_of,
    metric_of,
)
from tests.language_models.families import CAUSAL

ALL = {"node_threshold": 0, "edge_threshold": 0}
SERIAL = ["0.resid_post", "1.attn_out", "1.resid_mid", "1.mlp_out", "2.resid_pre", "2.mlp_out"]
PARALLEL = ["0.resid_post", "1.attn_out", "1.mlp_out", "1.resid_post", "2.mlp_out"]
RMS_NORM, SINGLE = ("llama", "gemma2"), 1e-4  # their norms compute in single precision
KINDS = {"gpt2": SERIAL, "llama": SERIAL, "gemma2": SERIAL, "neox_parallel": PARALLEL}


@pytest.fixture(scope="module")
def models(tiny):
    """Each family with a head, in double precision, and an autoencoder a site."""
    found = {}
    for kind, sites in KINDS.items():
        model = tiny(kind, head=True)
        saes = [fit(model, site) for site in sites]
        found[kind] = model.double(), sites, saes
    return found


@pytest.fixture(scope="module")
def go(bpe):
    """``go(model, sites, saes, **options)``: a circuit in which only the rest is named."""

    def run(model, sites, saes, function=feature_circuit, **options):
        if not {"baseline", "background", "counterfactual"} & set(options):
            options["counterfactual"] = OTHER
        return function(model, sites, saes, PROMPT, PAIR, tokenizer=bpe, **options)

    return run


def out_of_nodes(circuit):
    """What leaves each node, by site, position and feature."""
    edges, nodes = circuit.edges, circuit.nodes
    totals = np.bincount(edges["source"], weights=edges["effect"], minlength=len(nodes))
    keys = zip(nodes.site, nodes.position, nodes.feature, strict=True)
    return dict(zip(keys, totals, strict=True))


def edges_by_name(circuit):
    graph = circuit.to_networkx()
    return {(u, v): effect for u, v, effect in graph.edges(data="effect")}


# Edges


@pytest.mark.parametrize("kind", KINDS)
def test_what_leaves_a_node_is_its_effect(models, go, kind):
    """The chain rule: direct edges into all later nodes and the metric lose nothing."""
    model, sites, saes = models[kind]
    circuit = go(model, sites, saes, **ALL)
    table = go(model, sites, saes, attribute, method="attribution_patching")
    out = out_of_nodes(circuit)
    tolerance = SINGLE if kind in RMS_NORM else 1e-9
    assert len(table) == len(circuit.nodes)
    assert len(circuit.edges) > len(table)
    for i in range(len(table)):
        key = (table.site[i], table.position[i], table.feature[i])
        assert out[key] == pytest.approx(table.effect[i], abs=tolerance)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind not in KINDS)) for kind in CAUSAL]
)
def test_no_family_loses_anything(tiny, go, kind):
    model, sites = tiny(kind, head=True), ["0.resid_post", "1.attn_out", "1.mlp_out", "2.mlp_out"]
    saes = [fit(model, site) for site in sites]
    circuit = go(model, sites, saes, method="attribution_patching", **ALL)
    assert circuit.sites == sites
    assert circuit.faithfulness == pytest.approx(1, abs=1e-3)
    out = list(out_of_nodes(circuit).values())
    scale = np.abs(circuit.nodes.effect).max()
    np.testing.assert_allclose(out, circuit.nodes.effect, rtol=0, atol=1e-4 * scale)


@each_case(
    "cls, settings",
    [
        (SparseAutoencoder, {"alpha": 0.1}),
        (BatchTopKSAE, {"k": 4}),
        (JumpReLUSAE, {"alpha": 0.1}),
        (GatedSAE, {"alpha": 0.1}),
    ],
)
def test_every_variant_reads_linearly_where_it_fires(tiny, go, cls, settings):
    model, sites = tiny("gpt2", head=True), ["0.resid_post", "1.resid_post"]
    saes = [fit(model, site, cls, **settings) for site in sites]
    model.double()
    circuit = go(model, sites, saes, **ALL)
    table = go(model, sites, saes, attribute, method="attribution_patching")
    out = out_of_nodes(circuit)
    for i in range(len(table)):
        key = (table.site[i], table.position[i], table.feature[i])
        assert out[key] == pytest.approx(table.effect[i], abs=1e-6)


def test_edges_across_a_linear_module_are_a_product(tiny, go):
    """From the hidden layer of an MLP to its output only a matrix lies between."""
    model, sites = tiny("gpt2", head=True), ["h.1.mlp.act", "1.mlp_out"]
    saes = [fit(model, site) for site in sites]
    model.double()
    circuit = go(model, sites, saes, baseline="zero", **ALL)
    nodes, matrix = circuit.nodes, model.transformer.h[1].mlp.c_proj.weight.detach()
    up, down = (TorchDictionary(sae) for sae in saes)
    encoder = torch.from_numpy(np.asarray(saes[1].encoder_coef_, dtype=np.float64))
    exact = go(model, sites, saes, attribute, method="attribution_patching", baseline="zero")
    worth = {  # d metric / d f = effect / f, against zero
        (t, j): effect / code
        for s, t, j, effect, code in zip(
            exact.site, exact.position, exact.feature, exact.effect, exact.activation, strict=True
        )
        if s == "1.mlp_out" and j >= 0
    }
    tried = 0
    for source, target, effect in circuit.edges.tolist():
        if target < 0 or nodes.feature[source] < 0 or nodes.feature[target] < 0:
            continue
        j, d, t = nodes.feature[source], nodes.feature[target], nodes.position[source]
        assert nodes.position[target] == t
        through = up.components(matrix)[j] @ matrix @ encoder[d]
        expected = nodes.activation[source] * float(through) * worth[t, d]
        assert effect == pytest.approx(expected, abs=1e-9)
        tried += 1
    assert tried == 4 * 4 * len(PROMPT)  # k codes at each
    # All that the hidden layer does, it does through the output: no edge into the metric.
    hidden = nodes.site == sites[0]
    assert not any(hidden[u] and v < 0 for u, v, _ in circuit.edges.tolist())
    assert down.n_features == 24


def test_edges_from_attention_to_the_stream_are_products_of_directions(models, go):
    """The stream after attention is a sum: attention's output is passed on as it is."""
    model, _, saes = models["llama"]
    sites = ["1.attn_out", "1.resid_mid"]
    circuit = go(model, sites, saes[1:3], **ALL)
    graph = circuit.to_networkx()
    table = go(model, sites, saes[1:3], attribute, method="attribution_patching")
    gradient = {}
    for s, t, j, f, f0, effect in zip(
        table.site, table.position, table.feature, table.activation,
        table.baseline_activation, table.effect, strict=True,
    ):  # fmt: skip
        if s == "1.resid_mid" and j >= 0 and f != f0:
            gradient[t, j] = effect / (f - f0)
    encoder = torch.from_numpy(np.asarray(saes[2].encoder_coef_, dtype=np.float64))
    directions = TorchDictionary(saes[1]).components(encoder)
    tried = 0
    for u, v, effect in graph.edges(data="effect"):
        one, other = graph.nodes[u], graph.nodes[v]
        if other["kind"] != "feature" or one["kind"] != "feature":
            continue
        key = other["position"], other["feature"]
        if key in gradient:
            assert one["position"] == other["position"]
            change = one["activation"] - one["baseline_activation"]
            through = float(directions[one["feature"]] @ encoder[other["feature"]])
            assert effect == pytest.approx(change * through * gradient[key], abs=1e-9)
            tried += 1
    assert tried > 10


def test_parallel_parts_do_not_read_each_other(models, go):
    model, sites, saes = models["neox_parallel"]
    circuit = go(model, sites, saes, **ALL)
    pairs = {
        (circuit.nodes.site[u], circuit.nodes.site[v] if v >= 0 else "metric")
        for u, v, _ in circuit.edges.tolist()
    }
    assert ("1.attn_out", "1.mlp_out") not in pairs
    assert ("0.resid_post", "1.attn_out") in pairs
    # A later stream has all of an earlier one, so nothing gets past it.
    assert ("0.resid_post", "2.mlp_out") not in pairs
    assert ("0.resid_post", "metric") not in pairs
    assert ("1.resid_post", "metric") in pairs


def test_a_node_that_fires_only_in_the_baseline_has_no_edges_into_it(models, go):
    model, sites, saes = models["gpt2"]
    circuit = go(model, sites, saes, **ALL)
    silent = np.flatnonzero((circuit.nodes.activation == 0) & (circuit.nodes.effect != 0))
    assert len(silent)
    assert not set(silent) & set(circuit.edges["target"].tolist())


def test_sites_may_come_in_any_order(models, go):
    model, sites, saes = models["llama"]
    order = [3, 2, 5, 0, 4, 1]
    one = go(model, sites, saes, **ALL)
    other = go(model, [sites[i] for i in order], [saes[i] for i in order], **ALL)
    assert one.sites == other.sites == sites
    one, other = edges_by_name(one), edges_by_name(other)
    assert one.keys() == other.keys()
    for edge, effect in one.items():
        assert other[edge] == pytest.approx(effect, abs=1e-12)


def test_sites_may_be_pairs_in_a_list(models, go):
    model, _, saes = models["gpt2"]
    table = go(model, [[0, "resid_post"], "1.attn_out"], saes[:2], function=attribute)
    assert set(table.site) == {"0.resid_post", "1.attn_out"}


def test_sums_over_positions(models, go):
    model, sites, saes = models["gpt2"]
    each, total = (go(model, sites, saes, positions=p, **ALL) for p in ("none", "sum"))
    assert set(total.nodes.position.tolist()) == {-1}
    assert set(total.nodes.token.tolist()) == {""}
    for i in range(len(total.nodes)):
        mine = each.nodes[
            (each.nodes.site == total.nodes.site[i])
            & (each.nodes.feature == total.nodes.feature[i])
        ]
        assert total.nodes.effect[i] == pytest.approx(mine.effect.sum(), abs=1e-12)
        assert total.nodes.activation[i] == mine.activation.max()
    found = {}
    for (u, v), effect in edges_by_name(each).items():
        short = tuple("/".join((*n.split("/")[::2],)) if "/" in n else n for n in (u, v))
        found[short] = found.get(short, 0) + effect
    summed = {
        tuple(n.replace("/all/", "/") for n in edge): effect
        for edge, effect in edges_by_name(total).items()
    }
    assert all(summed[edge] == pytest.approx(found[edge], abs=1e-9) for edge in summed)
    assert all(abs(found[edge]) < 1e-9 for edge in found.keys() - summed.keys())


def test_thresholds_and_batches(models, go):
    model, sites, saes = models["llama"]
    every = go(model, sites, saes, **ALL)
    bound, least = float(np.quantile(np.abs(every.nodes.effect), 0.7)), 1e-3
    some = go(model, sites, saes, node_threshold=bound, edge_threshold=least, batch_size=3)
    assert len(some.nodes) == (np.abs(every.nodes.effect) >= bound).sum()
    np.testing.assert_allclose(some.nodes.effect, every.nodes.effect[: len(some.nodes)])
    assert (np.abs(some.edges["effect"]) >= least).all()
    assert (np.diff(np.abs(some.edges["effect"])) <= 0).all()
    kept, wide = edges_by_name(some), edges_by_name(every)
    assert kept
    for edge, effect in kept.items():
        assert wide[edge] == pytest.approx(effect, abs=1e-12)
    there = {*some.to_networkx().nodes}
    missing = {e for e in wide.keys() - kept.keys() if set(e) <= there}
    assert all(abs(wide[e]) < least * (1 + 1e-9) for e in missing)


# Faithfulness


@pytest.mark.parametrize("kind", KINDS)
@each_case("positions", ["none", "sum"])
def test_everything_is_faithful_and_nothing_is_not(models, go, kind, positions):
    model, sites, saes = models[kind]
    whole = go(model, sites, saes, positions=positions, **ALL)
    assert whole.faithfulness == pytest.approx(1, abs=SINGLE if kind in RMS_NORM else 1e-8)
    assert whole.completeness == pytest.approx(0, abs=SINGLE if kind in RMS_NORM else 1e-8)
    nothing = go(model, sites, saes, positions=positions, node_threshold=1e9)
    assert (len(nothing.nodes), len(nothing.edges)) == (0, 0)
    assert nothing.faithfulness == 0
    assert nothing.completeness == pytest.approx(1, abs=SINGLE if kind in RMS_NORM else 1e-8)


def test_what_a_circuit_carries_by_hand(models, go):
    """Outside the circuit what is in the counterfactual prompt, inside what is in the prompt."""
    model, sites, saes = models["llama"]
    circuit = go(model, sites[0], saes[0], node_threshold=0.05, edge_threshold=0)
    assert 3 < len(circuit.nodes) < 40
    point, dictionary = find_hook_point(model, 0, "resid_post"), TorchDictionary(saes[0])
    read, there = at(model, point, PROMPT), at(model, point, OTHER)
    codes, others = dictionary.encode(read), dictionary.encode(there)
    errors, other_errors = read - dictionary.decode(codes), there - dictionary.decode(others)
    mixed, left = others.clone(), codes.clone()
    mixed_errors, left_errors = other_errors.clone(), errors.clone()
    for t, j in zip(circuit.nodes.position, circuit.nodes.feature, strict=True):
        if j < 0:
            mixed_errors[t], left_errors[t] = errors[t], other_errors[t]
        else:
            mixed[t, j], left[t, j] = codes[t, j], others[t, j]
    clean, nothing = metric_of(model), metric_of(model, ids=OTHER)
    for got, new in (
        (circuit.faithfulness, dictionary.decode(mixed) + mixed_errors),
        (circuit.completeness, dictionary.decode(left) + left_errors),
    ):
        value = metric_of(model, [(point, lambda x, new=new: new[None])])
        assert got == pytest.approx((value - nothing) / (clean - nothing), abs=1e-8)


def test_nothing_to_carry(models, go):
    model, sites, saes = models["gpt2"]
    circuit = go(model, sites, saes, counterfactual=PROMPT)
    assert np.isnan(circuit.faithfulness)
    assert np.isnan(circuit.completeness)


@pytest.mark.parametrize("options", [{"background": ["The cat sat on the mat."]}, {}])
def test_other_baselines(models, go, options):
    model, _, saes = models["gpt2"]
    options = options or {"baseline": "zero"}
    sites, saes = ["1.attn_out", "1.mlp_out"], [saes[1], saes[3]]
    circuit = go(model, sites, saes, **options, **ALL)
    assert circuit.faithfulness == pytest.approx(1, abs=1e-8)
    assert go(model, sites, saes, node_threshold=1e9, **options).faithfulness == 0
    first = go(model, sites[:1], saes[:1], **options, **ALL)
    assert first.completeness == pytest.approx(0, abs=1e-8)


# Exports


@pytest.fixture(scope="module")
def circuit(models, go):
    model, sites, saes = models["llama"]
    names = {j: f"feature\x00{j}$ <&>" for j in range(0, 24, 2)}
    return go(model, sites, saes, node_threshold=0.05, names=names)


def test_the_graph(circuit):
    graph = circuit.to_networkx()
    assert isinstance(circuit, FeatureCircuit)
    assert networkx.is_directed_acyclic_graph(graph)
    assert graph.number_of_nodes() == len(circuit.nodes) + 1
    assert graph.number_of_edges() == len(circuit.edges)
    layers = dict(graph.nodes(data="layer"))
    assert all(layers[u] < layers[v] for u, v in graph.edges)
    total = sum(effect for _, _, effect in graph.in_edges("metric", data="effect"))
    mine = circuit.edges[circuit.edges["target"] == -1]
    assert total == pytest.approx(mine["effect"].sum())
    assert graph.graph["faithfulness"] == circuit.faithfulness
    first = f"FeatureCircuit: {len(circuit.nodes)} nodes, {len(circuit.edges)} edges, logit of "
    assert repr(circuit).startswith(first)


def test_graphml_comes_back(circuit, tmp_path):
    path = tmp_path / "new" / "circuit.graphml"
    circuit.to_graphml(path)
    ElementTree.parse(path)  # a NUL in a name would be no XML
    back, graph = networkx.read_graphml(path), circuit.to_networkx()
    assert set(back.nodes) == set(graph.nodes)
    for u, v, effect in graph.edges(data="effect"):
        assert back.edges[u, v]["effect"] == effect
    for name, data in graph.nodes(data=True):
        assert back.nodes[name]["layer"] == data["layer"]
    assert [p.name for p in path.parent.iterdir()] == ["circuit.graphml"]


def test_json_is_what_the_viewer_reads(circuit, tmp_path):
    path = tmp_path / "circuit.json"
    graph = circuit.to_json(path, slug="try")
    assert json.loads(path.read_text(encoding="utf-8")) == graph
    assert set(graph) == {"metadata", "qParams", "nodes", "links"}
    assert graph["metadata"]["slug"] == "try"
    assert len(graph["metadata"]["prompt_tokens"]) == len(PROMPT)
    assert graph["metadata"]["transcoder_list"] == SERIAL
    for key in ("node_id", "jsNodeId"):
        assert len({node[key] for node in graph["nodes"]}) <= len(circuit.nodes) + 1
    ids = {node["node_id"] for node in graph["nodes"]}
    assert len(ids) == len(circuit.nodes) + 1
    assert all({link["source"], link["target"]} <= ids for link in graph["links"])
    *nodes, target = graph["nodes"]
    for i, node in enumerate(nodes):
        layer, feature, position = map(int, node["node_id"].split("_"))
        assert (layer, position) == (int(node["layer"]), node["ctx_idx"])
        assert circuit.nodes.site[i] == SERIAL[layer]
        assert (feature, position) == (circuit.nodes.feature[i], circuit.nodes.position[i])
        if feature >= 0:  # Cantor's pairing of the two, undone
            total = int((np.sqrt(8 * node["feature"] + 1) - 1) // 2)
            second = node["feature"] - total * (total + 1) // 2
            assert (total - second, second) == (layer, feature)
    influence = [node["influence"] for node in nodes]
    assert influence == sorted(influence)
    assert influence[-1] == pytest.approx(1)
    assert (target["feature_type"], target["feature"]) == ("logit", PAIR[0])
    assert circuit.to_json()["links"] == graph["links"]


def test_the_picture(circuit, models, go, tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from tests.displays.labels import check_labels

    ax = circuit.plot(n_edges=7)
    assert len(ax.patches) == 7
    assert [label.get_text() for label in ax.get_yticklabels()] == SERIAL
    kinds = ["feature", "error"] if (circuit.nodes.feature < 0).any() else ["feature"]
    signs = [*kinds, "raises the metric", "lowers it"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == signs
    metric, *names = ax.texts
    assert len(names) == (circuit.nodes.feature >= 0).sum()
    check_labels(ax, [metric, *names])
    ax.figure.savefig(tmp_path / "circuit.png")
    with pytest.raises(ValueError, match=r"n_edges must be an int >= 0. Got -1"):
        circuit.plot(n_edges=-1)
    _, mine = plt.subplots()
    assert circuit.plot(mine) is mine
    assert len(mine.patches) == min(100, len(circuit.edges))
    model, sites, saes = models["llama"]
    for options in ({"positions": "sum", "node_threshold": 0.05}, {"node_threshold": 1e9}):
        ax = go(model, sites, saes, **options).plot()
        check_labels(ax, ax.texts)
        ax.figure.savefig(tmp_path / "other.png")
    plt.close("all")


# What is refused, and what stays


def test_bad_input(models, go):
    model, sites, saes = models["gpt2"]
    for options, match in (
        ({"node_threshold": -1}, "node_threshold must be"),
        ({"edge_threshold": "small"}, "edge_threshold must be"),
        ({"positions": "mean"}, "positions must be one of 'none', 'sum'"),
        ({"baseline": "zero"}, "residual stream"),
        ({"counterfactual": OTHER[:3]}, "the counterfactual 3"),
    ):
        with pytest.raises(ValueError, match=match):
            go(model, sites, saes, **options)
    pca = PCA(4).fit(np.random.default_rng(0).normal(size=(20, 16)))
    pca.intercept_ = pca.mean_
    with pytest.raises(
        TypeError, match=r"encoder_coef_, one row per feature; the PCA at '0.resid_p"
    ):
        go(model, sites[0], pca)


def test_the_model_stays_as_it_is(models, go):
    model, sites, saes = models["gpt2"]
    before = hooks_of(model)
    wanted = [p.requires_grad for p in model.parameters()]
    with torch.no_grad():
        go(model, sites, saes, node_threshold=0.05)
    assert hooks_of(model) == before
    assert [p.requires_grad for p in model.parameters()] == wanted
    assert all(p.grad is None for p in model.parameters())
    frozen = base_of(model).requires_grad_(False)
    one = go(model, sites, saes, node_threshold=0.05)
    frozen.requires_grad_(True)
    two = go(model, sites, saes, node_threshold=0.05)
    np.testing.assert_array_equal(one.edges, two.edges)
