"""Forward passes over windows, to a row per token or a row per text; pooling of texts."""

import sys

import numpy as np
import torch
from scipy import sparse
from tqdm import tqdm

from sksae._processes import is_first
from sksae.language_models.extraction._context_windows import batches, rows_of
from sksae.language_models.model import capture

_ROWS_AT_A_TIME = 2**14

POOLINGS = ("mean", "max", "first", "last")


def token_bar(verbose, n_tokens=None):
    """Return a progress bar that counts tokens and is shown if `verbose` is not 0."""
    return tqdm(
        desc="ActivationExtractor",
        total=n_tokens,
        unit=" tokens",
        disable=not (verbose and is_first()),
        file=sys.stdout,
    )


class ForwardPasses:
    """The forward passes that turn windows into activations at one hook point.

    Parameters
    ----------
    base : torch.nn.Module
        A model without its head.
    points : list of HookPoint
        The hook points of the activations in `base`: of each there is a block of columns.
    reading : TextReading or ImageReading
        The windows, and the model's inputs for a batch of them.
    batching : str
        Which windows may share a pass, as `batching_of` returns it.
    batch_tokens : int
        The most tokens of one pass.
    max_norm_ratio : float or None
        How many times the median norm of its window a row may have.
    bar : tqdm
        Counts the tokens that were read.
    """

    def __init__(self, base, points, reading, batching, batch_tokens, max_norm_ratio, bar):
        self.base = base
        self.points = points
        self.reading = reading
        self.windows = reading.windows
        self.batching = batching
        self.batch_tokens = batch_tokens
        self.max_norm_ratio = max_norm_ratio
        self.bar = bar

    def token_rows(self):
        """Return one row per kept token, and the windows with the tokens kept in the end.

        The rows are None if there are none.
        """
        counts = rows_of(self.windows)  # (n_windows,)
        # Slots for all rows; those of outliers are taken out at the end.
        ends = np.cumsum(counts)  # rows of window w are ends[w] - counts[w] : ends[w]
        rows, ordinary = None, np.ones(counts.sum(), dtype=bool)
        for batch, blocks, keep in self._run():
            # Blocks of all sites stand side by side.
            ends_of_columns = np.cumsum([block.shape[-1] for block in blocks])
            if rows is None:
                rows = np.empty((counts.sum(), ends_of_columns[-1]), dtype=np.float32)
            # Rows of the batch's windows, in its order.
            slots = np.concatenate([np.arange(ends[w] - counts[w], ends[w]) for w in batch])
            for end, block in zip(ends_of_columns, blocks, strict=True):
                # (kept tokens of the batch, columns of the site)
                rows[slots, end - block.shape[-1] : end] = to_array(block[keep.to(block.device)])
            if self.max_norm_ratio is not None:
                ordinary[slots] = self._ordinary(blocks, keep)[keep].numpy()
        if ordinary.all():
            return rows, self.windows
        keep = self.windows.keep.copy()
        keep[keep] = ordinary  # among the kept tokens, the ordinary ones
        return _compressed(rows, ordinary), self.windows._replace(keep=keep)

    def text_rows(self, pooling):
        """Return one pooled row per text that has a token, None if no text has."""
        counts = rows_of(self.windows)
        pooled = None
        for batch, blocks, keep in self._run():
            if self.max_norm_ratio is not None:
                keep = self._ordinary(blocks, keep)
                counts[batch] = keep.sum(1).numpy()  # a mean is over the tokens that remain
            values = np.concatenate(
                [to_array(pool_window(x.float(), keep.to(x.device), pooling)) for x in blocks], 1
            )
            if pooled is None:
                pooled = np.empty((len(counts), values.shape[1]), dtype=np.float32)
            pooled[batch] = values
        if pooled is None:
            return None
        used = counts > 0
        # First used window of each text.
        firsts = np.flatnonzero(np.diff(self.windows.text[used], prepend=-1))
        return pool_text(pooled[used], counts[used], firsts, pooling)

    def _run(self):
        """Yield ``(batch, blocks, keep)``, the padded activations of each batch of windows."""
        lengths = np.diff(self.windows.bounds)
        for batch in batches(self.windows, self.batch_tokens, self.batching):
            inputs, keep = self.reading.feed(batch)
            yield (
                batch,
                hidden_of(self.base, self.points, inputs, keep.shape),
                torch.from_numpy(keep),
            )
            self.bar.update(int(lengths[batch].sum()))

    def _ordinary(self, blocks, keep):
        """Mask of the kept tokens whose norm is like that of the others, in every block."""
        ordinary = keep
        for block in blocks:
            norms = torch.linalg.vector_norm(block.float(), dim=-1).cpu()  # (n_windows, n_tokens)
            # Of an even number it is the lower one: an outlier among two does not excuse itself.
            median = norms.masked_fill(~keep, torch.nan).nanmedian(1, keepdim=True).values
            ordinary = ordinary & ~(norms > self.max_norm_ratio * median)
        return ordinary


