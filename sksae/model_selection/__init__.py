"""Searches over the sparsity, and rules that choose by reconstruction and by sparsity."""

from sksae.model_selection._choice_report import choice_report
from sksae.model_selection._path import SparsityPathCV
from sksae.model_selection._probing import sparse_probing
from sksae.model_selection._refit import (
    BestExplainedVariance,
    DiminishingReturns,
    Knee,
    OneStandardError,
)
from sksae.model_selection._stability import feature_stability

__all__ = [
    "BestExplainedVariance",
    "DiminishingReturns",
    "Knee",
    "OneStandardError",
    "SparsityPathCV",
    "choice_report",
    "feature_stability",
    "sparse_probing",
]


def __dir__():
    return __all__
