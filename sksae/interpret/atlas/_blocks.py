"""Codes with what they stand on, some whole texts at a time."""

from typing import NamedTuple

import numpy as np
from scipy import sparse

from sksae.interpret._reading import read_rows
from sksae.interpret.atlas._strings import grams, mixed

BLOCK_ROWS = 2**15


class Block(NamedTuple):
    """Some rows of codes in order of the features; everything counts within the block.

    A cell is what a reader sees as one piece: a row, or rows that share characters.
    """

    codes: sparse.csc_array  # (n_rows, n_components): positive codes only
    feature: np.ndarray  # (nnz,): of each code, ascending; rows ascend within a feature
    key: np.ndarray  # (nnz,): feature * n_rows + row, ascending
    cell: np.ndarray  # (n_rows,)
    first_row: np.ndarray  # (n_cells + 1,)
    string: np.ndarray  # (n_cells,): numbers of `Strings`
    gram: np.ndarray  # (n_cells,): hash of the pieces up to each
    begin: np.ndarray  # (n_cells,): where the text of each cell begins, and ends
    end: np.ndarray
    text: np.ndarray  # (n_cells,): counts texts within the block
    source: np.ndarray  # (n_texts,): the texts as the table names them
    start_row: int  # of all rows, the first of this block
    start_cell: int
    start_text: int

    def span(self, cells, before, after):
        """Return the first and the last cell, plus one, of the windows around some cells."""
        low = np.maximum(cells - before, self.begin[cells])
        return low, np.minimum(cells + after + 1, self.end[cells])


def pieces(tokens, n_rows, strings):
    """Yield ``(rows, reading parts)`` for runs of about `BLOCK_ROWS` rows, cut between texts.

    Only a text that is longer by itself is cut inside.

    Parameters
    ----------
    tokens : token table, labels or None
        As for `max_activating_examples`.
    n_rows : int
    strings : Strings
        New strings are added.
    """
    reading = read_rows(tokens, n_rows)
    number = strings.number(reading.string.tolist())
    hashes = strings.hashes()
    first_row = reading.first_row
    bounds = np.append(np.unique(reading.begin), len(number))  # in cells
    start = 0
    while start < len(number):
        stop = _stop(bounds, first_row, start)
        cells = slice(start, stop)
        begin = np.maximum(reading.begin[cells], start) - start
        end = np.minimum(reading.end[cells], stop) - start
        rows = slice(int(first_row[start]), int(first_row[stop]))
        texts, text = np.unique(begin, return_inverse=True)
        if reading.labelled:  # rows with the same label are not the same row
            gram = mixed(np.arange(start, stop).astype(np.uint64))
        else:
            gram = grams(hashes[number[cells]], begin)
        yield (
            rows,
            {
                "cell": reading.cell[rows] - start,
                "first_row": first_row[start : stop + 1] - rows.start,
                "string": number[cells],
                "gram": gram,
                "begin": begin,
                "end": end,
                "text": text,
                "source": reading.source[first_row[texts + start]],
            },
        )
        start = stop


def _stop(bounds, first_row, start):
    """Return the cell at which the block that begins at `start` ends."""
    limit = int(np.searchsorted(first_row, first_row[start] + BLOCK_ROWS, side="right")) - 1
    limit = min(max(limit, start + 1), bounds[-1])
    between = bounds[(bounds > start) & (bounds <= limit)]
    return int(between[-1] if len(between) else limit)


def block_of(codes, parts, starts):
    """Return the `Block` of CSR codes; `starts` are its first row, cell and text of all."""
    codes = sparse.csc_array(codes)
    codes.sum_duplicates()
    if not np.isfinite(codes.data).all():
        raise ValueError("codes contains NaN or infinity.")
    if (codes.data <= 0).any():
        codes.data[codes.data < 0] = 0
        codes.eliminate_zeros()
    n_rows, width = codes.shape
    feature = np.repeat(np.arange(width), np.diff(codes.indptr))
    key = feature * np.int64(max(n_rows, 1)) + codes.indices
    return Block(codes, feature, key, **parts, **starts)
