"""Rules that choose a candidate of a search by reconstruction and by sparsity."""

from sksae.model_selection._refit import BestExplainedVariance, Knee, OneStandardError

__all__ = ["BestExplainedVariance", "Knee", "OneStandardError"]
