"""What the page about a graph is given: all of it, in a form that a browser reads, or a refusal."""

import json
import re

import numpy as np
import pytest

from sksae.report import write_graph_page
from tests.cases import each_case
from tests.report.decoding import blocks_of, read_part, unpacked
from tests.report.random_graph import EVIL, random_graph
from tests.report.synthetic_atlas import SyntheticAtlas


def read_graph(path):
    """The columns of a page, and its edges as a matrix with targets as rows."""
    header, rest = unpacked(blocks_of(path.read_text(encoding="utf-8"))["graph"])
    n, n_edges = len(header["kind"]), header["n_edges"]
    assert len(rest) == 4 * n + 8 * n_edges
    counts = np.frombuffer(rest, "<u4", n)
    sources = np.frombuffer(rest, "<u4", n_edges, 4 * n)
    values = np.frombuffer(rest, "<f4", n_edges, 4 * (n + n_edges))
    adjacency = np.zeros((n, n))
    adjacency[np.repeat(np.arange(n), counts), sources] = values
    return header, adjacency


def groups_in(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'type="application/json" id="groups">([^<]*)</script>', text)[1])


@pytest.fixture
def graph():
    return random_graph()


def test_all_nodes_and_edges_are_there(graph, tmp_path):
    header, adjacency = read_graph(write_graph_page(tmp_path / "graph.html", graph))
    np.testing.assert_array_equal(adjacency, graph.adjacency)
    assert header["id"] == graph.node_ids
    assert header["reach"] == 1
    for name in ("layer", "position", "feature", "influence"):
        assert header[name] == getattr(graph, name).tolist()
    kinds = ["feature", "error", "token", "logit"]
    assert [kinds[kind] for kind in header["kind"]] == graph.kind.tolist()
    assert header["n_layers"] == graph.n_layers
    np.testing.assert_allclose(header["share"], graph.cumulative_influence, rtol=1e-12)
    feature = graph.kind == "feature"
    assert [value is None for value in header["activation"]] == (~feature).tolist()
    shown = np.array(header["activation"], dtype=float)[feature]
    np.testing.assert_allclose(shown, graph.activation[feature], rtol=1e-3)


def test_the_strongest_are_kept_where_there_are_too_many(graph, tmp_path):
    """And those in a group, and all tokens and logits."""
    inner = np.flatnonzero(np.isin(graph.kind, ("feature", "error")))
    order = inner[np.argsort(-graph.influence[inner], kind="stable")]
    weakest = int(order[-1])
    groups = {"weak": [weakest]}
    path = write_graph_page(tmp_path / "graph.html", graph, max_nodes=10, groups=groups)
    header, adjacency = read_graph(path)
    ends = np.flatnonzero(~np.isin(graph.kind, ("feature", "error")))
    kept = np.sort(np.r_[order[:10], weakest, ends])
    assert header["id"] == [graph.node_ids[node] for node in kept]
    np.testing.assert_array_equal(adjacency, graph.adjacency[np.ix_(kept, kept)])
    assert header["reach"] == pytest.approx(graph.cumulative_influence[order[9]])
    assert groups_in(path) == {"weak": [graph.node_ids[weakest]]}


def test_examples_are_those_of_the_atlas_of_a_layer(graph, tmp_path):
    atlases = {0: SyntheticAtlas(60, seed=0), 2: SyntheticAtlas(60, seed=2)}
    path = write_graph_page(tmp_path / "graph.html", graph, atlas=atlases)
    blocks = blocks_of(path.read_text(encoding="utf-8"))
    assert sorted(name for name in blocks if name.startswith("part")) == ["part-0", "part-2"]
    header, _ = read_graph(path)
    for layer, atlas in atlases.items():
        own = (graph.kind == "feature") & (graph.layer == layer)
        details = {one["feature"]: one for one in read_part(blocks[f"part-{layer}"])}
        assert sorted(details) == sorted(set(graph.feature[own].tolist()))
        for node in np.flatnonzero(own).tolist():
            feature = atlas.feature(int(graph.feature[node]))
            assert header["largest"][node] == pytest.approx(feature.max_activation, rel=1e-3)
            groups = details[feature.feature]["groups"]
            expected = [e.activation for e in feature.examples[:8]]
            shown = [e["activation"] for group in groups for e in group["examples"]]
            np.testing.assert_allclose(shown, expected, rtol=1e-3)


