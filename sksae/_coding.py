"""Sparse codes of any transformer, wrapped or not, and sparse containers as CSR."""

import copy

import numpy as np
from scipy import sparse
from sklearn import config_context
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

_ENTRIES = 2**22  # per dense block


def as_csr(codes):
    """Return a sparse container as CSR without duplicate entries.

    Duplicate entries of a row and column, which scipy takes for their sum, become one. The
    argument is never changed.

    Parameters
    ----------
    codes : sparse container of shape (n_rows, n_components)
        Codes in any of scipy's formats.

    Returns
    -------
    codes : CSR container of shape (n_rows, n_components)
        The same matrix, with sorted columns; `codes` itself if it has this form already.

    Examples
    --------
    >>> from scipy import sparse
    >>> from sksae._coding import as_csr
    >>> as_csr(sparse.csr_array(([1.0, 2.0], [0, 0], [0, 2]), shape=(1, 1))).data.tolist()
    [3.0]
    """
    rows = codes.tocsr()
    if not rows.has_canonical_format:
        rows = rows.copy() if rows is codes else rows  # the caller's matrix is not changed
        rows.sum_duplicates()
    return rows


def estimator_layers(estimator, *, pipelines=True):
    """Yield an estimator, the one that it wraps, the one that this one wraps, and so on.

    Frozen estimators, fitted searches and pipelines wrap another estimator: a search its best one,
    a pipeline its last step.

    Parameters
    ----------
    estimator : estimator
        An estimator, wrapped or not.
    pipelines : bool, default=True
        Whether pipelines are unwrapped. Without their first steps the last one sees other rows.

    Yields
    ------
    layer : estimator
        From the outermost to the innermost.

    Examples
    --------
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.frozen import FrozenEstimator
    >>> from sklearn.pipeline import make_pipeline
    >>> from sksae._coding import estimator_layers
    >>> [type(layer).__name__ for layer in estimator_layers(FrozenEstimator(make_pipeline(PCA())))]
    ['FrozenEstimator', 'Pipeline', 'PCA']
    """
    while estimator is not None:
        yield estimator
        if isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        elif isinstance(estimator, Pipeline):
            estimator = estimator[-1] if pipelines else None
        else:
            estimator = getattr(estimator, "best_estimator_", None)


def sparse_coder(estimator):
    """Return the transformer that codes rows, with sparse output if it has the option.

    Frozen estimators and searches are unwrapped. The estimator itself is never changed.

    Parameters
    ----------
    estimator : estimator
        A fitted transformer, a frozen one, or a search over one.

    Returns
    -------
    coder : estimator
        The transformer, or a copy that shares its arrays.

    Examples
    --------
    >>> from sksae import TopKSAE
    >>> from sksae._coding import sparse_coder
    >>> sparse_coder(TopKSAE(8)).sparse_output
    True
    """
    if isinstance(estimator, type):
        raise TypeError(
            f"{estimator.__name__} is a class; a fitted estimator is needed, as in "
            f"{estimator.__name__}(...).fit(X)."
        )
    *_, estimator = estimator_layers(estimator, pipelines=False)
    if not _can_be_sparse(estimator):
        return estimator
    estimator = copy.copy(estimator).set_params(sparse_output=True)
    estimator._sklearn_output_config = {}  # no data frames, whatever `set_output` says
    return estimator


def sparse_codes(coder, rows, width):
    """Return the codes of rows as CSR; dense ones are made one block at a time."""
    n_rows = rows.shape[0] if hasattr(rows, "shape") else len(rows)
    if not n_rows:
        return sparse.csr_array((0, width), dtype=np.float32)
    with config_context(transform_output="default"):
        if _can_be_sparse(coder):
            return as_csr(sparse.csr_array(coder.transform(rows)))
        step = max(1, _ENTRIES // max(width, 1))
        starts = range(0, n_rows, step)
        # Dense codes of a block at a time.
        blocks = [coder.transform(rows[start : start + step]) for start in starts]
    blocks = [block if sparse.issparse(block) else np.asarray(block) for block in blocks]
    blocks = [block.astype(np.float32) if block.dtype == np.float16 else block for block in blocks]
    return as_csr(sparse.vstack([sparse.csr_array(block) for block in blocks], format="csr"))


def _can_be_sparse(estimator):
    get_params = getattr(estimator, "get_params", None)
    return get_params is not None and "sparse_output" in get_params(deep=False)
