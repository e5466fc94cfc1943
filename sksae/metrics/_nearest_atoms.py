"""For each atom of a dictionary, the nearest atom of another."""

import numpy as np
import torch
from sklearn.utils import gen_batches

from sksae._threads import threads_for
from sksae.metrics._row_blocks import check_dense

BLOCK_SIZE = 2**23  # cosines computed at a time: 64 MB of float64


def nearest_atoms(dictionary, other=None, *, absolute=False):
    """For each atom of a dictionary, the atom of another with the largest cosine.

    Most comparisons of dictionaries are a summary of what this function returns.

    Parameters
    ----------
    dictionary : array-like of shape (n_components, n_features)
        Atoms as rows; norms do not matter. An atom that is zero has cosine 0 with all others.
    other : array-like of shape (n_other, n_features), default=None
        Where to look. None looks among the other atoms of `dictionary`.
    absolute : bool, default=False
        Whether a direction and its opposite count as the same. Codes that are never negative tell
        them apart, hence the default.

    Returns
    -------
    similarities : ndarray of shape (n_components,)
        The largest cosine of each atom.
    indices : ndarray of shape (n_components,)
        The row of `other` that has it; the first one of equals.

    Raises
    ------
    ValueError
        If the widths differ, an input is empty, a value is not finite, or `other` is None and
        there is only one atom.

    See Also
    --------
    mean_max_cosine_similarity : The mean of the similarities to another dictionary.
    dictionary_redundancy : The mean of the similarities within one dictionary.

    Notes
    -----
    Cosines are computed in the precision of the inputs (at least float32), a block of rows at a
    time, so the full matrix never exists.

    Examples
    --------
    >>> from sksae.metrics import nearest_atoms
    >>> similarities, indices = nearest_atoms([[1, 0], [0.6, 0.8]], [[0, 1], [2, 0], [-1, 0]])
    >>> similarities
    array([1. , 0.8])
    >>> indices
    array([1, 0])
    """
    atoms = unit_rows(dictionary, "dictionary")
    others = atoms if other is None else unit_rows(other, "other")
    if other is None and len(atoms) == 1:
        raise ValueError("dictionary has a single atom; there is no other to compare it with.")
    check_widths(atoms, others, "dictionary", "other")
    similarities, indices = np.empty(len(atoms)), np.empty(len(atoms), dtype=np.intp)
    for rows in gen_batches(len(atoms), max(1, BLOCK_SIZE // len(others))):
        cosines = atoms[rows] @ others.T
        if absolute:
            np.abs(cosines, out=cosines)
        if other is None:
            cosines[np.arange(len(cosines)), np.arange(rows.start, rows.stop)] = -np.inf
        indices[rows] = cosines.argmax(axis=1)
        similarities[rows] = cosines[np.arange(len(cosines)), indices[rows]]
    return similarities, indices


def unit_rows(dictionary, name):
    """Rows scaled to unit norm in float32 or float64; zero rows stay zero."""
    rows = check_dense(dictionary, name)
    if isinstance(rows, torch.Tensor):
        rows = rows.detach().cpu()
        with threads_for(rows.numel()):
            rows = (rows.float() if rows.dtype == torch.bfloat16 else rows).numpy()
    in_float32 = rows.dtype.kind == "f" and rows.dtype.itemsize < 8
    rows = rows.astype(np.float32 if in_float32 else np.float64)
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    if not np.isfinite(norms).all():
        raise ValueError(f"{name} contains NaN or infinity.")
    rows /= np.where(norms > 0, norms, 1.0)[:, None].astype(rows.dtype)
    return rows


def check_widths(dictionary, other, name, other_name):
    """Raise a ValueError if the atoms differ in dimension."""
    if dictionary.shape[1] != other.shape[1]:
        raise ValueError(
            f"{name} has atoms of {dictionary.shape[1]} features, {other_name} of "
            f"{other.shape[1]}; they must be equal."
        )
