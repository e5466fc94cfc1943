"""Measures of codes: sparsity, firing frequencies of latents, detection of true features."""

import numpy as np
from scipy import sparse

from sksae._arrays import check_sample_weight
from sksae.metrics._row_blocks import check_codes, code_rows, row_slices


class Firings:
    """Weighted counts of the codes that are not zero, accumulated block by block."""

    def __init__(self):
        self.weight = 0.0  # sum of the sample weights
        self.per_latent = 0.0  # weight of the rows on which each latent fires, (m,)

    def update(self, codes, weight=None):
        """Add rows of validated codes, with weights as float64 of shape (n,) or None."""
        for rows in row_slices(codes):
            block_weight = None if weight is None else weight[rows]
            fires = _fires_per_latent(code_rows(codes, rows), block_weight)
            self.per_latent = self.per_latent + fires
        self.weight += codes.shape[0] if weight is None else weight.sum()
        return self

    @property
    def l0(self):
        """Mean number of latents that fire per row."""
        return float(self.per_latent.sum() / self.weight)

    @property
    def density(self):
        """Share of the rows on which each latent fires, (m,)."""
        return self.per_latent / self.weight

    @property
    def dead_fraction(self):
        """Share of the latents that never fire."""
        return float(np.mean(self.per_latent == 0))


def l0(codes, *, normalize=False, sample_weight=None):
    """Mean number of latents that fire per row.

    A latent fires where its code is not zero.

    Parameters
    ----------
    codes : {array-like, sparse matrix} of shape (n_samples, n_components)
        Codes, dense or sparse; a tensor is accepted.
    normalize : bool, default=False
        Whether the count is divided by `n_components`, which gives the share of all codes that are
        not zero.
    sample_weight : array-like of shape (n_samples,), default=None
        Sample weights. None weighs all rows alike.

    Returns
    -------
    l0 : float
        The mean count (a share between 0 and 1 if `normalize`).

    Raises
    ------
    ValueError
        If `codes` is empty, not 2-D, or holds NaN or infinity.

    See Also
    --------
    l0_per_row : The count of every row.
    neg_l0_scorer : The same as a scorer for searches.

    Examples
    --------
    >>> from sksae.metrics import l0
    >>> codes = [[0, 1.5, 0, 0], [0.2, 0, 0, 3.1]]
    >>> l0(codes)
    1.5
    >>> l0(codes, normalize=True)
    0.375
    """
    firings = _firings(codes, sample_weight)
    return firings.l0 / len(firings.per_latent) if normalize else firings.l0


def l0_per_row(codes):
    """Number of latents that fire, for each row.

    The mean hides the spread: under a fixed threshold some rows may use ten times as many latents
    as others. Give the counts to :func:`numpy.quantile` or to a histogram.

    Parameters
    ----------
    codes : {array-like, sparse matrix} of shape (n_samples, n_components)
        Codes, dense or sparse; a tensor is accepted.

    Returns
    -------
    counts : ndarray of shape (n_samples,), dtype int64
        Number of codes in the row that are not zero.

    Raises
    ------
    ValueError
        If `codes` is empty, not 2-D, or holds NaN or infinity.

    See Also
    --------
    l0 : The mean of the counts.

    Examples
    --------
    >>> from sksae.metrics import l0_per_row
    >>> l0_per_row([[0, 1.5, 0, 0], [0.2, 0, 0, 3.1]])
    array([1, 2])
    """
    codes = check_codes(codes)
    counts = [_fires_per_row(code_rows(codes, rows)) for rows in row_slices(codes)]
    return np.concatenate(counts).astype(np.int64, copy=False)


def l1(codes, *, sample_weight=None):
    """Mean over rows of the sum of the absolute codes.

    It is the quantity that an L1 penalty pushes down, in the units of the codes; compare it only
    between dictionaries whose atoms have the same norm.

    Parameters
    ----------
    codes : {array-like, sparse matrix} of shape (n_samples, n_components)
        Codes, dense or sparse; a tensor is accepted.
    sample_weight : array-like of shape (n_samples,), default=None
        Sample weights. None weighs all rows alike.

    Returns
    -------
    l1 : float
        The mean sum.

    Raises
    ------
    ValueError
        If `codes` is empty, not 2-D, or holds NaN or infinity.

    See Also
    --------
    l0 : The number of codes that are not zero.

    Examples
    --------
    >>> from sksae.metrics import l1
    >>> l1([[0, 1.5, 0, 0], [0.5, 0, 0, 3.0]])
    2.5
    """
    codes = check_codes(codes)
    weight = check_sample_weight(sample_weight, codes.shape[0])
    weight = np.ones(codes.shape[0]) if weight is None else weight
    total = 0.0
    for rows in row_slices(codes):
        # Scipy sums float32 in float32 whatever dtype it is asked for.
        absolute = abs(code_rows(codes, rows).astype(np.float64))
        total += weight[rows] @ np.asarray(absolute.sum(axis=1)).ravel()  # (b,)
    return float(total / weight.sum())


