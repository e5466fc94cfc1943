"""An attribution graph with names, tokens and numbers that try a reader."""

import numpy as np

from sksae.language_models import AttributionGraph

TOKENS = ["<s>", ' "a', "\nb"]


def graph_of(seed=0, dtype=np.float32):
    """A graph of two layers and three tokens."""
    rng = np.random.default_rng(seed)
    kind = np.array(["feature"] * 3 + ["error"] * 4 + ["token"] * 3 + ["logit"] * 2, dtype=object)
    n, is_feature = len(kind), kind == "feature"
    layer = np.array([0, 1, 1, 0, 0, 1, 1, -1, -1, -1, 2, 2])
    rank = np.where(kind == "token", -1, 2 * layer + (kind != "error"))
    adjacency = np.where(rank[:, None] > rank, rng.normal(size=(n, n)), 0)
    adjacency[(kind == "error") | (kind == "token")] = 0
    adjacency[:, kind == "logit"] = 0
    influence = np.abs(rng.normal(size=n)) * (kind != "logit")
    return AttributionGraph(
        kind=kind,
        layer=layer,
        position=np.array([1, 1, 2, 1, 2, 1, 2, 0, 1, 2, 2, 2]),
        feature=np.array([5, 0, 900, -1, -1, -1, -1, 0, 33, 34, 48, 7]),
        activation=np.where(is_feature, rng.normal(size=n), np.nan).astype(dtype),
        bias=np.where(is_feature | (kind == "logit"), rng.normal(size=n), np.nan).astype(dtype),
        influence=influence,
        cumulative_influence=rng.random(n),
        name=np.array(["days <b>", "", "ünter"] + [""] * (n - 3), dtype=object),
        adjacency=adjacency.astype(dtype),
        tokens=TOKENS,
        prompt="".join(TOKENS),
        logit_tokens=[' "x" (p=1)', "\n"],
        logit_probabilities=np.array([0.75, 0.2], dtype=dtype),
        n_active=11,
    )
