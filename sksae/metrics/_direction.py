"""How well directions and lengths are reconstructed."""

import numpy as np

from sksae._arrays import check_sample_weight
from sksae.metrics._reconstruction import check_pair, pair_blocks, sum_dots
from sksae.metrics._row_blocks import dense_rows, row_slices


class MeanCosine:
    """Weighted mean over rows of the cosine between `x` and `x_hat`, gathered block by block."""

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

    It sees directions only: a reconstruction that is too short by a constant factor has the same
    mean cosine.

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
    l2_ratio : The other half: norms instead of directions.

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
        return 0.0  # nothing is left of x: the strongest shrinkage there is
    return float(norm / cross) if cross else np.inf


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
        counted = _weight_where(norms > 0, weight)
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