def latent_density(codes, *, sample_weight=None):
    """Share of the rows on which each latent fires.

    A healthy dictionary has densities over several orders of magnitude; look at their logarithms.

    Parameters
    ----------
    codes : {array-like, sparse matrix} of shape (n_samples, n_components)
        Codes, dense or sparse; a tensor is accepted.
    sample_weight : array-like of shape (n_samples,), default=None
        Sample weights. None weighs all rows alike.

    Returns
    -------
    density : ndarray of shape (n_components,)
        Firing frequency of each latent, between 0 and 1.

    Raises
    ------
    ValueError
        If `codes` is empty, not 2-D, or holds NaN or infinity.

    See Also
    --------
    dead_fraction : Share of the latents whose density is 0.
    dense_fraction : Share of the latents that fire very often.

    Notes
    -----
    The usual picture is a histogram of ``log10(density + 1e-10)``, in which dead latents are the
    bar at -10. Rows that are padding or a constant first token distort it: leave them out.

    Examples
    --------
    >>> from sksae.metrics import latent_density
    >>> latent_density([[0, 1.5, 0, 0], [0.2, 0, 0, 3.1]])
    array([0.5, 0.5, 0. , 0.5])
    """
    return _firings(codes, sample_weight).density


def dead_fraction(codes):
    """Share of the latents that fire on no row.

    The fraction depends on the number of rows: report both.

    Parameters
    ----------
    codes : {array-like, sparse matrix} of shape (n_samples, n_components)
        Codes, dense or sparse; a tensor is accepted.

    Returns
    -------
    fraction : float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If `codes` is empty, not 2-D, or holds NaN or infinity.

    See Also
    --------
    latent_density : Firing frequency of each latent.

    Notes
    -----
    A latent that is silent on `n_samples` rows has a density below ``3 / n_samples`` with 95 %
    confidence (the rule of three) if rows are independent: on few rows, rare and dead look the
    same. At the scale of language models ten million rows are customary.

    Examples
    --------
    >>> from sksae.metrics import dead_fraction
    >>> dead_fraction([[0, 1.5, 0, 0], [0.2, 0, 0, 3.1]])
    0.25
    """
    return _firings(codes, None).dead_fraction


def dense_fraction(codes, *, min_density=0.1):
    """Share of the latents that fire on more than a given share of the rows.

    Latents that are almost always on are rarely about one thing.

    Parameters
    ----------
    codes : {array-like, sparse matrix} of shape (n_samples, n_components)
        Codes, dense or sparse; a tensor is accepted.
    min_density : float, default=0.1
        Latents that fire on more than this share of the rows count as dense.

    Returns
    -------
    fraction : float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If `codes` is empty, not 2-D, or holds NaN or infinity.

    See Also
    --------
    latent_density : Firing frequency of each latent.

    Examples
    --------
    >>> from sksae.metrics import dense_fraction
    >>> dense_fraction([[0, 1.5, 0, 0], [0.2, 1.0, 0, 3.1]], min_density=0.5)
    0.25
    """
    return float(np.mean(_firings(codes, None).density > min_density))


def _firings(codes, sample_weight):
    codes = check_codes(codes)
    return Firings().update(codes, check_sample_weight(sample_weight, codes.shape[0]))


def _fires_per_row(codes):
    """Count the latents that fire on each row of a block without explicit zeros."""
    return np.diff(codes.indptr) if sparse.issparse(codes) else np.count_nonzero(codes, axis=1)


def _fires_per_latent(codes, weight):
    """Weight of the rows on which each latent fires, (b, m) to (m,)."""
    if not sparse.issparse(codes):
        return np.count_nonzero(codes, axis=0) if weight is None else weight @ (codes != 0)
    if weight is not None:
        weight = np.repeat(weight, np.diff(codes.indptr))  # weight of the row of each entry
    return np.bincount(codes.indices, weights=weight, minlength=codes.shape[1])


