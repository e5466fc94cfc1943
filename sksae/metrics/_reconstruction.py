"""Measures of how well rows, their directions and their lengths are reconstructed."""

import numpy as np

from sksae._arrays import check_sample_weight
from sksae.metrics._row_blocks import (
    check_dense,
    check_same_shape,
    dense_rows,
    row_slices,
)


class VarianceAndError:
    """Weighted variance of rows `x` and their squared error, accumulated block by block.

    The variance is kept about the running mean and merged as in Chan et al. (1979), so data with a
    large common offset lose no digits.
    """

    def __init__(self):
        self.weight, self.mean = 0.0, 0.0
        # Sums over rows of |x - mean|^2 and of |x - x_hat|^2.
        self.scatter, self.squared_error = 0.0, 0.0

    def update(self, x, x_hat, weight=None):
        """Add rows of shape (b, d) in float64, with weights of shape (b,) or None."""
        weight = np.ones(len(x)) if weight is None else weight  # (b,)
        total = weight.sum()
        if total == 0:
            return self
        # Sums of groups of rows are merged as in Chan, Golub and LeVeque (1979), who subtract no
        # large numbers from each other.
        mean = weight @ x / total
        shift, centered = mean - self.mean, x - mean
        self.scatter += sum_dots(centered, centered, weight)
        # Term of the distance between the means of the two groups of rows that are merged.
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
        """Squared error over variance."""
        if self.scatter == 0:
            # Scikit-learn's convention for data without variance.
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
    return 1.0 - _accumulate(X, X_reconstructed, sample_weight).unexplained


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
    return _accumulate(X, X_reconstructed, sample_weight).unexplained


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
    accumulated = _accumulate(X, X_reconstructed, sample_weight)
    n_terms = 1 if per == "element" else len(accumulated.mean)
    return accumulated.mean_squared_error * n_terms


def _accumulate(X, X_reconstructed, sample_weight):
    X, X_reconstructed = check_pair(X, X_reconstructed)
    sample_weight = check_sample_weight(sample_weight, X.shape[0])
    accumulated = VarianceAndError()
    for x, x_hat, weight in pair_blocks(X, X_reconstructed, sample_weight):
        accumulated.update(x, x_hat, weight)
    return accumulated


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
    # einsum rather than BLAS, whose threads cost more than the sums in blocks of this size.
    return np.einsum("ij,ij->", a, b) if weight is None else weight @ np.einsum("ij,ij->i", a, b)


class MeanCosine:
    """Weighted mean over rows of the cosine between `x` and `x_hat`, accumulated block by block."""

    def __init__(self):
        self.weight, self.total = 0.0, 0.0

    def update(self, x, x_hat, weight=None):
        """Add rows of shape (b, d) in float64, with weights of shape (b,) or None."""
        norms, dots = _norms(x), np.einsum("ij,ij->i", x, x_hat)
        weight = _weight_where(norms > 0, weight)
        norms *= _norms(x_hat)
        self.total += weight @ np.divide(dots, norms, out=np.zeros(len(x)), where=norms > 0)
        self.weight += weight.sum()
        return self

    @property
    def value(self):
        """The mean so far."""
        if self.weight == 0:
            raise ValueError("All rows of X (of positive weight) are zero: they have no direction.")
        return float(self.total / self.weight)


def mean_cosine_similarity(X, X_reconstructed, *, centered=False, sample_weight=None):
    r"""Mean over rows of the cosine between a row and its reconstruction.

    It measures directions only: a reconstruction that is too short by a constant factor has the
    same mean cosine.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        The data: an array, a memory map, a data frame or a tensor.
    X_reconstructed : array-like of shape (n_samples, n_features)
        Its reconstruction.
    centered : bool, default=False
        Whether the mean of `X` is subtracted from both first. On data with a large mean the raw
        cosine is close to 1 whatever the codes do.
    sample_weight : array-like of shape (n_samples,), default=None
        Sample weights. None weighs all rows alike.

    Returns
    -------
    similarity : float
        Between -1 and 1. Rows of `X` that are zero have no direction and are left out; a
        reconstruction that is zero counts as 0.

    Raises
    ------
    ValueError
        If the shapes differ, an input is empty, a value is not finite, or all rows of `X` are
        zero.

    See Also
    --------
    sklearn.metrics.pairwise.cosine_similarity : Cosines between all pairs of rows.
    l2_ratio : Norms instead of directions.

    Examples
    --------
    >>> from sksae.metrics import mean_cosine_similarity
    >>> X = [[1, 0], [2, 1], [0, 3], [4, 2]]
    >>> X_reconstructed = [[0.8, 0.3], [1.5, 1.1], [0.2, 2.4], [3.2, 1.9]]
    >>> round(mean_cosine_similarity(X, X_reconstructed), 4)
    0.979
    """
    X, X_reconstructed = check_pair(X, X_reconstructed)
    sample_weight = check_sample_weight(sample_weight, X.shape[0])
    center = _mean(X, sample_weight) if centered else 0.0
    cosine = MeanCosine()
    for x, x_hat, weight in pair_blocks(X, X_reconstructed, sample_weight):
        cosine.update(x - center, x_hat - center, weight)
    return cosine.value


