"""Data for displays: sparse codes of rows, and attributes of fitted estimators."""

from collections.abc import Iterable

import numpy as np
import torch
from scipy import sparse
from sklearn import config_context
from sklearn.utils.validation import check_is_fitted

from sksae._arrays import to_torch
from sksae._coding import as_csr, estimator_layers, sparse_coder, sparse_codes


def codes_of(estimator, X):
    """Return the codes of the rows of X as CSR, never as one dense array.

    Parameters
    ----------
    estimator : estimator
        A fitted transformer, a pipeline of them or a search over one.
    X : array-like of shape (n_samples, n_features)
        Rows.

    Returns
    -------
    codes : csr_array of shape (n_samples, n_components)
        Codes.
    """
    if not hasattr(estimator, "transform"):
        raise TypeError(
            "estimator must be a fitted transformer, and comes before X. Got "
            f"{type(estimator).__name__} instead."
        )
    check_is_fitted(estimator)
    if not hasattr(X, "shape"):
        if not isinstance(X, Iterable):
            raise TypeError(f"X must be rows of numbers. Got {type(X).__name__} instead.")
        X = list(X)
    coder = sparse_coder(estimator)
    with config_context(transform_output="default"):
        width = coder.transform(X[:1]).shape[1]
    return sparse_codes(coder, X, width)


def fitted_step(estimator, attribute):
    """Return the outermost layer of an estimator that has `attribute`."""
    if not hasattr(estimator, "fit"):
        raise TypeError(
            "estimator must be a fitted sparse autoencoder. Got "
            f"{type(estimator).__name__} instead."
        )
    check_is_fitted(estimator)
    for layer in estimator_layers(estimator):
        if hasattr(layer, attribute):
            return layer
    raise TypeError(
        f"{type(estimator).__name__} has no attribute {attribute!r}, which this picture shows: a "
        "fitted sparse autoencoder of sksae is needed."
    )


def as_array(values):
    """Return a fitted attribute, whatever its namespace, as numpy."""
    if hasattr(values, "__dlpack__") and not hasattr(values, "__array_interface__"):
        return to_torch(values).cpu().numpy()
    return values


def matrix(codes):
    """Return codes as a 2-D array, or as CSR without duplicate entries."""
    if sparse.issparse(codes):
        codes = as_csr(codes)
    elif isinstance(codes, torch.Tensor):
        codes = codes.detach().cpu().float().numpy()
    else:
        codes = np.asarray(codes)
    if codes.dtype.kind not in "biuf":
        raise ValueError(f"codes holds {codes.dtype} values; real numbers are needed.")
    if codes.ndim != 2 or 0 in codes.shape:
        raise ValueError(
            f"codes has shape {codes.shape}; a 2-D array with at least one row and one column is "
            "needed."
        )
    return codes


def stored(codes, features, rows):
    """Return the chosen rows and columns of codes as a dense array."""
    block = codes[rows]
    block = block[:, features]
    return block.toarray() if sparse.issparse(block) else block
