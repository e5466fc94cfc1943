"""Rows in random order from a stream: a buffer is filled, drawn from, and filled again."""

from numbers import Integral

import numpy as np
from sklearn.utils import check_random_state

_BUFFER_CHUNKS = 4


def buffer_size(chunk_rows, buffer_rows):
    """Return how many rows the buffer has, or raise a ValueError."""
    if buffer_rows is None:
        buffer_rows = _BUFFER_CHUNKS * chunk_rows if _is_size(chunk_rows) else chunk_rows
    for name, value in (("chunk_rows", chunk_rows), ("buffer_rows", buffer_rows)):
        if not _is_size(value):
            raise ValueError(f"{name} must be an int >= 1. Got {value!r} instead.")
    if buffer_rows < chunk_rows:
        raise ValueError(f"buffer_rows={buffer_rows} must be at least chunk_rows={chunk_rows}.")
    return int(buffer_rows)


def shuffled(blocks, chunk_rows, buffer_rows, random_state):
    """Return an iterator of arrays of `chunk_rows` rows, the last one of what is left.

    Each row of `blocks`, arrays of any size, appears once. It is drawn from the `buffer_rows` rows
    that were waiting at the time.
    """
    return _shuffled(blocks, chunk_rows, buffer_rows, check_random_state(random_state))


def _shuffled(blocks, chunk_rows, buffer_rows, rng):
    buffer, n = None, 0
    for rows in blocks:
        start = 0
        while start < len(rows):
            if buffer is None:
                buffer = np.empty((buffer_rows, rows.shape[1]), dtype=rows.dtype)
            some = rows[start : start + buffer_rows - n]
            buffer[n : n + len(some)] = some
            n, start = n + len(some), start + len(some)
            if n == buffer_rows:
                n -= chunk_rows
                yield _drawn(buffer, n, chunk_rows, rng)
    order = rng.permutation(n)
    for start in range(0, n, chunk_rows):
        yield buffer[order[start : start + chunk_rows]]


def _drawn(buffer, n, chunk_rows, rng):
    """Return rows drawn from a full buffer; the others are its first `n` afterwards."""
    drawn = rng.permutation(len(buffer))[:chunk_rows]
    chunk = buffer[drawn]
    left = np.ones(len(buffer), dtype=bool)
    left[drawn] = False
    buffer[drawn[drawn < n]] = buffer[n:][left[n:]]
    return chunk


def _is_size(value):
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= 1