def test_groups_come_back(graph, tmp_path):
    """By ids or line numbers, and as the page saves them; a name cannot end its element."""
    ids = graph.node_ids
    groups = {EVIL[0]: ids[:3], "two": [3, np.int64(4)]}
    path = write_graph_page(tmp_path / "graph.html", graph, groups=groups)
    expected = {EVIL[0]: ids[:3], "two": ids[3:5]}
    assert groups_in(path) == expected
    again = write_graph_page(tmp_path / "again.html", graph, groups=groups_in(path))
    assert again.read_bytes() == path.read_bytes()


def test_texts_are_data(graph, tmp_path):
    path = write_graph_page(tmp_path / "graph.html", graph, title=EVIL[0], groups={EVIL[0]: [0]})
    text = path.read_text(encoding="utf-8")
    assert "alert(1)" not in re.sub(r"&lt;script&gt;alert\(1\)|\\u003cscript>alert\(1\)", "", text)
    header, _ = read_graph(path)
    assert EVIL[0] in header["name"]
    assert not any("\u202e" in name for name in (*header["name"], *header["tokens"]))
    assert path.read_text(encoding="utf-8").count("http") == text.count("http-equiv") + text.count(
        "http://www.w3.org/2000/svg"
    )


@each_case(
    "options, error, message",
    [
        ({"atlas": SyntheticAtlas(60)}, ValueError, "of layers 0, 1, 2: give a dict of an atlas"),
        ({"atlas": {1: SyntheticAtlas(5)}}, ValueError, "in layer 1, but .* only 5 features"),
        ({"atlas": {1: 3}}, TypeError, "atlas of layer 1 must be a fitted FeatureAtlas"),
        ({"groups": {"x": [10**6]}}, ValueError, r"groups\['x'\] has 1000000, which is no node"),
        ({"groups": {"x": ["9_9_9"]}}, ValueError, "'9_9_9', which is no node"),
        ({"groups": {"x": [True]}}, ValueError, "True, which is no node"),
        ({"groups": {"x": [0], "y": [0]}}, ValueError, "node 0 in 'x' and in 'y'"),
        ({"groups": [[0]]}, TypeError, "groups must be a dict"),
        ({"max_nodes": 0}, ValueError, "max_nodes must be"),
    ],
)
def test_what_cannot_be_shown_is_refused(options, error, message, graph, tmp_path):
    with pytest.raises(error, match=message):
        write_graph_page(tmp_path / "graph.html", graph, **options)
    assert not list(tmp_path.iterdir())


def test_what_is_no_graph_or_page_is_refused(graph, tmp_path):
    with pytest.raises(TypeError, match="graph must be an AttributionGraph"):
        write_graph_page(tmp_path / "graph.html", SyntheticAtlas(5))
    with pytest.raises(ValueError, match=r"ends in \.html"):
        write_graph_page(tmp_path / "graph.txt", graph)


def test_one_atlas_is_enough_for_one_layer(tmp_path):
    graph = random_graph(n_layers=1)
    path = write_graph_page(tmp_path / "graph.html", graph, atlas=SyntheticAtlas(60))
    assert "part-0" in blocks_of(path.read_text(encoding="utf-8"))
    path = write_graph_page(tmp_path / "graph.html", graph, atlas=[SyntheticAtlas(60)])
    assert "part-0" in blocks_of(path.read_text(encoding="utf-8"))
