"""Sparse autoencoders as scikit-learn estimators."""

import importlib

from sksae.autoencoders import (
    BatchTopKSAE,
    Crosscoder,
    DummySAE,
    GatedSAE,
    JumpReLUSAE,
    MatryoshkaSAE,
    SparseAutoencoder,
    TopKSAE,
    Transcoder,
)
from sksae.formats import load
from sksae.language_models import ActivationExtractor, SAEVectorizer

__version__ = "0.1.0.dev0"

__all__ = [
    "ActivationExtractor",
    "BatchTopKSAE",
    "Crosscoder",
    "DummySAE",
    "GatedSAE",
    "JumpReLUSAE",
    "MatryoshkaSAE",
    "SAEVectorizer",
    "SparseAutoencoder",
    "TopKSAE",
    "Transcoder",
    "load",
]

_SUBMODULES = (
    "callbacks",
    "datasets",
    "displays",
    "formats",
    "interpret",
    "language_models",
    "metrics",
    "model_selection",
    "objectives",
    "report",
)


def __dir__():
    return sorted([*__all__, *_SUBMODULES, "__version__"])


def __getattr__(name):
    """Import a public subpackage when it is first asked for."""
    if name in _SUBMODULES:
        return importlib.import_module(f"sksae.{name}")
    raise AttributeError(f"module 'sksae' has no attribute {name!r}")
