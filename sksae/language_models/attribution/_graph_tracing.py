"""Attribution graphs of prompts: direct effects between features by batches of backward passes."""

import re
from collections.abc import Mapping

import numpy as np
import torch

from sksae._arrays import objects
from sksae._modes import own_modes
from sksae._params import Bool, Float, Int, check_option
from sksae._threads import threads_of_process
from sksae.language_models.attribution._attribution_graph import NODE_KINDS, AttributionGraph
from sksae.language_models.attribution._graph_influence import cumulative, influence_of, shares
from sksae.language_models.attribution._replacement_model import ReplacementModel
from sksae.language_models.extraction import tokenized_prompt
from sksae.language_models.model import (
    SITES,
    base_of,
    find_blocks,
    find_readout,
    find_target,
    fitted_estimator,
    is_transcoder,
    load_causal,
)

_RULES = {
    "max_logits": Int(1),
    "logit_probability": Float(0, 1, open_="low"),
    "max_feature_nodes": Int(1),
    "batch_size": Int(1),
    "include_special_tokens": Bool(),
}
_BATCHES_PER_RANKING = 4  # backward passes before features are ranked anew


def attribution_graph(
    model,
    sites,
    transcoders,
    prompt,
    *,
    target_sites=None,
    max_logits=10,
    logit_probability=0.95,
    max_feature_nodes=8192,
    include_special_tokens=False,
    names=None,
    tokenizer=None,
    batch_size=128,
):
    """Trace a prediction of a language model through the features of its transcoders.

    In the local replacement model of a prompt every MLP is what its transcoder makes of it plus an
    error that makes up the difference, and attention patterns and the denominators of norms are
    constants. Then the pre-activation of each feature that fires is a sum of direct effects of
    earlier features, of errors, of the embeddings of tokens, and of constants; so are the logits.

    Parameters
    ----------
    model : str, Path or PreTrainedModel
        A model that predicts tokens, or the name or path of one.
    sites : str or list of (int, str) or str
        Where the transcoders read. A site of every block, such as ``"resid_mid"``, or a path with
        ``{layer}`` in it, such as ``"layers.{layer}.mlp.input"``; or a list of one site per
        transcoder, as for `attribute`.
    transcoders : list of Transcoder
        One fitted transcoder per layer, with or without a skip connection. In a cross-layer
        transcoder that of layer l predicts what the MLPs of layers l, l + 1 and so on add, side by
        side, and each MLP is the sum of what the transcoders up to its layer predict for it.
    prompt : str, array of token ids or list of messages
        What the model reads.
    target_sites : str or list of (int, str) or str, default=None
        Where the transcoders write, given like `sites`; None is the ``mlp_out`` of their blocks.
    max_logits : int, default=10
        The most logits that are nodes.
    logit_probability : float, default=0.95
        The most likely tokens are nodes until their probabilities sum to this.
    max_feature_nodes : int, default=8192
        The most features that are nodes. If more are active, those are that have the most
        influence, which is computed anew as nodes are added.
    include_special_tokens : bool, default=False
        Whether there are features and errors at special tokens, such as the one in front of many
        prompts. By default what MLPs add there is a constant, as transcoders are not fitted on it.
    names : mapping of int to str, or list of mappings, default=None
        Names of features, for all transcoders or one mapping per transcoder.
    tokenizer : str, Path or tokenizer, default=None
        None takes the one that goes with the model's name. Needed with a model object.
    batch_size : int, default=128
        Nodes per backward pass, each with a copy of the prompt.

    Returns
    -------
    graph : AttributionGraph
        All nodes and edges; `AttributionGraph.prune` keeps those that matter.

    Raises
    ------
    TypeError
        If one of `transcoders` is none.
    ValueError
        If there is not one transcoder for each layer, codes are not linear where they are not zero,
        or the model is not linear between its MLPs.

    See Also
    --------
    feature_circuit : Circuits of autoencoders.
    attribute : Effects at one site.

    Notes
    -----
    The effect of one node on the other is over all paths on which there is no other node: through
    the residual stream, the values of attention, and skip connections. Why attention is where it
    is, the graph does not say: patterns are constants. Nor does it show features that do not fire
    and would have; a model may do the same for several reasons at once.

    Errors are no explanation. The scores of the graph say how much runs through them.

    References
    ----------
    E. Ameisen, J. Lindsey, et al.: Circuit Tracing: Revealing Computational Graphs in Language
    Models, 2025. https://transformer-circuits.pub/2025/attribution-graphs/methods.html

    M. Hanna, M. Piotrowski, J. Lindsey, E. Ameisen: circuit-tracer, 2025.

    J. Dunefsky, P. Chlenski, N. Nanda: Transcoders Find Interpretable LLM Feature Circuits, 2024.
    https://arxiv.org/abs/2406.11944

    Examples
    --------
    >>> from sksae import TopKSAE, Transcoder
    >>> from sksae.datasets import TINY_LM_PATH, load_corpus
    >>> from sksae.language_models import ActivationExtractor, attribution_graph
    >>> sites = [(layer, site) for layer in range(5) for site in ("resid_mid", "mlp_out")]
    >>> extractor = ActivationExtractor(TINY_LM_PATH, site=sites)
    >>> blocks = extractor.split(extractor.transform(load_corpus().data[:2]))
    >>> transcoders = []
    >>> for layer in range(5):
    ...     estimator = TopKSAE(64, k=8, max_iter=1, random_state=0)
    ...     X, Y = blocks[f"{layer}.resid_mid"], blocks[f"{layer}.mlp_out"]
    ...     transcoders.append(Transcoder(estimator, skip=True).fit(X, Y))
    >>> graph = attribution_graph(TINY_LM_PATH, "resid_mid", transcoders, "Return the mean of the")
    >>> graph.logit_tokens[0]
    ' matrix'
    >>> len(graph.prune()) < len(graph)
    True
    """
    options = {
        "max_logits": max_logits,
        "logit_probability": logit_probability,
        "max_feature_nodes": max_feature_nodes,
        "include_special_tokens": include_special_tokens,
        "batch_size": batch_size,
    }
    for name, value in options.items():
        check_option(name, value, _RULES[name])
    with threads_of_process(), own_modes():
        model, tokenizer = load_causal(model, tokenizer)
        prompt = tokenized_prompt(model, tokenizer, prompt)
        targets, transcoders, names = _layers_of(model, sites, transcoders, target_sites, names)
        constant = prompt.special & (not include_special_tokens)
        replacement = ReplacementModel(model, targets, transcoders, prompt.inputs, constant)
        effects = _DirectEffects(replacement, batch_size)
        logits = _Logits(model, replacement, max_logits, logit_probability)
        chosen, adjacency = _adjacency(effects, logits, max_feature_nodes)
        return _graph(effects, logits, chosen, adjacency, names, prompt, tokenizer)


