"""A table of texts with something about each of them, read from CSV."""

import csv
import io
from typing import NamedTuple

import numpy as np

_DELIMITERS = ",;\t|"


class TextTable(NamedTuple):
    """Texts with a target, and perhaps with the group that each belongs to."""

    texts: list
    target: np.ndarray  # (n_texts,) floats, or labels as strings
    groups: np.ndarray | None  # (n_texts,) strings
    n_left_out: int = 0  # rows of the file without a text, a target or a group

    def of(self, rows):
        """Return some of the rows, by their positions."""
        groups = None if self.groups is None else self.groups[rows]
        texts = [self.texts[row] for row in rows]
        return self._replace(texts=texts, target=self.target[rows], groups=groups)

    def sample(self, n_texts, seed):
        """Return at most some number of the rows, drawn at random."""
        rows = np.random.default_rng(seed).permutation(len(self.texts))[:n_texts]
        return self.of(rows)


def read_text_table(content, *, source, text, target, groups=None):
    r"""Return the texts and the target that are in the columns of a CSV file.

    The first line holds the names of the columns. The delimiter is the one of comma, semicolon,
    tab and bar that makes the columns that are asked for. Rows without a value in one of them are
    left out. A target whose values are all numbers is numeric.

    Parameters
    ----------
    content : str
        The content of the file.
    source : str
        The name of the file, for errors.
    text, target : str
        The names of the columns.
    groups : str, default=None
        The name of a column with the group of each text, such as its author.

    Returns
    -------
    table : TextTable
        The rows.

    Raises
    ------
    ValueError
        If the content is no CSV, a column is missing or empty, or the target has one value.

    Examples
    --------
    >>> from sksae.command_line import read_text_table
    >>> content = "text,stars\nGood food.,5\n,3\nToo loud.,2\n"
    >>> read_text_table(content, source="a.csv", text="text", target="stars")
    TextTable(texts=['Good food.', 'Too loud.'], target=array([5., 2.]), groups=None, n_left_out=1)
    """
    names = [name for name in (text, target, groups) if name is not None]
    header, lines = _lines(content, source, names)
    places = [header.index(name) for name in names]
    rows = [[line[i].strip() if i < len(line) else "" for i in places] for line in lines]
    for name, values in zip(names, zip(*rows, strict=True), strict=False):
        if not any(values):
            raise ValueError(f"the column {name!r} of {source} is empty")
    if not rows:
        raise ValueError(f"{source} has no rows below the names of its columns")
    numbers = _numbers([row[1] for row in rows])
    kept = [i for i, row in enumerate(rows) if all(row) and _is_value(numbers, i)]
    values = [rows[i][1] for i in kept] if numbers is None else numbers[kept]
    if not kept:
        raise ValueError(f"no row of {source} has a value in each of {', '.join(names)}")
    if len(set(values)) < 2:
        raise ValueError(
            f"the column {target!r} of {source} has one value, {rows[kept[0]][1]}, in {len(kept)} "
            "rows with a text; two different ones are needed at least"
        )
    return TextTable(
        [rows[i][0] for i in kept],
        np.asarray(values),
        None if groups is None else np.array([rows[i][2] for i in kept]),
        len(rows) - len(kept),
    )


def _lines(content, source, names):
    """Return the names of the columns and the lines below them."""
    tried = []
    for delimiter in _DELIMITERS:
        reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            tried.append(header)
            if set(names) <= set(header):
                return header, [line for line in reader if line]
        except csv.Error as error:
            raise ValueError(f"{source} is no CSV: line {reader.line_num}: {error}") from error
    header = max(tried, key=lambda columns: (len(set(names) & set(columns)), len(columns)))
    missing = next(name for name in names if name not in header)
    raise ValueError(f"{source} has no column {missing!r}; there are {', '.join(header) or 'none'}")


def _numbers(values):
    """Return values as floats, NaN where one is missing; None if one is no number."""
    try:
        return np.array([float(value) if value else np.nan for value in values])
    except ValueError:
        return None


def _is_value(numbers, row):
    return numbers is None or bool(np.isfinite(numbers[row]))
