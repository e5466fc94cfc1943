"""Short lists of places for every feature at once, the windows around them included."""

from typing import NamedTuple

import numpy as np

from sksae.interpret.atlas._strings import mixed
from sksae.interpret.atlas._tallies import text_starts

LAST = np.uint64(2**64 - 1)


class Places(NamedTuple):
    """Where features fire, or are silent: one line each, bucket by bucket, the best first.

    A bucket is a feature, or a feature and an octave of activations.
    """

    bucket: np.ndarray  # int64
    row: np.ndarray  # of all rows
    cell: np.ndarray  # of all cells
    text: np.ndarray  # of all texts
    value: np.ndarray  # float64
    key: np.ndarray  # uint64: places with the same are the same to a reader
    window: np.ndarray  # its line among the `Windows`, -1 before it has one

    def take(self, lines):
        """Return some lines."""
        return Places(*(column[lines] for column in self))

    def ranks(self):
        """Return how many lines of the same bucket come before each."""
        return ranks(self.bucket)


def no_places():
    """Return `Places` without a line."""
    ints, keys = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.uint64)
    return Places(ints, ints, ints, ints, np.zeros(0), keys, ints)


def ranks(bucket):
    """Return how many entries of an ascending array equal each and come before it."""
    starts = np.flatnonzero(np.append(True, bucket[1:] != bucket[:-1]))[: len(bucket)]
    return np.arange(len(bucket)) - np.repeat(starts, np.diff(np.append(starts, len(bucket))))


def joined(*parts):
    """Return the lines of several `Places`, unordered."""
    return Places(*map(np.concatenate, zip(*parts, strict=True)))


class Strongest:
    """The strongest row of each text, for the texts on which a feature fires most.

    Of places that read the same, up to the piece that the feature fires on, the strongest counts.
    What is kept does not depend on how the rows were cut into blocks.

    Parameters
    ----------
    n_components : int
    size : int
        Places a feature keeps.
    """

    def __init__(self, n_components, size):
        self.size = size
        self.places = no_places()
        self._floor = np.zeros(n_components)

    def add(self, block):
        """Enter what a block has that is strong enough."""
        starts = np.flatnonzero(text_starts(block))
        if not len(starts):
            return
        values = block.codes.data.astype(np.float64)
        largest = np.maximum.reduceat(values, starts)
        # A value that equals the last one of a full list loses to it: earlier rows come first.
        strong = largest > self._floor[block.feature[starts]]
        lengths = np.diff(np.append(starts, len(values)))
        wanted = np.repeat(strong, lengths)
        is_largest = values[wanted] == np.repeat(largest[strong], lengths[strong])
        segment = np.repeat(np.flatnonzero(strong), lengths[strong])[is_largest]
        firsts = np.flatnonzero(np.append(True, segment[1:] != segment[:-1]))[: len(segment)]
        lines = np.flatnonzero(wanted)[is_largest][firsts]
        both = joined(self.places, places_of(block, lines, block.feature[lines]))
        self.places = self._best(both)
        full = self.places.ranks() == self.size - 1
        self._floor[self.places.bucket[full]] = self.places.value[full]

    def _best(self, places):
        # Of a bucket, rows ascend already: sorting is stable.
        order = np.lexsort((-places.value, places.bucket))
        same = places.key ^ places.bucket.astype(np.uint64)
        order = order[_first_of_each(same[order])]
        return places.take(order[ranks(places.bucket[order]) < self.size])


def _first_of_each(values):
    """Return a mask of what has not come before, fast where little has."""
    first = np.ones(len(values), dtype=bool)
    ascending = np.sort(values)
    twice = ascending[1:][ascending[1:] == ascending[:-1]]
    some = np.flatnonzero(np.isin(values, twice))
    first[some] = False
    first[some[np.unique(values[some], return_index=True)[1]]] = True
    return first


class Sampled:
    """Random places of every bucket: those with the smallest keys, each key once.

    Keys are hashes of what stands at a place, so that a context counts once however often it
    comes, and a sample does not depend on the order of the rows. The largest key kept tells how
    many different ones there were.

    Parameters
    ----------
    n_buckets : int
    size : int
        Places a bucket keeps.
    """

    def __init__(self, n_buckets, size):
        self.size = size
        self.places = no_places()
        self.limit = np.full(n_buckets, LAST)

    def add(self, places):
        """Enter the places that have small keys."""
        places = places.take(places.key < self.limit[places.bucket])
        if not len(places.key):
            return
        both = joined(self.places, places)
        # The bucket, and as many bits of the key as there is room for; of each the first row,
        # which comes first already.
        n_bits = np.uint64(len(self.limit).bit_length())
        line = (both.bucket.astype(np.uint64) << (np.uint64(64) - n_bits)) | (both.key >> n_bits)
        order = np.argsort(line, kind="stable")
        line = line[order]
        order = order[np.append(True, line[1:] != line[:-1])]
        self.places = both.take(order[ranks(both.bucket[order]) < self.size])
        full = self.places.ranks() == self.size - 1
        self.limit[self.places.bucket[full]] = self.places.key[full]

    def n_different(self):
        """Return how many different keys each bucket had, about: float64 of shape (n_buckets,)."""
        counts = np.bincount(self.places.bucket, minlength=len(self.limit)).astype(np.float64)
        full = counts == self.size
        share = self.limit[full].astype(np.float64) / 2.0**64
        counts[full] = np.maximum(self.size, (self.size - 1) / np.maximum(share, 2.0**-64))
        return counts


def places_of(block, lines, bucket, seed=0):
    """Return the `Places` of some codes of a block, in the given buckets."""
    row = block.codes.indices[lines].astype(np.int64)
    cell = block.cell[row]
    key = block.gram[cell] if seed == 0 else mixed(block.gram[cell] ^ np.uint64(seed))
    return Places(
        bucket=np.asarray(bucket, dtype=np.int64),
        row=row + block.start_row,
        cell=cell + block.start_cell,
        text=block.text[cell] + block.start_text,
        value=block.codes.data[lines].astype(np.float64),
        key=key,
        window=np.full(len(row), -1),
    )
