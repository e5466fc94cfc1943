"""The estimators: one file a variant over `BaseSAE`."""

from sksae.autoencoders._assembly import fitted
from sksae.autoencoders._base import BaseSAE
from sksae.autoencoders._batch_topk import BatchTopKSAE
from sksae.autoencoders._gated import GatedSAE
from sksae.autoencoders._jumprelu import JumpReLUSAE
from sksae.autoencoders._l1 import SparseAutoencoder
from sksae.autoencoders._loading import load
from sksae.autoencoders._topk import TopKSAE
from sksae.autoencoders._transcoder import Transcoder

__all__ = [
    "BaseSAE",
    "BatchTopKSAE",
    "GatedSAE",
    "JumpReLUSAE",
    "SparseAutoencoder",
    "TopKSAE",
    "Transcoder",
    "fitted",
    "load",
]


def __dir__():
    return __all__