def _layers_of(model, sites, transcoders, target_sites, names):
    """Return targets, transcoders and names of features, from the first layer to the last."""
    transcoders = list(transcoders) if isinstance(transcoders, (list, tuple)) else [transcoders]
    base = base_of(model)
    n_layers = len(base.get_submodule(find_blocks(base)))
    sites = _of_layers(sites, n_layers)
    target_sites = [None] * len(sites) if target_sites is None else target_sites
    target_sites = _of_layers(target_sites, n_layers)
    names = list(names) if isinstance(names, (list, tuple)) else [names or {}] * len(sites)
    if not len(sites) == len(transcoders) == len(target_sites):
        raise ValueError(
            f"Each transcoder has a site: got {len(transcoders)} transcoders, {len(sites)} sites "
            f"and {len(target_sites)} target sites."
        )
    if len(names) != len(sites) or not all(isinstance(x, Mapping) for x in names):
        raise TypeError(
            f"names must map features to names, one mapping or one per transcoder. Got {names!r}."
        )
    by_layer = {}
    for site, sae, target_site, name in zip(sites, transcoders, target_sites, names, strict=True):
        transcoder = fitted_estimator(sae)
        if not is_transcoder(transcoder):
            raise TypeError(
                f"An attribution graph is made of transcoders, which predict what an MLP adds; "
                f"{type(transcoder).__name__} is none. For autoencoders use feature_circuit."
            )
        target = find_target(model, site, transcoder, target_site)
        layer = _layer_of(base, target.point)
        if layer in by_layer:
            raise ValueError(f"There are two transcoders for layer {layer}.")
        by_layer[layer] = target, transcoder, name
    missing = sorted(set(range(n_layers)) - set(by_layer))
    if missing:
        raise ValueError(
            f"An attribution graph needs a transcoder for each of the {n_layers} layers: there is "
            f"none for layer {', '.join(map(str, missing))}."
        )
    return zip(*(by_layer[i] for i in range(n_layers)), strict=True)