def relative_reconstruction_bias(X, X_reconstructed, *, centered=False, sample_weight=None):
    r"""Ratio :math:`\gamma` that tells whether reconstructions are systematically too small.

    :math:`\gamma = \mathbb{E}\|\hat x\|^2 / \mathbb{E}[x \cdot \hat x]` (equation 10 of [1]_), a
    ratio of means. Scaling the reconstruction by :math:`1 / \gamma` would minimise its squared
    error: 1 is unbiased, below 1 is the shrinkage that an L1 penalty causes.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        The data: an array, a memory map, a data frame or a tensor.
    X_reconstructed : array-like of shape (n_samples, n_features)
        Its reconstruction.
    centered : bool, default=False
        Whether the mean of `X` is subtracted from both first. On data with a large mean the raw
        ratio is close to 1 whatever the codes do, and only the centered one shows shrinkage.
    sample_weight : array-like of shape (n_samples,), default=None
        Sample weights. None weighs all rows alike.

    Returns
    -------
    gamma : float
        The ratio: 0 for a reconstruction that is zero (or the mean of `X`, if centered)
        everywhere, infinite for one that is orthogonal to the data.

    Raises
    ------
    ValueError
        If the shapes differ, an input is empty, or a value is not finite.

    See Also
    --------
    l2_ratio : Mean ratio of norms; below 1 even without a bias.

    References
    ----------
    .. [1] Rajamanoharan, S., Conmy, A., Smith, L., Lieberum, T., Varma, V., Kramár, J., Shah, R.
       and Nanda, N. (2024). Improving dictionary learning with gated sparse autoencoders.
       arXiv:2404.16014.

    Examples
    --------
    >>> from sksae.metrics import relative_reconstruction_bias
    >>> X = [[1, 0], [2, 1], [0, 3], [4, 2]]
    >>> X_reconstructed = [[0.8, 0.3], [1.5, 1.1], [0.2, 2.4], [3.2, 1.9]]
    >>> round(relative_reconstruction_bias(X, X_reconstructed), 4)
    0.8307
    >>> round(relative_reconstruction_bias(X, X_reconstructed, centered=True), 4)
    0.7902
    """
    X, X_reconstructed = check_pair(X, X_reconstructed)
    sample_weight = check_sample_weight(sample_weight, X.shape[0])
    center = _mean(X, sample_weight) if centered else 0.0
    norm, cross = 0.0, 0.0
    for x, x_hat, weight in pair_blocks(X, X_reconstructed, sample_weight):
        centered_hat = x_hat - center
        norm += sum_dots(centered_hat, centered_hat, weight)
        cross += sum_dots(x - center, centered_hat, weight)
    if norm == 0:
        return 0.0  # the reconstruction is zero: complete shrinkage
    return float(norm / cross) if cross else np.inf  # no component along X: the ratio has no bound


def l2_ratio(X, X_reconstructed, *, sample_weight=None):
    r"""Mean over rows of the norm of the reconstruction over the norm of the row.

    The mean of :math:`\|\hat x\| / \|x\|`. It is below 1 whenever variance is left unexplained,
    so it is not by itself a sign of shrinkage.

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
    ratio : float
        The mean ratio over the rows of `X` that are not zero.

    Raises
    ------
    ValueError
        If the shapes differ, an input is empty, a value is not finite, or all rows of `X` are
        zero.

    See Also
    --------
    relative_reconstruction_bias : A measure of shrinkage.

    Examples
    --------
    >>> from sksae.metrics import l2_ratio
    >>> X = [[1, 0], [2, 1], [0, 3], [4, 2]]
    >>> X_reconstructed = [[0.8, 0.3], [1.5, 1.1], [0.2, 2.4], [3.2, 1.9]]
    >>> round(l2_ratio(X, X_reconstructed), 4)
    0.8303
    """
    X, X_reconstructed = check_pair(X, X_reconstructed)
    sample_weight = check_sample_weight(sample_weight, X.shape[0])
    total, ratios = 0.0, 0.0
    for x, x_hat, weight in pair_blocks(X, X_reconstructed, sample_weight):
        norms = _norms(x)
        counted = _weight_where(norms > 0, weight)  # a row of zeros has no ratio
        ratios += counted @ (_norms(x_hat) / np.where(norms > 0, norms, 1.0))
        total += counted.sum()
    if total == 0:
        raise ValueError("All rows of X (of positive weight) are zero: no ratio of norms exists.")
    return float(ratios / total)


def _norms(rows):
    """Euclidean norms of the rows, (b, d) to (b,)."""
    return np.sqrt(np.einsum("ij,ij->i", rows, rows))


def _weight_where(counts, weight):
    """Weights of the rows, zero where a row does not count."""
    return np.where(counts, 1.0 if weight is None else weight, 0.0)


def _mean(X, sample_weight):
    """Weighted mean of the rows, (d,)."""
    total = 0.0
    for rows in row_slices(X):
        x = dense_rows(X, rows, "X")
        total = total + (x.sum(axis=0) if sample_weight is None else sample_weight[rows] @ x)
    return total / (X.shape[0] if sample_weight is None else sample_weight.sum())
