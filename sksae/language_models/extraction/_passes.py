"""Forward passes over windows: rows of tokens, rows of texts."""

import numpy as np
import torch

from sksae.language_models._hooks import capture
from sksae.language_models._sites import text_config
from sksae.language_models.extraction._pooling import pool_text, pool_window
from sksae.language_models.extraction._windows import batches, rows_of

_UNLIMITED = 2**31 - 1
_ROWS_AT_A_TIME = 2**14


class Passes:
    """The forward passes that turn windows into activations at one place.

    Parameters
    ----------
    base : torch.nn.Module
        A model without its head.
    place : Place
        Where in `base` the activations are.
    reading : Reading
        The windows and what the model gets for a batch of them.
    batching : str
        Which windows may share a pass, as `batching_of` returns it.
    batch_tokens : int
        The most tokens of one pass.
    max_norm_ratio : float or None
        How many times the median norm of its window a row may have.
    progress : Progress
        What shows how far the passes are.
    """

    def __init__(self, base, place, reading, batching, batch_tokens, max_norm_ratio, progress):
        self.base = base
        self.place = place
        self.windows = reading.windows
        self.feed = reading.feed
        self.batching = batching
        self.batch_tokens = batch_tokens
        self.max_norm_ratio = max_norm_ratio
        self.progress = progress

    def token_rows(self):
        """Return a row for each kept token, and the windows with what was kept in the end.

        The rows are None if there are none.
        """
        counts = rows_of(self.windows)
        ends = np.cumsum(counts)
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
        """Return one pooled row for each text that has a token, None if no text has."""
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
            inputs, keep = self.feed(batch)
            hidden = hidden_of(self.base, self.place, inputs, keep.shape)
            yield batch, hidden, torch.from_numpy(keep).to(hidden.device)
            self.progress.add(int(lengths[batch].sum()))

    def _ordinary(self, hidden, keep):
        """Which of the kept tokens have a norm like the others of their window."""
        norms = torch.linalg.vector_norm(hidden.float(), dim=-1)
        # Of an even number it is the lower one: an outlier among two does not excuse itself.
        median = norms.masked_fill(~keep, torch.nan).nanmedian(1, keepdim=True).values
        return keep & ~(norms > self.max_norm_ratio * median)


def hidden_of(base, place, inputs, shape=None):
    """Return the activations at a place, one row for each position of each sequence.

    Raises
    ------
    ValueError
        If they are not of the ``(sequences, positions)`` in `shape`; None allows any.
    """
    hidden = capture(base, {"rows": place}, inputs)["rows"]
    if hidden.ndim != 3 or hidden.shape[:2] != (shape or hidden.shape[:2]):
        what = "" if shape is None else f" for {shape[0]} sequences of {shape[1]} tokens"
        raise ValueError(
            f"{str(place).capitalize()} has shape {tuple(hidden.shape)}{what}; rows need shape "
            f"(sequences, tokens, features)."
        )
    return hidden


def to_array(tensor):
    """Return a tensor from anywhere as a float32 ndarray."""
    return tensor.float().cpu().numpy()


def context_length(base, tokenizer):
    """Return the most tokens that `base` can read and that its tokenizer recommends."""
    limit = getattr(text_config(base), "max_position_embeddings", None) or _UNLIMITED
    # XLNet says -1.
    limit = (limit if limit > 0 else _UNLIMITED) - first_position(base)
    # Tokenizers without a limit say 1e30.
    return limit, int(min(limit, getattr(tokenizer, "model_max_length", limit)))


def first_position(base):
    """Return the number of the first position: RoBERTa counts from behind its padding id."""
    positions = getattr(getattr(base, "embeddings", None), "position_embeddings", None)
    padding = getattr(positions, "padding_idx", None)
    return 0 if padding is None else padding + 1


def check_vocabulary(base, ids):
    """Raise a ValueError if a tokenizer of another model made these ids."""
    size = base.get_input_embeddings().num_embeddings
    # On a GPU an index out of range would end the process.
    if len(ids) and ids.max() >= size:
        raise ValueError(
            f"The tokenizer does not belong to the model: it gives the id {ids.max()}, but "
            f"{type(base).__name__} has {size} tokens."
        )


def _compressed(rows, keep):
    """Return the rows to keep in the memory that all had."""
    done = 0
    for start in range(0, len(rows), _ROWS_AT_A_TIME):
        some = rows[start : start + _ROWS_AT_A_TIME][keep[start : start + _ROWS_AT_A_TIME]]
        rows[done : done + len(some)] = some
        done += len(some)
    rows.resize((done, rows.shape[1]), refcheck=False)
    return rows
