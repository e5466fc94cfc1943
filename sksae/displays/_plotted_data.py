"""Data for displays: sparse codes of rows, attributes of fitted estimators, names of latents."""

import re
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from scipy import sparse
from sklearn import config_context
from sklearn.utils.validation import check_is_fitted

from sksae._arrays import to_torch
from sksae._coding import as_csr, estimator_layers, sparse_coder, sparse_codes
from sksae._signs import fit_columns, visible

_NAME_COLUMNS = 32


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
        # Of one row, since not every transformer tells its number of columns.
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


def names_by_latent(names, n_latents):
    """Return names as a mapping from latents, however they were given.

    Parameters
    ----------
    names : mapping of int to str, sequence of str, or None
        Names of some latents by number, or of all.
    n_latents : int
        Number of latents.

    Returns
    -------
    names : mapping of int to str
        Names by latent; empty for None.

    Raises
    ------
    ValueError
        If a sequence has not one name per latent, or a key is no latent.
    """
    if names is None:
        return {}
    if isinstance(names, Mapping):
        unknown = [latent for latent in names if latent not in range(n_latents)]
        if unknown:
            raise ValueError(
                f"names must have latents between 0 and {n_latents - 1} as keys. "
                f"Got {unknown[0]!r} instead."
            )
        return names
    if isinstance(names, str) or len(names) != n_latents:
        raise ValueError(f"names must be a mapping, or have one name for each of {n_latents}.")
    return dict(enumerate(names))


def set_names(estimator):
    """Return the names that were given to the latents of an estimator, by latent.

    Names that scikit-learn generates, such as "pca3" for latent 3, are left out.
    """
    *_, estimator = estimator_layers(estimator)  # earlier steps of a pipeline need not have names
    try:
        names = list(map(str, estimator.get_feature_names_out()))
    except (AttributeError, ValueError):  # a transformer without names, or made of such
        names = []
    return {i: name for i, name in enumerate(names) if not re.fullmatch(rf"[^\W\d]+{i}", name)}


def latent_labels(latents, names, columns=_NAME_COLUMNS):
    """Return the label of each latent, its number and its name, in at most `columns`.

    A name that consists of a word and a number, such as the "topksae7" of a data frame, stands
    alone.
    """
    labels = []
    for latent in latents:
        name = visible(str(names.get(latent, ""))).strip()
        alone = re.fullmatch(r"[^\W\d]+\d+", name)
        labels.append(fit_columns(name if alone else f"{latent} {name}".strip(), columns))
    return labels
