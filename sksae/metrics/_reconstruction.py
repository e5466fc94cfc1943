"""How close a reconstruction is to its data."""

import numpy as np

from sksae._arrays import check_sample_weight
from sksae.metrics._row_blocks import (
    check_dense,
    check_same_shape,
    dense_rows,
    row_slices,
)


class VarianceAndError:
    """Weighted variance of rows `x` and their squared error, gathered block by block.

    The variance is kept about the running mean and merged as in Chan et al. (1979), so data with a
    large common offset lose no digits.
    """

    def __init__(self):
        self.weight, self.mean = 0.0, 0.0
        # sums over rows of |x - mean|^2 and of |x - x_hat|^2
        self.scatter, self.squared_error = 0.0, 0.0

    def update(self, x, x_hat, weight=None):
        """Add rows of shape (b, d) in float64, with weights of shape (b,) or None."""
        weight = np.ones(len(x)) if weight is None else weight
        total = weight.sum()
        if total == 0:
            return self
        mean = weight @ x / total
        shift, centered = mean - self.mean, x - mean
        self.scatter += sum_dots(centered, centered, weight)
        # what the distance between the two means adds when two groups of rows are merged
        self.scatter += self.weight * total / (self.weight + total) * (shift @ shift)
        self.weight += total
        self.mean = self.mean + shift * (total / self.weight)
        error = x - x_hat
        self.squared_error += sum_dots(error, error, weight)
        return self

    @property
    def mean_squared_error(self):
        """Mean squared error per element."""
        return float(self.squared_error / self.weight / len(self.mean))

    @property
    def unexplained(self):
        """Share of the variance that is left in the error."""
        if self.scatter == 0:
            # scikit-learn's convention for data without variance
            return float(self.squared_error > 0)
        return float(self.squared_error / self.scatter)


def explained_variance(X, X_reconstructed, *, sample_weight=None):
    r"""Share of the variance of the data that its reconstruction explains.

    The coefficient of determination pooled over all columns,
    :math:`R^2 = 1 - \sum_r \|x_r - \hat x_r\|^2 / \sum_r \|x_r - \bar x\|^2`. It is what `score`
    of an estimator returns, and what :func:`sklearn.metrics.r2_score` returns with
    ``multioutput="variance_weighted"``.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        The data: an array, a memory map, a data frame or a tensor.
    X_reconstructed : array-like of shape (n_samples, n_features)
        Its reconstruction.
    sample_weight : array-like of shape (n_samples,), default=None
        Sample weights. None weighs all rows alike.

    Returns
    -------
    score : float
        1 for a perfect reconstruction, 0 for one no better than the mean of `X`; it can be
        negative.

    Raises
    ------
    ValueError
        If the shapes differ, an input is empty, or a value is not finite.

    See Also
    --------
    fraction_of_variance_unexplained : One minus this score.
    explained_variance_scorer : The same as a scorer for searches.

    Notes
    -----
    Other libraries give this name to other numbers.
    :func:`sklearn.metrics.explained_variance_score` ignores a constant offset of the
    reconstruction and is never below this one. The error in a column that is constant in `X`
    counts here; :func:`sklearn.metrics.r2_score` leaves such a column out. If all rows of `X` are
    equal the score is 1 for a perfect reconstruction, otherwise 0.

    Examples
    --------
    >>> from sksae.metrics import explained_variance
    >>> X = [[1, 0], [2, 1], [0, 3], [4, 2]]
    >>> X_reconstructed = [[0.8, 0.3], [1.5, 1.1], [0.2, 2.4], [3.2, 1.9]]
    >>> round(explained_variance(X, X_reconstructed), 4)
    0.8953
    """
    return 1.0 - _gather(X, X_reconstructed, sample_weight).unexplained


