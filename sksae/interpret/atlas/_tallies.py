"""Counts of all features: rows, texts, sums, maxima, histograms, and sums per piece of text."""

import numpy as np

from sksae._runs import ranks_in_runs, run_lengths, run_starts

LOWEST, HIGHEST, PER_OCTAVE = -24, 24, 4
EDGES = 2.0 ** (np.arange((HIGHEST - LOWEST) * PER_OCTAVE + 1) / PER_OCTAVE + LOWEST)
"""Edges of the histograms of activations: four bins per factor of two."""

_FIRST_PIECES = 3  # of a text
_TOKENS_KEPT = 64  # per feature, once there are too many in all
_MOST_TOKENS = 2**22


class Tallies:
    """Numbers that are exact for every feature: counts, sums, maxima and histograms.

    Parameters
    ----------
    n_components : int
    """

    def __init__(self, n_components):
        self.n_rows = self.n_cells = self.n_texts = 0
        self.n_first = 0  # rows among the first pieces of their texts
        self.n_active = np.zeros(n_components, dtype=np.int64)  # rows
        self.n_active_first = np.zeros(n_components, dtype=np.int64)  # rows among first pieces
        self.n_active_texts = np.zeros(n_components, dtype=np.int64)
        self.total = np.zeros(n_components)
        self.maximum = np.zeros(n_components)
        self.histogram = np.zeros((n_components, len(EDGES) - 1), dtype=np.uint32)

    def add(self, block):
        """Count a block."""
        values, indptr = block.codes.data, block.codes.indptr
        counts = np.diff(indptr)
        n_components = len(counts)
        self.n_rows += len(block.cell)
        self.n_cells += len(block.string)
        self.n_texts += len(block.source)
        distance = np.arange(len(block.begin)) - block.begin  # (n_cells,): from the text's first
        is_first = distance < _FIRST_PIECES
        self.n_first += int((np.diff(block.first_row) * is_first).sum())
        first = block.feature[is_first[block.code_cell]]
        self.n_active += counts
        self.n_active_first += np.bincount(first, minlength=n_components)
        starts = block.text_starts()
        self.n_active_texts += np.bincount(block.feature[starts], minlength=n_components)
        # reduceat cannot sum over nothing: features that are silent in the block are left out.
        active = np.flatnonzero(counts)
        if len(active):
            values = values.astype(np.float64)
            self.total[active] += np.add.reduceat(values, indptr[active])
            largest = np.maximum.reduceat(values, indptr[active])
            self.maximum[active] = np.maximum(self.maximum[active], largest)
        self._add_histogram(block.feature, values)

    def _add_histogram(self, feature, values):
        """Count activations; those beyond the edges in the outermost bins."""
        n_bins = self.histogram.shape[1]
        number = np.floor((np.log2(values.astype(np.float64)) - LOWEST) * PER_OCTAVE)
        number = np.clip(number, 0, n_bins - 1).astype(np.int64)
        np.add.at(self.histogram.reshape(-1), feature * n_bins + number, np.uint32(1))


class TokenSums:
    """Sums and counts of the codes per feature and string: a bounded table.

    Once there are more than four million pairs, each feature keeps its 64 largest sums; a pair
    that was dropped and comes back begins at zero.

    Parameters
    ----------
    n_components : int
    """

    def __init__(self, n_components):
        self.n_components = n_components
        self.key = np.zeros(0, dtype=np.int64)  # feature * 2**32 + number of the string, ascending
        self.total, self.count = np.zeros(0), np.zeros(0, dtype=np.int64)  # one line per key
        self.main = np.full(n_components, -1)  # string with the largest sum, -1 for none
        self._waiting, self._n_waiting = [], 0

    def add(self, block):
        """Add a block."""
        string = block.string[block.code_cell].astype(np.int64)
        key = (block.feature.astype(np.int64) << 32) | string
        values = block.codes.data.astype(np.float64)
        self._waiting.append(_summed(key, values, np.ones(len(key), dtype=np.int64)))
        self._n_waiting += len(self._waiting[-1][0])
        # A merge sorts the whole table: it waits until half as much is new.
        if self._n_waiting >= len(self.key) // 2:
            self.settle()

    def largest(self, size):
        """Return the keys of the `size` largest sums of each feature, ascending."""
        feature = self.key >> 32
        order = np.lexsort((-self.total, feature))
        # `feature` ascends, so that sorting by it first leaves it as it is.
        return self.key[np.sort(order[ranks_in_runs(feature) < size])]

    def settle(self):
        """Take in the blocks that wait, and find the main string of each feature."""
        parts = [(self.key, self.total, self.count), *self._waiting]
        key, total, count = map(np.concatenate, zip(*parts, strict=True))
        self.key, self.total, self.count = _summed(key, total, count)
        self._waiting, self._n_waiting = [], 0
        self._find_main()
        if len(self.key) > max(_MOST_TOKENS, _TOKENS_KEPT * self.n_components):
            lines = np.searchsorted(self.key, self.largest(_TOKENS_KEPT))
            self.key, self.total, self.count = self.key[lines], self.total[lines], self.count[lines]

    def _find_main(self):
        feature = self.key >> 32
        starts = run_starts(feature)
        if len(starts):
            largest = np.maximum.reduceat(self.total, starts)
            is_largest = self.total == np.repeat(largest, run_lengths(starts, len(feature)))
            # Written in reverse, so that of equal sums the first string remains.
            lines = np.flatnonzero(is_largest)[::-1]
            self.main[feature[lines]] = self.key[lines] & 0xFFFFFFFF


def _summed(key, total, count):
    """Return the different keys in ascending order, with the sums over equal ones."""
    if not len(key):
        return key, total, count
    order = np.argsort(key, kind="stable")
    key = key[order]
    starts = run_starts(key)
    return key[starts], np.add.reduceat(total[order], starts), np.add.reduceat(count[order], starts)
