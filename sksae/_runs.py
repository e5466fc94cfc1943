"""Runs of equal values in sorted arrays, and ranges of indices laid end to end."""

import numpy as np


def run_starts(*columns):
    """Return the positions at which a run of equal values begins.

    Parameters
    ----------
    *columns : ndarray of shape (n,)
        Arrays that are sorted together; a run ends where one of them changes.

    Returns
    -------
    starts : ndarray of shape (n_runs,)
        Ascending positions, the first of them 0.

    Examples
    --------
    >>> import numpy as np
    >>> from sksae._runs import run_starts
    >>> run_starts(np.array([4, 4, 7, 7, 7]))
    array([0, 2])
    """
    is_start = np.ones(len(columns[0]), dtype=bool)
    is_start[1:] = columns[0][1:] != columns[0][:-1]
    for column in columns[1:]:
        is_start[1:] |= column[1:] != column[:-1]  # a run ends where any of the columns changes
    return np.flatnonzero(is_start)


def run_lengths(starts, n):
    """Return the lengths of the runs that begin at `starts` in an array of length `n`."""
    return np.diff(np.append(starts, n))


def ranks_in_runs(values):
    """Return how many equal values come before each value of a sorted array.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Equal values stand together.

    Returns
    -------
    ranks : ndarray of shape (n,)
        0 for the first of each run.

    Examples
    --------
    >>> import numpy as np
    >>> from sksae._runs import ranks_in_runs
    >>> ranks_in_runs(np.array([4, 4, 7, 7, 7]))
    array([0, 1, 0, 1, 2])
    """
    starts = run_starts(values)
    return np.arange(len(values)) - np.repeat(starts, run_lengths(starts, len(values)))


def joined_ranges(starts, lengths):
    """Return the numbers ``start, start + 1, ...`` of several ranges, one range after the other.

    Parameters
    ----------
    starts, lengths : ndarray of shape (n_ranges,)
        First number and size of each range.

    Returns
    -------
    numbers : ndarray of shape (lengths.sum(),)
        The concatenated ranges.

    Examples
    --------
    >>> import numpy as np
    >>> from sksae._runs import joined_ranges
    >>> joined_ranges(np.array([10, 20]), np.array([2, 3]))
    array([10, 11, 20, 21, 22])
    """
    ends = np.cumsum(lengths)
    # Range i begins at position ends[i] - lengths[i] of the result.
    shift = np.repeat(starts - (ends - lengths), lengths)
    return np.arange(len(shift)) + shift
