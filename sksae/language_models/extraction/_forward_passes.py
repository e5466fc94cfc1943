"""Forward passes over windows: rows of tokens, rows of texts, progress."""

import sys

import numpy as np
import torch
from tqdm import tqdm

from sksae.language_models.extraction._context_windows import batches, rows_of
from sksae.language_models.extraction._pooling import pool_text, pool_window
from sksae.language_models.model import capture

_ROWS_AT_A_TIME = 2**14


def token_bar(verbose, n_tokens=None):
    """Return a progress bar that counts tokens and is shown if `verbose` is not 0."""
    return tqdm(
        desc="ActivationExtractor",
        total=n_tokens,
        unit=" tokens",
        disable=not verbose,
        file=sys.stdout,
    )


class ForwardPasses:
    """The forward passes that turn windows into activations at one hook point.

    Parameters
    ----------
    base : torch.nn.Module
        A model without its head.
    point : HookPoint
        The hook point of the activations in `base`.
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

    def __init__(self, base, point, reading, batching, batch_tokens, max_norm_ratio, bar):
        self.base = base
        self.point = point
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
        counts = rows_of(self.windows)
        ends = np.cumsum(counts)  # rows of window w are ends[w] - counts[w] : ends[w]
        rows, ordinary = None, np.ones(counts.sum(), dtype=bool)
        for batch, hidden, keep in self._run():
            values = to_array(hidden[keep])
            if rows is None:
                rows = np.empty((counts.sum(), values.shape[1]), dtype=np.float32)
            slots = np.concatenate([np.arange(ends[w] - counts[w], ends[w]) for w in batch])
            rows[slots] = values
            if self.max_norm_ratio is not None:
                ordinary[slots] = self._ordinary(hidden, keep)[keep].cpu().numpy()
        if ordinary.all():
            return rows, self.windows
        keep = self.windows.keep.copy()
        keep[keep] = ordinary
        return _compressed(rows, ordinary), self.windows._replace(keep=keep)

    def text_rows(self, pooling):
        """Return one pooled row per text that has a token, None if no text has."""
        counts = rows_of(self.windows)
        pooled = None
        for batch, hidden, keep in self._run():
            hidden = hidden.float()
            if self.max_norm_ratio is not None:
                keep = self._ordinary(hidden, keep)
                counts[batch] = keep.sum(1).cpu().numpy()
            values = to_array(pool_window(hidden, keep, pooling))
            if pooled is None:
                pooled = np.empty((len(counts), values.shape[1]), dtype=np.float32)
            pooled[batch] = values
        if pooled is None:
            return None
        used = counts > 0
        firsts = np.flatnonzero(np.diff(self.windows.text[used], prepend=-1))
        return pool_text(pooled[used], counts[used], firsts, pooling)

    def _run(self):
        """Yield ``(batch, hidden, keep)``, the padded activations of each batch of windows."""
        lengths = np.diff(self.windows.bounds)
        for batch in batches(self.windows, self.batch_tokens, self.batching):
            inputs, keep = self.reading.feed(batch)
            hidden = hidden_of(self.base, self.point, inputs, keep.shape)
            yield batch, hidden, torch.from_numpy(keep).to(hidden.device)
            self.bar.update(int(lengths[batch].sum()))

    def _ordinary(self, hidden, keep):
        """Mask of the kept tokens whose norm is like that of the others in their window."""
        norms = torch.linalg.vector_norm(hidden.float(), dim=-1)
        # Of an even number it is the lower one: an outlier among two does not excuse itself.
        median = norms.masked_fill(~keep, torch.nan).nanmedian(1, keepdim=True).values
        return keep & ~(norms > self.max_norm_ratio * median)


def hidden_of(base, point, inputs, shape=None):
    """Return the activations at a hook point, one row per position of each sequence.

    Raises
    ------
    ValueError
        If they are not of the ``(sequences, positions)`` in `shape`; None allows any.
    """
    hidden = capture(base, {"rows": point}, inputs)["rows"]
    if hidden.ndim != 3 or hidden.shape[:2] != (shape or hidden.shape[:2]):
        inputs_shape = "" if shape is None else f" for {shape[0]} sequences of {shape[1]} tokens"
        raise ValueError(
            f"{str(point).capitalize()} has shape {tuple(hidden.shape)}{inputs_shape}; rows need "
            f"shape (sequences, tokens, features)."
        )
    return hidden


def to_array(tensor):
    """Return a tensor on any device as a float32 ndarray."""
    return tensor.float().cpu().numpy()


def _compressed(rows, keep):
    """Return the rows to keep, moved to the front of the memory of all."""
    done = 0
    for start in range(0, len(rows), _ROWS_AT_A_TIME):
        block = slice(start, start + _ROWS_AT_A_TIME)
        moved = rows[block][keep[block]]
        rows[done : done + len(moved)] = moved
        done += len(moved)
    rows.resize((done, rows.shape[1]), refcheck=False)
    return rows
