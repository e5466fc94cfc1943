"""The training loop: batches, schedules, the optimiser step, dead latents, stopping.

It takes an objective; it knows no variant and no estimator.
"""

from sksae.training._batches import Batches, Normalization, geometric_median
from sksae.training._dead import alive_norm, draw_rows, resample
from sksae.training._engine import Engine
from sksae.training._entries import AllEntries
from sksae.training._run import TrainingRun
from sksae.training._schedule import (
    MINIMUM_STEPS,
    default_batch_size,
    default_dead_window,
    default_learning_rate,
    default_max_iter,
    ramp_down,
    ramp_up,
)
from sksae.training._sparsity_target import SparsityController
from sksae.training._stopping import Stopping

__all__ = [
    "MINIMUM_STEPS",
    "AllEntries",
    "Batches",
    "Engine",
    "Normalization",
    "SparsityController",
    "Stopping",
    "TrainingRun",
    "alive_norm",
    "default_batch_size",
    "default_dead_window",
    "default_learning_rate",
    "default_max_iter",
    "draw_rows",
    "geometric_median",
    "ramp_down",
    "ramp_up",
    "resample",
]


def __dir__():
    return __all__
