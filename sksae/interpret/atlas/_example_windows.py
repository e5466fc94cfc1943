"""Windows around kept places: the codes of a feature in them, or its silence."""

import numpy as np
from scipy import sparse

from sksae._runs import joined_ranges, ranks_in_runs, run_starts
from sksae.interpret.atlas._blocks import mixed
from sksae.interpret.atlas._places import SampledPlaces, places_of_cells

_SINGLE = float(np.finfo(np.float32).smallest_subnormal), float(np.finfo(np.float32).max)
_PER_STRING = 16  # cells with the same string that are looked at per block


class WindowCodes:
    """Positive codes in windows: ragged lines, one per window, stored end to end.

    Line w has the entries ``bounds[w] : bounds[w + 1]`` of `offset` and `value`.

    Parameters
    ----------
    before, after : int
        Cells on either side.
    """

    def __init__(self, before, after):
        self.before, self.after = before, after
        self.bounds = np.zeros(1, dtype=np.int64)  # (n_windows + 1,)
        self.offset = np.zeros(0, dtype=np.uint16)  # (n_entries,): cells from the window's first
        self.value = np.zeros(0, dtype=np.float32)  # (n_entries,)

    def __len__(self):
        return len(self.bounds) - 1

    def captured(self, block, places, feature):
        """Return the places with a window each: those of this block get theirs now.

        Parameters
        ----------
        block : Block
        places : Places
        feature : ndarray of shape (n_places,)
            Feature whose codes are stored.
        """
        new = np.flatnonzero(places.window < 0)
        if not len(new):
            return places
        cells = places.cell[new] - block.start_cell
        begin, end = block.window(cells, self.before, self.after)
        low, high = _code_ranges(block, feature[new], begin, end)
        codes = joined_ranges(low, high - low)  # positions in the block, window by window
        line = np.repeat(np.arange(len(new)), high - low)  # window of each of them
        cell = block.code_cell[codes]
        # Several rows of one cell give it one value, the largest.
        starts = run_starts(line, cell)
        values = block.codes.data[codes]
        values = np.maximum.reduceat(values, starts) if len(starts) else values
        line, cell = line[starts], cell[starts]
        window = places.window.copy()
        window[new] = len(self) + np.arange(len(new))
        self._append(np.bincount(line, minlength=len(new)), cell - begin[line], values)
        return places._replace(window=window)

    def _append(self, counts, offset, value):
        self.bounds = np.concatenate([self.bounds, self.bounds[-1] + np.cumsum(counts)])
        self.offset = np.concatenate([self.offset, offset.astype(np.uint16)])
        # Codes of float64 stay positive and finite in float32.
        value = np.clip(value, *_SINGLE).astype(np.float32)
        self.value = np.concatenate([self.value, value])

    def compacted(self, *groups):
        """Return groups of places, their windows renumbered, and forget all other windows.

        Nothing is done before there are twice as many windows as places.
        """
        if len(self) > 2 * sum(len(places.window) for places in groups) + 1024:
            is_used = np.zeros(len(self), dtype=bool)
            for places in groups:
                is_used[places.window] = True
            used = np.flatnonzero(is_used)
            lengths = np.diff(self.bounds)[used]
            entries = joined_ranges(self.bounds[used], lengths)
            self.bounds = np.append(0, np.cumsum(lengths))
            self.offset, self.value = self.offset[entries], self.value[entries]
            new_line = np.cumsum(is_used) - 1  # (n_windows,): for each old line that is used
            groups = [places._replace(window=new_line[places.window]) for places in groups]
        return groups


def _code_ranges(block, feature, begin, end):
    """Return first and last position, plus one, of a feature's codes in the cells begin to end."""
    base = feature * np.int64(max(len(block.cell), 1))  # as in `Block.key`
    low = np.searchsorted(block.key, base + block.first_row[begin])
    return low, np.searchsorted(block.key, base + block.first_row[end])


class SharedWindows:
    """Random windows with all the features that fire in them; all others are silent there.

    Parameters
    ----------
    size : int
        Windows kept.
    before, after : int
        Cells on either side.
    seed : int
    """

    def __init__(self, size, before, after, seed):
        self.before, self.after, self.seed = before, after, seed
        self._sampled = SampledPlaces(1, size)
        self._active = {}  # row of the middle of a window -> features that fire in it, ascending

    @property
    def places(self):
        """`Places` of the middles of the windows."""
        return self._sampled.places

    def add(self, block):
        """Enter the windows of a block."""
        cells = np.arange(len(block.string))
        self._sampled.add(places_of_cells(block, cells, np.zeros(len(cells)), self.seed))
        places = self.places
        new = np.flatnonzero(places.row >= block.start_row)
        begin, end = block.window(places.cell[new] - block.start_cell, self.before, self.after)
        codes = sparse.csr_array(block.codes) if len(new) else None
        active = dict(self._active)
        for line, low, high in zip(new.tolist(), begin.tolist(), end.tolist(), strict=True):
            entries = slice(*codes.indptr[block.first_row[[low, high]]])
            active[int(places.row[line])] = np.unique(codes.indices[entries])
        # Rows of earlier blocks may have left the sample.
        self._active = {row: active[row] for row in places.row.tolist()}

    def activity(self, n_components):
        """Return which features fire in which window, CSC of shape (n_windows, n_components)."""
        lists = [self._active[row] for row in self.places.row.tolist()]
        indptr = np.append(0, np.cumsum([len(features) for features in lists], dtype=np.int64))
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
        Windows kept per feature.
    before, after : int
        Cells on either side.
    seed : int
    """

    def __init__(self, n_components, size, before, after, seed):
        self.before, self.after, self.seed = before, after, seed
        self._sampled = SampledPlaces(n_components, size)

    @property
    def places(self):
        """`Places` of the middles of the windows; the bucket is the feature."""
        return self._sampled.places

    def add(self, block, main):
        """Enter the windows of a block.

        Parameters
        ----------
        block : Block
        main : ndarray of shape (n_components,)
            Number of the string that each feature fires on most so far, -1 for none.
        """
        # A few random cells per string, those with the smallest grams, in order of the strings ...
        order = np.lexsort((block.gram, block.string))
        cells = order[ranks_in_runs(block.string[order]) < _PER_STRING]
        string = block.string[cells]
        # ... joined with the features that have the string as their main one.
        features = np.argsort(main, kind="stable")
        features = features[np.searchsorted(main[features], 0) :]  # without those that have -1
        low = np.searchsorted(string, main[features])
        counts = np.searchsorted(string, main[features], side="right") - low
        feature = np.repeat(features, counts)
        cell = cells[joined_ranges(low, counts)]
        # Most pairs have too large a key for the sample: silence is looked up for the others only.
        key = mixed(block.gram ^ np.uint64(self.seed))[cell]
        enters = key < self._sampled.limit[feature]
        cell, feature = cell[enters], feature[enters]
        low, high = _code_ranges(block, feature, *block.window(cell, self.before, self.after))
        silent = low == high
        self._sampled.add(places_of_cells(block, cell[silent], feature[silent], self.seed))
