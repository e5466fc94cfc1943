"""The estimators: one file per variant over `BaseSAE`."""

from sksae.autoencoders._base import BaseSAE
from sksae.autoencoders._batch_topk_sae import BatchTopKSAE
from sksae.autoencoders._crosscoder import Crosscoder
from sksae.autoencoders._dummy_sae import DummySAE
from sksae.autoencoders._fit import Fit
from sksae.autoencoders._fitted_arrays import fitted
from sksae.autoencoders._gated_sae import GatedSAE
from sksae.autoencoders._jumprelu_sae import JumpReLUSAE
from sksae.autoencoders._matryoshka_sae import MatryoshkaSAE
from sksae.autoencoders._sparse_autoencoder import SparseAutoencoder
from sksae.autoencoders._topk_sae import TopKSAE
from sksae.autoencoders._transcoder import Transcoder

__all__ = [
    "BaseSAE",
    "BatchTopKSAE",
    "Crosscoder",
    "DummySAE",
    "Fit",
    "GatedSAE",
    "JumpReLUSAE",
    "MatryoshkaSAE",
    "SparseAutoencoder",
    "TopKSAE",
    "Transcoder",
    "fitted",
]


def __dir__():
    return __all__