def hidden_of(base, points, inputs, shape=None):
    """Return the activations at some hook points, one row per position of each sequence.

    Raises
    ------
    ValueError
        If they are not of the ``(sequences, positions)`` in `shape`; None allows any.
    """
    captured = capture(base, dict(enumerate(points)), inputs)
    blocks = [captured[i] for i in range(len(points))]
    for point, block in zip(points, blocks, strict=True):
        if block.ndim != 3 or block.shape[:2] != (shape or block.shape[:2]):
            of = "" if shape is None else f" for {shape[0]} sequences of {shape[1]} tokens"
            raise ValueError(
                f"{str(point).capitalize()} has shape {tuple(block.shape)}{of}; rows need shape "
                f"(sequences, tokens, features)."
            )
    return blocks


def to_array(tensor):
    """Return a tensor on any device as a float32 ndarray."""
    return tensor.float().cpu().numpy()


def _compressed(rows, keep):
    """Return the rows to keep, moved to the front of the memory of all."""
    done = 0
    for start in range(0, len(rows), _ROWS_AT_A_TIME):
        block = slice(start, start + _ROWS_AT_A_TIME)
        # A copy, since its place overlaps with the rows that it moves to.
        moved = rows[block][keep[block]]
        rows[done : done + len(moved)] = moved
        done += len(moved)
    # The memory behind the last row is given back in place.
    rows.resize((done, rows.shape[1]), refcheck=False)
    return rows


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
        return hidden.masked_fill(~keep[..., None], 0).sum(1)  # (n_windows, n_features)
    if pooling == "max":
        return hidden.masked_fill(~keep[..., None], -torch.inf).amax(1)
    # For "last", the kept token with the highest number; argmax takes the first of equal ones.
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
        return pooled[np.append(firsts[1:], len(pooled)) - 1]  # last window of each text
    if pooling == "max":
        return np.maximum.reduceat(pooled, firsts, axis=0)
    # Tokens per text, (n_texts, 1).
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
    counts = np.bincount(text, minlength=n_texts)  # (n_texts,)
    if pooling == "max":
        return _largest(sparse.csc_array(codes), text, counts)
    if pooling == "mean":
        # A row of the matrix per text, with an entry for each row of codes that counts.
        weights, rows, width = 1 / counts[text], np.arange(len(text)), counts
    else:
        ends = np.cumsum(counts)
        rows = (ends - 1 if pooling == "last" else ends - counts)[counts > 0]
        weights, width = np.ones(len(rows)), (counts > 0).astype(np.int64)
    # First entry of each text, and one past the last.
    pointer = np.concatenate([[0], np.cumsum(width)])
    shape = (n_texts, len(text))
    pooled = sparse.csr_array((weights.astype(codes.dtype), rows, pointer), shape) @ codes
    return sparse.csr_array(pooled)


def _largest(codes, text, counts):
    """Return the largest code of each text; where some row has none, that is at least 0."""
    # By columns, the entries of one text and one latent are next to each other.
    column = np.repeat(np.arange(codes.shape[1]), np.diff(codes.indptr))
    row = text[codes.indices]  # text of each entry
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
