"""Parameters of the sparsity of codes: their rules, and the defaults that follow the data."""

import math

from sksae._params import Float

PENALTY_RULES = {
    "alpha": Float(0, none=True),
    "alpha_warm_up": Float(0, 1),
    "target_l0": Float(0, open_="low", none=True),
}
"""Rules of the parameters of an objective with a penalty."""


def default_k(n_features):
    """Return the number of active latents per row that the defaults aim at."""
    return 32 if n_features >= 512 else max(1, n_features // 8)


def typical_code(n_features, n_targets, target_l0=None):
    """Return the size of a code, ``sqrt(n_targets / K)``, where K are active on a row."""
    return math.sqrt(n_targets / (target_l0 or default_k(n_features)))


def auxk_options(sae, n_targets):
    """Return the resolved options of the auxiliary loss for dead latents."""
    variances = {"rms": n_targets, "anthropic": n_targets, "unit": 1.0}
    return {
        "auxk_alpha": sae.auxk_alpha,
        "k_aux": int(sae.k_aux or 0) or max(1, n_targets // 2),
        "variance": variances.get(sae.normalize),
    }
