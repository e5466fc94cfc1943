"""Influence of the nodes of an attribution graph, and what is left when little of it may go.

The definitions are those of circuit-tracer (Ameisen et al. 2025): edges into a node count as shares
of their absolute sum, and the influence of a node is the sum over all paths to the logits of the
products of shares, times the probabilities of the logits.
"""

import numpy as np


def shares(adjacency):
    """Return absolute edges as shares of all edges into the same node, of the same shape."""
    absolute = np.abs(adjacency)
    return absolute / np.maximum(absolute.sum(1, keepdims=True), 1e-10)


def influence_of(adjacency, weights):
    """Return the influence of each node on the weighted targets, ``sum_k w A^k``, k from 1 on.

    Parameters
    ----------
    adjacency : ndarray of shape (n_nodes, n_nodes)
        Shares; rows are targets.
    weights : ndarray of shape (n_nodes,)
        The weight of each node as a target.
    """
    total = np.zeros(len(weights), dtype=np.float64)
    step = np.asarray(weights, dtype=adjacency.dtype)
    for _ in range(len(weights) + 1):  # no path is longer
        step = step @ adjacency
        if not step.any():
            return total
        total += step
    raise ValueError("The edges of an attribution graph must not run in circles.")


def cumulative(influence):
    """Return, for each node, the share of all influence that it and the stronger ones have."""
    order = np.argsort(-influence, kind="stable")
    result = np.empty(len(influence))
    result[order] = np.cumsum(influence[order]) / max(influence.sum(), np.finfo(float).tiny)
    return result


def strongest(scores, share):
    """Mask of the fewest of the largest scores that sum to a share of all, and of their equals."""
    positive = np.sort(scores[scores > 0])[::-1].astype(np.float64)
    if not len(positive):
        return np.ones(scores.shape, dtype=bool)
    sums = np.cumsum(positive)
    last = min(int(np.searchsorted(sums / sums[-1], share)), len(positive) - 1)
    return scores >= positive[last]


def pruned(adjacency, weights, kind, influence, *, node_threshold, edge_threshold):
    """Return a mask of the nodes that are kept, and the edges between them that are.

    Parameters
    ----------
    adjacency : ndarray of shape (n_nodes, n_nodes)
        The edges; rows are targets.
    weights : ndarray of shape (n_nodes,)
        The probability of each logit, 0 for other nodes.
    kind : ndarray of shape (n_nodes,)
        The kind of each node.
    influence : ndarray of shape (n_nodes,)
        The influence of each node.
    node_threshold, edge_threshold : float
        Shares of the influence that the nodes, and then the edges, should keep.

    Returns
    -------
    nodes : ndarray of shape (n_nodes,), dtype=bool
        Which nodes are kept.
    edges : ndarray of shape (n_kept, n_kept)
        The edges between them, zero where they are not kept.
    """
    at_the_end = (kind == "token") | (kind == "logit")
    (numbers,) = (strongest(influence, node_threshold) | at_the_end).nonzero()
    between, weights, kind = adjacency[np.ix_(numbers, numbers)], weights[numbers], kind[numbers]
    of_targets = shares(between)
    scores = of_targets * (influence_of(of_targets, weights) + weights)[:, None]
    edges = strongest(scores, edge_threshold) & (between != 0)
    at_the_end, keeps = at_the_end[numbers], np.ones(len(numbers), dtype=bool)
    while True:
        # What leads nowhere goes, and so do features that come from nowhere.
        still = keeps & (at_the_end | edges.any(0)) & ((kind != "feature") | edges.any(1))
        if np.array_equal(still, keeps):
            break
        keeps = still
        edges &= keeps[:, None] & keeps
    nodes = np.zeros(len(adjacency), dtype=bool)
    nodes[numbers[keeps]] = True
    return nodes, np.where(edges, between, 0)[keeps][:, keeps]


def scores_of(adjacency, weights, kind):
    """Return the replacement score and the completeness score of a graph."""
    of_targets = shares(adjacency)
    influence = influence_of(of_targets, weights)
    errors, tokens = influence[kind == "error"].sum(), influence[kind == "token"].sum()
    explained = 1 - of_targets[:, kind == "error"].sum(1)
    output = influence + weights
    with np.errstate(invalid="ignore"):
        return float(tokens / (tokens + errors)), float((explained * output).sum() / output.sum())