def _of_layers(sites, n_layers):
    """Return a list of sites: those given, or that of every block where one is given for all."""
    if not isinstance(sites, str):
        return list(sites)
    if sites in SITES:
        return [(i, sites) for i in range(n_layers)]
    if "{layer}" in sites:
        return [sites.replace("{layer}", str(i)) for i in range(n_layers)]
    return [sites]


def _layer_of(base, point):
    """Return the number of the block that a hook point is in, or None."""
    inside = re.match(rf"{re.escape(find_blocks(base))}\.(\d+)(\.|$)", point.path)
    return int(inside[1]) if inside else None


class _Logits:
    """The logits that are nodes, as linear functions of the stream behind the last block.

    Parameters
    ----------
    model : torch.nn.Module
        The model.
    replacement : ReplacementModel
        The prompt.
    max_logits, logit_probability : int, float
        As for `attribution_graph`.
    """

    def __init__(self, model, replacement, max_logits, logit_probability):
        probabilities, ids = replacement.logits.softmax(-1).topk(
            min(max_logits, len(replacement.logits))
        )
        sums = probabilities.cumsum(0)
        n = int(torch.searchsorted(sums, torch.tensor(logit_probability).to(sums))) + 1
        self.ids, self.probabilities = ids[:n], probabilities[:n]
        readout = find_readout(model)
        v = torch.zeros(len(self.ids), readout.width, device=readout.gain.device)
        v = v.to(readout.gain.dtype).requires_grad_()
        logits = readout.unembed(v)
        ids = self.ids.to(logits.device)[:, None]
        (rows,) = torch.autograd.grad((logits.gather(1, ids)[:, 0] - logits.mean(1)).sum(), v)
        rows = rows * readout.gain
        rows = rows - rows.mean(-1, keepdim=True) if readout.centred else rows
        self.rows = (rows / readout.scale(replacement.stream[-1])).to(replacement.stream)
        constants = readout.constants()
        self.constants = (constants[ids[:, 0]] - constants.mean()).to(replacement.stream)


