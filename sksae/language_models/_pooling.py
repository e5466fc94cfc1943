"""One row a text: each window is pooled where it is computed, then the windows of a text."""

import numpy as np
import torch

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
