"""The sparse part of a training step as loops that numba compiles, where it is installed.

A loop reads a row once and does with it all that has to be done, where torch reads it once per
operation; and of a small batch, one call replaces a hundred. numba compiles a loop when it is first
called, and keeps it on disk. Only `sksae.kernels.compiled_for` imports this package.
"""

from sksae.kernels.compiled._row_loops import (
    by_latent,
    centred_rows,
    dots,
    error_and_pulls,
    segment_sums,
)
from sksae.kernels.compiled._selection_loops import (
    keep_above,
    nth_largest,
    refined_above,
    refined_top_k,
    top_k,
)
from sksae.kernels.compiled._small_step import top_k_gradients
from sksae.kernels.compiled._update_loops import project, update, update_at_once

__all__ = [
    "by_latent",
    "centred_rows",
    "dots",
    "error_and_pulls",
    "keep_above",
    "nth_largest",
    "project",
    "refined_above",
    "refined_top_k",
    "segment_sums",
    "top_k",
    "top_k_gradients",
    "update",
    "update_at_once",
]


def __dir__():
    return __all__
