"""Prompts decomposed at some sites, which attributions and circuits are computed from."""

from typing import NamedTuple

import torch

from sksae.language_models.attribution._attribution_nodes import (
    STREAMS,
    Baseline,
    MeanBaseline,
    ZeroBaseline,
    read_nodes,
    read_sites,
    rows_of_background,
)
from sksae.language_models.attribution._logit_metrics import Metric, read_metric
from sksae.language_models.attribution._splicing import Splicer, in_order
from sksae.language_models.extraction import Prompt, tokenized_prompt
from sksae.language_models.model import load_causal

BASELINES = ("patch", "mean", "zero")


class DecomposedPrompt(NamedTuple):
    """A prompt, its metric and its nodes; sites are in the order of the forward pass."""

    splicer: Splicer
    metric: Metric
    prompt: Prompt
    nodes: list  # Nodes of each site
    clean: float  # the metric of the prompt as it is

    @property
    def labels(self):
        """The names of the sites."""
        return [nodes.site.label for nodes in self.nodes]

    def clean_values(self, n=1):
        """Return the activations of each site, for `n` copies of the prompt."""
        return {i: nodes.x.expand(n, -1, -1) for i, nodes in enumerate(self.nodes)}

    def gradients(self):
        """Return the derivatives at each site, (n_tokens, width), in the untouched prompt."""
        gradients = self.splicer.gradients(self.metric, self.clean_values())
        return [gradients[i][0] for i in range(len(self.nodes))]

    def integrated_gradient(self, i, n_steps, batch_size):
        """Return the mean derivative at one site on the way to its baseline, by the midpoint rule.

        The integral is that of Sundararajan et al. (2017). The other sites stay untouched.
        """
        x, baseline = self.nodes[i].x, self.nodes[i].baseline
        alphas = (torch.arange(n_steps, device=x.device, dtype=x.dtype) + 0.5) / n_steps
        total = torch.zeros_like(x)
        for block in alphas.split(batch_size):
            values = torch.lerp(x, baseline, block[:, None, None])
            total += self.splicer.gradients(self.metric, {i: values})[i].sum(0)
        return total / n_steps

    def total(self, i):
        """Return the fall of the metric when the whole site is put at its baseline."""
        return self.clean - float(
            self.splicer.metric(self.metric, {i: self.nodes[i].baseline[None]})
        )

    def exact(self, chosen, batch_size):
        """Return the fall of the metric when one node is put at its baseline, for each node.

        `chosen` are triples of a site's number, a position and a feature (-1: the error).
        """
        effects = torch.full((len(chosen),), float("nan"), dtype=torch.float64)
        for i, nodes in enumerate(self.nodes):
            at_site = [n for n, (site, _, _) in enumerate(chosen) if site == i]
            for first in range(0, len(at_site), batch_size):
                batch = at_site[first : first + batch_size]
                values = nodes.x.repeat(len(batch), 1, 1)
                for row, n in enumerate(batch):
                    _, position, feature = chosen[n]
                    values[row, position] += nodes.change(position, feature)
                metric = self.splicer.metric(self.metric, {i: values})
                effects[batch] = self.clean - metric.double().cpu()
        return effects.numpy()


