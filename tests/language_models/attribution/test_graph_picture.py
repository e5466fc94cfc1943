"""Pictures of attribution graphs: what is drawn, and where."""

from dataclasses import replace

import numpy as np
import pytest

from tests.language_models.small_graph import graph_of

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def points(ax):
    """The places of all nodes, features first, then errors, then tokens and logits."""
    return [collection.get_offsets().tolist() for collection in ax.collections]


def test_nodes_stand_by_layer_and_token():
    ax = graph_of().plot()
    features, errors, ends = points(ax)
    # Position 0 has its token alone, 1 and 2 have two nodes side by side.
    (first, second, third), width = features, 2
    middle = [0, 1.6 + (width - 1) / 2, 1.6 + width + 0.6 + (width - 1) / 2]
    assert first == [middle[1] - 0.5, 0]  # an error beside it
    assert second == [middle[1] - 0.5, 1]
    assert third == [middle[2] - 0.5, 1]
    assert errors[-1] == [middle[2] + 0.5, 1]
    assert sorted(y for _, y in ends) == [-1, -1, -1, 2, 2]
    np.testing.assert_allclose(ax.get_xticks(), middle)
    labels = [text.get_text() for text in ax.texts]
    assert labels == ["days <b>", "0", "ünter", '␣"x" (p=1) …', "↵ 0.20"]
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "tokens",
        "layer 0",
        "layer 1",
        "logits",
    ]


def test_edges_are_shares_of_what_comes_into_a_node():
    graph = graph_of()
    ax = graph.plot(n_edges=4)
    shares = graph.adjacency / np.maximum(np.abs(graph.adjacency).sum(1, keepdims=True), 1e-30)
    largest = np.sort(np.abs(shares).ravel())[-4:]
    widths = [patch.get_linewidth() for patch in ax.patches]
    np.testing.assert_allclose(widths, 0.3 + 3 * largest, rtol=1e-5)
    assert len(graph.plot(n_edges=0).patches) == 0


def test_only_the_nodes_with_most_influence_are_drawn():
    graph = graph_of()
    inner = np.flatnonzero((graph.kind == "feature") | (graph.kind == "error"))
    strongest = inner[np.argmax(graph.influence[inner])]
    features, errors, _ = points(graph.plot(n_nodes=1))
    drawn = errors if graph.kind[strongest] == "error" else features
    assert (len(features) + len(errors), drawn[0][1]) == (1, graph.layer[strongest])
    assert [len(x) for x in points(graph.plot(n_nodes=0))[:2]] == [0, 0]


def test_signs_of_texts_are_drawn_as_they_are():
    graph = replace(graph_of(), tokens=["$x$", "\\frac", "_"])
    ax = graph.plot(plt.figure().add_subplot())
    ax.figure.canvas.draw()  # what is no formula must not be read as one
    assert [label.get_text() for label in ax.get_xticklabels()] == ["$x$", "\\frac", "_"]


@pytest.mark.parametrize("name", ["n_nodes", "n_edges"])
def test_numbers_that_are_none_are_refused(name):
    with pytest.raises(ValueError, match=name):
        graph_of().plot(**{name: -1})
