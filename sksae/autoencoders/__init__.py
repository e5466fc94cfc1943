"""The estimators: one file per variant over `BaseSAE`."""

from sksae.autoencoders._assembly import fitted
from sksae.autoencoders._base import BaseSAE
from sksae.autoencoders._batch_topk import BatchTopKSAE
from sksae.autoencoders._fit import Fit
from sksae.autoencoders._gated import GatedSAE
from sksae.autoencoders._jumprelu import JumpReLUSAE
from sksae.autoencoders._matryoshka import MatryoshkaSAE
from sksae.autoencoders._sparse_autoencoder import SparseAutoencoder
from sksae.autoencoders._topk import TopKSAE
from sksae.autoencoders._transcoder import Transcoder

__all__ = [
    "BaseSAE",
    "BatchTopKSAE",
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
