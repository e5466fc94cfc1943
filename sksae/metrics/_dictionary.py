"""How dictionaries compare: with a true one, with themselves, with their encoder."""

import numpy as np
from scipy.optimize import linear_sum_assignment

from sksae.metrics._nearest_atoms import check_widths, nearest_atoms, unit_rows
from sksae.metrics._row_blocks import check_same_shape


def mean_max_cosine_similarity(dictionary, other, *, absolute=False):
    """Mean over the atoms of one dictionary of the largest cosine with an atom of another.

    The MMCS of [1]_. With the true dictionary first it says how much of the truth was found
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
    falls with their dimension. Give it beside the result.

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
        Between -1 and 1, between 0 and 1 if `absolute`; the same if the dictionaries change
        places.

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
    atoms, others = unit_rows(dictionary, "dictionary"), unit_rows(other, "other")
    check_widths(atoms, others, "dictionary", "other")
    cosines = atoms @ others.T
    cosines = np.abs(cosines) if absolute else cosines
    matching = linear_sum_assignment(cosines, maximize=True)
    return float(cosines[matching].mean(dtype=np.float64))


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
    of learned atoms: it falls when several learned atoms stand for the same truth.

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
        Between -1 and 1; low for a latent that is dead or fires on something other than what it
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
