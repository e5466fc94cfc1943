"""The strongest codes of every feature: one pool for all features, and the codes that enter it."""

import warnings
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse

from sksae._arrays import two_axes
from sksae._coding import as_csr
from sksae._runs import ranks_in_runs
from sksae._threads import threads_for

_CHECKED_ROWS = 64
BLOCK_SIZE = 2**20  # codes read at a time


class Entries(NamedTuple):
    """Positive codes, one line each."""

    bucket: np.ndarray  # position of the feature among the chosen ones
    row: np.ndarray
    value: np.ndarray  # float64
    identity: np.ndarray  # number of the pair of feature and text


def joined(*tables):
    """Return the lines of several named tuples of arrays, one table after the other."""
    return type(tables[0])(*map(np.concatenate, zip(*tables, strict=True)))


def taken(table, lines):
    """Return some lines of a named tuple of arrays."""
    return type(table)(*(column[lines] for column in table))


class StrongestPool:
    """The strongest entries of every feature; of entries with the same identity, the strongest.

    Lists of all features are one table, feature by feature and from strong to weak. They do not
    depend on how the rows were divided into blocks.

    Parameters
    ----------
    entries : named tuple of ndarrays
        An empty table with at least the columns `bucket` (the feature) and `value`, and the
        attribute `identity`: what counts once has the same.
    n_buckets : int
        Number of features.
    size : int
        Entries kept per feature.
    """

    def __init__(self, entries, n_buckets, size):
        self.entries, self.size = entries, size
        self._floor = np.zeros(n_buckets)  # value of the last entry of each full list

    def can_enter(self, bucket, value):
        """Return which values are strong enough for the lists of their features.

        A value that equals the last one of a full list loses to it: earlier rows come first.
        """
        return value > self._floor[bucket]

    def add(self, *tables):
        """Enter tables whose rows ascend within each feature, and come after those entered."""
        entries = joined(self.entries, *tables)
        # Sorting is stable, so that of equal values the one in the earliest row comes first.
        order = np.lexsort((-entries.value, entries.bucket))
        order = order[_is_first(entries.identity[order])]
        # At most `size` entries per feature.
        order = order[ranks_in_runs(entries.bucket[order]) < self.size]
        self.entries = taken(entries, order)
        is_last = ranks_in_runs(self.entries.bucket) == self.size - 1  # of a full list
        self._floor[self.entries.bucket[is_last]] = self.entries.value[is_last]


def _is_first(values):
    """Return a mask of the values that have not come before; fast where most come once."""
    is_first = np.ones(len(values), dtype=bool)
    # Only values that come several times need the slower search for their first place.
    ascending = np.sort(values)
    repeated = ascending[1:][ascending[1:] == ascending[:-1]]
    lines = np.flatnonzero(np.isin(values, repeated))
    is_first[lines] = False
    is_first[lines[np.unique(values[lines], return_index=True)[1]]] = True
    return is_first


def strongest_entries(codes, features, text, size):
    """Return the strongest row of each text, for the `size` texts that a feature fires on most.

    Parameters
    ----------
    codes : {ndarray, CSR matrix} of shape (n_rows, n_components)
        Codes from `check_codes`.
    features : ndarray of shape (n_chosen,)
        Columns of `codes`; ``Entries.bucket`` counts along this array.
    text : ndarray of shape (n_rows,)
        Number of the text of each row, from 0.
    size : int
        Texts per feature.

    Returns
    -------
    entries : Entries
        By feature and then from strong to weak, earlier rows first.
    """
    n_texts = int(text.max(initial=-1)) + 1
    ints = np.zeros(0, dtype=np.int64)
    pool = StrongestPool(Entries(ints, ints, np.zeros(0), ints), len(features), size)
    waiting, n_waiting = [], 0
    for bucket, row, value in positive_codes(codes, features):
        enters = pool.can_enter(bucket, value)
        bucket, row, value = bucket[enters], row[enters], value[enters]
        # Pairs of feature and text as one number.
        waiting.append(Entries(bucket, row, value, bucket * n_texts + text[row]))
        n_waiting += len(row)
        # A merge sorts the pool too: it waits for as many entries as there are in it.
        if n_waiting > max(BLOCK_SIZE, len(pool.entries.row)):
            pool.add(*waiting)
            waiting, n_waiting = [], 0
    pool.add(*waiting)
    return pool.entries


