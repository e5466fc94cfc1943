"""Sparse codes as tensors: selection, straight-through steps, decoding.

Tensors in, tensors out; nothing here knows an estimator. The forms are plain torch, right on every
device and dtype; a faster form of one of them goes behind the same name.
"""

from sksae.kernels._decoding import decode, pre_activations
from sksae.kernels._selection import keep_top_k, threshold_codes, top_k
from sksae.kernels._straight_through import heaviside, jump_relu

__all__ = [
    "decode",
    "heaviside",
    "jump_relu",
    "keep_top_k",
    "pre_activations",
    "threshold_codes",
    "top_k",
]
