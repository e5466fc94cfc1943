"""Model passes with changed activations: steering, patching and their effect on predictions."""

from sksae.language_models.interventions._downstream_metrics import downstream_metrics
from sksae.language_models.interventions._downstream_scorer import make_downstream_scorer
from sksae.language_models.interventions._feature_edits import maxima_array
from sksae.language_models.interventions._patching import patch
from sksae.language_models.interventions._steering import steer

__all__ = [
    "downstream_metrics",
    "make_downstream_scorer",
    "maxima_array",
    "patch",
    "steer",
]
