"""Objectives: the loss of each sparse autoencoder as torch code, with its weights declared once."""

from sksae.kernels import Rule
from sksae.objectives._batch_topk import BatchTopK
from sksae.objectives._frozen_topk import FrozenTopK
from sksae.objectives._gated import Gated
from sksae.objectives._jumprelu import JumpReLU
from sksae.objectives._l1 import L1
from sksae.objectives._matryoshka import Matryoshka
from sksae.objectives._objective import Objective, Weight, reconstruction_loss
from sksae.objectives._topk import TopK

__all__ = [
    "L1",
    "BatchTopK",
    "FrozenTopK",
    "Gated",
    "JumpReLU",
    "Matryoshka",
    "Objective",
    "Rule",
    "TopK",
    "Weight",
    "reconstruction_loss",
]


def __dir__():
    return __all__
