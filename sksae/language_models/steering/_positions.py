"""Which tokens of a forward pass are meant, also where `generate` feeds them one by one."""

import contextlib
import inspect
import threading
from typing import NamedTuple

import numpy as np
import torch

from sksae.language_models._hooks import is_untouched

WHERE = ("all", "last", "generated")


class _Pass(NamedTuple):
    """What a model is given in one forward pass; columns count from the first token of all."""

    tokens: torch.Tensor | None  # ids (n, t), or embeddings (n, t, width)
    first: int  # column of the first of them: how many are in the cache
    real: torch.Tensor  # (n, t): False for padding
    cached: bool  # whether there is a cache to write to

    @property
    def end(self):
        """The column behind the last token."""
        return self.first + self.real.shape[1]

    def last(self):
        """The column of the last real token of each sequence, (n, 1)."""
        behind = self.real.flip(1).int().argmax(1, keepdim=True)
        return self.end - 1 - behind

    def continues(self, prompt, before):
        """Whether these tokens come after those of `prompt`; `before` is the pass before."""
        if self.first:
            # More than one token at once are not generated: the next prompt of a conversation.
            return self.first == before.end and self.real.shape[1] == 1
        if self.cached or self.tokens is None or prompt.tokens is None:
            return False
        # Without a cache each pass starts with the prompt again.
        n = prompt.end
        return self.end > n and torch.equal(self.tokens[:, :n], prompt.tokens)


class Positions:
    """The tokens that are meant by `where`, pass by pass.

    What the model is given says which pass belongs to which prompt: a pass whose tokens follow
    those of the pass before in the cache, or that starts with a whole prompt again, goes on with
    that prompt; every other pass is a prompt of its own.

    Parameters
    ----------
    where : str, array-like of int or array-like of bool
        As for `steer`.

    Raises
    ------
    ValueError
        If it is none of these.
    """

    def __init__(self, where):
        self._where = read_where(where)
        self._followed = False
        self._seen = threading.local()

    @contextlib.contextmanager
    def following(self, base, path):
        """Watch, while the context is open, what reaches the module at `path` inside of `base`."""
        reader = _reader(base, path)
        if reader is None:
            yield
            return
        names = list(inspect.signature(reader.forward).parameters)

        def before(_module, args, kwargs):
            if not is_untouched():
                self.begin(_read(dict(zip(names, args, strict=False)) | kwargs))

        self._followed = True
        handle = reader.register_forward_pre_hook(before, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def begin(self, this):
        """Take note of a pass that begins."""
        seen = self._seen.__dict__
        if "prompt" not in seen or not this.continues(seen["prompt"], seen["now"]):
            seen["prompt"] = this
        seen["now"] = this

    def mask(self, x):
        """Return which rows of `x` are meant, a bool tensor (...) for x of shape (..., width).

        Raises
        ------
        ValueError
            If `x` has not one row a token, or `where` does not fit the prompt.
        """
        seen = self._seen.__dict__
        if not self._followed or "now" not in seen:
            self.begin(_Pass(None, 0, _ones(x.shape[:-1][:2], x.device), cached=False))
        now = seen["now"]
        if x.shape[:-1].numel() != now.real.numel():
            raise ValueError(
                f"A site has one row a token; a tensor of shape {tuple(x.shape)} passes this one "
                f"for {len(now.real)} sequences of {now.real.shape[1]} tokens."
            )
        chosen = _chosen(self._where, seen["prompt"], now) & now.real
        return chosen.reshape(x.shape[:-1]).to(x.device)


def read_where(where):
    """Return `where` as one of `WHERE`, as int64 columns (n,) or as a bool mask (n, t)."""
    if isinstance(where, str):
        if where in WHERE:
            return where
    else:
        array = torch.as_tensor(where).cpu() if isinstance(where, torch.Tensor) else where
        array = np.asarray(array)
        if array.dtype.kind in "iu" and array.ndim < 2 and array.size:
            return torch.from_numpy(np.atleast_1d(array).astype(np.int64))
        if array.dtype.kind == "b" and array.ndim == 2 and array.size:
            return torch.from_numpy(array.copy())
    raise ValueError(
        f"where must be one of {', '.join(map(repr, WHERE))}, the positions of some tokens, or a "
        f"boolean mask of shape (n_sequences, n_tokens). Got {where!r}."
    )


def _chosen(where, prompt, now):
    """Return which tokens of the pass `now` are meant, padding aside, (n, t) or (t,)."""
    device = now.real.device
    columns = torch.arange(now.first, now.end, device=device)
    if isinstance(where, str):
        if where == "all":
            return torch.ones_like(now.real)
        after = columns >= prompt.end
        # After the prompt each token was the last one of its pass.
        return after if where == "generated" else after | (columns == prompt.last().to(device))
    if where.dtype is torch.bool:
        return _masked(where.to(device), prompt, now, columns)
    low, high = int(where.min()), int(where.max())
    if high >= prompt.end or low < -prompt.end:
        raise ValueError(
            f"There is no position {high if high >= prompt.end else low} in a prompt of "
            f"{prompt.end} tokens."
        )
    return torch.isin(columns, torch.where(where < 0, where + prompt.end, where).to(device))


def _masked(mask, prompt, now, columns):
    n, t = prompt.real.shape
    if mask.shape[1] != t or n % len(mask):
        raise ValueError(
            f"The mask in where has shape {tuple(mask.shape)}, but the prompt has {n} sequences "
            f"of {t} tokens."
        )
    # Beams repeat each sequence.
    mask = mask.repeat_interleave(n // len(mask), dim=0)
    inside = (columns >= prompt.first) & (columns < prompt.end)
    chosen = torch.zeros_like(now.real)
    chosen[:, inside] = mask[:, columns[inside] - prompt.first]
    return chosen


def _reader(base, path):
    """Return the innermost module around `path` that is given tokens; None for images."""
    while True:
        module = base.get_submodule(path)
        parameters = inspect.signature(module.forward).parameters
        if {"input_ids", "attention_mask"} <= set(parameters):
            return module
        if not path:
            return None
        path = path.rpartition(".")[0]


def _read(call):
    """Return the `_Pass` of a call's arguments."""
    tokens = call.get("input_ids")
    tokens = call.get("inputs_embeds") if tokens is None else tokens
    if tokens is None:
        raise ValueError("A model that is steered or patched needs input_ids or inputs_embeds.")
    cache = call.get("past_key_values")
    first = int(cache.get_seq_length()) if hasattr(cache, "get_seq_length") else 0
    real = _ones(tokens.shape[:2], tokens.device)
    mask = call.get("attention_mask")
    # One of four dimensions says what is attended to; padding is what nothing attends to, so
    # whatever happens there has no effect.
    if isinstance(mask, torch.Tensor) and mask.ndim == 2:
        real = mask[:, -tokens.shape[1] :].to(tokens.device) != 0
    return _Pass(tokens, first, real, cached=cache is not None)


def _ones(shape, device):
    return torch.ones(shape, dtype=torch.bool, device=device)
