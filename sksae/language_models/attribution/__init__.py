"""Contributions of features to a prediction: attribution, circuits, behaviour, logit lens."""

from sksae.language_models.attribution._attribute import attribute
from sksae.language_models.attribution._attribution_graph import AttributionGraph
from sksae.language_models.attribution._attribution_table import Attribution
from sksae.language_models.attribution._behaviour import describe_behaviour
from sksae.language_models.attribution._behaviour_table import Behaviour, TokenBehaviour
from sksae.language_models.attribution._circuit import feature_circuit
from sksae.language_models.attribution._circuit_graph import FeatureCircuit
from sksae.language_models.attribution._graph_tracing import attribution_graph
from sksae.language_models.attribution._logit_lens import LogitLens, logit_lens

__all__ = [
    "Attribution",
    "AttributionGraph",
    "Behaviour",
    "FeatureCircuit",
    "LogitLens",
    "TokenBehaviour",
    "attribute",
    "attribution_graph",
    "describe_behaviour",
    "feature_circuit",
    "logit_lens",
]
