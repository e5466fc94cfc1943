"""Tables of columns, and the token table: the token and the text of each row of activations."""

from dataclasses import dataclass, field, fields, replace

import numpy as np

from sksae._arrays import objects
from sksae._optional import needed
from sksae._signs import SHOWN, TableRepr, edges_visible


class ColumnTable(TableRepr):
    """Base of the dataclasses whose fields of type ndarray are the columns of a table.

    Indexing with a slice, a mask, an array of line numbers or one number gives the table of those
    lines.
    """

    def __getitem__(self, rows):
        if np.ndim(rows) == 0 and not isinstance(rows, slice):
            rows = [rows]
        return replace(self, **{name: column[rows] for name, column in self._columns().items()})

    def _columns(self):
        """Return the columns by name."""
        # Neither the texts nor the policy.
        return {f.name: getattr(self, f.name) for f in fields(self) if f.type is np.ndarray}

    def _frame(self):
        """Return the columns as a data frame."""
        pd = needed("pandas", f"{type(self).__name__}.to_frame")
        return pd.DataFrame(self._columns())


@dataclass(frozen=True, eq=False, repr=False)
class TokenTable(ColumnTable):
    """The origin of each row: one line per row, with its text and its position there.

    Indexing with a slice, a mask or an array of row numbers gives the table of those rows; its
    `repr` shows the first ten.

    Parameters
    ----------
    text : ndarray of shape (n_rows,)
        Index of the text in `texts`.
    position : ndarray of shape (n_rows,)
        Index of the token among the tokens of its text, however long the text is; -1 for a
        special token that the tokenizer added. Of an image, the index of the patch.
    id : ndarray of shape (n_rows,)
        Index of the token in the vocabulary; -1 for patches.
    string : ndarray of shape (n_rows,), dtype=object
        The characters of the text that the token stands for, all of each: the three tokens that
        spell one Hangul syllable byte by byte have the whole syllable. A token that stands for no
        character of the text has its name in the vocabulary, such as ``"[CLS]"``. A patch has its
        position, ``"row 3, column 5"``.
    start, end : ndarray of shape (n_rows,)
        The span of those characters, ``texts[text][start:end]``; -1 for an added special token
        and for patches.
    group : ndarray of shape (n_rows,)
        Position of the first token that shares characters with this one. Rows with the same
        `text` and `group` are one piece of text to a reader.
    texts : list of str
        The texts themselves.
    policy : dict, default={}
        How the rows came about: the model, the site, which positions are left out. Numbers,
        strings, booleans and None only, so that it can be stored as JSON.

    See Also
    --------
    ActivationExtractor : Its `extract` gives rows with their table.

    Examples
    --------
    >>> import numpy as np
    >>> from sksae.language_models import TokenTable
    >>> one = np.array([0, 0, 0])
    >>> tokens = TokenTable(
    ...     text=one, position=np.arange(3), id=np.array([17, 4, 90]), group=np.array([0, 1, 1]),
    ...     string=np.array(["a", " 곰", "곰"], dtype=object),
    ...     start=np.array([0, 1, 2]), end=np.array([1, 3, 3]), texts=["a 곰"],
    ... )
    >>> len(tokens), tokens[tokens.group == 1].string.tolist()
    (3, [' 곰', '곰'])
    """

    text: np.ndarray
    position: np.ndarray
    id: np.ndarray
    string: np.ndarray
    start: np.ndarray
    end: np.ndarray
    group: np.ndarray
    texts: list
    policy: dict = field(default_factory=dict)

    def __len__(self):
        return len(self.text)

    def _shown(self):
        heading = ("text", "position", "id", "start", "end", "group", "string")
        n = min(len(self), SHOWN)
        columns = [getattr(self, name)[:n] for name in heading[:-1]]
        strings = [edges_visible(str(string)) for string in self.string[:n]]
        lines = [*zip(*columns, strings, strict=True), *[("…",) * len(heading)] * (len(self) > n)]
        n_texts = len(np.unique(self.text))
        return [f"TokenTable: {len(self):,} rows of {n_texts:,} texts"], heading, lines

    def merged(self):
        """Return the table with one row for each group, the rows that a reader sees.

        Returns
        -------
        tokens : TokenTable
            The first row of each group, with the characters of all its rows.
        firsts : ndarray of shape (n_groups,)
            The row at which each group begins; ``np.maximum.reduceat(codes, firsts)`` gives the
            groups their largest code.
        """
        # A new group begins with each text, each other group and each special token.
        new = np.ones(len(self), dtype=bool)
        new[1:] = (self.text[1:] != self.text[:-1]) | (self.group[1:] != self.group[:-1])
        new |= self.position < 0
        firsts = np.flatnonzero(new)
        table = self[firsts]
        if len(firsts):
            end = np.maximum.reduceat(self.end, firsts)
            string = strings(self.texts, table.text, table.start, end, table.string)
            table = replace(table, end=end, string=string)
        return table, firsts

    def to_frame(self):
        """Return the columns as a data frame.

        Returns
        -------
        frame : pandas.DataFrame of shape (n_rows, 7)
            The table without `texts` and `policy`.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return self._frame()


def strings(texts, text, start, end, names):
    """Return ``texts[t][s:e]`` for each row, or its name where that is empty.

    Equal strings are one object: a table of a million tokens has few different ones.
    """
    unique = {}  # of each string, the object that all rows share
    spans = zip(text.tolist(), start.tolist(), end.tolist(), names, strict=True)
    sliced = [texts[t][s:e] or name for t, s, e, name in spans]
    return objects(unique.setdefault(string, string) for string in sliced)
