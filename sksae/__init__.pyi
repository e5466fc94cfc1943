# Made by python -m tests.public_types.stubs from the docstrings; do not edit.
from sksae import callbacks as callbacks
from sksae import datasets as datasets
from sksae import displays as displays
from sksae import formats as formats
from sksae import interpret as interpret
from sksae import language_models as language_models
from sksae import metrics as metrics
from sksae import model_selection as model_selection
from sksae import objectives as objectives
from sksae import report as report
from sksae.autoencoders import BatchTopKSAE as BatchTopKSAE
from sksae.autoencoders import Crosscoder as Crosscoder
from sksae.autoencoders import DummySAE as DummySAE
from sksae.autoencoders import GatedSAE as GatedSAE
from sksae.autoencoders import JumpReLUSAE as JumpReLUSAE
from sksae.autoencoders import MatryoshkaSAE as MatryoshkaSAE
from sksae.autoencoders import SparseAutoencoder as SparseAutoencoder
from sksae.autoencoders import TopKSAE as TopKSAE
from sksae.autoencoders import Transcoder as Transcoder
from sksae.formats import load as load
from sksae.language_models import ActivationExtractor as ActivationExtractor
from sksae.language_models import SAEVectorizer as SAEVectorizer

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

__version__: str