class _DirectEffects:
    """Direct effects of all possible sources on nodes that read a tensor at one position.

    Sources are the active features of all layers, the errors by layer and position, and the tokens.

    Parameters
    ----------
    replacement : ReplacementModel
        The prompt.
    batch_size : int
        Nodes per backward pass.
    """

    def __init__(self, replacement, batch_size):
        self.replacement = replacement
        self.batch_size = batch_size
        layers = replacement.layers
        self.n_tokens = len(replacement.embeddings)
        counts = [len(layer.code) for layer in layers]
        self.n_features = sum(counts)
        self.n_sources = self.n_features + (len(layers) + 1) * self.n_tokens
        device = replacement.embeddings.device
        self.layer = torch.arange(len(layers), device=device).repeat_interleave(
            torch.tensor(counts, device=device)
        )
        self.position, self.feature, self.code = (
            torch.cat([getattr(layer, name) for layer in layers])
            for name in ("position", "feature", "code")
        )
        self._written = [layer.written() for layer in layers]
        # Entries of a layer are sorted by position: those at t are bounds[t]:bounds[t + 1].
        ends = torch.arange(self.n_tokens + 1, device=device)
        self._bounds = [torch.searchsorted(x.position, ends).tolist() for x in layers]
        self.constant_outputs = replacement.constant_outputs()
        self._n_rows = min(batch_size, max(*counts, 1))
        # One pass for all backward passes: rows are copies of the prompt.
        inputs = [x.expand(self._n_rows, -1, -1) for x in replacement.inputs()]
        self._inputs = [x.detach().clone().requires_grad_() for x in inputs]
        self._outputs = replacement.outputs(self._inputs)

    def of_features(self, numbers):
        """Yield numbers of features and the effects on them, (n, n_sources), in batches."""
        for layer in self.layer[numbers].unique().tolist():
            at_layer = numbers[self.layer[numbers] == layer]
            encoder = self.replacement.layers[layer].encoder
            for batch in at_layer.split(self._n_rows):
                rows = encoder[self.feature[batch]]
                yield batch, self._effects(layer, self.position[batch], rows)

    def of_logits(self, rows):
        """Return the effects on products of the last stream with rows, (n, n_sources)."""
        parts = []
        for batch in rows.split(self._n_rows):
            last = torch.full((len(batch),), self.n_tokens - 1, device=rows.device)
            parts.append(self._effects(len(self.replacement.layers), last, batch))
        return torch.cat(parts)

    def bias_of_features(self, numbers):
        """Return what constants contribute to the pre-activations of features, (n,)."""
        bias = torch.empty(len(numbers), dtype=self.code.dtype, device=self.code.device)
        for i, layer in enumerate(self.replacement.layers):
            at_layer = self.layer[numbers] == i
            t, j = self.position[numbers[at_layer]], self.feature[numbers[at_layer]]
            rows = (self.constant_outputs[i][t] * layer.encoder[j]).sum(-1)
            bias[at_layer] = rows + layer.encoder_intercept[j]
        return bias

    def _effects(self, i, position, rows):
        """Return the effects on ``rows @ output_i[position]``, (n, n_sources)."""
        output = self._outputs[i]
        weights = torch.zeros_like(output)
        weights[torch.arange(len(rows), device=rows.device), position] = rows.to(output.dtype)
        # What a layer writes is not among what its own transcoder reads.
        inputs = self._inputs[: i + 1]
        gradients = torch.autograd.grad(
            output, inputs, weights, retain_graph=True, materialize_grads=True
        )
        gradients = [x[: len(rows)].to(rows.dtype) for x in gradients]
        effects = rows.new_zeros(len(rows), self.n_sources)
        features, errors, tokens = effects.split(
            [self.n_features, self.n_sources - self.n_features - self.n_tokens, self.n_tokens], 1
        )
        errors = errors.unflatten(1, (-1, self.n_tokens))
        first = 0
        for source, gradient in enumerate(gradients[1:]):
            written, bounds = self._written[source], self._bounds[source]
            # Of the layers that a feature writes to, those before this output: (n, t, layer d).
            of_layers = torch.cat(gradients[1 + source : 1 + source + written.shape[1]], -1)
            written = written.flatten(1)[:, : of_layers.shape[-1]]
            for t in range(self.n_tokens):
                entries = slice(bounds[t], bounds[t + 1])
                of_entries = of_layers[:, t] @ written[entries].T
                features[:, first + entries.start : first + entries.stop] = of_entries
            errors[:, source] = (gradient * self.replacement.layers[source].error).sum(-1)
            first += len(written)
        tokens[:] = (gradients[0] * self.replacement.embeddings).sum(-1)
        return effects


