"""Where in the data a feature fires most: the rows a reader looks at first."""

import reprlib
from dataclasses import dataclass

import numpy as np

from sksae.interpret._lines import line_of
from sksae.interpret._reading import read_rows
from sksae.interpret._strongest import check_codes, check_features, strongest_entries, values_of

_REPR_COLUMNS = 60
CANDIDATES = 4  # texts looked at for each example, since some say the same


@dataclass(frozen=True, eq=False, repr=False)
class Example:
    """One place where a feature fires, with the text around it.

    Printing it shows the strongest token in double brackets.

    Parameters
    ----------
    row : int
        The row of the codes on which the feature fires most in this window.
    text : object
        The text of that row, as the token table numbers it.
    activation : float
        The code there.
    tokens : ndarray of shape (n_window,), dtype=object
        The window, one string for each piece of whole characters.
    activations : ndarray of shape (n_window,)
        The largest code of the rows that make up each piece.
    peak : int
        The piece that `row` belongs to.
    cut_before, cut_after : bool, default=False
        Whether the text goes on beyond the window, on either side.

    See Also
    --------
    max_activating_examples : Finds them.

    Examples
    --------
    >>> import numpy as np
    >>> from sksae.interpret import Example
    >>> tokens = np.array(["a", " cold", " day"], dtype=object)
    >>> print(Example(1, 0, 2.0, tokens, np.array([0, 2.0, 0]), peak=1))
    a[[ cold]] day
    """

    row: int
    text: object
    activation: float
    tokens: np.ndarray
    activations: np.ndarray
    peak: int
    cut_before: bool = False
    cut_after: bool = False

    def __str__(self):
        return self.line()

    def __repr__(self):
        place = f"row={self.row}, text={reprlib.repr(self.text)}"
        line = self.line(width=_REPR_COLUMNS)
        return f"Example({place}, activation={self.activation:.4g}, line={line!r})"

    def line(self, *, width=None, marks=("[[", "]]")):
        """Return the example on one line, the strongest token between `marks`.

        Parameters
        ----------
        width : int, default=None
            The most columns of a terminal that the line takes. None shows the whole window.
        marks : tuple of two str, default=("[[", "]]")
            What stands before and after the strongest token; escape sequences take no columns.

        Returns
        -------
        line : str
            The line, without a line break and without characters that steer a terminal.

        Examples
        --------
        >>> from sksae.interpret import max_activating_examples
        >>> table = {"text": [0, 0, 0, 0], "string": ["a", " very", " cold", " day"]}
        >>> example = max_activating_examples([[0], [0], [2], [1]], table)[0][0]
        >>> print(example.line(width=16))
        …very[[ cold]] …
        """
        return line_of(self, width, marks)


def max_activating_examples(
    codes, tokens=None, features=None, *, n_examples=5, before=24, after=8, one_per_text=True
):
    """Find the rows on which features fire most, and show each in its text.

    One pass over the codes keeps a short list for every feature at once; codes are read in blocks
    of rows and sparse ones are never made dense. For each of the ``4 n_examples`` texts that
    activate a feature most, its strongest row is a candidate; among candidates whose windows read
    the same the strongest is kept, and of what remains the `n_examples` strongest.

    Parameters
    ----------
    codes : {array-like, sparse matrix} of shape (n_rows, n_components)
        Codes, not negative, in the order of the text; a memory map or a tensor will do.
    tokens : TokenTable, data frame, mapping or sequence of length n_rows, default=None
        Where the rows came from. A table has one line a row with at least ``text`` (which text)
        and ``string`` (what to show); rows of one text with the same ``group`` are shown as one
        piece. Anything else is one label a row. None labels rows by their numbers.
    features : array-like of int, default=None
        The features of interest, columns of `codes`. None takes all.
    n_examples : int, default=5
        The most examples a feature gets.
    before, after : int, default=24 and 8
        Pieces of text shown on either side of the strongest. Windows never leave their text.
    one_per_text : bool, default=True
        Whether a text gives a feature at most one example.

    Returns
    -------
    examples : dict of int to list of Example
        By feature, the strongest first; the list of a feature that never fires is empty.

    Raises
    ------
    TypeError
        If `tokens` is a single string, or `codes` are no codes but a table of tokens, texts or an
        estimator.
    ValueError
        If shapes or columns do not fit together, a row has no string, or a code is not finite.

    Warns
    -----
    UserWarning
        If the codes look like the rows that an autoencoder codes: no zeros, and negative numbers.

    See Also
    --------
    FeatureAtlas : Windows of all kinds, with density, strongest tokens and neighbours.

    Examples
    --------
    >>> import numpy as np
    >>> from sksae.interpret import max_activating_examples
    >>> codes = np.array([[0, 0], [2, 0], [0, 1], [3, 0], [0, 0]])
    >>> table = {"text": [0, 0, 0, 1, 1], "string": ["a", " cold", " day", "cold", " tea"]}
    >>> examples = max_activating_examples(codes, table)
    >>> [str(example) for example in examples[0]]
    ['[[cold]] tea', 'a[[ cold]] day']
    >>> [(str(example), example.row) for example in examples[1]]
    [('a cold[[ day]]', 2)]

    Rows that are no tokens have labels:

    >>> print(max_activating_examples(codes, ["Ada", "Bo", "Cleo", "Dan", "Eve"])[0][0])
    [[Dan]]
    """
    codes = check_codes(codes)
    features = check_features(features, codes.shape[1])
    check_count("n_examples", n_examples, 1)
    check_count("before", before, 0)
    check_count("after", after, 0)
    reading = read_rows(tokens, codes.shape[0])
    text = reading.text[reading.cell] if one_per_text else np.arange(codes.shape[0])
    entries = strongest_entries(codes, features, text, CANDIDATES * n_examples)
    bounds = entries.bounds(len(features))
    found = {}
    for slot, feature in enumerate(features.tolist()):
        rows = entries.row[bounds[slot] : bounds[slot + 1]].tolist()
        windows = _distinct(reading, rows, n_examples, before, after)
        found[feature] = [
            _example(codes, tokens, reading, feature, row, begin, end)
            for row, begin, end in windows
        ]
    return found


def _distinct(reading, rows, n_examples, before, after):
    """Return ``(row, begin, end)`` of the first windows, in cells, that read differently."""
    windows, seen = [], set()
    for row in rows:
        cell = reading.cell[row]
        begin = max(cell - before, reading.begin[cell])
        end = min(cell + after + 1, reading.end[cell])
        if not reading.labelled:
            words = (cell - begin, *reading.string[begin:end])
            if words in seen:
                continue
            seen.add(words)
        windows.append((row, begin, end))
        if len(windows) == n_examples:
            break
    return windows


def _example(codes, tokens, reading, feature, row, begin, end):
    """Return the `Example` of `feature` at `row` whose window is the cells begin to end."""
    firsts = reading.first_row[begin : end + 1]
    values = values_of(codes, firsts[0], firsts[-1], feature)
    return Example(
        row=row,
        text=reading.source[row],
        activation=float(values[row - firsts[0]]),
        tokens=reading.string[begin:end],
        activations=np.maximum.reduceat(values, firsts[:-1] - firsts[0]),
        peak=int(reading.cell[row] - begin),
        cut_before=bool(begin > reading.begin[begin]),
        cut_after=bool(end < reading.end[begin]),
    )


def check_count(name, value, low):
    """Raise a ValueError unless the parameter `name` is an int of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
        raise ValueError(f"{name} must be an int >= {low}. Got {value!r} instead.")
