"""Callbacks of a fit, beside those of scikit-learn, for `set_callbacks`."""

from sksae.callbacks._checkpoint import Checkpoint

__all__ = ["Checkpoint"]


def __dir__():
    return __all__
