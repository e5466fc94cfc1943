"""Activations of language models, and where in a text each of them came from."""

from sksae.language_models.attribution._attribute import attribute
from sksae.language_models.attribution._attribution_table import Attribution
from sksae.language_models.attribution._behaviour import describe_behaviour
from sksae.language_models.attribution._behaviour_table import Behaviour, TokenBehaviour
from sksae.language_models.attribution._circuit import feature_circuit
from sksae.language_models.attribution._circuit_graph import FeatureCircuit
from sksae.language_models.attribution._logit_lens import LogitLens, logit_lens
from sksae.language_models.extraction._extractor import ActivationExtractor
from sksae.language_models.extraction._store import load_activations
from sksae.language_models.extraction._token_table import TokenTable
from sksae.language_models.extraction._vectorizer import SAEVectorizer
from sksae.language_models.interventions._downstream_metrics import downstream_metrics
from sksae.language_models.interventions._downstream_scorer import make_downstream_scorer
from sksae.language_models.interventions._patching import patch
from sksae.language_models.interventions._steering import steer

__all__ = [
    "ActivationExtractor",
    "Attribution",
    "Behaviour",
    "FeatureCircuit",
    "LogitLens",
    "SAEVectorizer",
    "TokenBehaviour",
    "TokenTable",
    "attribute",
    "describe_behaviour",
    "downstream_metrics",
    "feature_circuit",
    "load_activations",
    "logit_lens",
    "make_downstream_scorer",
    "patch",
    "steer",
]


def __dir__():
    return __all__
