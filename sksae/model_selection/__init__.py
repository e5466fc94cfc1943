"""Searches over the sparsity, and rules that choose by reconstruction and by sparsity."""

from sksae.model_selection._choice_report import choice_report
from sksae.model_selection._path import SparsityPathCV
from sksae.model_selection._refit import (
    BestExplainedVariance,
    DiminishingReturns,
    Knee,
    OneStandardError,
)

__all__ = [
    "BestExplainedVariance",
    "DiminishingReturns",
    "Knee",
    "OneStandardError",
    "SparsityPathCV",
    "choice_report",
]


def __dir__():
    return __all__
