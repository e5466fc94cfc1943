"""Windows in which features are silent: what an explanation must not fit."""

import numpy as np
from scipy import sparse

from sksae.interpret.atlas._pools import Places, Sampled, ranks
from sksae.interpret.atlas._strings import mixed
from sksae.interpret.atlas._windows import is_silent

_PER_STRING = 16  # places of a piece of text in a block that are looked at


class SharedWindows:
    """Random windows with all the features that fire in them; the others are silent there.

    Parameters
    ----------
    size : int
        How many.
    before, after : int
        Cells on either side.
    seed : int
    """

    def __init__(self, size, before, after, seed):
        self.before, self.after, self.seed = before, after, seed
        self._sampled = Sampled(1, size)
        self._active = {}  # by row

    @property
    def places(self):
        """Where they are."""
        return self._sampled.places

    def add(self, block):
        """Enter the windows of a block."""
        cells = np.arange(len(block.string))
        self._sampled.add(_cells_of(block, cells, np.zeros(len(cells)), self.seed))
        places = self._sampled.places
        new = np.flatnonzero(places.row >= block.start_row)
        begin, end = block.span(places.cell[new] - block.start_cell, self.before, self.after)
        codes = sparse.csr_array(block.codes) if len(new) else None
        found = {}
        for line, low, high in zip(new.tolist(), begin.tolist(), end.tolist(), strict=True):
            rows = slice(*codes.indptr[block.first_row[[low, high]]])
            found[int(places.row[line])] = np.unique(codes.indices[rows])
        kept = set(places.row.tolist())
        self._active = {row: f for row, f in {**self._active, **found}.items() if row in kept}

    def activity(self, n_components):
        """Return which features fire in which window, CSC of shape (n_windows, n_components)."""
        lists = [self._active[row] for row in self.places.row.tolist()]
        indptr = np.append(0, np.cumsum([len(one) for one in lists], dtype=np.int64))
        indices = np.concatenate([*lists, np.zeros(0, dtype=np.int32)]).astype(np.int64)
        data = np.ones(len(indices), dtype=bool)
        shape = (len(lists), n_components)
        return sparse.csc_array(sparse.csr_array((data, indices, indptr), shape=shape))


class LexicalWindows:
    """Windows around the piece that a feature fires on most, in which it does not fire.

    Parameters
    ----------
    n_components : int
    size : int
        Windows a feature keeps.
    before, after : int
        Cells on either side.
    seed : int
    """

    def __init__(self, n_components, size, before, after, seed):
        self.before, self.after, self.seed = before, after, seed
        self._sampled = Sampled(n_components, size)

    @property
    def places(self):
        """Where they are; the bucket is the feature."""
        return self._sampled.places

    def add(self, block, main):
        """Enter the windows of a block; `main` is the piece of each feature so far, or -1."""
        # A few random cells of each piece of text ...
        order = np.lexsort((block.gram, block.string))
        string = block.string[order]
        cells = order[ranks(string) < _PER_STRING]
        string = block.string[cells]
        # ... for each of the features that fire on it elsewhere.
        features = np.argsort(main, kind="stable")
        features = features[np.searchsorted(main[features], 0) :]
        low = np.searchsorted(string, main[features])
        counts = np.searchsorted(string, main[features], side="right") - low
        feature = np.repeat(features, counts)
        ends = np.cumsum(counts)
        cell = cells[np.arange(len(feature)) + np.repeat(low - (ends - counts), counts)]
        new = mixed(block.gram ^ np.uint64(self.seed))[cell] < self._sampled.limit[feature]
        cell, feature = cell[new], feature[new]
        silent = is_silent(block, feature, *block.span(cell, self.before, self.after))
        self._sampled.add(_cells_of(block, cell[silent], feature[silent], self.seed))


def _cells_of(block, cells, bucket, seed):
    """Return the `Places` of some cells of a block."""
    row = block.first_row[cells]
    return Places(
        bucket=np.asarray(bucket, dtype=np.int64),
        row=row + block.start_row,
        cell=cells + block.start_cell,
        text=block.text[cells] + block.start_text,
        value=np.zeros(len(cells)),
        key=mixed(block.gram[cells] ^ np.uint64(seed)),
        window=np.full(len(cells), -1),
    )
