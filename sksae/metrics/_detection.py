"""Latents as detectors of true features: precision, recall and F1."""

import numpy as np
from scipy import sparse

from sksae.metrics._row_blocks import check_codes, code_rows, row_slices


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
    fires, present, both = _fire_together(codes, codes_true)
    if matches is None:
        matches = _best_f1(both, fires, present)
    else:
        matches = _check_matches(matches, len(fires), len(present))
    hits = np.asarray(both[np.arange(len(fires)), matches]).ravel().astype(np.float64)
    precision = _ratio(hits, fires)
    recall = _ratio(hits, present[matches])
    return precision, recall, _ratio(2 * hits, fires + present[matches]), matches


def _fire_together(codes, codes_true):
    """Count rows on which latents fire, (m,), features are present, (g,), and both, CSR (m, g)."""
    codes, codes_true = check_codes(codes), check_codes(codes_true, "codes_true")
    if codes.shape[0] != codes_true.shape[0]:
        raise ValueError(
            f"codes has {codes.shape[0]} rows, codes_true has {codes_true.shape[0]}; "
            "they must be equal."
        )
    fires, present, both = 0, 0, 0  # arrays after the first block
    for rows in row_slices(codes):
        latent = _firing_pattern(codes, rows, "codes")
        feature = _firing_pattern(codes_true, rows, "codes_true")
        fires = fires + np.bincount(latent.indices, minlength=latent.shape[1])
        present = present + np.bincount(feature.indices, minlength=feature.shape[1])
        both = both + latent.T @ feature
    return fires, present, sparse.csr_array(both)


def _firing_pattern(codes, rows, name):
    pattern = sparse.csr_array(code_rows(codes, rows, name))
    pattern.data = np.ones(len(pattern.data), dtype=np.int64)
    return pattern


def _best_f1(both, fires, present):
    """Return the feature with the largest F1 for each latent, the first of equals; 0 if silent."""
    pairs = both.tocoo()
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
    return np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator > 0)
