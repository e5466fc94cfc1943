"""Sparse feature circuits: the strongest nodes, the edges between them, their share of a metric."""

from typing import NamedTuple

import numpy as np
import torch

from sksae._arrays import to_torch
from sksae._modes import own_modes
from sksae._threads import threads_of_process
from sksae.language_models.attribution._attribute import (
    attribution_table,
    check_options,
    node_effects,
    summed_over_positions,
)
from sksae.language_models.attribution._attribution_nodes import along_features
from sksae.language_models.attribution._circuit_graph import EDGE, METRIC, FeatureCircuit
from sksae.language_models.attribution._decomposed_prompt import decompose

_POSITIONS_AT_A_TIME = 64  # dense codes of as many positions exist at once
_CODES_AT_A_TIME = 4096


def feature_circuit(
    model,
    sites,
    saes,
    prompt,
    metric=None,
    *,
    baseline=None,
    counterfactual=None,
    background=None,
    node_threshold=0.1,
    edge_threshold=0.01,
    positions="none",
    method="integrated_gradients",
    n_steps=10,
    names=None,
    tokenizer=None,
    batch_size=32,
):
    """Find the circuit of features behind a prediction.

    The nodes are those of `attribute` with an effect of at least `node_threshold`. The edge from
    node u at one site to node d at a later one is ``(u - u') * w * d d / d u``: what u contributes
    to d, times the derivative ``w`` of the metric with respect to d, so that it is in units of the
    metric as well. All other sites are held meanwhile: an edge is a direct effect, and what goes
    by way of a node in between is in the edges of that node. Edges into the metric are what
    reaches it past all later sites.

    With all nodes and edges, those that leave a node add up to its effect by attribution patching.

    Parameters
    ----------
    model : str, Path or PreTrainedModel
        A model that predicts tokens, or the name or path of one.
    sites : str, (int, str) or list of them
        Where in the model, in any order, as for `attribute`.
    saes : estimator or list of estimators
        The fitted sparse autoencoder of each site. Besides codes and reconstructions its encoder,
        `encoder_coef_`, is needed.
    prompt : str, array of token ids or list of messages
        What the model reads.
    metric : None, str, int, pair of them, or callable, default=None
        The quantity to explain, as for `attribute`.
    baseline : {None, "patch", "mean", "zero"}, default=None
        The values that a node is compared with, and has outside the circuit, as for `attribute`.
    counterfactual : str, array of token ids or list of messages, default=None
        A prompt of as many tokens with another answer.
    background : list of str, default=None
        Ordinary texts.
    node_threshold : float, default=0.1
        The smallest absolute effect of a node, in units of the metric.
    edge_threshold : float, default=0.01
        The smallest absolute effect of an edge, in units of the metric.
    positions : {"none", "sum"}, default="none"
        How positions are aggregated: not at all, or a feature is one node whose effects, and
        edges, are summed over positions.
    method : {"integrated_gradients", "attribution_patching"}, default="integrated_gradients"
        How the effects of nodes are estimated, as for `attribute`.
    n_steps : int, default=10
        Points of the integral.
    names : mapping of int to str, or list of mappings, default=None
        Names of features, for all sites or one mapping per site.
    tokenizer : str, Path or tokenizer, default=None
        None takes the one that goes with the model's name. Needed with a model object.
    batch_size : int, default=32
        The most copies of the prompt in one pass.

    Returns
    -------
    circuit : FeatureCircuit
        Nodes, edges, and how much of the metric the circuit carries.

    Raises
    ------
    TypeError
        If an autoencoder or the metric is of a kind that cannot be used.
    ValueError
        As for `attribute`, and if a threshold is negative.

    See Also
    --------
    attribute : The effects of all nodes, and their verification.

    Notes
    -----
    Faithfulness is ``(m(C) - m(0)) / (m(M) - m(0))``: ``m(M)`` is the metric of the prompt as it
    is, ``m(0)`` with all sites at their baseline, ``m(C)`` with everything outside the circuit at
    its baseline and the circuit's features computed anew from what reaches them. `completeness`
    is the same number for what is left without the circuit, near 0 if nothing important is
    missing; features that fire only once the circuit is gone are among what is left. Neither is
    bounded by 0 and 1.

    Features that fire only in the baseline can be nodes, but have no edges into them.

    References
    ----------
    S. Marks, C. Rager, E. J. Michaud, Y. Belinkov, D. Bau, A. Mueller: Sparse Feature Circuits:
    Discovering and Editing Interpretable Causal Graphs in Language Models, 2024.
    https://arxiv.org/abs/2403.19647

    Examples
    --------
    >>> from sksae import TopKSAE
    >>> from sksae.datasets import TINY_LM_PATH, load_corpus
    >>> from sksae.language_models import ActivationExtractor, feature_circuit
    >>> sites, saes = [(1, "resid_post"), (3, "resid_post")], []
    >>> texts = load_corpus().data[:4]
    >>> for layer, site in sites:
    ...     rows = ActivationExtractor(TINY_LM_PATH, layer).transform(texts)
    ...     saes.append(TopKSAE(256, k=8, max_iter=3, random_state=0).fit(rows))
    >>> circuit = feature_circuit(
    ...     TINY_LM_PATH, sites, saes, "Return the mean of the array", (" of", " to"),
    ...     counterfactual="Return the mean to the array",
    ... )
    >>> len(circuit.nodes) > 5 and len(circuit.edges) > 5
    True
    >>> circuit.faithfulness > 0.8
    True
    """
    check_options(method=method, n_steps=n_steps, batch_size=batch_size, positions=positions)
    check_options(node_threshold=node_threshold, edge_threshold=edge_threshold)
    with threads_of_process(), own_modes():
        decomposed = decompose(
            model,
            sites,
            saes,
            prompt,
            metric,
            baseline=baseline,
            counterfactual=counterfactual,
            background=background,
            names=names,
            tokenizer=tokenizer,
            encoders=True,
        )
        all_effects = node_effects(decomposed, method, n_steps, batch_size)
        effects = summed_over_positions(all_effects) if positions == "sum" else all_effects
        order = np.argsort(-np.abs(effects.effect), kind="stable")
        chosen = effects.take(order[np.abs(effects.effect[order]) >= node_threshold])
        members = [Members.of(decomposed, i, chosen) for i in range(len(decomposed.nodes))]
        edges = _edges_of(decomposed, members, len(chosen.site), batch_size)
        edges = edges[np.abs(edges["effect"]) >= edge_threshold]
        faithfulness, completeness = _carried(decomposed, chosen)
        return FeatureCircuit(
            nodes=attribution_table(decomposed, all_effects, chosen, ()),
            edges=edges[np.argsort(-np.abs(edges["effect"]), kind="stable")],
            faithfulness=faithfulness,
            completeness=completeness,
            sites=decomposed.labels,
            tokens=decomposed.prompt.tokens.string.tolist(),
            prompt=decomposed.prompt.tokens.texts[0],
            metric_tokens=decomposed.metric.tokens,
        )


