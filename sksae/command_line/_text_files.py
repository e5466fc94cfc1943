"""Texts of a file, or of standard input, and tables of texts with something about each."""

import csv
import io
import random
import re
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sksae.datasets import load_corpus

_DELIMITERS = ",;\t|"
_LONGEST_CELL = 80  # characters; a column with more is not shown beside the texts


def read_texts(name, max_texts=None, seed=0):
    """Return the texts of a file, each once.

    Parameters
    ----------
    name : str or None
        The file, "-" for standard input, None for the corpus that comes with sksae.
    max_texts : int, default=None
        The largest number of texts, drawn at random; None takes all.
    seed : int, default=0
        Of the draw.

    Returns
    -------
    texts : list of str
        The texts.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not UTF-8, or has fewer than two texts.
    """
    if name is None:
        texts, source = load_corpus().data, "the corpus that comes with sksae"
    else:
        texts, source = split_pieces(read_file(name)), name
    texts = list(dict.fromkeys(texts))
    if max_texts is not None and max_texts < len(texts):
        texts = random.Random(seed).sample(texts, max_texts)
    if len(texts) < 2:
        raise ValueError(
            f"{len(texts)} different texts in {source}, but at least 2 are needed, one of them to "
            "hold out; separate texts by blank lines or put each on a line"
        )
    return texts


def read_file(name):
    """Return the content of a UTF-8 file, or of standard input, which is "-"."""
    try:
        raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise OSError(f"cannot read {name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8 text: byte {error.start} is invalid") from error


def split_pieces(text):
    """Return the paragraphs of a text where there are blank lines, else its lines."""
    text = text.replace("\r\n", "\n").strip("\n")  # line ends of Windows
    pieces = re.split(r"\n(?:[ \t]*\n)+", text)
    return [piece for piece in (pieces if len(pieces) > 1 else text.split("\n")) if piece.strip()]


class TextTable(NamedTuple):
    """Texts with a target, and perhaps with groups, other columns and embeddings."""

    texts: list
    target: np.ndarray  # (n_texts,) floats, or labels as strings
    groups: np.ndarray | None  # (n_texts,) strings
    n_left_out: int = 0  # rows of the file without a text, a target or a group
    lines: np.ndarray | None = None  # (n_texts,) positions in the file, from 0
    columns: dict | None = None  # short ones by name, of the texts; (n_texts,) floats or strings
    embeddings: np.ndarray | None = None  # (n_texts, n_dimensions)

    def of(self, rows):
        """Return some of the rows, by their positions."""
        arrays = ("target", "groups", "lines", "embeddings")
        parts = {name: getattr(self, name) for name in arrays}
        parts = {name: array if array is None else array[rows] for name, array in parts.items()}
        columns = {name: values[rows] for name, values in (self.columns or {}).items()}
        return self._replace(
            texts=[self.texts[row] for row in rows], columns=columns or None, **parts
        )

    def with_embeddings(self, embeddings, source):
        """Return the table with those rows of an array that belong to its texts.

        Parameters
        ----------
        embeddings : ndarray of shape (n_lines, n_dimensions)
            A row for each line of the file below the names, those left out too.
        source : str
            The name of the file of the array, for errors.
        """
        n_lines = len(self.lines) + self.n_left_out
        if embeddings.ndim != 2 or embeddings.dtype.kind not in "fiu":
            raise ValueError(
                f"{source} needs numbers of shape (rows, dimensions); it has {embeddings.dtype} "
                f"of shape {embeddings.shape}"
            )
        if len(embeddings) != n_lines:
            raise ValueError(
                f"{source} has {len(embeddings):,} rows, and the CSV file {n_lines:,} below the "
                f"names; there must be one for each, in the same order"
            )
        rows = embeddings[self.lines]
        if not np.isfinite(rows).all():
            raise ValueError(f"{source} has numbers that are not finite")
        return self._replace(embeddings=rows)

    def sample(self, n_texts, seed):
        """Return at most some number of the rows, drawn at random."""
        # Also an order that has nothing to do with that of the file.
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
    >>> table = read_text_table(content, source="a.csv", text="text", target="stars")
    >>> table.texts, table.target.tolist(), table.n_left_out
    (['Good food.', 'Too loud.'], [5.0, 2.0], 1)
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
    complete = [i for i, row in enumerate(rows) if all(row) and _is_value(numbers, i)]
    values = [rows[i][1] for i in complete] if numbers is None else numbers[complete]
    if not complete:
        raise ValueError(f"no row of {source} has a value in each of {', '.join(names)}")
    if len(set(values)) < 2:
        raise ValueError(
            f"the column {target!r} of {source} has one value, {rows[complete[0]][1]}, in "
            f"{len(complete)} rows with a text; two different ones are needed at least"
        )
    return TextTable(
        [rows[i][0] for i in complete],
        np.asarray(values),
        None if groups is None else np.array([rows[i][2] for i in complete]),
        len(rows) - len(complete),
        np.array(complete),
        _short_columns(header, [lines[i] for i in complete], text),
    )


def _short_columns(header, lines, text):
    """Return the columns besides the texts whose cells are short, by name."""
    columns = {}
    for place, name in enumerate(header):
        cells = [line[place].strip() if place < len(line) else "" for line in lines]
        if name and name != text and max(map(len, cells)) <= _LONGEST_CELL:
            numbers = _numbers(cells)
            columns[name] = np.array(cells, dtype=object) if numbers is None else numbers
    return columns


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
    # The delimiter under which most of the names were found.
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