def decompose(
    model,
    sites,
    saes,
    prompt,
    metric,
    *,
    baseline,
    counterfactual,
    background,
    names,
    tokenizer,
    target_sites=None,
    encoders=False,
):
    """Return the `DecomposedPrompt` of a prompt; the arguments are those of `attribute`.

    `encoders` says whether the encoders of the autoencoders are needed as well.
    """
    kind = _check_baseline(baseline, counterfactual, background)
    model, tokenizer = load_causal(model, tokenizer)
    prompt = tokenized_prompt(model, tokenizer, prompt)
    changed = tokenized_prompt(model, tokenizer, counterfactual) if kind == "patch" else None
    if changed is not None and len(changed.tokens) != len(prompt.tokens):
        raise ValueError(
            f"The counterfactual must have as many tokens as the prompt: the prompt has "
            f"{len(prompt.tokens)}, the counterfactual {len(changed.tokens)}."
        )
    sites = read_sites(model, sites, saes, names, target_sites)
    if encoders:
        _check_encoders(sites)
    if kind == "zero":
        _refuse_streams(sites)
    sites = [sites[i] for i in in_order(model, [site.point for site in sites], prompt.inputs)]
    splicer = Splicer(model, [site.point for site in sites], prompt.inputs)
    pairs = _pairs(splicer, sites, prompt.inputs)
    changed_pairs = [None] * len(sites)
    if changed is not None:
        changed_pairs = _pairs(splicer, sites, changed.inputs)
    nodes = []
    for site, pair, changed_pair in zip(sites, pairs, changed_pairs, strict=True):
        site.dictionary.check_width(pair[1].shape[-1])
        site.dictionary.check_target_width(pair[0].shape[-1])
        if kind == "patch":
            baseline = Baseline(site, *changed_pair)
        elif kind == "zero":
            baseline = ZeroBaseline(site, *pair)
        else:
            rows = rows_of_background(model, tokenizer, site, background)
            baseline = MeanBaseline(site, *pair, *rows, ~_ordinary(prompt, pair[0].device))
        nodes.append(read_nodes(site, *pair, baseline))
    with torch.no_grad():
        logits = splicer.logits(last=not callable(metric))
        metric = read_metric(metric, tokenizer, logits[0, -1])
        clean = float(metric(logits))
    return DecomposedPrompt(splicer, metric, prompt, nodes, clean)


def _pairs(splicer, sites, inputs):
    """Return, for each site, its activations and what codes are made of."""
    activations = splicer.read(inputs)
    others = [site.source for site in sites if site.source != site.point]
    sources = iter(splicer._replace(points=others).read(inputs) if others else ())
    return [
        (x, x if site.source == site.point else next(sources))
        for site, x in zip(sites, activations, strict=True)
    ]


def _ordinary(prompt, device):
    """Mask of the tokens that a mean may replace: no special token, not the outlier in front."""
    ordinary = ~prompt.special
    ordinary[0] = False
    return ordinary.to(device)


def _check_baseline(baseline, counterfactual, background):
    """Return the kind of the baseline, or raise a ValueError."""
    if baseline is None:
        if counterfactual is None and background is None:
            raise ValueError(
                "An effect is measured against a baseline: give a counterfactual prompt of as many "
                "tokens, background texts, or baseline='zero' (for attn_out, mlp_out and modules)."
            )
        baseline = "mean" if counterfactual is None else "patch"
    if baseline not in BASELINES:
        raise ValueError(f"baseline must be one of {', '.join(BASELINES)}. Got {baseline!r}.")
    for name, kind, value in (
        ("counterfactual", "patch", counterfactual),
        ("background", "mean", background),
    ):
        if baseline == kind and value is None:
            raise ValueError(f"baseline={kind!r} needs {name}.")
        if baseline != kind and value is not None:
            raise ValueError(f"{name} is for baseline={kind!r}, but the baseline is {baseline!r}.")
    return baseline


def _check_encoders(sites):
    for site in sites:
        sae = site.dictionary.sae
        if site.source != site.point:
            raise TypeError(
                f"A circuit has edges between features of autoencoders; the {type(sae).__name__} "
                f"at {site.label!r} reads another site than it writes to."
            )
        if not hasattr(sae, "encoder_coef_"):
            raise TypeError(
                f"Edges need an autoencoder with encoder_coef_, one row per feature; the "
                f"{type(sae).__name__} at {site.label!r} has none."
            )


def _refuse_streams(sites):
    for site in sites:
        if site.site in STREAMS:
            raise ValueError(
                f"baseline='zero' is not meant for the residual stream ({site.label!r}): with "
                f"nothing in it the norms behind divide by zero, and effects are anything. Use "
                f"attn_out, mlp_out or a module, or another baseline."
            )