class Members(NamedTuple):
    """The nodes of a circuit at one site, position by position.

    Several codes or errors belong to one node where positions are added up.
    """

    position: torch.Tensor  # (n,): of each code
    feature: torch.Tensor  # (n,)
    code: torch.Tensor  # (n,)
    change: torch.Tensor  # (n,): from the baseline to the code
    node: torch.Tensor  # (n,): number in the circuit of its node
    error_position: torch.Tensor  # (m,): of each error
    error_node: torch.Tensor  # (m,): number in the circuit of its node

    @classmethod
    def of(cls, decomposed, i, chosen):
        """Return the members at site `i` of the circuit of the `chosen` `Effects`."""
        nodes = decomposed.nodes[i]
        numbers = {
            (int(position), int(feature)): n
            for n, (site, position, feature) in enumerate(zip(*chosen[:3], strict=True))
            if site == i
        }

        def number(position, feature):
            """Return the number in the circuit of each code, -1 for those outside of it."""
            pairs = zip(position.tolist(), feature.tolist(), strict=True)
            # Position -1 stands for the sum over positions.
            in_circuit = [numbers.get(pair, numbers.get((-1, pair[1]), -1)) for pair in pairs]
            return torch.tensor(in_circuit, dtype=torch.long, device=nodes.x.device)

        positions = torch.arange(len(nodes.x))
        features = number(nodes.position, nodes.feature)
        errors = number(positions, torch.full_like(positions, -1))
        chosen_codes, error_position = features >= 0, (errors >= 0).nonzero()[:, 0]
        code = nodes.code[chosen_codes]
        return cls(
            nodes.position[chosen_codes],
            nodes.feature[chosen_codes],
            code,
            code - nodes.baseline_code[chosen_codes],
            features[chosen_codes],
            error_position,
            errors[error_position],
        )


