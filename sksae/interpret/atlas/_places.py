"""Places at which features fire or are silent, kept in short lists for all features at once."""

from typing import NamedTuple

import numpy as np

from sksae._runs import ranks_in_runs, run_lengths, run_starts
from sksae.interpret._strongest import joined, taken
from sksae.interpret.atlas._blocks import mixed

LAST = np.uint64(2**64 - 1)


class Places(NamedTuple):
    """Rows at which features fire, or are silent: one line per place, bucket by bucket.

    A bucket is a feature, or a feature and an octave of activations. Rows, cells and texts are
    numbered over the whole pass.
    """

    bucket: np.ndarray  # int64
    row: np.ndarray
    cell: np.ndarray
    text: np.ndarray
    value: np.ndarray  # float64: the code, 0 where the feature is silent
    key: np.ndarray  # uint64: hash of the context; equal ones read the same
    window: np.ndarray  # line of `WindowCodes` with the codes around it, -1 before it has one

    @property
    def identity(self):
        """Number that two places share if they have the same bucket and context."""
        return self.key ^ self.bucket.astype(np.uint64)


def no_places():
    """Return `Places` without a line."""
    ints, keys = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.uint64)
    return Places(ints, ints, ints, ints, np.zeros(0), keys, ints)


def places_of_codes(block, codes, bucket, seed=0):
    """Return the `Places` of some codes of a block, given by their positions, in given buckets."""
    row = block.codes.indices[codes].astype(np.int64)
    value = block.codes.data[codes].astype(np.float64)
    return _places(block, row, block.code_cell[codes], bucket, value, seed)


def places_of_cells(block, cells, bucket, seed):
    """Return the `Places` of the first rows of some cells of a block, without a value."""
    return _places(block, block.first_row[cells], cells, bucket, np.zeros(len(cells)), seed)


def _places(block, row, cell, bucket, value, seed):
    gram = block.gram[cell]
    return Places(
        bucket=np.asarray(bucket, dtype=np.int64),
        row=row + block.start_row,
        cell=cell + block.start_cell,
        text=block.text[cell] + block.start_text,
        value=value,
        # Another seed orders the contexts in another way, and so draws another sample.
        key=gram if seed == 0 else mixed(gram ^ np.uint64(seed)),
        window=np.full(len(row), -1),
    )


def strongest_per_text(block, pool):
    """Return the strongest place of each feature in each text, those that can enter a pool.

    Parameters
    ----------
    block : Block
    pool : StrongestPool
        Codes that are too weak for it are left out.

    Returns
    -------
    places : Places
        The bucket is the feature; rows ascend within a feature.
    """
    starts = block.text_starts()  # one segment of the codes per feature and text
    if not len(starts):
        return no_places()
    values = block.codes.data.astype(np.float64)
    lengths = run_lengths(starts, len(values))
    largest = np.maximum.reduceat(values, starts)
    strong = pool.can_enter(block.feature[starts], largest)  # (n_segments,)
    in_strong = np.repeat(strong, lengths)  # (n_codes,)
    segment = np.repeat(np.arange(strong.sum()), lengths[strong])  # of the codes in strong ones
    is_largest = values[in_strong] == largest[strong][segment]
    # The largest value may be there several times: the first row has it.
    codes = np.flatnonzero(in_strong)[is_largest][run_starts(segment[is_largest])]
    return places_of_codes(block, codes, block.feature[codes])


class SampledPlaces:
    """Random places of every bucket: those with the smallest keys, each key once.

    Keys are hashes of the contexts, so that a context counts once however often it comes, and a
    sample does not depend on the order of the rows. The largest key of a full list tells how many
    different ones there were, as in the k-minimum-values sketch.

    Parameters
    ----------
    n_buckets : int
    size : int
        Places kept per bucket.
    """

    def __init__(self, n_buckets, size):
        self.size = size
        self.places = no_places()
        self.limit = np.full(n_buckets, LAST)  # (n_buckets,): keys below it enter

    def add(self, places):
        """Enter the places that have small keys."""
        places = taken(places, places.key < self.limit[places.bucket])
        if not len(places.key):
            return
        places = joined(self.places, places)
        # One sort by bucket and key: the bucket in the upper bits, as many bits of the key as
        # remain in the lower ones. Sorting is stable, so the first row of equal keys comes first.
        n_bits = np.uint64(len(self.limit).bit_length())
        shifted = places.bucket.astype(np.uint64) << (np.uint64(64) - n_bits)
        sort_key = shifted | (places.key >> n_bits)
        order = np.argsort(sort_key, kind="stable")
        order = order[run_starts(sort_key[order])]
        order = order[ranks_in_runs(places.bucket[order]) < self.size]
        self.places = taken(places, order)
        is_last = ranks_in_runs(self.places.bucket) == self.size - 1  # of a full list
        self.limit[self.places.bucket[is_last]] = self.places.key[is_last]

    def n_different(self):
        """Return an estimate of how many different keys each bucket had: float64, (n_buckets,)."""
        counts = np.bincount(self.places.bucket, minlength=len(self.limit)).astype(np.float64)
        full = counts == self.size
        # Of n uniform keys the k-th smallest lies at about k / n of the range.
        share = self.limit[full].astype(np.float64) / 2.0**64
        counts[full] = np.maximum(self.size, (self.size - 1) / np.maximum(share, 2.0**-64))
        return counts
