"""The strongest rows of every feature, found in one pass over codes."""

import warnings
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse

from sksae._arrays import two_axes
from sksae._coding import as_csr
from sksae._threads import threads_for

_LOOKED_AT = 64  # rows
BLOCK_SIZE = 2**20  # codes looked at together


class Entries(NamedTuple):
    """Positive codes, by feature and then from strong to weak, earlier rows first."""

    feature: np.ndarray
    row: np.ndarray
    value: np.ndarray
    text: np.ndarray

    def bounds(self, n_features):
        """Where the entries of each feature begin, and where the last ones end."""
        return np.searchsorted(self.feature, np.arange(n_features + 1))


def strongest_entries(codes, features, text, size):
    """Return the strongest row of each text, for the `size` texts that a feature fires on most.

    Parameters
    ----------
    codes : {ndarray, CSR matrix} of shape (n_rows, n_components)
    features : ndarray of shape (n_chosen,)
        Columns of `codes`; ``Entries.feature`` counts along this array.
    text : ndarray of shape (n_rows,)
        Number of the text of each row, from 0.
    size : int

    Returns
    -------
    entries : Entries
    """
    n_texts = int(text.max(initial=-1)) + 1
    empty = np.zeros(0, dtype=np.int64)
    pool, floor = Entries(empty, empty, np.zeros(0), empty), np.zeros(len(features))
    waiting, n_waiting = [], 0
    for feature, row, value in positive_codes(codes, features):
        # What is no stronger than the last of a full list cannot enter it any more.
        new = value > floor[feature]
        waiting.append(Entries(feature[new], row[new], value[new], text[row[new]]))
        n_waiting += len(waiting[-1].row)
        if n_waiting > max(BLOCK_SIZE, len(pool.row)):
            pool = _merged([pool, *waiting], n_texts, size)
            waiting, n_waiting = [], 0
            bounds = pool.bounds(len(features))
            full = np.flatnonzero(np.diff(bounds) == size)
            floor[full] = pool.value[bounds[full + 1] - 1]
    return _merged([pool, *waiting], n_texts, size)


def _merged(parts, n_texts, size):
    """Return the first `size` of the strongest entries of each text, for every feature."""
    feature, row, value, text = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.lexsort((row, -value, feature))
    # The first of each (feature, text) in this order is its strongest.
    firsts = np.unique((feature * n_texts + text)[order], return_index=True)[1]
    order = order[np.sort(firsts)]
    feature = feature[order]
    rank = np.arange(len(feature)) - np.searchsorted(feature, feature)
    order = order[rank < size]
    return Entries(feature[rank < size], row[order], value[order], text[order])


def positive_codes(codes, features):
    """Yield ``(feature, row, value)`` arrays of the positive codes in blocks of rows.

    `feature` is a position in `features`, a float64 `value` is never zero. A ValueError names the
    trouble if a code is not finite.
    """
    n_rows, width = codes.shape
    slot = np.full(width, -1)
    slot[features] = np.arange(len(features))
    per_row = max(1, codes.nnz // max(n_rows, 1)) if sparse.issparse(codes) else width
    step = max(1, BLOCK_SIZE // per_row)
    for start in range(0, n_rows, step):
        block = codes[start : start + step]
        if sparse.issparse(block):
            row = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
            column, value = block.indices, block.data
        else:
            row, column = np.nonzero(block)
            value = block[row, column]
        if not np.isfinite(value.sum(dtype=np.float64)):
            raise ValueError("codes contains NaN or infinity.")
        wanted = (value > 0) & (slot[column] >= 0)
        value = value[wanted].astype(np.float64)
        yield slot[column[wanted]], row[wanted] + start, value


def values_of(codes, start, stop, feature):
    """Return column `feature` of the rows start to stop as a float64 array."""
    if not sparse.issparse(codes):
        return codes[start:stop, feature].astype(np.float64)
    bounds = codes.indptr[start : stop + 1]
    hits = np.flatnonzero(codes.indices[bounds[0] : bounds[-1]] == feature) + bounds[0]
    values = np.zeros(stop - start)
    values[np.searchsorted(bounds, hits, side="right") - 1] = codes.data[hits]
    return values


def check_codes(codes):
    """Return codes as a 2-D numpy array or as CSR with one entry at most for each cell."""
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
    """Warn if dense codes look like rows of activations: nothing is zero, much is negative."""
    if sparse.issparse(codes) or codes.dtype.kind != "f":
        return
    some = codes[:_LOOKED_AT]
    negative = float((some < 0).mean()) if some.size >= _LOOKED_AT and some.all() else 0.0
    if 0.25 < negative < 0.75:  # about half of what is centred
        warnings.warn(
            f"codes have no zeros and {negative:.0%} of them are negative, as the rows have that a "
            "sparse autoencoder codes: give what its transform returns. Only positive codes are "
            "looked at.",
            UserWarning,
            stacklevel=3,
        )


def _check_kind(codes):
    """Raise a TypeError that names the remedy for what is given in the place of codes."""
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
