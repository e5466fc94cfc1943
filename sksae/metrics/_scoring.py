"""The pass over the data that all scorers share."""

import numpy as np
from scipy import sparse
from sklearn.base import is_regressor

from sksae._arrays import check_sample_weight
from sksae.metrics._direction import MeanCosine
from sksae.metrics._reconstruction import VarianceAndError, check_pair, pair_blocks
from sksae.metrics._row_blocks import check_codes
from sksae.metrics._sparsity import Firings

FIRST_BLOCK_ROWS = 256  # until the width of the codes is known
BLOCK_SIZE = 2**24  # numbers in a block of rows or of dense codes afterwards


def encode(estimator, X, sample_weight=None):
    """Sparsity scores of an estimator, as a dict of floats; needs `transform` only."""
    _require(estimator, "transform")
    firings = Firings()
    for _, codes, weight in _encoded_blocks(estimator, X, sample_weight):
        firings.update(check_codes(codes), weight)
    return _sparsity_scores(firings)


def reconstruct(estimator, X, sample_weight=None):
    """Reconstruction and sparsity scores of an estimator, as a dict of floats."""
    _require(estimator, "transform")
    if is_regressor(estimator):
        raise TypeError(
            f"{type(estimator).__name__} predicts y and does not reconstruct X: it is scored by "
            f"its own score(X, y), or by any scorer for regression."
        )
    _require(estimator, "inverse_transform")
    firings, gathered, cosine = Firings(), VarianceAndError(), MeanCosine()
    for rows, codes, weight in _encoded_blocks(estimator, X, sample_weight):
        firings.update(check_codes(codes), weight)
        pair = check_pair(rows, estimator.inverse_transform(codes))
        for x, x_hat, block_weight in pair_blocks(*pair, weight):
            gathered.update(x, x_hat, block_weight)
            cosine.update(x, x_hat, block_weight)
    return {
        "explained_variance": 1.0 - gathered.unexplained,
        "neg_mean_squared_error": 0.0 - gathered.mean_squared_error,
        "mean_cosine_similarity": cosine.value,
        **_sparsity_scores(firings),
    }


def _sparsity_scores(firings):
    # 0.0 - x rather than -x: no minus zero in a table
    return {"neg_l0": 0.0 - firings.l0, "neg_dead_fraction": 0.0 - firings.dead_fraction}


def _encoded_blocks(estimator, X, sample_weight):
    """Blocks (rows, codes, weight or None); rows keep their type, for feature names and devices."""
    if sparse.issparse(X):
        raise ValueError("X is a sparse matrix; a dense one is needed.")
    if not hasattr(X, "shape") and not hasattr(X, "__len__"):
        raise TypeError(f"X must be rows that the estimator takes. Got {type(X).__name__} instead.")
    # a list of texts stays a list: an extractor in front of the estimator reads it
    n_samples = X.shape[0] if hasattr(X, "shape") else len(X)
    sample_weight = check_sample_weight(sample_weight, n_samples)
    start, n_rows = 0, FIRST_BLOCK_ROWS
    while start < n_samples:
        rows = slice(start, min(start + n_rows, n_samples))
        block = X.iloc[rows] if hasattr(X, "iloc") else X[rows]
        codes = estimator.transform(block)
        yield block, codes, None if sample_weight is None else sample_weight[rows]
        start = rows.stop
        width = max(codes.shape[1], np.shape(block)[-1] if np.ndim(block) == 2 else 1)
        n_rows = max(1, BLOCK_SIZE // width)


def _require(estimator, method):
    if not hasattr(estimator, method):
        raise TypeError(
            f"{type(estimator).__name__} has no {method}; the scorer needs it (in a pipeline, of "
            "every step). A pipeline that ends in a predictor is scored by its own score."
        )
