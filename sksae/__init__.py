"""Sparse autoencoders as scikit-learn estimators."""

from sksae.autoencoders import GatedSAE, JumpReLUSAE, SparseAutoencoder, TopKSAE

__version__ = "0.1.0.dev0"

__all__ = [
    "GatedSAE",
    "JumpReLUSAE",
    "SparseAutoencoder",
    "TopKSAE",
]
