"""Sparse feature circuits: the nodes that matter, the edges between them, how much they carry."""

import numpy as np
import torch

from sksae._modes import own_modes
from sksae._threads import threads_of_process
from sksae.language_models.attribution._circuit_edges import edges_of, members_of
from sksae.language_models.attribution._circuit_graph import FeatureCircuit
from sksae.language_models.attribution._effects import check_options, effects_of, summed, table_of
from sksae.language_models.attribution._study import study

_POSITIONS_AT_A_TIME = 64


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
        What is explained, as for `attribute`.
    baseline : {None, "patch", "mean", "zero"}, default=None
        What a node is compared with, and what it is put to outside the circuit, as for
        `attribute`.
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
        Names of features, for all sites or one mapping a site.
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
    >>> for layer, site in sites:
    ...     rows = ActivationExtractor(TINY_LM_PATH, layer).transform(load_corpus().data[:8])
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
        one = study(
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
        every = effects_of(one, method, n_steps, batch_size)
        effects = summed(every) if positions == "sum" else every
        order = np.argsort(-np.abs(effects.effect), kind="stable")
        chosen = effects.take(order[np.abs(effects.effect[order]) >= node_threshold])
        members = [_members(one, i, chosen) for i in range(len(one.nodes))]
        edges = edges_of(one, members, len(chosen.site), batch_size)
        edges = edges[np.abs(edges["effect"]) >= edge_threshold]
        faithfulness, completeness = _carried(one, chosen)
        return FeatureCircuit(
            nodes=table_of(one, every, chosen, ()),
            edges=edges[np.argsort(-np.abs(edges["effect"]), kind="stable")],
            faithfulness=faithfulness,
            completeness=completeness,
            sites=one.labels,
            tokens=one.prompt.tokens.string.tolist(),
            prompt=one.prompt.tokens.texts[0],
            metric_tokens=one.metric.tokens,
        )


def _members(study, i, chosen):
    """Return the `Members` of the circuit at a site: which of its codes belong to which node."""
    nodes = study.nodes[i]
    numbers = {
        (int(position), int(feature)): n
        for n, (site, position, feature) in enumerate(zip(*chosen[:3], strict=True))
        if site == i
    }

    def number(position, feature):
        pairs = zip(position.tolist(), feature.tolist(), strict=True)
        found = [numbers.get(p, numbers.get((-1, p[1]), -1)) for p in pairs]
        return torch.tensor(found, dtype=torch.long, device=nodes.x.device)

    every = torch.arange(len(nodes.x))
    return members_of(
        nodes, number(nodes.position, nodes.feature), number(every, torch.full_like(every, -1))
    )


def _carried(study, chosen):
    """Return faithfulness and completeness of the circuit of the chosen nodes."""
    splicer, sites = study.splicer, range(len(study.nodes))
    kept = [_part_of(study.nodes[i], chosen.take(chosen.site == i)) for i in sites]
    nothing = splicer.metric(study.metric, {i: study.nodes[i].baseline[None] for i in sites})
    inside = splicer.metric_of_visits(
        study.metric, [_inside(*pair) for pair in zip(study.nodes, kept, strict=True)]
    )
    outside = splicer.metric_of_visits(study.metric, [_outside(part) for part in kept])
    nothing = float(nothing)
    whole = study.clean - nothing
    if whole == 0:
        return float("nan"), float("nan")
    return (inside - nothing) / whole, (outside - nothing) / whole


def _inside(nodes, part):
    def visit(x):
        return (nodes.baseline + part(x)).to(x.dtype)[None]

    return visit


def _outside(part):
    def visit(x):
        return (x[0] - part(x)).to(x.dtype)[None]

    return visit


def _part_of(nodes, chosen):
    """Return a function from what passes a site to what the circuit adds to the baseline there.

    That is ``(f - f') @ W + (e - e')`` over the codes and errors of the circuit.
    """
    dictionary, device = nodes.site.dictionary, nodes.x.device
    everywhere = chosen.position < 0
    wrong = chosen.feature < 0
    errors = torch.zeros(len(nodes.x), 1, dtype=torch.bool, device=device)
    errors[chosen.position[wrong & ~everywhere]] = True
    errors |= bool((wrong & everywhere).any())
    columns, column = np.unique(chosen.feature[~wrong], return_inverse=True)
    mask = torch.zeros(len(nodes.x), len(columns), dtype=torch.bool, device=device)
    some = everywhere[~wrong]
    mask[:, column[some]] = True
    mask[chosen.position[~wrong][~some], column[~some]] = True
    columns = torch.from_numpy(columns).to(device)
    baseline = _columns(nodes, columns)

    def part(x):
        found = []
        for first in range(0, len(nodes.x), _POSITIONS_AT_A_TIME):
            here = slice(first, first + _POSITIONS_AT_A_TIME)
            rows = x[0, here].to(device, nodes.x.dtype)
            codes = dictionary.encode(rows)
            change = (codes[:, columns] - baseline[here]) * mask[here]
            error = rows - dictionary.decode(codes) - nodes.baseline_error[here]
            found.append(change @ dictionary.components(rows)[columns] + error * errors[here])
        return torch.cat(found)

    return part


def _columns(nodes, columns):
    """Return some columns, in their order, of the codes of the baseline, (n_tokens, n_columns)."""
    found = nodes.x.new_zeros(len(nodes.x), len(columns))
    column = torch.searchsorted(columns, nodes.feature)
    entry = torch.isin(nodes.feature, columns)
    found[nodes.position[entry], column[entry]] = nodes.baseline_code[entry]
    return found
