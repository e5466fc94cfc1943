"""Pooling to one row per text: of activations, window by window; of sparse codes."""

import numpy as np
import torch
from scipy import sparse

POOLINGS = ("mean", "max", "first", "last")


def pool_window(hidden, keep, pooling):
    """Pool the kept tokens of each window; ``"mean"`` returns their sum.

    Parameters
    ----------
    hidden : Tensor of shape (n_windows, n_tokens, n_features)
    keep : bool Tensor of shape (n_windows, n_tokens)
        At least one token of each window.

    Returns
    -------
    pooled : Tensor of shape (n_windows, n_features)
    """
    if pooling == "mean":
        return hidden.masked_fill(~keep[..., None], 0).sum(1)
    if pooling == "max":
        return hidden.masked_fill(~keep[..., None], -torch.inf).amax(1)
    order = torch.arange(keep.shape[1], device=keep.device)
    index = (keep * (order + 1)).argmax(1) if pooling == "last" else keep.int().argmax(1)
    return hidden[torch.arange(len(hidden), device=hidden.device), index]


def pool_text(pooled, counts, firsts, pooling):
    """Pool the windows of each text.

    Parameters
    ----------
    pooled : ndarray of shape (n_windows, n_features)
        What `pool_window` returned, in the order of the texts.
    counts : ndarray of shape (n_windows,)
        How many tokens each window kept.
    firsts : ndarray of shape (n_texts,)
        The first window of each text.

    Returns
    -------
    rows : ndarray of shape (n_texts, n_features)
    """
    if pooling == "first":
        return pooled[firsts]
    if pooling == "last":
        return pooled[np.append(firsts[1:], len(pooled)) - 1]
    if pooling == "max":
        return np.maximum.reduceat(pooled, firsts, axis=0)
    totals = np.add.reduceat(counts, firsts)[:, None].astype(pooled.dtype)
    return np.add.reduceat(pooled, firsts, axis=0) / totals


def pool_codes(codes, text, n_texts, pooling):
    """Pool sparse codes over the rows of each text; nothing becomes dense.

    Parameters
    ----------
    codes : CSR container of shape (n_rows, n_codes)
    text : ndarray of shape (n_rows,)
        The text of each row, in order.
    n_texts : int
        A text without rows gets an empty row.

    Returns
    -------
    pooled : csr_array of shape (n_texts, n_codes)
    """
    counts = np.bincount(text, minlength=n_texts)
    if pooling == "max":
        return _largest(sparse.csc_array(codes), text, counts)
    if pooling == "mean":
        weights, rows, width = 1 / counts[text], np.arange(len(text)), counts
    else:
        ends = np.cumsum(counts)
        rows = (ends - 1 if pooling == "last" else ends - counts)[counts > 0]
        weights, width = np.ones(len(rows)), (counts > 0).astype(np.int64)
    pointer = np.concatenate([[0], np.cumsum(width)])
    shape = (n_texts, len(text))
    pooled = sparse.csr_array((weights.astype(codes.dtype), rows, pointer), shape) @ codes
    return sparse.csr_array(pooled)


def _largest(codes, text, counts):
    """Return the largest code of each text; where some row has none, that is at least 0."""
    # By columns, the entries of one text and one latent are next to each other.
    column = np.repeat(np.arange(codes.shape[1]), np.diff(codes.indptr))
    row = text[codes.indices]
    firsts = np.flatnonzero(
        np.diff(column, prepend=-1).astype(bool) | np.diff(row, prepend=-1).astype(bool)
    )
    shape = (len(counts), codes.shape[1])
    if not len(firsts):
        return sparse.csr_array(shape, dtype=codes.dtype)
    values = np.maximum.reduceat(codes.data, firsts)
    partial = np.diff(np.append(firsts, len(row))) < counts[row[firsts]]
    values = np.where(partial, np.maximum(values, 0), values)
    pooled = sparse.coo_array((values, (row[firsts], column[firsts])), shape).tocsr()
    pooled.eliminate_zeros()
    return pooled
