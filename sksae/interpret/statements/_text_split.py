"""A split of texts by document and group, made once."""

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length, column_or_1d

from sksae._params import Float, Seed, check_option


def split_texts(texts, *, groups=None, test_size=0.5, random_state=None):
    """Split texts into some for finding statements and others for testing them.

    Groups stay together, such as the texts of one author, and so do equal texts.

    Parameters
    ----------
    texts : sequence of str
        The texts.
    groups : array-like of shape (n_texts,), default=None
        The group of each text; None is one group per text.
    test_size : float, default=0.5
        Share of the texts that are for testing, about.
    random_state : int, RandomState instance or None, default=None
        Source of the split.

    Returns
    -------
    finding, testing : ndarray of int
        Positions of the texts of either side, ascending.

    Raises
    ------
    ValueError
        If one side would be empty, or lengths differ.

    See Also
    --------
    validate : Tests statements on the second side.

    Examples
    --------
    >>> from sksae.interpret import split_texts
    >>> texts = ["a", "b", "a", "c"]
    >>> finding, testing = split_texts(texts, random_state=1)
    >>> sorted([*finding.tolist(), *testing.tolist()])
    [0, 1, 2, 3]
    >>> ({0, 2} <= set(finding.tolist())) or ({0, 2} <= set(testing.tolist()))
    True
    """
    check_option("test_size", test_size, Float(0, 1, open_="both low high"))
    check_option("random_state", random_state, Seed())
    n_texts = len(texts)
    numbers = {}
    text_number = np.array([numbers.setdefault(str(t), len(numbers)) for t in texts], dtype=int)
    unit = text_number
    if groups is not None:
        groups = column_or_1d(groups)
        check_consistent_length(texts, groups)
        group_number = np.unique(groups, return_inverse=True)[1] + len(numbers)
        size = int(max(group_number, default=0)) + 1
        links = sparse.coo_array((np.ones(n_texts), (text_number, group_number)), (size, size))
        unit = connected_components(links, directed=False)[1][text_number]
    units, unit = np.unique(unit, return_inverse=True)
    order = check_random_state(random_state).permutation(len(units))
    sizes = np.bincount(unit, minlength=len(units))[order]
    # Units up to which the test side is nearest to its share.
    n_test = np.cumsum(sizes)
    stop = int(np.argmin(np.abs(n_test - test_size * n_texts))) + 1 if n_texts else 0
    is_test = np.isin(unit, order[:stop])
    if not n_texts or is_test.all() or not is_test.any():
        raise ValueError(
            f"{n_texts} texts in {len(units)} groups of equal texts and groups cannot be split "
            f"with test_size={test_size}."
        )
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)
