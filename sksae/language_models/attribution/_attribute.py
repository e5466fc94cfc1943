"""Attribution of a prediction to features: attribution patching and integrated gradients."""

from typing import NamedTuple

import numpy as np

from sksae._arrays import objects
from sksae._modes import own_modes
from sksae._params import Float, Int, Option, check_option
from sksae._threads import threads_of_process
from sksae.language_models.attribution._attribution_table import Attribution
from sksae.language_models.attribution._decomposed_prompt import decompose

_RULES = {
    "method": Option("integrated_gradients", "attribution_patching"),
    "positions": Option("none", "sum"),
    "n_steps": Int(1),
    "batch_size": Int(1),
    "verify": Int(0),
    "max_nodes": Int(1),
    "node_threshold": Float(0),
    "edge_threshold": Float(0),
}


def attribute(
    model,
    sites,
    saes,
    prompt,
    metric=None,
    *,
    target_sites=None,
    baseline=None,
    counterfactual=None,
    background=None,
    method="integrated_gradients",
    n_steps=10,
    verify=0,
    names=None,
    tokenizer=None,
    batch_size=32,
    max_nodes=100_000,
):
    """Find the features that a prediction of a language model rests on.

    At each site the activation ``x`` of a token is ``f @ W + b + e``: the codes ``f`` of the
    autoencoder, and an error ``e`` that keeps the model exactly as it is. The nodes are the
    features at each position, where they fire in the prompt or in the baseline, and one error node
    per position. The effect of a node is its distance from the baseline times the derivative of the
    metric, ``(f - f') * d metric / d f``, an estimate of ``metric(prompt) - metric(node at its
    baseline)``: what the node contributes. (The indirect effect of Marks et al. has the opposite
    sign.)

    Parameters
    ----------
    model : str, Path or PreTrainedModel
        A model that predicts tokens, or the name or path of one.
    sites : str, (int, str) or list of them
        Where in the model: ``"3.resid_post"`` or ``(3, "resid_post")``, the path of a module, or
        several of them; see `ActivationExtractor` for the names.
    saes : estimator or list of estimators
        The fitted sparse autoencoder of each site, or a `Transcoder` that reads it. The features
        and the error of a transcoder are nodes of the site that it writes to; what a skip
        connection adds counts as error.
    prompt : str, array of token ids or list of messages
        What the model reads.
    metric : None, str, int, pair of them, or callable, default=None
        The quantity to explain. One token, as a string or an id: its log-probability after the
        prompt; None takes the token that the model predicts. A pair of tokens: the logit of the
        first minus that of the second. A callable gets logits (n, n_tokens, n_vocabulary), at least
        float32, and returns a tensor (n,), differentiable.
    target_sites : str, (int, str) or list of them, default=None
        Where transcoders write, one for each site; None is the ``mlp_out`` of the block that the
        site is in. For autoencoders it is None.
    baseline : {None, "patch", "mean", "zero"}, default=None
        What a node is compared with: its value in `counterfactual`, its mean over `background`, or
        zero, which is refused in the residual stream, where norms divide by it. None is ``"patch"``
        if there is a counterfactual and ``"mean"`` if there is only a background.
    counterfactual : str, array of token ids or list of messages, default=None
        A prompt of as many tokens with another answer.
    background : list of str, default=None
        Ordinary texts. Special tokens do not count.
    method : {"integrated_gradients", "attribution_patching"}, default="integrated_gradients"
        The derivative: its mean over `n_steps` points on the way from prompt to baseline
        (midpoint rule), one site at a time; or the one in the prompt alone, for all sites by one
        backward pass. The first shares out what the whole site contributes, the second is often
        as close to what a single node contributes.
    n_steps : int, default=10
        Points of the integral.
    verify : int, default=0
        For how many of the strongest nodes the effect is measured as well, each alone at its
        baseline.
    names : mapping of int to str, or list of mappings, default=None
        Names of features, for all sites or one mapping per site.
    tokenizer : str, Path or tokenizer, default=None
        None takes the one that goes with the model's name. Needed with a model object.
    batch_size : int, default=32
        The most copies of the prompt in one pass.
    max_nodes : int, default=100_000
        The most lines of the table; `completeness` counts all nodes in any case.

    Returns
    -------
    table : Attribution of length n_nodes
        Site, position, token, feature and effect of each node, the strongest first, and how much
        of the whole the effects account for.

    Raises
    ------
    TypeError
        If an autoencoder or the metric is of a kind that cannot be used.
    ValueError
        If sites and autoencoders do not fit together, the metric names no single token, there
        is no baseline, or the counterfactual has another number of tokens.

    See Also
    --------
    feature_circuit : The strongest nodes and the effects of one on the other.
    ActivationExtractor : The rows to fit the autoencoders on.

    Notes
    -----
    Effects at one site add up to what that site contributes, so effects of different sites are
    not to be added. All positions have nodes. With ``baseline="mean"`` special tokens and the
    first position, outliers in many models and no part of the mean, keep their own values.

    Derivatives hold for the features that fire (TopK and thresholds decide in the prompt). The
    model's parameters get no gradients and stay as they are.

    References
    ----------
    S. Marks, C. Rager, E. J. Michaud, Y. Belinkov, D. Bau, A. Mueller: Sparse Feature Circuits:
    Discovering and Editing Interpretable Causal Graphs in Language Models, 2024.
    https://arxiv.org/abs/2403.19647 (error nodes, equations 2 and 3)

    N. Nanda: Attribution Patching: Activation Patching At Industrial Scale, 2023.

    M. Sundararajan, A. Taly, Q. Yan: Axiomatic Attribution for Deep Networks, 2017.
    https://arxiv.org/abs/1703.01365 (integrated gradients)

    Examples
    --------
    >>> from sksae import TopKSAE
    >>> from sksae.datasets import TINY_LM_PATH, load_corpus
    >>> from sksae.language_models import ActivationExtractor, attribute
    >>> rows = ActivationExtractor(TINY_LM_PATH, layer=2).transform(load_corpus().data[:4])
    >>> sae = TopKSAE(256, k=8, max_iter=3, random_state=0).fit(rows)
    >>> table = attribute(
    ...     TINY_LM_PATH, "2.resid_post", sae, "Return the mean of the array", (" of", " to"),
    ...     counterfactual="Return the mean to the array", verify=3,
    ... )
    >>> table.metric
    "logit of ' of' minus logit of ' to'"
    >>> abs(table.completeness["2.resid_post"] - 1) < 0.05
    True
    """
    check_options(method=method, n_steps=n_steps, batch_size=batch_size)
    check_options(verify=verify, max_nodes=max_nodes)
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
            target_sites=target_sites,
        )
        effects = node_effects(decomposed, method, n_steps, batch_size)
        strongest = effects.take(np.argsort(-np.abs(effects.effect), kind="stable")[:max_nodes])
        chosen = [column[:verify].tolist() for column in strongest[:3]]
        exact = decomposed.exact(list(zip(*chosen, strict=True)), batch_size)
        return attribution_table(decomposed, effects, strongest, exact)


