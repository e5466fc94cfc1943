"""Model passes with changed activations: steering, patching and their effect on predictions."""

from sksae.language_models.interventions._downstream_metrics import (
    downstream_metrics,
    make_downstream_scorer,
)
from sksae.language_models.interventions._feature_edits import maxima_array
from sksae.language_models.interventions._steering import patch, steer

__all__ = [
    "downstream_metrics",
    "make_downstream_scorer",
    "maxima_array",
    "patch",
    "steer",
]
