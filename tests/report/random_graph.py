"""A graph with random edges, as its definition allows them."""

import numpy as np

from sksae.language_models import AttributionGraph
from sksae.language_models.attribution._graph_influence import cumulative, influence_of, shares

EVIL = ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\u202eabc", "\ud800"]


def random_graph(*, n_tokens=4, n_layers=3, n_features=30, seed=0):
    """Return a graph with errors at all places, two logits, and names that are not plain."""
    rng = np.random.default_rng(seed)
    inner = {
        (int(rng.integers(n_layers)), int(rng.integers(n_tokens)), int(rng.integers(60)))
        for _ in range(n_features)
    }
    rows = [("feature", *place) for place in sorted(inner)]
    rows += [("error", layer, t, -1) for layer in range(n_layers) for t in range(n_tokens)]
    rows += [("token", -1, t, 100 + t) for t in range(n_tokens)]
    rows += [("logit", n_layers, n_tokens - 1, 7 + i) for i in range(2)]
    kind, layer, position, feature = (
        np.array(column, dtype=object) for column in zip(*rows, strict=True)
    )
    layer, position, feature = layer.astype(int), position.astype(int), feature.astype(int)
    is_feature, is_logit = kind == "feature", kind == "logit"
    target = is_feature | is_logit
    allowed = (layer[:, None] > layer) & (position[:, None] >= position)
    allowed &= target[:, None] & ~is_logit & (rng.random(allowed.shape) < 0.7)
    # Numbers that single precision has, which is what the page has.
    effects = rng.normal(size=allowed.shape) * rng.pareto(2, size=allowed.shape)
    adjacency = np.where(allowed, effects, 0).astype(np.float32).astype(np.float64)
    probabilities = np.array([0.6, 0.3])
    weights = np.zeros(len(rows))
    weights[is_logit] = probabilities
    influence = influence_of(shares(adjacency), weights)
    names = [EVIL[i % 4] if i % 3 == 0 else "" for i in range(len(rows))]
    tokens = ["The", " cold", " 특징", *EVIL[:1], *(f" w{t}" for t in range(n_tokens))][:n_tokens]
    return AttributionGraph(
        kind=kind,
        layer=layer,
        position=position,
        feature=feature,
        activation=np.where(is_feature, rng.exponential(size=len(rows)), np.nan),
        bias=np.where(target, rng.normal(size=len(rows)), np.nan),
        influence=influence,
        cumulative_influence=cumulative(influence),
        name=np.where(is_feature, np.array(names, dtype=object), ""),
        adjacency=adjacency,
        tokens=tokens,
        prompt="".join(tokens),
        logit_tokens=[" warm", EVIL[0]],
        logit_probabilities=probabilities,
        n_active=n_features,
    )
