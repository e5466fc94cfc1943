"""Comparisons of dictionaries: with a true one, with themselves, with their encoder."""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.utils import gen_batches

from sksae._threads import threads_for
from sksae.metrics._row_blocks import check_dense, check_same_shape

BLOCK_SIZE = 2**23  # cosines computed at a time: 64 MB of float64


def nearest_atoms(dictionary, other=None, *, absolute=False):
    """Find the nearest atom of another dictionary, by cosine, for each atom of a dictionary.

    Most comparisons of dictionaries are a summary of what this function returns.

    Parameters
    ----------
    dictionary : array-like of shape (n_components, n_features)
        Atoms as rows; norms do not matter. An atom that is zero has cosine 0 with all others.
    other : array-like of shape (n_other, n_features), default=None
        Dictionary that is searched. None searches the other atoms of `dictionary`.
    absolute : bool, default=False
        Whether a direction and its opposite count as the same. Codes that are never negative tell
        them apart, hence the default.

    Returns
    -------
    similarities : ndarray of shape (n_components,)
        The largest cosine of each atom.
    indices : ndarray of shape (n_components,)
        Row of `other` with the largest cosine; the first one of equals.

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
    other_atoms = atoms if other is None else unit_rows(other, "other")
    if other is None and len(atoms) == 1:
        raise ValueError("dictionary has a single atom; there is no other to compare it with.")
    check_widths(atoms, other_atoms, "dictionary", "other")
    similarities, indices = np.empty(len(atoms)), np.empty(len(atoms), dtype=np.intp)
    for rows in gen_batches(len(atoms), max(1, BLOCK_SIZE // len(other_atoms))):
        cosines = atoms[rows] @ other_atoms.T  # (b, m_other)
        if absolute:
            np.abs(cosines, out=cosines)
        if other is None:  # no atom is its own neighbour
            cosines[np.arange(len(cosines)), np.arange(rows.start, rows.stop)] = -np.inf
        indices[rows] = cosines.argmax(axis=1)
        similarities[rows] = cosines[np.arange(len(cosines)), indices[rows]]
    return similarities, indices


def unit_rows(dictionary, name):
    """Return rows scaled to unit norm, in float32 or float64; zero rows stay zero."""
    rows = check_dense(dictionary, name)
    if isinstance(rows, torch.Tensor):
        rows = rows.detach().cpu()
        with threads_for(rows.numel()):
            rows = (rows.float() if rows.dtype == torch.bfloat16 else rows).numpy()
    # float64 stays; float16 and bfloat16 become float32, integers become float64.
    in_float32 = rows.dtype.kind == "f" and rows.dtype.itemsize < 8
    rows = rows.astype(np.float32 if in_float32 else np.float64)
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))  # summed in float64, (m,)
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


def mean_max_cosine_similarity(dictionary, other, *, absolute=False):
    """Mean over the atoms of one dictionary of the largest cosine with an atom of another.

    The MMCS of [1]_. With the true dictionary first it measures how much of the truth was found
    (recall); with the learned dictionary first, how much of what was learned is true (precision).
    Report both.

    Parameters
    ----------
    dictionary : array-like of shape (n_components, n_features)
        The dictionary whose atoms are averaged over.
    other : array-like of shape (n_other, n_features)
        The dictionary in which each of them looks for its nearest atom.
    absolute : bool, default=False
        Whether a direction and its opposite count as the same. Codes that are never negative tell
        them apart, hence the default.

    Returns
    -------
    similarity : float
        Between -1 and 1, between 0 and 1 if `absolute`.

    Raises
    ------
    ValueError
        If the widths differ, an input is empty, or a value is not finite.

    See Also
    --------
    matched_cosine_similarity : Uses each atom at most once.

    Notes
    -----
    The value of a random dictionary is far from 0: it grows with the number of atoms searched and
    falls with their dimension. Report it beside the result.

    References
    ----------
    .. [1] Sharkey, L., Braun, D. and Millidge, B. (2022). Taking features out of superposition
       with sparse autoencoders. AI Alignment Forum.

    Examples
    --------
    >>> from sksae.metrics import mean_max_cosine_similarity
    >>> true, learned = [[1, 0], [0, 1], [0.6, 0.8]], [[0.8, 0.6], [0, 1], [-1, 0]]
    >>> round(mean_max_cosine_similarity(true, learned), 4)
    0.92
    >>> round(mean_max_cosine_similarity(learned, true), 4)
    0.6533
    """
    return float(nearest_atoms(dictionary, other, absolute=absolute)[0].mean())


def matched_cosine_similarity(dictionary, other, *, absolute=False):
    """Mean cosine of the best one-to-one matching between two dictionaries.

    :func:`scipy.optimize.linear_sum_assignment` finds the matching with the largest sum of cosines.
    With ``absolute=True`` this is the "mean correlation coefficient" (MCC) of [1]_.

    Parameters
    ----------
    dictionary : array-like of shape (n_components, n_features)
        Atoms as rows; norms do not matter.
    other : array-like of shape (n_other, n_features)
        The dictionary to match it with. If the sizes differ, the mean is over the smaller one.
    absolute : bool, default=False
        Whether a direction and its opposite count as the same.

    Returns
    -------
    similarity : float
        Between -1 and 1, between 0 and 1 if `absolute`; symmetric in the two dictionaries.

    Raises
    ------
    ValueError
        If the widths differ, an input is empty, or a value is not finite.

    See Also
    --------
    mean_max_cosine_similarity : Lets several atoms share their nearest one.

    References
    ----------
    .. [1] O'Neill, C., Gumran, A. and Klindt, D. (2024). Compute optimal inference and provable
       amortisation gap in sparse autoencoders. arXiv:2411.13117.

    Examples
    --------
    >>> from sksae.metrics import matched_cosine_similarity
    >>> true, learned = [[1, 0], [0, 1], [0.6, 0.8]], [[0.8, 0.6], [0, 1], [-1, 0]]
    >>> round(matched_cosine_similarity(true, learned), 4)
    0.5333
    >>> round(matched_cosine_similarity(true, learned, absolute=True), 4)
    0.9867
    """
    return float(matched_cosines(dictionary, other, absolute=absolute).mean(dtype=np.float64))


def matched_cosines(dictionary, other, *, absolute=False):
    """Cosine of each atom with its partner in the best one-to-one matching of two dictionaries.

    Parameters
    ----------
    dictionary : array-like of shape (n_components, n_features)
        Atoms as rows; norms do not matter.
    other : array-like of shape (n_other, n_features)
        The other dictionary.
    absolute : bool, default=False
        Whether a direction and its opposite count as the same.

    Returns
    -------
    cosines : ndarray of shape (min(n_components, n_other),)
        In the order of `dictionary`; atoms without a partner are left out.

    Raises
    ------
    ValueError
        If the widths differ, an input is empty, or a value is not finite.

    See Also
    --------
    matched_cosine_similarity : Their mean.

    Examples
    --------
    >>> from sksae.metrics import matched_cosines
    >>> matched_cosines([[1, 0], [0, 2]], [[0, 1], [3, 0]])
    array([1., 1.])
    """
    atoms, other_atoms = unit_rows(dictionary, "dictionary"), unit_rows(other, "other")
    check_widths(atoms, other_atoms, "dictionary", "other")
    cosines = atoms @ other_atoms.T  # (m, m_other)
    cosines = np.abs(cosines) if absolute else cosines
    # The Hungarian method.
    return cosines[linear_sum_assignment(cosines, maximize=True)]


def dictionary_redundancy(dictionary, *, absolute=False):
    """Mean over atoms of the largest cosine with another atom of the same dictionary.

    For quantiles, or the share of atoms above 0.9, take the similarities of
    :func:`nearest_atoms`.

    Parameters
    ----------
    dictionary : array-like of shape (n_components, n_features)
        Atoms as rows; norms do not matter.
    absolute : bool, default=False
        Whether a direction and its opposite count as the same.

    Returns
    -------
    redundancy : float
        0 for orthogonal atoms, 1 if every atom has a copy.

    Raises
    ------
    ValueError
        If there are fewer than two atoms or a value is not finite.

    See Also
    --------
    nearest_atoms : The similarity of every atom.

    Examples
    --------
    >>> from sksae.metrics import dictionary_redundancy
    >>> round(dictionary_redundancy([[0.8, 0.6], [0, 1], [-1, 0]]), 4)
    0.4
    """
    return float(nearest_atoms(dictionary, absolute=absolute)[0].mean())


def dictionary_uniqueness(dictionary, dictionary_true, *, absolute=False):
    """Share of the learned atoms that do not repeat each other's true atom.

    The number of different true atoms that are nearest to some learned atom, divided by the number
    of learned atoms: it falls when several learned atoms represent the same true one.

    Parameters
    ----------
    dictionary : array-like of shape (n_components, n_features)
        The learned dictionary.
    dictionary_true : array-like of shape (n_true, n_features)
        The true dictionary.
    absolute : bool, default=False
        Whether a direction and its opposite count as the same.

    Returns
    -------
    uniqueness : float
        Between 0 and 1; at most ``n_true / n_components``.

    Raises
    ------
    ValueError
        If the widths differ, an input is empty, or a value is not finite.

    See Also
    --------
    nearest_atoms : The nearest true atom of every learned one.

    Examples
    --------
    >>> from sksae.metrics import dictionary_uniqueness
    >>> dictionary_uniqueness([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]], [[1, 0], [0, 1]])
    0.5
    """
    _, indices = nearest_atoms(dictionary, dictionary_true, absolute=absolute)
    return len(np.unique(indices)) / len(indices)


def encoder_decoder_cosine(encoder_coef, components):
    """Cosine between the direction each latent reads and the direction it writes.

    A cheap check of a fitted model: it needs no data.

    Parameters
    ----------
    encoder_coef : array-like of shape (n_components, n_features)
        Encoder directions as rows: `encoder_coef_` of a fitted estimator.
    components : array-like of shape (n_components, n_features)
        Dictionary atoms as rows: `components_` of a fitted estimator.

    Returns
    -------
    cosines : ndarray of shape (n_components,)
        Between -1 and 1; low for a latent that is dead, or that reads another direction than it
        writes. A zero row has cosine 0.

    Raises
    ------
    ValueError
        If the shapes differ, an input is empty, or a value is not finite.

    See Also
    --------
    dictionary_redundancy : Cosines between atoms.

    Examples
    --------
    >>> from sksae.metrics import encoder_decoder_cosine
    >>> encoder_decoder_cosine([[2, 0], [0, 1]], [[1, 0], [0.6, 0.8]])
    array([1. , 0.8])
    """
    encoder = unit_rows(encoder_coef, "encoder_coef")
    atoms = unit_rows(components, "components")
    check_same_shape(encoder, atoms, "encoder_coef", "components")
    return np.einsum("ij,ij->i", encoder, atoms, dtype=np.float64)
