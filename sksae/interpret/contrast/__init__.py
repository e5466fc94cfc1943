"""Contrasts: features that go along with a target of documents, one observation per document."""

from sksae.interpret.contrast._contrast import FeatureContrast
from sksae.interpret.contrast._measures import auroc, log_odds_z, welch_t

__all__ = ["FeatureContrast", "auroc", "log_odds_z", "welch_t"]


def __dir__():
    return __all__
