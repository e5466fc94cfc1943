"""Callbacks of a fit, beside those of scikit-learn, for `set_callbacks`."""

from sksae.callbacks._checkpoint import Checkpoint
from sksae.callbacks._metrics_logger import MetricsLogger

__all__ = ["Checkpoint", "MetricsLogger"]


def __dir__():
    return __all__