def _edges_of(decomposed, members, n_nodes, batch_size):
    """Return every edge of a circuit, an array of dtype `EDGE`.

    The edge from u to d is ``(u - u') * d(w d) / d u``, ``w`` being the derivative of the metric
    with respect to d in the untouched prompt (Marks et al. 2024). A code is taken as the linear
    function it is as long as the same features fire. All sites before that of d are held, so that
    what passes through one of their nodes is left to the edges of that node.
    """
    gradients = decomposed.gradients()
    parts = []
    for i in range(1, len(decomposed.nodes)):
        targets = _Targets(decomposed.nodes[i], members[i], gradients[i])
        for first in range(0, len(targets.numbers), batch_size):
            numbers = targets.numbers[first : first + batch_size]
            held = {u: v for u, v in decomposed.clean_values(len(numbers)).items() if u < i}
            into = decomposed.splicer.gradients_at(i, targets.weights(numbers), held)
            parts.append(_edges(decomposed, members, into, numbers.tolist(), n_nodes))
    into = decomposed.splicer.gradients(decomposed.metric, decomposed.clean_values(), hold=True)
    parts.append(_edges(decomposed, members, into, [METRIC], n_nodes))
    return np.concatenate(parts)


def _edges(decomposed, members, gradients, targets, n_nodes):
    """Return the edges into some targets, from gradients with one row per target."""
    effects = torch.zeros(len(targets), n_nodes, dtype=torch.float64)
    for i, gradient in gradients.items():
        sources, nodes = members[i], decomposed.nodes[i]
        dictionary = nodes.site.dictionary
        along = along_features(dictionary, gradient, sources.position, sources.feature)
        effects.index_add_(1, sources.node.cpu(), (along * sources.change).double().cpu())
        change = (nodes.error - nodes.baseline_error)[sources.error_position]
        errors = (gradient[:, sources.error_position] * change).sum(-1)
        effects.index_add_(1, sources.error_node.cpu(), errors.double().cpu())
    target, source = effects.nonzero(as_tuple=True)
    edges = np.empty(len(source), dtype=EDGE)
    edges["source"], edges["target"] = source.numpy(), np.asarray(targets)[target.numpy()]
    edges["effect"] = effects[target, source].numpy()
    return edges


class _Targets:
    """The nodes of one site as targets of edges.

    Parameters
    ----------
    nodes : Nodes
        All nodes of the site.
    members : Members
        Those of the circuit.
    gradient : Tensor of shape (n_tokens, width)
        Derivatives of the metric with respect to the activations.
    """

    def __init__(self, nodes, members, gradient):
        dictionary = nodes.site.dictionary
        self._encoder = to_torch(dictionary.sae.encoder_coef_, gradient.device, gradient.dtype)
        fires = members.code != 0
        self._position, self._feature, self._node = (
            column[fires] for column in (members.position, members.feature, members.node)
        )
        self._along = along_features(dictionary, gradient, self._position, self._feature)
        self._error_position, self._error_node = members.error_position, members.error_node
        self._gradient = gradient
        self._errors = self._error_weights(nodes) if len(members.error_node) else gradient
        self.numbers = torch.cat([self._node, members.error_node]).unique()

    def weights(self, numbers):
        """Return the weights of the activations, (n, n_tokens, width), that give ``w d`` of nodes.

        `numbers` are the nodes ``d`` in the circuit, n of `self.numbers`.
        """
        weights = self._gradient.new_zeros(len(numbers), *self._gradient.shape)
        # Pairs of a target (a row of `weights`) and a code or an error that belongs to it.
        row, entry = (numbers[:, None] == self._node).nonzero(as_tuple=True)
        of_codes = self._along[entry, None] * self._encoder[self._feature[entry]]
        weights.index_put_((row, self._position[entry]), of_codes, accumulate=True)
        row, entry = (numbers[:, None] == self._error_node).nonzero(as_tuple=True)
        position = self._error_position[entry]
        weights.index_put_((row, position), self._errors[position], accumulate=True)
        return weights

    def _error_weights(self, nodes):
        """Return the weights of the activations that give ``w e`` at each position.

        The error is ``x - dec(f(x))``, so that the directions which active features read are
        subtracted.
        """
        weights = self._gradient.clone()
        fires = (nodes.code != 0).nonzero()[:, 0]
        for block in fires.split(_CODES_AT_A_TIME):
            position, feature = nodes.position[block], nodes.feature[block]
            along = along_features(nodes.site.dictionary, self._gradient, position, feature)
            weights.index_add_(0, position, -along[:, None] * self._encoder[feature])
        return weights


