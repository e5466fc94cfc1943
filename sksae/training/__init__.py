"""The training loop: batches, schedules, the optimiser step, dead latents, early stopping.

It takes an objective, and knows none by name and no estimator.
"""

from sksae.training._batches import Batches, Normalization, geometric_median
from sksae.training._dead_latents import (
    Resampling,
    Revival,
    alive_norm,
    auxiliary_k_backward,
    auxiliary_k_loss,
    draw_rows,
    resample,
    row_mean,
    total_variance,
)
from sksae.training._defaults import (
    MINIMUM_STEPS,
    default_batch_size,
    default_betas,
    default_dead_window,
    default_haste,
    default_learning_rate,
    default_max_iter,
    default_width,
)
from sksae.training._early_stopping import HeldOut, Stopping, hold_out
from sksae.training._engine import Engine
from sksae.training._entries import AllEntries, row_norms
from sksae.training._principal_axes import covariance, principal_axes
from sksae.training._run import TrainingRun
from sksae.training._schedule import Schedule, SparsityController, ramp_down, ramp_up

__all__ = [
    "MINIMUM_STEPS",
    "AllEntries",
    "Batches",
    "Engine",
    "HeldOut",
    "Normalization",
    "Resampling",
    "Revival",
    "Schedule",
    "SparsityController",
    "Stopping",
    "TrainingRun",
    "alive_norm",
    "auxiliary_k_backward",
    "auxiliary_k_loss",
    "covariance",
    "default_batch_size",
    "default_betas",
    "default_dead_window",
    "default_haste",
    "default_learning_rate",
    "default_max_iter",
    "default_width",
    "draw_rows",
    "geometric_median",
    "hold_out",
    "principal_axes",
    "ramp_down",
    "ramp_up",
    "resample",
    "row_mean",
    "row_norms",
    "total_variance",
]


def __dir__():
    return __all__
