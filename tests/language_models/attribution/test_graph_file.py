"""JSON of attribution graphs: read as it was written, and as circuit-tracer writes it."""

import json
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sksae._hook_names import cantor, uncantor
from sksae.language_models import AttributionGraph
from tests.cases import tries
from tests.language_models.small_graph import TOKENS, graph_of


def assert_equal(graph, other):
    for field in fields(AttributionGraph):
        one, two = getattr(graph, field.name), getattr(other, field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == two.dtype, field.name
            np.testing.assert_array_equal(one, two, field.name)
        else:
            assert one == two, field.name


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_graph_comes_back_exactly(tmp_path, dtype):
    graph = graph_of(dtype=dtype)
    content = graph.to_json(tmp_path / "graph.json", slug="a", scan="b")
    assert json.loads((tmp_path / "graph.json").read_text(encoding="utf-8")) == content
    assert_equal(graph, AttributionGraph.from_json(tmp_path / "graph.json"))
    pruned = graph.prune(0.5, 0.9)
    pruned.to_json(tmp_path / "pruned.json")
    assert_equal(pruned, AttributionGraph.from_json(tmp_path / "pruned.json"))


@settings(max_examples=tries(30))
@given(weights=arrays(np.float32, (2, 10), elements=st.floats(-(2.0**100), 2.0**100, width=32)))
def test_any_weights_come_back(tmp_path_factory, weights):
    graph = graph_of()
    graph.adjacency[-2:, :10] = weights
    path = tmp_path_factory.mktemp("weights") / "graph.json"
    graph.to_json(path)
    assert_equal(graph, AttributionGraph.from_json(path))


@given(layer=st.integers(0, 10_000), feature=st.integers(0, 2**40))
def test_a_layer_and_a_feature_are_one_number(layer, feature):
    assert uncantor(cantor(layer, feature)) == (layer, feature)


def test_the_fields_are_those_of_the_viewer():
    content = graph_of().to_json(slug="a", scan="./features")
    assert content["metadata"]["scan"] == "./features"
    assert content["metadata"]["prompt_tokens"] == TOKENS
    feature, error, token, logit = (content["nodes"][i] for i in (2, 5, 8, 10))
    assert feature["node_id"] == "1_900_2"
    assert feature["feature"] == 901 * 902 // 2 + 900
    assert (feature["layer"], feature["ctx_idx"], feature["jsNodeId"]) == ("1", 2, "1_900-0")
    assert feature["clerp"] == "ünter"
    assert (error["node_id"], error["feature"], error["jsNodeId"]) == ("1_-1_1", -1, "1_1-0")
    assert (token["node_id"], token["feature"], token["layer"]) == ("E_33_1", 1, "E")
    assert (logit["node_id"], logit["layer"], logit["token_prob"]) == ("3_48_2", "3", 0.75)
    assert logit["is_target_logit"]
    assert not content["nodes"][11]["is_target_logit"]
    assert {node["feature_type"] for node in content["nodes"]} == {
        "cross layer transcoder",
        "mlp reconstruction error",
        "embedding",
        "logit",
    }


def as_circuit_tracer(graph):
    """The file as circuit-tracer 0.5.0 writes it: its fields alone, errors as it calls them."""
    content = graph.to_json()
    del content["metadata"]["sksae"]
    names = {f"{i}_-1_{t}": f"0_{i}_{t}" for i in range(2) for t in range(3)}
    for node in content["nodes"]:
        node["node_id"] = names.get(node["node_id"], node["node_id"])
        if node["feature_type"] == "embedding":
            node["clerp"] = ""
    for link in content["links"]:
        link.update({end: names.get(link[end], link[end]) for end in ("source", "target")})
    return content


def test_a_file_of_circuit_tracer_is_read(tmp_path):
    graph, path = graph_of(dtype=np.float64), tmp_path / "graph.json"
    content = as_circuit_tracer(graph)
    content["nodes"].reverse()  # but for the logits, whose order counts
    content["nodes"][:2] = content["nodes"][1::-1]
    path.write_text(json.dumps(content), encoding="utf-8")
    read = AttributionGraph.from_json(path)
    for name in ("kind", "layer", "position", "feature", "activation", "adjacency", "name"):
        np.testing.assert_array_equal(getattr(read, name), getattr(graph, name))
    assert read.logit_tokens == graph.logit_tokens
    inner = graph.kind != "logit"
    np.testing.assert_array_equal(
        read.cumulative_influence[inner], graph.cumulative_influence[inner]
    )
    # Logits are what they are for themselves; shares of the edges into them are their sources'.
    rows = np.abs(graph.adjacency) / np.maximum(np.abs(graph.adjacency).sum(1)[:, None], 1e-300)
    weights = np.r_[np.zeros(10), graph.logit_probabilities]
    expected = weights @ (np.linalg.inv(np.eye(12) - rows) - np.eye(12))
    np.testing.assert_allclose(read.influence, expected, atol=1e-12)
    assert np.isnan(read.bias).all()
    assert read.n_active == 3


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: c.pop("nodes"), "nodes"),
        (lambda c: c["nodes"][0].update(feature_type="neuron"), "neuron"),
        (lambda c: c["nodes"][0].update(node_id=c["nodes"][1]["node_id"]), "same node_id"),
        (lambda c: c["nodes"][0].update(feature=4), "its number says"),
        (lambda c: c["nodes"][0].update(ctx_idx=7), "no token of the prompt"),
        (lambda c: c["links"][0].update(source="nowhere"), "nowhere"),
        (lambda c: c["links"][0].update(weight="much"), "much"),
        (lambda c: c.update(nodes=c["nodes"][:10], links=[]), "no logits"),
        (lambda c: c["metadata"]["sksae"].update(dtype="int8"), "int8"),
    ],
)
def test_what_is_no_graph_is_refused(tmp_path, change, match):
    content = graph_of().to_json()
    change(content)
    path = tmp_path / "graph.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"graph\.json is no attribution graph.*{match}"):
        AttributionGraph.from_json(path)


def test_text_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "graph.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"graph\.json"):
        AttributionGraph.from_json(tmp_path / "graph.json")
