"""Activations of language models, and where in a text each of them came from."""

from sksae.language_models._extractor import ActivationExtractor
from sksae.language_models._tokens import TokenTable

__all__ = ["ActivationExtractor", "TokenTable"]