def latent_precision_recall_f1(codes, codes_true, *, matches=None):
    """Precision, recall and F1 of each latent as a detector of one true feature.

    A latent is right on a row if both it and its true feature fire there.

    Parameters
    ----------
    codes : {array-like, sparse matrix} of shape (n_samples, n_components)
        Learned codes, dense or sparse; a tensor is accepted.
    codes_true : {array-like, sparse matrix} of shape (n_samples, n_true)
        True codes of the same rows.
    matches : array-like of int, of shape (n_components,), default=None
        The true feature of each latent, for instance the indices that
        :func:`nearest_atoms` returns for the learned and the true dictionary. None takes, for each
        latent, the feature with the largest F1, which is optimistic on few rows.

    Returns
    -------
    precision : ndarray of shape (n_components,)
        Share of the rows on which the latent fires where the feature is present.
    recall : ndarray of shape (n_components,)
        Share of the rows where the feature is present on which the latent fires.
    f1 : ndarray of shape (n_components,)
        Their harmonic mean.
    matches : ndarray of shape (n_components,)
        The true feature of each latent.

    Raises
    ------
    ValueError
        If the numbers of rows differ, `matches` has the wrong shape or range, an input is empty,
        or a value is not finite.

    See Also
    --------
    nearest_atoms : Matches by direction.
    sklearn.metrics.precision_recall_fscore_support : The same for labels.

    Notes
    -----
    Divisions by zero give 0: a latent that never fires has precision, recall and F1 of 0, and the
    means over latents include it.

    Examples
    --------
    >>> from sksae.metrics import latent_precision_recall_f1
    >>> codes_true = [[1, 0], [1, 0], [0, 1], [0, 0]]
    >>> codes = [[0, 0.9], [0, 0], [2.0, 0], [0.5, 0]]
    >>> precision, recall, f1, matches = latent_precision_recall_f1(codes, codes_true)
    >>> precision
    array([0.5, 1. ])
    >>> recall
    array([1. , 0.5])
    >>> matches
    array([1, 0])
    """
    fires, present, together = _fire_together(codes, codes_true)
    if matches is None:
        matches = _best_f1(together, fires, present)
    else:
        matches = _check_matches(matches, len(fires), len(present))
    # Rows on which both the latent and its feature fire, (m,).
    hits = np.asarray(together[np.arange(len(fires)), matches]).ravel().astype(np.float64)
    precision = _ratio(hits, fires)
    recall = _ratio(hits, present[matches])
    # F1 = 2 TP / (2 TP + FP + FN), whose denominator is the sum of both counts.
    return precision, recall, _ratio(2 * hits, fires + present[matches]), matches


def _fire_together(codes, codes_true):
    """Count rows on which latents fire, (m,), features are present, (g,), and both, CSR (m, g)."""
    codes, codes_true = check_codes(codes), check_codes(codes_true, "codes_true")
    if codes.shape[0] != codes_true.shape[0]:
        raise ValueError(
            f"codes has {codes.shape[0]} rows, codes_true has {codes_true.shape[0]}; "
            "they must be equal."
        )
    fires, present, together = 0, 0, 0  # arrays after the first block
    for rows in row_slices(codes):
        latent = _firing_pattern(codes, rows, "codes")
        feature = _firing_pattern(codes_true, rows, "codes_true")
        fires = fires + np.bincount(latent.indices, minlength=latent.shape[1])
        present = present + np.bincount(feature.indices, minlength=feature.shape[1])
        together = together + latent.T @ feature  # products of zeros and ones count rows, (m, g)
    return fires, present, sparse.csr_array(together)


def _firing_pattern(codes, rows, name):
    pattern = sparse.csr_array(code_rows(codes, rows, name))
    pattern.data = np.ones(len(pattern.data), dtype=np.int64)
    return pattern


def _best_f1(together, fires, present):
    """Return the feature with the largest F1 for each latent, the first of equals; 0 if silent."""
    pairs = together.tocoo()
    # Of the pairs that fire together at all.
    f1 = 2 * pairs.data / (fires[pairs.row] + present[pairs.col])
    matches = np.zeros(len(fires), dtype=np.intp)
    # From small to large F1: of several assignments to a latent the last, its best, remains.
    order = np.lexsort((-pairs.col, f1))
    matches[pairs.row[order]] = pairs.col[order]
    return matches


def _check_matches(matches, n_components, n_true):
    matches = np.asarray(matches)
    if matches.shape != (n_components,) or matches.dtype.kind not in "iu":
        raise ValueError(
            f"matches must hold {n_components} integers, one per latent. "
            f"Got shape {matches.shape}, dtype {matches.dtype}."
        )
    if matches.min() < 0 or matches.max() >= n_true:
        raise ValueError(f"matches must lie between 0 and {n_true - 1}, columns of codes_true.")
    return matches


def _ratio(numerator, denominator):
    # 0 where there is nothing to divide by.
    return np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator > 0)
