"""Sparse codes as tensors: finding the active entries, products over them, straight-through steps.

Tensors in, tensors out; nothing here knows an estimator. The forms are plain torch, right on every
device and dtype; a faster form of one of them goes behind the same name.
"""

from sksae.kernels._active import ActiveSet, compiled_for, flat_nonzero, runs_on
from sksae.kernels._search import Rule, Search, halves, pooled_cut
from sksae.kernels._selection import (
    keep_top_k,
    positive_part,
    threshold_codes,
    top_k,
    where_positive,
    where_top_k,
)
from sksae.kernels._straight_through import heaviside, jump_relu, near_threshold
from sksae.kernels._update import adam_step, project, update_latents

__all__ = [
    "ActiveSet",
    "Rule",
    "Search",
    "adam_step",
    "compiled_for",
    "flat_nonzero",
    "halves",
    "heaviside",
    "jump_relu",
    "keep_top_k",
    "near_threshold",
    "pooled_cut",
    "positive_part",
    "project",
    "runs_on",
    "threshold_codes",
    "top_k",
    "update_latents",
    "where_positive",
    "where_top_k",
]


def __dir__():
    return __all__
