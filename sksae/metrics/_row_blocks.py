"""Blocks of rows of matrices of any kind, so that no float64 copy of a whole matrix exists."""

import numpy as np
import torch
from scipy import sparse
from sklearn.utils import gen_batches

from sksae._arrays import two_axes
from sksae._coding import as_csr
from sksae._threads import threads_for

BLOCK_SIZE = 2**18  # numbers in a block: 2 MB of float64, which stays in a core's cache


def check_dense(X, name):
    """Return `X` as a 2-D array or tensor of its own dtype, or raise a ValueError."""
    if sparse.issparse(X):
        raise ValueError(f"{name} is a sparse matrix; a dense one is needed.")
    if isinstance(X, torch.Tensor):
        if X.layout != torch.strided:
            raise ValueError(f"{name} is a sparse tensor; a dense tensor is needed.")
    else:
        if hasattr(X, "get_params"):
            raise ValueError(f"{name} is an estimator, {type(X).__name__}; an array is needed.")
        X = np.asarray(X)
        if X.dtype.kind not in "biuf":
            raise ValueError(f"{name} holds {X.dtype} values; real numbers are needed.")
    return _check_shape(X, name)


def check_codes(codes, name="codes"):
    """Return `codes` as a 2-D array, a tensor, or CSR without duplicate entries."""
    if sparse.issparse(codes):
        return _check_shape(as_csr(codes), name)
    return check_dense(codes, name)


def check_same_shape(X, other, name, other_name):
    """Raise a ValueError that names both shapes if they differ."""
    if tuple(X.shape) != tuple(other.shape):
        raise ValueError(
            f"{name} has shape {tuple(X.shape)}, {other_name} has shape {tuple(other.shape)}; "
            "they must be equal."
        )


def row_slices(X):
    """Return slices that cut `X` into blocks of about `BLOCK_SIZE` stored numbers."""
    n_samples = X.shape[0]
    # As many numbers per row as there are on average.
    stored = X.nnz if sparse.issparse(X) else n_samples * X.shape[1]
    return gen_batches(n_samples, max(1, int(BLOCK_SIZE * n_samples / max(stored, 1))))


def dense_rows(X, rows, name):
    """Return rows as float64; a ValueError is raised if one of them is not finite."""
    block = X[rows]
    if isinstance(block, torch.Tensor):
        with threads_for(block.numel()):
            block = block.detach().to(device="cpu", dtype=torch.float64).numpy()
    else:
        block = block.astype(np.float64, copy=False)
    _check_finite(block, name)
    return block


def code_rows(codes, rows, name="codes"):
    """Return rows of codes in their own dtype, as an array or as CSR without explicit zeros."""
    block = codes[rows]
    if isinstance(block, torch.Tensor):
        block = block.detach().cpu()
        with threads_for(block.numel()):  # numpy has no bfloat16
            block = (block.float() if block.dtype == torch.bfloat16 else block).numpy()
    values = block.data if sparse.issparse(block) else block
    _check_finite(values, name)
    # Explicit zeros would count as firings.
    if sparse.issparse(block) and not values.all():
        block.eliminate_zeros()
    return block


def _check_shape(X, name):
    if X.ndim != 2 or 0 in X.shape:
        rows = f" {name}{two_axes(X.shape)}." if X.ndim > 2 else ""
        raise ValueError(
            f"{name} has shape {tuple(X.shape)}; "
            f"a 2-D array with at least one row and one column is needed.{rows}"
        )
    return X


def _check_finite(block, name):
    # A sum is finite only if every term is, and needs no array of booleans.
    if block.dtype.kind == "f" and not np.isfinite(block.sum(dtype=np.float64)):
        raise ValueError(f"{name} contains NaN or infinity.")
