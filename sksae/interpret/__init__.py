"""What the features of a sparse autoencoder stand for: where they fire, shown in the data."""

from sksae.interpret._choice import choose_features
from sksae.interpret._examples import Example, max_activating_examples
from sksae.interpret._features import FeatureSummary, summarize_features

__all__ = [
    "Example",
    "FeatureSummary",
    "choose_features",
    "max_activating_examples",
    "summarize_features",
]
