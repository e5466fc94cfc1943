"""Sparse autoencoders as scikit-learn estimators."""

from sksae.autoencoders import (
    BatchTopKSAE,
    GatedSAE,
    JumpReLUSAE,
    MatryoshkaSAE,
    SparseAutoencoder,
    TopKSAE,
    Transcoder,
    load,
)
from sksae.language_models import ActivationExtractor, SAEVectorizer

__version__ = "0.1.0.dev0"

__all__ = [
    "ActivationExtractor",
    "BatchTopKSAE",
    "GatedSAE",
    "JumpReLUSAE",
    "MatryoshkaSAE",
    "SAEVectorizer",
    "SparseAutoencoder",
    "TopKSAE",
    "Transcoder",
    "load",
]
