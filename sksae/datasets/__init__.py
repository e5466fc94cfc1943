"""Data sets: a corpus and a language model that are part of the installation, and a generator."""

from sksae.datasets._corpus import load_corpus
from sksae.datasets._language_model import TINY_LM_PATH, load_tiny_lm
from sksae.datasets._superposition import make_superposition

__all__ = ["TINY_LM_PATH", "load_corpus", "load_tiny_lm", "make_superposition"]


def __dir__():
    return __all__