class Effects(NamedTuple):
    """Nodes of several sites end to end, and their effects."""

    site: np.ndarray  # (n,): number of the site
    position: np.ndarray  # (n,): -1 for a sum over positions
    feature: np.ndarray  # (n,): -1 for errors
    activation: np.ndarray
    baseline_activation: np.ndarray
    effect: np.ndarray

    def take(self, rows):
        """Return the nodes of these lines."""
        return Effects(*(column[rows] for column in self))


def check_options(**options):
    """Raise a ValueError that names the first option that breaks its rule."""
    for name, value in options.items():
        check_option(name, value, _RULES[name])


def node_effects(decomposed, method, n_steps, batch_size):
    """Return the `Effects` of all nodes, site after site."""
    if method == "attribution_patching":
        gradients = decomposed.gradients()
    else:
        sites = range(len(decomposed.nodes))
        gradients = [decomposed.integrated_gradient(i, n_steps, batch_size) for i in sites]
    parts = [
        _effects_at(i, nodes, gradient)
        for i, (nodes, gradient) in enumerate(zip(decomposed.nodes, gradients, strict=True))
    ]
    return Effects(*map(np.concatenate, zip(*parts, strict=True)))


def _effects_at(i, nodes, gradient):
    """Return the columns of `Effects` for one site: its features, then its errors."""
    features, errors = nodes.effects(gradient)
    n, n_tokens = len(features), len(errors)
    pairs = (
        (nodes.position, np.arange(n_tokens)),
        (nodes.feature, np.full(n_tokens, -1)),
        (nodes.code, nodes.error.norm(dim=-1)),
        (nodes.baseline_code, nodes.baseline_error.norm(dim=-1)),
        (features, errors),
    )
    columns = [np.concatenate([_array(x), _array(of_errors)]) for x, of_errors in pairs]
    return np.full(n + n_tokens, i), *columns


def _array(values):
    """Return a column as an array: float64 or int64."""
    if isinstance(values, np.ndarray):
        return values
    return (values.double() if values.is_floating_point() else values).cpu().numpy()


def summed_over_positions(effects):
    """Sum the effects over positions: one node per feature and one error node per site.

    Activations are the largest over all positions.
    """
    keys = np.stack([effects.site, effects.feature], axis=1)
    keys, group = np.unique(keys, axis=0, return_inverse=True)
    group = group.reshape(-1)
    largest = []
    for column in (effects.activation, effects.baseline_activation):
        maxima = np.full(len(keys), -np.inf)
        np.maximum.at(maxima, group, column)
        largest.append(maxima)
    total = np.bincount(group, weights=effects.effect, minlength=len(keys))
    return Effects(keys[:, 0], np.full(len(keys), -1), keys[:, 1], *largest, total)


def attribution_table(decomposed, effects, shown, exact):
    """Return the `Attribution` of some nodes.

    Parameters
    ----------
    decomposed : DecomposedPrompt
        The prompt and its nodes.
    effects : Effects
        All nodes.
    shown : Effects
        The lines of the table.
    exact : ndarray
        The measured effects of the first of them.
    """
    sums = np.bincount(effects.site, weights=effects.effect, minlength=len(decomposed.nodes))
    total = {label: decomposed.total(i) for i, label in enumerate(decomposed.labels)}
    tokens = decomposed.prompt.tokens.string
    measured = np.full(len(shown.site), np.nan)
    measured[: len(exact)] = exact
    names = [nodes.site.names for nodes in decomposed.nodes]
    pairs = zip(shown.site.tolist(), shown.feature.tolist(), strict=True)
    return Attribution(
        site=objects([decomposed.labels[i] for i in shown.site]),
        position=shown.position,
        token=objects(["" if t < 0 else tokens[t] for t in shown.position.tolist()]),
        feature=shown.feature,
        activation=shown.activation,
        baseline_activation=shown.baseline_activation,
        effect=shown.effect,
        exact=measured,
        name=objects([_name(names[i], feature) for i, feature in pairs]),
        total=total,
        completeness={
            label: float(s) / total[label] if total[label] else float("nan")
            for label, s in zip(total, sums, strict=True)
        },
        clean=decomposed.clean,
        metric=decomposed.metric.name,
    )


def _name(names, feature):
    return "error" if feature < 0 else str(names.get(feature, ""))
