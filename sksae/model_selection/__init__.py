"""Searches over the sparsity, and rules that choose by reconstruction and by sparsity."""

from sksae.model_selection._path import SparsityPathCV
from sksae.model_selection._refit import BestExplainedVariance, Knee, OneStandardError

__all__ = ["BestExplainedVariance", "Knee", "OneStandardError", "SparsityPathCV"]


def __dir__():
    return __all__
