"""p-values that hold for all features together, from exchanged labels."""

import numpy as np

from sksae._arrays import rows_per_chunk
from sksae.interpret.contrast._columns import column_blocks, firings_of, welch_of, without_unit
from sksae.interpret.contrast._ranks import auroc_of, midranks, rank_z
from sksae.interpret.contrast._statistics import firing_z


def family_pvalues(X, positive, test, n_permutations, random):
    """Return the share of labellings whose largest statistic reaches that of each column.

    Parameters
    ----------
    X : {ndarray, sparse container} of shape (n_rows, n_columns)
    positive : bool ndarray of shape (n_rows,)
    test : {"fisher", "welch", "mann_whitney"}
    n_permutations : int
        Random labellings; the given one is counted beside them.
    random : RandomState

    Returns
    -------
    pvalues : ndarray of shape (n_columns,)
    """
    labels = np.empty((len(positive), n_permutations), dtype=bool)
    for column in labels.T:
        column[:] = random.permutation(positive)
    largest, own = np.zeros(n_permutations), []
    for block in column_blocks(X):
        block = without_unit(block) if test == "welch" else block
        ranks = midranks(block) if test == "mann_whitney" else None
        own.append(_standardized(block, ranks, positive[:, None], test)[:, 0])
        step = rows_per_chunk(max(block.shape))
        for start in range(0, n_permutations, step):
            some = slice(start, start + step)
            found = _standardized(block, ranks, labels[:, some], test).max(axis=0)
            largest[some] = np.maximum(largest[some], found)
    # What is equal up to rounding is reached: the same sum in another order.
    below = np.searchsorted(np.sort(largest), np.concatenate(own) * (1 - 1e-9))
    return (1 + n_permutations - below) / (1 + n_permutations)


def _standardized(block, ranks, labels, test):
    """Return the absolute statistic of each column and labelling, (n_columns, n_labellings)."""
    labels = labels.astype(np.float64)
    n_pos = labels[:, 0].sum()
    n_neg = len(labels) - n_pos
    if test == "welch":
        return np.abs(welch_of(block, labels)[0])
    if test == "fisher":
        fired, fired_pos = firings_of(block, labels)
        return np.abs(firing_z(fired_pos, fired, n_pos, n_neg))
    return np.abs(rank_z(auroc_of(ranks, labels), ranks.ties[:, None], n_pos, n_neg))