def positive_codes(codes, features):
    """Yield ``(feature, row, value)`` arrays of the positive codes in blocks of rows.

    `feature` is a position in `features`; `value` is float64 and positive; rows ascend. A
    ValueError is raised if a code is not finite.
    """
    n_rows, width = codes.shape
    position = np.full(width, -1)  # of each column in `features`, -1 if it is not chosen
    position[features] = np.arange(len(features))
    # Each block has about BLOCK_SIZE stored codes.
    per_row = max(1, codes.nnz // max(n_rows, 1)) if sparse.issparse(codes) else width
    step = max(1, BLOCK_SIZE // per_row)
    for start in range(0, n_rows, step):
        block = codes[start : start + step]
        if sparse.issparse(block):
            # Row of each stored code.
            row = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
            column, value = block.indices, block.data
        else:
            row, column = np.nonzero(block)
            value = block[row, column]
        if not np.isfinite(value.sum(dtype=np.float64)):
            raise ValueError("codes contains NaN or infinity.")
        chosen = (value > 0) & (position[column] >= 0)
        value = value[chosen].astype(np.float64)
        yield position[column[chosen]], row[chosen] + start, value


def values_of(codes, start, stop, feature):
    """Return column `feature` of the rows start to stop as a float64 array."""
    if not sparse.issparse(codes):
        return codes[start:stop, feature].astype(np.float64)
    bounds = codes.indptr[start : stop + 1]  # first entry of each row, and one past the last
    entries = np.flatnonzero(codes.indices[bounds[0] : bounds[-1]] == feature) + bounds[0]
    values = np.zeros(stop - start)
    # The row of an entry is the last one that begins at or before it.
    values[np.searchsorted(bounds, entries, side="right") - 1] = codes.data[entries]
    return values


def check_codes(codes):
    """Return codes as a 2-D numpy array, or as CSR with at most one entry per row and column."""
    _check_kind(codes)
    if sparse.issparse(codes):
        codes = as_csr(codes)
    elif isinstance(codes, torch.Tensor):
        codes = codes.detach().cpu()
        with threads_for(codes.numel()):  # numpy has no bfloat16
            codes = (codes.float() if codes.dtype == torch.bfloat16 else codes).numpy()
    else:
        codes = np.asarray(codes)
    if codes.ndim != 2:
        rows = f" codes{two_axes(codes.shape)}." if codes.ndim > 2 else ""
        raise ValueError(f"codes must be 2-D, rows by features; got shape {codes.shape}.{rows}")
    if codes.dtype.kind not in "biuf":
        raise ValueError(f"codes holds {codes.dtype} values; real numbers are needed.")
    _warn_of_rows(codes)
    return codes


def _warn_of_rows(codes):
    """Warn if dense codes look like activations: no value is zero, many are negative."""
    if sparse.issparse(codes) or codes.dtype.kind != "f":
        return
    head = codes[:_CHECKED_ROWS]
    negative = float((head < 0).mean()) if head.size >= _CHECKED_ROWS and head.all() else 0.0
    if 0.25 < negative < 0.75:  # about half of what is centred
        warnings.warn(
            f"codes have no zeros and {negative:.0%} of them are negative, as the rows have that a "
            "sparse autoencoder codes: give what its transform returns. Only positive codes are "
            "looked at.",
            UserWarning,
            stacklevel=3,
        )


def _check_kind(codes):
    """Raise a TypeError that names the remedy if `codes` are texts, a table or an estimator."""
    if hasattr(codes, "get_params"):
        raise TypeError(
            f"codes is an estimator, {type(codes).__name__}; what its transform returns is needed."
        )
    names = getattr(codes, "columns", codes if isinstance(codes, Mapping) else ())
    table = hasattr(codes, "string") or "string" in names
    strings = isinstance(codes, (list, tuple)) and len(codes) and isinstance(codes[0], str)
    if table or strings or isinstance(codes, (str, bytes)):
        raise TypeError(
            "codes are strings or a table of tokens; they are numbers, rows by features, and come "
            "before the tokens, as in max_activating_examples(codes, tokens)."
        )


def check_features(features, width):
    """Return the chosen columns as an array; None is all of them."""
    if features is None:
        return np.arange(width)
    features = np.asarray(features)
    if features.ndim != 1 or (len(features) and features.dtype.kind not in "iu"):
        hint = "; np.flatnonzero makes them from a mask" if features.dtype.kind == "b" else ""
        raise ValueError(
            f"features must be a list of column numbers of codes{hint}. Got an array of shape "
            f"{features.shape} and type {features.dtype}."
        )
    features = features.astype(np.int64)
    outside = features[(features < 0) | (features >= width)]
    if len(outside):
        raise ValueError(f"codes has {width} columns; there is no feature {outside[0]}.")
    if len(np.unique(features)) < len(features):
        raise ValueError("features names a column twice.")
    return features
