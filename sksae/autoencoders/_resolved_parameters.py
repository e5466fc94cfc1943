"""Resolved parameters of a fit: its sizes, the sparsity of its codes, and its randomness."""

import math

import numpy as np
import torch
from sklearn.utils import check_random_state

from sksae._arrays import rows_per_chunk
from sksae._params import Float
from sksae._processes import from_first, sum_over_processes
from sksae.training import default_batch_size

PENALTY_RULES = {
    "alpha": Float(0, none=True),
    "alpha_warm_up": Float(0, 1),
    "target_l0": Float(0, open_="low", none=True),
}
"""Rules of the parameters of an objective with a penalty."""


def work_per_step(estimator, X, *, streams=False):
    """Return the number of operations of an optimiser step of a fit to X, for `threads_for`."""
    n, d = X.shape
    fitted = estimator._is_fitted()
    m = estimator.components_.shape[0] if fitted else width_of(estimator, None if streams else n, d)
    # Of one product of rows and weights, a multiplication and an addition each.
    return 2 * batch_size(estimator._settings, n, streams=streams) * d * int(m)


def batch_size(settings, n_samples, n_active=None, *, streams=False):
    """Rows per step, as the parameters say or by the number of rows where that is known."""
    n_known = None if streams else n_samples
    return min(n_samples, int(settings.batch_size or 0) or default_batch_size(n_known, n_active))


def rows_learnt(settings, X, sample_weight):
    """Number of rows to train on in all processes: without those that early stopping holds out."""
    # Rows of weight 0 are not there.
    n_own = X.shape[0] if sample_weight is None else int(sample_weight.count_nonzero())
    n_rows = int(sum_over_processes(n_own))
    if not settings.early_stopping:
        return n_rows
    return n_rows - math.ceil(n_rows * settings.validation_fraction)


def width_of(estimator, n_samples, n_features, *, continues=False):
    """Number of latents: that of the fit which is continued, or as the parameters say."""
    settings = estimator._settings
    if not continues:
        if settings.n_components is not None:
            return int(settings.n_components)
        if settings.expansion_factor is not None:
            return max(1, round(settings.expansion_factor * n_features))
        return settings._default_width(n_samples, n_features)
    width = int(estimator.components_.shape[0])
    if settings.n_components is not None and settings.n_components != width:
        raise ValueError(
            f"This {type(estimator).__name__} continues a fit with {width} components, but "
            f"n_components is {settings.n_components}. Start anew with fit and warm_start=False."
        )
    return width


def rows_at_once(width):
    """Rows at a time whose codes of this width fit in a cache."""
    return min(4096, rows_per_chunk(width))


def default_k(n_features):
    """Return the number of active latents per row that the defaults aim at."""
    return 32 if n_features >= 512 else max(1, n_features // 8)


def typical_code(n_features, n_targets, target_l0=None):
    """Return the size of a code, ``sqrt(n_targets / K)``, where K are active on a row."""
    # With rows of squared norm n_targets, K equal codes on orthogonal directions make up a row.
    return math.sqrt(n_targets / (target_l0 or default_k(n_features)))


def auxk_options(sae, n_targets):
    """Return the resolved options of the auxiliary loss for dead latents."""
    # Squared norm of a row in the internal unit.
    variances = {"rms": n_targets, "anthropic": n_targets, "unit": 1.0}
    return {
        "auxk_alpha": sae.auxk_alpha,
        "k_aux": int(sae.k_aux or 0) or max(1, n_targets // 2),
        "variance": variances.get(sae.normalize),
    }


def randomness(settings, state, seed):
    """Return the seed of a fit, and its one source of randomness, a generator on the CPU."""
    generator = torch.Generator()
    if state is not None:
        return None, generator.set_state(torch.from_numpy(state["generator"].copy()))
    if seed is None:
        # numpy's generator draws one seed, and torch's all that follows.
        state = check_random_state(settings.random_state)
        seed = from_first(lambda: int(state.randint(np.iinfo(np.int32).max)))
    return seed, generator.manual_seed(seed)
