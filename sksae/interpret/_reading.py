"""Rows as a reader sees them: whole characters, in reading order, text by text."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from sksae._arrays import objects

LONGEST_GAP = 20
"""Characters between two tokens that are still shown; a longer gap becomes an ellipsis."""


class Reading(NamedTuple):
    """Cells, each of one row or of several rows that share characters.

    `begin` and `end` bound the cells of the same text around each cell, so that no window leaves
    its text.
    """

    string: np.ndarray  # (n_cells,), object
    text: np.ndarray  # (n_cells,): texts numbered from 0
    first_row: np.ndarray  # (n_cells + 1,): cell c is made of rows first_row[c]:first_row[c + 1]
    begin: np.ndarray  # (n_cells,)
    end: np.ndarray  # (n_cells,)
    cell: np.ndarray  # (n_rows,): the cell of each row
    source: np.ndarray  # (n_rows,): the text of each row, as the table names it
    labelled: bool  # by one label a row: every row is its own text


def read_rows(tokens, n_rows):
    """Return the `Reading` of a token table, of one label a row, or of row numbers (None)."""
    if isinstance(tokens, (str, bytes)):
        raise TypeError("tokens must be a token table or one label a row; got one string.")
    text, string = _column(tokens, "text"), _column(tokens, "string")
    if text is None or string is None:
        if _is_frame(tokens):
            raise ValueError(
                "A table of tokens needs the columns 'text' and 'string', one line a row of codes; "
                f"this one has {', '.join(map(str, _names(tokens)))}."
            )
        if tokens is not None and not isinstance(tokens, Iterable):
            raise TypeError(
                f"tokens must be a token table or one label a row; got {type(tokens).__name__}."
            )
        labels = range(n_rows) if tokens is None else list(tokens)
        _check_length(len(labels), n_rows)
        if any(label is None for label in labels):
            raise ValueError("tokens has a label that is None; every row needs one.")
        every = np.arange(n_rows)
        return _reading(every, objects(map(str, labels)), every, labelled=True)
    text, string = np.asarray(text), np.asarray(string, dtype=object)
    _check_length(len(text), n_rows)
    _check_strings(text, string)
    firsts = _firsts(text, _column(tokens, "group"), _column(tokens, "position"))
    return _reading(text, _whole_strings(tokens, text, string, firsts), firsts)


def _check_strings(text, string):
    """Raise a ValueError unless every row has a string and the name of a text."""
    wrong = [row for row, one in enumerate(string.tolist()) if not isinstance(one, str)]
    if wrong:
        raise ValueError(
            f"The column 'string' of tokens needs a str in each row. Row {wrong[0]} has "
            f"{string[wrong[0]]!r}; a token that is no text has its name, such as '[CLS]', or ''."
        )
    if text.dtype.kind == "O" and any(one is None for one in text.tolist()):
        raise ValueError("The column 'text' of tokens has None; every row needs its text.")


def _reading(text, string, firsts, labelled=False):
    """Return the `Reading` of cells that begin at the rows `firsts` and read `string`."""
    first_row = np.append(firsts, len(text))
    source, text = text, text[firsts]
    changes = np.flatnonzero(text[1:] != text[:-1]) + 1
    bounds = np.concatenate([[0], changes, [len(text)]])
    lengths = np.diff(bounds)
    return Reading(
        string=string,
        text=np.unique(text, return_inverse=True)[1].reshape(-1),
        first_row=first_row,
        begin=np.repeat(bounds[:-1], lengths),
        end=np.repeat(bounds[1:], lengths),
        cell=np.repeat(np.arange(len(firsts)), np.diff(first_row)),
        source=source,
        labelled=labelled,
    )


def _firsts(text, group, position):
    """Return the rows at which a new cell begins; without groups, each row does."""
    if group is None:
        return np.arange(len(text))
    group = np.asarray(group)
    new = np.ones(len(text), dtype=bool)
    new[1:] = (text[1:] != text[:-1]) | (group[1:] != group[:-1])
    if position is not None:
        new |= np.asarray(position) < 0  # special tokens share no characters
    return np.flatnonzero(new)


def _whole_strings(tokens, text, string, firsts):
    """Return the string of each cell, with what stands between it and the cell before."""
    columns = [_column(tokens, name) for name in ("start", "end", "texts")]
    if any(part is None for part in columns):
        ends = np.append(firsts[1:], len(string))
        cells = zip(firsts.tolist(), ends.tolist(), strict=True)
        # the tokens of one character each carry all of it
        return objects(max(string[a:b], key=len) for a, b in cells)
    start, end, texts = np.asarray(columns[0])[firsts], np.asarray(columns[1]), columns[2]
    end = np.maximum.reduceat(end, firsts) if len(firsts) else end
    before = np.full(len(firsts), -1)
    before[1:] = np.where(text[firsts][1:] == text[firsts][:-1], end[:-1], -1)
    seen, strings = {}, []
    spans = (text[firsts], before, start, end, string[firsts])
    for t, b, s, e, name in zip(*(part.tolist() for part in spans), strict=True):
        gap = texts[t][b:s] if 0 <= b < s else ""
        whole = (gap if len(gap) <= LONGEST_GAP else "…") + (texts[t][s:e] if 0 <= s < e else name)
        strings.append(seen.setdefault(whole, whole))
    return objects(strings)


def _is_frame(tokens):
    return isinstance(tokens, Mapping) or hasattr(tokens, "columns")


def _names(tokens):
    return list(tokens.keys() if isinstance(tokens, Mapping) else tokens.columns)


def _column(tokens, name):
    """Return a column of a mapping or data frame, or an attribute; None where there is none."""
    if _is_frame(tokens):
        return tokens[name] if name in _names(tokens) else None
    return getattr(tokens, name, None)


def _check_length(length, n_rows):
    if length != n_rows:
        raise ValueError(
            f"codes has {n_rows} rows, but tokens has {length}: one token a row is needed."
        )
