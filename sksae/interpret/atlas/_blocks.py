"""Blocks of codes, sorted by feature, with the text that their rows stand on."""

import hashlib
from typing import NamedTuple

import numpy as np
from scipy import sparse

from sksae._runs import run_starts
from sksae.interpret._token_cells import read_cells

BLOCK_ROWS = 2**15
GRAM = 8
"""Pieces, ending with the one that a feature fires on, by which two contexts count as the same."""

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class Block(NamedTuple):
    """Positive codes of consecutive rows in order of the features, and the cells of these rows.

    A cell is one piece of text for a reader: a row, or rows that share characters. All indices
    count from the beginning of the block; `start_row`, `start_cell` and `start_text` turn them into
    indices of the whole pass. Sizes in the shapes are those of the block.
    """

    codes: sparse.csc_array  # (n_rows, n_components)
    feature: np.ndarray  # (n_codes,): column of each code, ascending; rows ascend within a feature
    key: np.ndarray  # (n_codes,): feature * n_rows + row, ascending, so that it can be bisected
    code_cell: np.ndarray  # (n_codes,): cell of each code
    cell: np.ndarray  # (n_rows,): cell of each row
    first_row: np.ndarray  # (n_cells + 1,): cell c is made of the rows first_row[c:c + 2]
    string: np.ndarray  # (n_cells,): number of the string of each cell
    gram: np.ndarray  # (n_cells,): hash of the last pieces up to and with each cell
    begin: np.ndarray  # (n_cells,): first cell of the text of each cell
    end: np.ndarray  # (n_cells,): last cell of the text of each cell, plus one
    text: np.ndarray  # (n_cells,): number of the text of each cell
    source: np.ndarray  # (n_texts,): the texts as the token table names them
    start_row: int
    start_cell: int
    start_text: int

    def window(self, cells, before, after):
        """Return the first cell, and the last plus one, of the windows around some cells."""
        begin = np.maximum(cells - before, self.begin[cells])
        return begin, np.minimum(cells + after + 1, self.end[cells])

    def text_starts(self):
        """Return which codes are the first of their feature in their text, as positions."""
        return run_starts(self.feature, self.text[self.code_cell])


def make_block(codes, parts, starts):
    """Return the `Block` of CSR codes.

    Parameters
    ----------
    codes : CSR container of shape (n_rows, n_components)
    parts : dict
        The arrays about cells and texts, as `cut_blocks` yields them.
    starts : dict
        `start_row`, `start_cell` and `start_text`.

    Raises
    ------
    ValueError
        If a code is not finite.
    """
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
    return Block(codes, feature, key, parts["cell"][codes.indices], **parts, **starts)


def cut_blocks(tokens, n_rows, strings, first_cell=0):
    """Yield ``(rows, parts)`` for runs of about `BLOCK_ROWS` rows, cut between texts.

    Only a text that is longer by itself is cut inside.

    Parameters
    ----------
    tokens : token table, labels or None
        As for `max_activating_examples`.
    n_rows : int
        Rows that the table should have.
    strings : Strings
        New strings are added.
    first_cell : int, default=0
        Number of the first cell in the whole pass.
    """
    cells = read_cells(tokens, n_rows)
    number = strings.number(cells.string.tolist())
    hashes = strings.hashes()
    text_bounds = np.append(np.unique(cells.begin), len(number))  # in cells
    start = 0
    while start < len(number):
        stop = _block_end(text_bounds, cells.first_row, start)
        part = slice(start, stop)
        # A text that is cut begins anew with the block, or ends with it.
        begin = np.maximum(cells.begin[part], start) - start
        end = np.minimum(cells.end[part], stop) - start
        rows = slice(int(cells.first_row[start]), int(cells.first_row[stop]))
        text_begin, text = np.unique(begin, return_inverse=True)
        if cells.distinct:  # rows that read the same are different rows
            gram = mixed(np.arange(start + first_cell, stop + first_cell).astype(np.uint64))
        else:
            gram = grams(hashes[number[part]], begin)
        yield (
            rows,
            {
                "cell": cells.cell[rows] - start,
                "first_row": cells.first_row[start : stop + 1] - rows.start,
                "string": number[part],
                "gram": gram,
                "begin": begin,
                "end": end,
                "text": text,
                "source": cells.source[cells.first_row[text_begin + start]],
            },
        )
        start = stop


def _block_end(text_bounds, first_row, start):
    """Return the cell at which the block that begins at cell `start` ends."""
    limit = int(np.searchsorted(first_row, first_row[start] + BLOCK_ROWS, side="right")) - 1
    limit = min(max(limit, start + 1), text_bounds[-1])
    inside = text_bounds[(text_bounds > start) & (text_bounds <= limit)]
    return int(inside[-1] if len(inside) else limit)  # the last text that fits, or a cut in one


class Strings:
    """Different strings, numbered in the order in which they came, each with a hash."""

    def __init__(self):
        self._numbers = {}
        self._hashes = []

    def __len__(self):
        return len(self._numbers)

    def number(self, strings):
        """Return the number of each of some strings, new ones added: int32 of shape (n,)."""
        numbers, numbered = self._numbers, []
        for string in strings:
            number = numbers.get(string)
            if number is None:
                number = numbers[string] = len(numbers)
                self._hashes.append(_hash(string))
            numbered.append(number)
        return np.array(numbered, dtype=np.int32)

    def hashes(self):
        """Return the hash of each string: uint64 of shape (n_strings,)."""
        return np.array(self._hashes, dtype=np.uint64)

    def to_list(self):
        """Return the strings by number."""
        return list(self._numbers)


def _hash(string):
    """Return 64 bits of a string that are the same in every process."""
    digest = hashlib.blake2b(string.encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def grams(hashes, begin):
    """Return a hash of the last `GRAM` pieces up to each cell, none of them from before its text.

    Parameters
    ----------
    hashes : ndarray of shape (n_cells,), dtype=uint64
        Hash of the string of each cell.
    begin : ndarray of shape (n_cells,)
        The first cell of the text of each cell.

    Returns
    -------
    grams : ndarray of shape (n_cells,), dtype=uint64
    """
    gram, cell = np.zeros_like(hashes), np.arange(len(hashes))
    for distance in range(GRAM):
        in_text = cell - distance >= begin
        piece = np.where(in_text, hashes[np.maximum(cell - distance, 0)], np.uint64(0))
        gram = gram * _MULTIPLIER + piece  # modulo 2**64
    return mixed(gram)


def mixed(values):
    """Return uint64 values with every bit spread over all (the finaliser of splitmix64)."""
    values = values + _MULTIPLIER
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
