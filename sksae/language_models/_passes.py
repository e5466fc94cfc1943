"""Forward passes over windows: rows of tokens, rows of texts."""

import sys
import time

import numpy as np
import torch

from sksae.language_models._hooks import capture
from sksae.language_models._pooling import pool_text, pool_window
from sksae.language_models._windows import batches, padded, rows_of

_UNLIMITED = 2**31 - 1
_ANY_TOKEN = 0  # stands in the padding, which the mask hides and no row comes from


class Passes:
    """The forward passes that turn windows into activations at one place.

    Parameters
    ----------
    base : torch.nn.Module
        A model without its head.
    place : Place
        Where in `base` the activations are.
    windows : Windows
        What the model reads.
    batch_tokens : int
        The most tokens of one pass.
    verbose : int
        Whether to show progress.
    """

    def __init__(self, base, place, windows, batch_tokens, verbose):
        self.base = base
        self.place = place
        self.windows = windows
        self.batch_tokens = batch_tokens
        self.verbose = verbose

    def token_rows(self):
        """Return one row for each kept token, shape (n_rows, n_features)."""
        counts = rows_of(self.windows)
        ends = np.cumsum(counts)
        rows = None
        for batch, hidden, keep in self._run():
            values = _array(hidden[keep])
            if rows is None:
                rows = np.empty((counts.sum(), values.shape[1]), dtype=np.float32)
            rows[np.concatenate([np.arange(ends[w] - counts[w], ends[w]) for w in batch])] = values
        return self._no_rows() if rows is None else rows

    def text_rows(self, n_texts, pooling):
        """Return one pooled row for each text, shape (n_texts, n_features)."""
        counts = rows_of(self.windows)
        tokens = np.bincount(self.windows.text, weights=counts, minlength=n_texts)
        if empty := np.flatnonzero(tokens == 0).tolist():
            raise ValueError(
                f"There is nothing to pool in texts without tokens: X[{empty[0]}]"
                + f" and {len(empty) - 1} more" * (len(empty) > 1)
                + ". Leave them out, or extract one row a token with pooling=None."
            )
        pooled = None
        for batch, hidden, keep in self._run():
            values = _array(pool_window(hidden.float(), keep, pooling))
            if pooled is None:
                pooled = np.empty((len(counts), values.shape[1]), dtype=np.float32)
            pooled[batch] = values
        if pooled is None:
            return self._no_rows()
        used = counts > 0
        firsts = np.flatnonzero(np.diff(self.windows.text[used], prepend=-1))
        return pool_text(pooled[used], counts[used], firsts, pooling)

    def width(self):
        """Return the number of features, from a pass over one token."""
        one = torch.full((1, 1), _ANY_TOKEN)
        return self._forward(one, torch.ones_like(one)).shape[-1]

    def _run(self):
        """Yield ``(batch, hidden, keep)``, the padded activations of each batch of windows."""
        lengths, done, started = np.diff(self.windows.bounds), 0, time.perf_counter()
        total = int(lengths[rows_of(self.windows) > 0].sum())
        for batch in batches(self.windows, self.batch_tokens):
            ids, mask, keep = map(torch.from_numpy, padded(self.windows, batch, _ANY_TOKEN))
            hidden = self._forward(ids, mask.long())
            yield batch, hidden, keep.to(hidden.device)
            done += int(lengths[batch].sum())
            if self.verbose:
                _report(done, total, time.perf_counter() - started)

    def _forward(self, ids, mask):
        device = _input_device(self.base)
        inputs = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
        hidden = capture(self.base, {"rows": self.place}, inputs)["rows"]
        if hidden.ndim != 3 or hidden.shape[:2] != ids.shape:
            raise ValueError(
                f"{str(self.place).capitalize()} has shape {tuple(hidden.shape)} for "
                f"{ids.shape[0]} sequences of {ids.shape[1]} tokens; rows need shape (sequences, "
                f"tokens, features)."
            )
        return hidden

    def _no_rows(self):
        return np.empty((0, self.width()), dtype=np.float32)


def context_length(base, tokenizer):
    """Return the most tokens that `base` can read and that its tokenizer recommends."""
    config = base.config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None) or _UNLIMITED
    positions = getattr(getattr(base, "embeddings", None), "position_embeddings", None)
    if getattr(positions, "padding_idx", None) is not None:
        limit -= positions.padding_idx + 1  # RoBERTa counts positions from there
    # Tokenizers without a limit say 1e30.
    return limit, int(min(limit, getattr(tokenizer, "model_max_length", limit)))


def check_vocabulary(base, ids):
    """Raise a ValueError if a tokenizer of another model made these ids."""
    size = base.get_input_embeddings().num_embeddings
    # On a GPU an index out of range would end the process.
    if len(ids) and ids.max() >= size:
        raise ValueError(
            f"The tokenizer does not belong to the model: it gives the id {ids.max()}, but "
            f"{type(base).__name__} has {size} tokens."
        )


def _input_device(base):
    """Return the device that token ids go to; offloaded modules fetch their inputs themselves."""
    device = base.get_input_embeddings().weight.device
    return torch.device("cpu") if device.type == "meta" else device


def _array(tensor):
    return tensor.float().cpu().numpy()


def _report(done, total, seconds):
    """Redraw the line that says how far the passes are."""
    bar = "#" * (20 * done // total)
    end = "\n" if done == total else ""
    rate = done / max(seconds, 1e-9)
    sys.stdout.write(
        f"\r[ActivationExtractor] [{bar:<20}] {done:,}/{total:,} tokens, {rate:,.0f}/s{end}"
    )
    sys.stdout.flush()