def _carried(decomposed, chosen):
    """Return faithfulness and completeness of the circuit of the chosen nodes."""
    splicer, metric = decomposed.splicer, decomposed.metric
    baselines = {i: nodes.baseline[None] for i, nodes in enumerate(decomposed.nodes)}
    at_baseline = float(splicer.metric(metric, baselines))
    parts = [
        _CircuitPart(nodes, chosen.take(chosen.site == i))
        for i, nodes in enumerate(decomposed.nodes)
    ]
    inside = splicer.metric_of_visits(metric, [part.kept for part in parts])
    outside = splicer.metric_of_visits(metric, [part.removed for part in parts])
    total = decomposed.clean - at_baseline
    if total == 0:
        return float("nan"), float("nan")
    return (inside - at_baseline) / total, (outside - at_baseline) / total


class _CircuitPart:
    """The part of the activations of a site that the nodes of a circuit account for.

    Parameters
    ----------
    nodes : Nodes
        All nodes of the site.
    chosen : Effects
        Those of the circuit.
    """

    def __init__(self, nodes, chosen):
        self._nodes = nodes
        device, n_tokens = nodes.x.device, len(nodes.x)
        everywhere = chosen.position < 0
        is_error = chosen.feature < 0
        # (n_tokens, 1): whether the error of a token is in the circuit
        self._errors = torch.zeros(n_tokens, 1, dtype=torch.bool, device=device)
        self._errors[chosen.position[is_error & ~everywhere]] = True
        self._errors |= bool((is_error & everywhere).any())
        # (n_tokens, n_columns): whether a feature is in the circuit at a token
        columns, column = np.unique(chosen.feature[~is_error], return_inverse=True)
        self._mask = torch.zeros(n_tokens, len(columns), dtype=torch.bool, device=device)
        summed = everywhere[~is_error]
        self._mask[:, column[summed]] = True
        self._mask[chosen.position[~is_error][~summed], column[~summed]] = True
        self._columns = torch.from_numpy(columns).to(device)
        self._baseline_codes = _codes_at(nodes, self._columns)

    def kept(self, x):
        """Visit that puts everything outside of the circuit at its baseline."""
        return (self._nodes.baseline + self._change(x)).to(x.dtype)[None]

    def removed(self, x):
        """Visit that puts the circuit at its baseline."""
        return (x[0] - self._change(x)).to(x.dtype)[None]

    def _change(self, x):
        """Return the contribution of the circuit, ``(f - f') @ W + (e - e')`` of its nodes.

        `x` are the activations, (1, n_tokens, width); the result is (n_tokens, width).
        """
        nodes, dictionary = self._nodes, self._nodes.site.dictionary
        changes = []
        for first in range(0, len(nodes.x), _POSITIONS_AT_A_TIME):
            block = slice(first, first + _POSITIONS_AT_A_TIME)
            rows = x[0, block].to(nodes.x.device, nodes.x.dtype)
            codes = dictionary.encode(rows)
            change = (codes[:, self._columns] - self._baseline_codes[block]) * self._mask[block]
            error = rows - dictionary.decode(codes) - nodes.baseline_error[block]
            directions = dictionary.components(rows)[self._columns]
            changes.append(change @ directions + error * self._errors[block])
        return torch.cat(changes)


def _codes_at(nodes, columns):
    """Return some sorted columns of the codes of the baseline, (n_tokens, n_columns)."""
    codes = nodes.x.new_zeros(len(nodes.x), len(columns))
    column = torch.searchsorted(columns, nodes.feature)
    entry = torch.isin(nodes.feature, columns)
    codes[nodes.position[entry], column[entry]] = nodes.baseline_code[entry]
    return codes