def _adjacency(effects, logits, max_feature_nodes):
    """Return the numbers of the features that are nodes, and the edges between all nodes.

    Nodes are the chosen features, errors, tokens and logits; ``adjacency[target, source]``.
    """
    n_features, n_logits = effects.n_features, len(logits.ids)
    of_logits = effects.of_logits(logits.rows).cpu()
    n_nodes = min(n_features, max_feature_nodes)
    rows = of_logits.new_zeros(n_nodes, effects.n_sources)
    numbers = torch.empty(n_nodes, dtype=torch.long)
    n_done = 0
    while n_done < n_nodes:
        pending = torch.arange(n_features)
        if n_nodes < n_features:
            done = rows[:n_done].numpy(), numbers[:n_done].numpy()
            weights = logits.probabilities.cpu().numpy()
            influence = _influence_so_far(of_logits.numpy(), weights, *done)[:n_features]
            influence[numbers[:n_done].numpy()] = -1  # they are nodes already
            n_next = min(_BATCHES_PER_RANKING * effects.batch_size, n_nodes - n_done)
            pending = torch.from_numpy(np.argsort(-influence, kind="stable")[:n_next].copy())
        for batch, of_features in effects.of_features(pending.to(effects.layer.device)):
            rows[n_done : n_done + len(batch)] = of_features.cpu()
            numbers[n_done : n_done + len(batch)] = batch.cpu()
            n_done += len(batch)
    chosen, order = numbers.sort()
    columns = torch.cat([chosen, torch.arange(n_features, effects.n_sources)])
    adjacency = rows.new_zeros(len(columns) + n_logits, len(columns) + n_logits)
    adjacency[:n_nodes, : len(columns)] = rows[order][:, columns]
    adjacency[len(columns) :, : len(columns)] = of_logits[:, columns]
    return chosen, adjacency.numpy()


def _influence_so_far(of_logits, weights, rows, numbers):
    """Return the influence of sources on the logits through the features whose edges are known."""
    of_logits, rows = shares(of_logits), shares(rows)
    step = weights.astype(rows.dtype) @ of_logits
    influence = step.copy()
    while True:
        step = step[numbers] @ rows
        if not step.any():
            return influence
        influence += step


def _graph(effects, logits, chosen, adjacency, names, prompt, tokenizer):
    """Return the `AttributionGraph`; the arguments are those of the steps before it."""
    columns = _columns(effects, logits, chosen.to(effects.layer.device), prompt.tokens.id, names)
    probabilities = logits.probabilities.cpu().numpy()
    weights = np.zeros(len(adjacency), dtype=adjacency.dtype)
    weights[-len(probabilities) :] = probabilities
    influence = influence_of(shares(adjacency), weights)
    return AttributionGraph(
        **columns,
        influence=influence,
        cumulative_influence=cumulative(influence),
        adjacency=adjacency,
        tokens=prompt.tokens.string.tolist(),
        prompt=prompt.tokens.texts[0],
        logit_tokens=[tokenizer.decode([i]) for i in logits.ids.tolist()],
        logit_probabilities=probabilities,
        n_active=effects.n_features,
    )


def _columns(effects, logits, chosen, token_ids, names):
    """Return the columns of the nodes by name: features, errors, tokens, logits."""
    n_tokens, n_layers, n_logits = effects.n_tokens, len(names), len(logits.ids)
    counts = [len(chosen), n_layers * n_tokens, n_tokens, n_logits]
    of_logits = logits.rows @ effects.constant_outputs[-1][-1] + logits.constants
    nan = effects.code.new_full((sum(counts),), float("nan"))
    at, layers = torch.arange(n_tokens), torch.arange(n_layers)
    layer, feature = effects.layer[chosen].cpu(), effects.feature[chosen].cpu()
    columns = {
        "layer": [layer, layers.repeat_interleave(n_tokens), 0 * at - 1],
        "position": [effects.position[chosen], at.repeat(n_layers + 1)],
        "feature": [feature, torch.full((counts[1],), -1), torch.from_numpy(token_ids)],
        "activation": [effects.code[chosen], nan[: sum(counts[1:3])]],
        "bias": [effects.bias_of_features(chosen), nan[: sum(counts[1:3])]],
    }
    ends = {
        "layer": torch.full((n_logits,), n_layers),
        "position": torch.full((n_logits,), n_tokens - 1),
        "feature": logits.ids,
        "activation": nan[:n_logits],
        "bias": of_logits,
    }
    pairs = zip(layer.tolist(), feature.tolist(), strict=True)
    named = [names[i].get(j, "") for i, j in pairs]
    return {
        "kind": np.repeat(objects(NODE_KINDS), counts),
        "name": objects([*named, *[""] * sum(counts[1:])]),
        **{
            name: torch.cat([x.cpu() for x in (*column, ends[name])]).numpy()
            for name, column in columns.items()
        },
    }