def fraction_of_variance_unexplained(X, X_reconstructed, *, sample_weight=None):
    r"""Squared error relative to the variance of the data, also called normalised MSE.

    The pooled ratio :math:`\sum_r \|x_r - \hat x_r\|^2 / \sum_r \|x_r - \bar x\|^2` of [1]_.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        The data: an array, a memory map, a data frame or a tensor.
    X_reconstructed : array-like of shape (n_samples, n_features)
        Its reconstruction.
    sample_weight : array-like of shape (n_samples,), default=None
        Sample weights. None weighs all rows alike.

    Returns
    -------
    fraction : float
        0 for a perfect reconstruction, 1 for one no better than the mean of `X`.

    Raises
    ------
    ValueError
        If the shapes differ, an input is empty, or a value is not finite.

    See Also
    --------
    explained_variance : One minus this fraction.

    References
    ----------
    .. [1] Gao, L., la Tour, T. D., Tillman, H., Goh, G., Troll, R., Radford, A., Sutskever, I.,
       Leike, J. and Wu, J. (2024). Scaling and evaluating sparse autoencoders. arXiv:2406.04093.

    Examples
    --------
    >>> from sksae.metrics import fraction_of_variance_unexplained
    >>> X = [[1, 0], [2, 1], [0, 3], [4, 2]]
    >>> X_reconstructed = [[0.8, 0.3], [1.5, 1.1], [0.2, 2.4], [3.2, 1.9]]
    >>> round(fraction_of_variance_unexplained(X, X_reconstructed), 4)
    0.1047
    """
    return _gather(X, X_reconstructed, sample_weight).unexplained


def mean_squared_reconstruction_error(X, X_reconstructed, *, per="element", sample_weight=None):
    r"""Mean squared error of a reconstruction, per element or per row.

    The two differ by the factor `n_features`, and both are called MSE in the literature. A training
    loss is a mean over rows of :math:`\|x - \hat x\|^2`;
    :func:`sklearn.metrics.mean_squared_error` is a mean over elements.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        The data: an array, a memory map, a data frame or a tensor.
    X_reconstructed : array-like of shape (n_samples, n_features)
        Its reconstruction.
    per : {"element", "row"}, default="element"
        Whether the squared error is averaged over all elements, or summed over the elements of a
        row and averaged over rows.
    sample_weight : array-like of shape (n_samples,), default=None
        Sample weights. None weighs all rows alike.

    Returns
    -------
    error : float
        The error, in squared units of `X`.

    Raises
    ------
    ValueError
        If the shapes differ, an input is empty, a value is not finite, or `per` is unknown.

    See Also
    --------
    fraction_of_variance_unexplained : The error free of units.

    Examples
    --------
    >>> from sksae.metrics import mean_squared_reconstruction_error
    >>> X = [[1, 0], [2, 1], [0, 3], [4, 2]]
    >>> X_reconstructed = [[0.8, 0.3], [1.5, 1.1], [0.2, 2.4], [3.2, 1.9]]
    >>> round(mean_squared_reconstruction_error(X, X_reconstructed), 4)
    0.18
    >>> round(mean_squared_reconstruction_error(X, X_reconstructed, per="row"), 4)
    0.36
    """
    if per not in ("element", "row"):
        raise ValueError(f"per must be 'element' or 'row'. Got {per!r} instead.")
    gathered = _gather(X, X_reconstructed, sample_weight)
    n_terms = 1 if per == "element" else len(gathered.mean)
    return gathered.mean_squared_error * n_terms


def _gather(X, X_reconstructed, sample_weight):
    X, X_reconstructed = check_pair(X, X_reconstructed)
    sample_weight = check_sample_weight(sample_weight, X.shape[0])
    gathered = VarianceAndError()
    for x, x_hat, weight in pair_blocks(X, X_reconstructed, sample_weight):
        gathered.update(x, x_hat, weight)
    return gathered


def check_pair(X, X_reconstructed):
    """Two dense matrices of the same shape, or a ValueError."""
    X, X_reconstructed = check_dense(X, "X"), check_dense(X_reconstructed, "X_reconstructed")
    check_same_shape(X, X_reconstructed, "X", "X_reconstructed")
    return X, X_reconstructed


def pair_blocks(X, X_reconstructed, sample_weight):
    """Blocks (x, x_hat, weight or None) in float64 of matrices that passed `check_pair`."""
    for rows in row_slices(X):
        x_hat = dense_rows(X_reconstructed, rows, "X_reconstructed")
        weight = None if sample_weight is None else sample_weight[rows]
        yield dense_rows(X, rows, "X"), x_hat, weight


def sum_dots(a, b, weight):
    """Weighted sum over rows of the dot products of `a` and `b`, both (b, d)."""
    # einsum rather than BLAS: in blocks of this size starting its threads costs more than the sums
    return np.einsum("ij,ij->", a, b) if weight is None else weight @ np.einsum("ij,ij->i", a, b)
