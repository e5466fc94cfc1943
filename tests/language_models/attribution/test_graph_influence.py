"""Influence, pruning and scores of graphs, against their definitions."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sksae.language_models.attribution._graph_influence import (
    cumulative,
    influence_of,
    shares,
    strongest,
)
from tests.cases import tries
from tests.language_models.small_graph import graph_of


def consistent(seed):
    """A graph with the influence that its edges make."""
    graph = graph_of(seed, dtype=np.float64)
    weights = np.r_[np.zeros(10), graph.logit_probabilities]
    influence = influence_of(shares(graph.adjacency), weights)
    return replace(graph, influence=influence, cumulative_influence=cumulative(influence)), weights


@settings(max_examples=tries(30))
@given(seed=st.integers(0, 10**6))
def test_influence_is_the_sum_over_all_paths(seed):
    graph, weights = consistent(seed)
    rows = np.abs(graph.adjacency)
    rows = rows / np.maximum(rows.sum(1, keepdims=True), 1e-300)
    expected = weights @ (np.linalg.inv(np.eye(12) - rows) - np.eye(12))
    np.testing.assert_allclose(graph.influence, expected, atol=1e-12)


def test_a_chain_has_the_product_of_its_shares():
    """Token -> feature -> logit, with half of each sum from an error."""
    adjacency = np.zeros((4, 4))  # feature, error, token, logit
    adjacency[0, 2] = 5.0
    adjacency[3, 0], adjacency[3, 1] = -2.0, 2.0
    influence = influence_of(shares(adjacency), np.array([0, 0, 0, 0.5]))
    np.testing.assert_allclose(influence, [0.25, 0.25, 0.25, 0])
    np.testing.assert_allclose(sorted(cumulative(influence)), [1 / 3, 2 / 3, 1, 1])


def test_circles_are_refused():
    with pytest.raises(ValueError, match="circles"):
        influence_of(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([1.0, 0.0]))


@settings(max_examples=tries(30))
@given(
    scores=st.lists(st.integers(0, 50), min_size=1, max_size=30), share=st.sampled_from([0, 0.5, 1])
)
def test_the_strongest_have_the_share_and_no_fewer_do(scores, share):
    scores = np.array(scores, dtype=float)
    mask = strongest(scores, share)
    if not scores.any():
        assert mask.all()
        return
    kept = scores[mask]
    assert kept.sum() >= share * scores.sum() - 1e-9
    assert kept.min() > scores[~mask].max(initial=-1)
    # Without the weakest of them, and its equals, there would be too little.
    assert kept[kept > kept.min()].sum() <= share * scores.sum() + 1e-9


@settings(max_examples=tries(30))
@given(seed=st.integers(0, 10**6), node=st.floats(0, 1), edge=st.floats(0, 1))
def test_a_pruned_graph_is_part_of_the_graph_and_hangs_together(seed, node, edge):
    graph, _ = consistent(seed)
    pruned = graph.prune(node, edge)
    among = np.isin(graph.node_ids, pruned.node_ids)
    whole = graph.adjacency[among][:, among]
    np.testing.assert_array_equal(
        pruned.adjacency[pruned.adjacency != 0], whole[pruned.adjacency != 0]
    )
    np.testing.assert_array_equal(pruned.influence, graph.influence[among])
    ends = (pruned.kind == "token") | (pruned.kind == "logit")
    assert ends.sum() == 5
    assert (ends | (pruned.adjacency != 0).any(0)).all()
    assert ((pruned.kind != "feature") | (pruned.adjacency != 0).any(1)).all()


def test_nothing_is_lost_at_thresholds_of_one():
    graph, _ = consistent(3)
    pruned = graph.prune(1, 1)
    carries = (graph.influence > 0) | (graph.kind == "token") | (graph.kind == "logit")
    assert pruned.node_ids == list(np.array(graph.node_ids)[carries])


def test_scores_are_shares_of_influence():
    graph, weights = consistent(5)
    errors, tokens = (graph.influence[graph.kind == kind].sum() for kind in ("error", "token"))
    output = graph.influence + weights
    of_errors = shares(graph.adjacency)[:, graph.kind == "error"].sum(1)
    scores = graph.scores()
    assert scores["replacement"] == pytest.approx(tokens / (tokens + errors))
    assert scores["completeness"] == pytest.approx(1 - (of_errors * output).sum() / output.sum())


@pytest.mark.parametrize("name", ["node_threshold", "edge_threshold"])
@pytest.mark.parametrize("value", [-0.1, 1.1, "all"])
def test_thresholds_are_shares(name, value):
    with pytest.raises(ValueError, match=name):
        graph_of().prune(**{name: value})


def test_a_table_has_one_row_per_node():
    pd = pytest.importorskip("pandas")
    graph = graph_of()
    frame = graph.to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.index) == graph.node_ids
    np.testing.assert_array_equal(frame["influence"], graph.influence)
    assert frame.loc["1_900_2", "kind"] == "feature"
