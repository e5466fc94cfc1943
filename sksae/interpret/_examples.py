"""Examples: the places in the data at which features fire most, with the text around them."""

import reprlib
from dataclasses import dataclass

import numpy as np

from sksae._params import Int, check_option
from sksae._signs import columns, fit_columns, visible
from sksae.interpret._strongest import check_codes, check_features, strongest_entries, values_of
from sksae.interpret._token_cells import read_cells

_REPR_COLUMNS = 60
CANDIDATES = 4  # texts considered per example, since some read the same


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
        The window, one string per piece of whole characters.
    activations : ndarray of shape (n_window,)
        The largest code of the rows that make up each piece.
    peak : int
        The piece that `row` belongs to.
    cut_before, cut_after : bool, default=False
        Whether the text goes on beyond the window, on either side.
    image : ExampleImage, default=None
        The image, where the row is a patch of one or a whole one. The window then is all of the
        image.

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
    image: object = None

    def __str__(self):
        return self.line()

    def __repr__(self):
        line = self.line(width=_REPR_COLUMNS)
        return (
            f"Example(row={self.row}, text={reprlib.repr(self.text)}, "
            f"activation={self.activation:.4g}, line={line!r})"
        )

    def line(self, *, width=None, marks=("[[", "]]")):
        """Return the example on one line, the strongest token between `marks`.

        Parameters
        ----------
        width : int, default=None
            Largest number of columns of a terminal. None shows the whole window.
        marks : tuple of two str, default=("[[", "]]")
            Strings before and after the strongest token; escape sequences take no columns.

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
        strings = [visible(token) for token in self.tokens]
        peak = strings[self.peak]
        if self.image is not None:  # the other patches are a picture, not a text
            before, after = f"image {self.image.number}: ", ""
        else:
            before = "…" * self.cut_before + "".join(strings[: self.peak])
            after = "".join(strings[self.peak + 1 :]) + "…" * self.cut_after
        if width is not None:
            free = width - sum(0 if mark.startswith("\x1b") else columns(mark) for mark in marks)
            peak = fit_columns(peak, free)
            free -= columns(peak)
            # Two thirds of the columns go to the text before the token, which the model has read.
            n_after = min(columns(after), max(free // 3, free - columns(before)))
            before = fit_columns(before[::-1], free - n_after)[::-1]
            after = fit_columns(after, free - columns(before))
        return f"{before}{marks[0]}{peak}{marks[1]}{after}"


def max_activating_examples(
    codes, tokens=None, features=None, *, n_examples=5, before=24, after=8, one_per_text=True
):
    """Find the rows on which features fire most, with the text around each.

    One pass over the codes keeps a short list for all features at once; codes are read in blocks
    of rows, and sparse ones are never made dense. For each of the ``4 n_examples`` texts that
    activate a feature most, its strongest row is a candidate. Of candidates whose windows read the
    same the strongest is kept, and of the remaining ones the `n_examples` strongest.

    Parameters
    ----------
    codes : {array-like, sparse matrix} of shape (n_rows, n_components)
        Codes, not negative, in the order of the text; a memory map or a tensor will do.
    tokens : TokenTable, data frame, mapping or sequence of length n_rows, default=None
        Where the rows came from. A table has one line per row with at least ``text`` (which text)
        and ``string`` (what to show); rows of one text with the same ``group`` are shown as one
        piece. Anything else is one label per row. None labels rows by their numbers.
    features : array-like of int, default=None
        Columns of `codes`. None takes all.
    n_examples : int, default=5
        Largest number of examples per feature.
    before, after : int, default=24 and 8
        Pieces of text shown on either side of the strongest. Windows never leave their text.
    one_per_text : bool, default=True
        Whether a feature gets at most one example per text.

    Returns
    -------
    examples : dict of int to list of Example
        By feature, the strongest first; the list of a feature that never fires is empty.

    Raises
    ------
    TypeError
        If `tokens` is a single string, or `codes` are texts, a table of tokens or an estimator.
    ValueError
        If shapes or columns do not fit together, a row has no string, or a code is not finite.

    Warns
    -----
    UserWarning
        If the codes look like activations: no zeros, and negative numbers.

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
    check_option("n_examples", n_examples, Int(1))
    check_option("before", before, Int(0))
    check_option("after", after, Int(0))
    cells = read_cells(tokens, codes.shape[0])
    text = cells.text[cells.cell] if one_per_text else np.arange(codes.shape[0])
    entries = strongest_entries(codes, features, text, CANDIDATES * n_examples)
    # Entries of feature i are bounds[i] : bounds[i + 1].
    bounds = np.searchsorted(entries.bucket, np.arange(len(features) + 1))
    examples = {}
    for position, feature in enumerate(features.tolist()):
        rows = entries.row[bounds[position] : bounds[position + 1]].tolist()
        windows = _different_windows(cells, rows, n_examples, before, after)
        examples[feature] = [
            _example(codes, cells, feature, row, begin, end) for row, begin, end in windows
        ]
    return examples


def _different_windows(cells, rows, n_examples, before, after):
    """Return ``(row, begin, end)`` of the first windows, in cells, that read differently."""
    windows, contents = [], set()
    for row in rows:
        cell = cells.cell[row]
        begin = max(cell - before, cells.begin[cell])
        end = min(cell + after + 1, cells.end[cell])
        if not cells.distinct:
            content = (cell - begin, *cells.string[begin:end])
            if content in contents:
                continue
            contents.add(content)
        windows.append((row, begin, end))
        if len(windows) == n_examples:
            break
    return windows


def _example(codes, cells, feature, row, begin, end):
    """Return the `Example` of `feature` at `row` whose window is the cells begin to end."""
    first_row = cells.first_row[begin : end + 1]
    values = values_of(codes, first_row[0], first_row[-1], feature)
    return Example(
        row=row,
        text=cells.source[row],
        activation=float(values[row - first_row[0]]),
        tokens=cells.string[begin:end],
        # The largest code of the rows of each cell.
        activations=np.maximum.reduceat(values, first_row[:-1] - first_row[0]),
        peak=int(cells.cell[row] - begin),
        cut_before=bool(begin > cells.begin[begin]),
        cut_after=bool(end < cells.end[begin]),
    )
