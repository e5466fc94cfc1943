"""What a feature does in the windows around the places that are kept."""

import numpy as np

_SINGLE = float(np.finfo(np.float32).smallest_subnormal), float(np.finfo(np.float32).max)


class Windows:
    """Activations in windows, the positive ones only, line after line.

    Parameters
    ----------
    before, after : int
        Cells on either side.
    """

    def __init__(self, before, after):
        self.before, self.after = before, after
        self.bounds = np.zeros(1, dtype=np.int64)
        self.offset = np.zeros(0, dtype=np.uint16)  # cells from the first of the window
        self.value = np.zeros(0, dtype=np.float32)

    def __len__(self):
        return len(self.bounds) - 1

    def captured(self, block, places, feature):
        """Return the places with a window each: those of this block get one now."""
        new = np.flatnonzero(places.window < 0)
        if not len(new):
            return places
        cells = places.cell[new] - block.start_cell
        begin, end = block.span(cells, self.before, self.after)
        hits, line = _codes_in(block, feature[new], begin, end)
        cell = block.cell[block.codes.indices[hits]]
        # Rows of one cell have one value, the largest.
        first = np.ones(len(hits), dtype=bool)
        first[1:] = (line[1:] != line[:-1]) | (cell[1:] != cell[:-1])
        starts = np.flatnonzero(first)
        values = block.codes.data[hits]
        values = np.maximum.reduceat(values, starts) if len(starts) else values
        counts = np.bincount(line[starts], minlength=len(new))
        window = places.window.copy()
        window[new] = len(self) + np.arange(len(new))
        self._append(counts, (cell[starts] - begin[line[starts]]), values)
        return places._replace(window=window)

    def _append(self, counts, offset, value):
        self.bounds = np.concatenate([self.bounds, self.bounds[-1] + np.cumsum(counts)])
        self.offset = np.concatenate([self.offset, offset.astype(np.uint16)])
        value = np.clip(value, *_SINGLE).astype(np.float32)  # what fires stays positive and finite
        self.value = np.concatenate([self.value, value])

    def compacted(self, *groups):
        """Return groups of places, their windows renumbered, and forget all other windows."""
        if len(self) > 2 * sum(len(places.window) for places in groups) + 1024:
            used = np.zeros(len(self), dtype=bool)
            for places in groups:
                used[places.window] = True
            self.bounds, entries = gathered(self.bounds, np.flatnonzero(used))
            self.offset, self.value = self.offset[entries], self.value[entries]
            number = np.cumsum(used) - 1
            groups = [places._replace(window=number[places.window]) for places in groups]
        return groups

    def of(self, line, length):
        """Return the activations of a window of `length` cells, float64."""
        values = np.zeros(length)
        mine = slice(*self.bounds[line : line + 2])
        values[self.offset[mine]] = self.value[mine]
        return values


def gathered(bounds, lines):
    """Return the bounds of some ragged lines put together, and the entries they are made of."""
    lengths = np.diff(bounds)[lines]
    ends = np.cumsum(lengths)
    entries = np.arange(ends[-1] if len(ends) else 0)
    entries += np.repeat(bounds[:-1][lines] - (ends - lengths), lengths)
    return np.append(0, ends), entries


def is_silent(block, feature, begin, end):
    """Return whether features fire nowhere in the cells from `begin` to `end` of a block."""
    low, high = _ranges(block, feature, begin, end)
    return low == high


def _ranges(block, feature, begin, end):
    base = feature * np.int64(max(len(block.cell), 1))
    low = np.searchsorted(block.key, base + block.first_row[begin])
    return low, np.searchsorted(block.key, base + block.first_row[end])


def _codes_in(block, feature, begin, end):
    """Return which codes lie in each window, and the number of the window of each of them."""
    low, high = _ranges(block, feature, begin, end)
    lengths = high - low
    ends = np.cumsum(lengths)
    hits = np.arange(ends[-1] if len(ends) else 0) + np.repeat(low - (ends - lengths), lengths)
    return hits, np.repeat(np.arange(len(lengths)), lengths)
