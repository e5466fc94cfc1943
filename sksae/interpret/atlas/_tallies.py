"""Counts of every feature: rows, texts, sums, maxima, histograms; what it fires on."""

import numpy as np

LOWEST, HIGHEST, PER_OCTAVE = -24, 24, 4
EDGES = 2.0 ** (np.arange((HIGHEST - LOWEST) * PER_OCTAVE + 1) / PER_OCTAVE + LOWEST)
"""Edges of the histograms of activations: four bins where the activation doubles."""

_FIRST_PIECES = 3  # of a text
_TOKENS_KEPT = 64  # of a feature, once there are too many in all
_MOST_TOKENS = 2**22


class Tallies:
    """What is counted of every feature on every row.

    Parameters
    ----------
    n_components : int
    """

    def __init__(self, n_components):
        self.n_rows = self.n_cells = self.n_texts = 0
        self.n_first = 0  # cells that begin a text
        self.n_active = np.zeros(n_components, dtype=np.int64)
        self.n_active_first = np.zeros(n_components, dtype=np.int64)
        self.n_active_texts = np.zeros(n_components, dtype=np.int64)
        self.total = np.zeros(n_components)
        self.maximum = np.zeros(n_components)
        self.histogram = np.zeros((n_components, len(EDGES) - 1), dtype=np.uint32)

    def add(self, block):
        """Count a block."""
        values, indptr = block.codes.data, block.codes.indptr
        counts = np.diff(indptr)
        cell = block.cell[block.codes.indices]
        first = cell - block.begin[cell] < _FIRST_PIECES
        width = len(counts)
        self.n_rows += len(block.cell)
        self.n_cells += len(block.string)
        self.n_texts += len(block.source)
        place = np.arange(len(block.begin)) - block.begin
        self.n_first += int((np.diff(block.first_row) * (place < _FIRST_PIECES)).sum())
        self.n_active += counts
        self.n_active_first += np.bincount(block.feature[first], minlength=width)
        self.n_active_texts += np.bincount(block.feature[text_starts(block)], minlength=width)
        some = np.flatnonzero(counts)
        if len(some):
            wide = values.astype(np.float64)
            self.total[some] += np.add.reduceat(wide, indptr[some])
            largest = np.maximum.reduceat(wide, indptr[some])
            self.maximum[some] = np.maximum(self.maximum[some], largest)
        self._add_histogram(block.feature, values)

    def _add_histogram(self, feature, values):
        """Count activations; those beyond the edges in the outermost bins."""
        n_bins = self.histogram.shape[1]
        number = np.floor((np.log2(values.astype(np.float64)) - LOWEST) * PER_OCTAVE)
        number = np.clip(number, 0, n_bins - 1).astype(np.int64)
        np.add.at(self.histogram.reshape(-1), feature * n_bins + number, np.uint32(1))


def text_starts(block):
    """Return which codes are the first of their feature in their text."""
    text = block.text[block.cell[block.codes.indices]]
    starts = np.ones(len(text), dtype=bool)
    starts[1:] = (block.feature[1:] != block.feature[:-1]) | (text[1:] != text[:-1])
    return starts


class TokenSums:
    """Sums of the codes by feature and piece of text, and in how many rows: a bounded table.

    Once there are more than four million pairs, each feature keeps its 64 largest sums; what was
    dropped and comes back begins at zero.

    Parameters
    ----------
    n_components : int
    """

    def __init__(self, n_components):
        self.n_components = n_components
        self.key = np.zeros(0, dtype=np.int64)  # feature * 2**32 + string, ascending
        self.total, self.count = np.zeros(0), np.zeros(0, dtype=np.int64)
        self._waiting, self._n_waiting = [], 0
        self.main = np.full(n_components, -1)

    def add(self, block):
        """Add a block."""
        string = block.string[block.cell[block.codes.indices]].astype(np.int64)
        key = (block.feature.astype(np.int64) << 32) | string
        values = block.codes.data.astype(np.float64)
        self._waiting.append(_summed(key, values, np.ones(len(key), dtype=np.int64)))
        self._n_waiting += len(self._waiting[-1][0])
        if self._n_waiting >= len(self.key) // 2:
            self.settle()

    def largest(self, size):
        """Return the keys of the largest sums of each feature, ascending."""
        feature = self.key >> 32
        order = np.lexsort((-self.total, feature))
        rank = np.arange(len(order)) - np.searchsorted(feature, feature)
        return self.key[np.sort(order[rank < size])]

    def settle(self):
        """Take in what waits, and find the piece that each feature fires on most."""
        parts = [(self.key, self.total, self.count), *self._waiting]
        key, total, count = map(np.concatenate, zip(*parts, strict=True))
        self.key, self.total, self.count = _summed(key, total, count)
        self._waiting, self._n_waiting = [], 0
        self._find_main()
        if len(self.key) > max(_MOST_TOKENS, _TOKENS_KEPT * self.n_components):
            kept = np.searchsorted(self.key, self.largest(_TOKENS_KEPT))
            self.key, self.total, self.count = self.key[kept], self.total[kept], self.count[kept]

    def _find_main(self):
        feature = self.key >> 32
        starts = np.flatnonzero(np.append(True, feature[1:] != feature[:-1]))[: len(feature)]
        if len(starts):
            largest = np.maximum.reduceat(self.total, starts)
            lengths = np.diff(np.append(starts, len(feature)))
            lines = np.flatnonzero(self.total == np.repeat(largest, lengths))[::-1]
            self.main[feature[lines]] = (
                self.key[lines] & 0xFFFFFFFF
            )  # the first one is written last


def _summed(key, total, count):
    """Return the different keys in order, with the sums of what belongs to each."""
    if not len(key):
        return key, total, count
    order = np.argsort(key, kind="stable")
    key = key[order]
    starts = np.flatnonzero(np.append(True, key[1:] != key[:-1]))
    return key[starts], np.add.reduceat(total[order], starts), np.add.reduceat(count[order], starts)
