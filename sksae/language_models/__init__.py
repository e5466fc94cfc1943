"""Activations of language models, interventions on them, and attribution of predictions."""

from sksae.language_models.attribution import (
    Attribution,
    AttributionGraph,
    Behaviour,
    FeatureCircuit,
    LogitLens,
    TokenBehaviour,
    attribute,
    attribution_graph,
    describe_behaviour,
    feature_circuit,
    logit_lens,
)
from sksae.language_models.extraction import (
    ActivationExtractor,
    SAEVectorizer,
    TokenTable,
    extract_paired,
    load_activations,
    read_activations,
)
from sksae.language_models.interventions import (
    downstream_metrics,
    make_downstream_scorer,
    patch,
    steer,
)
from sksae.language_models.model import randomized_model

__all__ = [
    "ActivationExtractor",
    "Attribution",
    "AttributionGraph",
    "Behaviour",
    "FeatureCircuit",
    "LogitLens",
    "SAEVectorizer",
    "TokenBehaviour",
    "TokenTable",
    "attribute",
    "attribution_graph",
    "describe_behaviour",
    "downstream_metrics",
    "extract_paired",
    "feature_circuit",
    "load_activations",
    "logit_lens",
    "make_downstream_scorer",
    "patch",
    "randomized_model",
    "read_activations",
    "steer",
]


def __dir__():
    return __all__
