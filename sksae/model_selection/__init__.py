"""Searches over the sparsity, rules that choose it, and honest comparisons."""

from sksae.model_selection._comparison import compare, feature_stability
from sksae.model_selection._path import SparsityPathCV
from sksae.model_selection._probing import sparse_probing
from sksae.model_selection._refit import (
    BestExplainedVariance,
    DiminishingReturns,
    Knee,
    OneStandardError,
    choice_report,
)
from sksae.model_selection._score_table import ScoreTable

__all__ = [
    "BestExplainedVariance",
    "DiminishingReturns",
    "Knee",
    "OneStandardError",
    "ScoreTable",
    "SparsityPathCV",
    "choice_report",
    "compare",
    "feature_stability",
    "sparse_probing",
]


def __dir__():
    return __all__
