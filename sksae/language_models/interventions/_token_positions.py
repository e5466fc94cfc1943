"""Positions of the tokens to change in a forward pass, also when `generate` feeds them singly."""

import contextlib
import inspect
import threading
from typing import NamedTuple

import numpy as np
import torch

from sksae.language_models.model import interventions_ignored, plain

WHERE = ("all", "last", "generated")

# Arguments that hold the tokens read before: keys and values, or a state. transformers 5.24 calls
# all of them `cache`.
_MEMORIES = ("cache", "past_key_values", "cache_params", "state")


class _Pass(NamedTuple):
    """The tokens of one forward pass; columns count from the first token of all."""

    tokens: torch.Tensor | None  # ids (n, t), or embeddings (n, t, width)
    first: int  # column of the first of them: how many were read before
    real: torch.Tensor  # (n, t): False for padding
    cached: bool  # whether there is a cache to write to
    counted: bool = True  # whether `first` is known; if not, it is 0

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
        if self.cached or self.tokens is None or prompt.tokens is None or not prompt.counted:
            return False
        # Without a cache each pass starts with the prompt again.
        n = prompt.end
        return self.end > n and torch.equal(self.tokens[:, :n], prompt.tokens)


class Positions:
    """The tokens that `where` selects, pass by pass.

    What the model is given says which pass belongs to which prompt: a pass whose tokens follow
    those of the pass before in the cache or state, or that starts with a whole prompt again, goes
    on with that prompt; every other pass is a prompt of its own.

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
        self._state = threading.local()

    @contextlib.contextmanager
    def following(self, base, path, here):
        """Watch what reaches the module at `path` inside of `base`, in passes in a scope."""
        reader = _reader(base, path)  # the module whose arguments say which tokens there are
        if reader is None:
            yield
            return
        names = _parameters(reader)

        def before(_module, args, kwargs):
            if here.is_here() and not interventions_ignored():
                call = dict(zip(names, args, strict=False)) | kwargs
                self.begin(_read(call, self._state.__dict__.get("now")))

        def after(*_):
            if here.is_here() and not interventions_ignored():
                self._state.running = False

        self._followed = True
        with contextlib.ExitStack() as handles:
            for handle in (
                reader.register_forward_pre_hook(before, with_kwargs=True),
                reader.register_forward_hook(after, always_call=True),
            ):
                handles.callback(handle.remove)
            yield

    def begin(self, this):
        """Record that a pass begins."""
        state = self._state.__dict__
        # A new prompt, unless the pass goes on with the one before.
        if "prompt" not in state or not this.continues(state["prompt"], state["now"]):
            state["prompt"] = this
        state["now"], state["running"] = this, True

    def mask(self, x):
        """Return the mask of the selected rows of `x`, (...) for x of shape (..., width).

        Raises
        ------
        ValueError
            If `x` has not one row per token, or `where` does not fit the prompt.
        RuntimeError
            If the model was not called, so that its inputs are not known.
        """
        state = self._state.__dict__
        if self._followed and not state.get("running"):
            raise RuntimeError(
                "A part of the model runs without the model: call the model itself, neither its "
                "method `forward` nor a module inside of it, so that it is known which tokens pass."
            )
        if not self._followed:
            self.begin(_Pass(None, 0, _ones(x.shape[:-1][:2], x.device), cached=False))
        now = state["now"]
        # Some modules see all sequences as one.
        if x.shape[:-1] not in (now.real.shape, (now.real.numel(),)):
            raise ValueError(
                f"A site has one row per token; a tensor of shape {tuple(x.shape)} passes this one "
                f"for {len(now.real)} sequences of {now.real.shape[1]} tokens."
            )
        chosen = _chosen(self._where, state["prompt"], now) & now.real
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
    """Return the mask of the selected tokens of the pass `now`, padding aside, (n, t) or (t,)."""
    device = now.real.device
    # Columns of the tokens of this pass, counted over all passes.
    columns = torch.arange(now.first, now.end, device=device)
    if isinstance(where, str):
        if where == "all":
            return torch.ones_like(now.real)
        after = columns >= prompt.end
        # After the prompt each token was the last one of its pass.
        return after if where == "generated" else after | (columns == prompt.last().to(device))
    if where.dtype is torch.bool:
        _refuse_uncounted(prompt)
        return _masked(where.to(device), prompt, now, columns)
    _refuse_uncounted(prompt)
    low, high = int(where.min()), int(where.max())
    if high >= prompt.end or low < -prompt.end:
        raise ValueError(
            f"There is no position {high if high >= prompt.end else low} in a prompt of "
            f"{prompt.end} tokens."
        )
    # Negative positions count from the end of the prompt.
    return torch.isin(columns, torch.where(where < 0, where + prompt.end, where).to(device))


def _refuse_uncounted(prompt):
    if not prompt.counted:
        raise ValueError(
            "Positions are not known: the model goes on from a state that was made outside of the "
            "block. Read the prompt inside of it, or take where='all', 'last' or 'generated'."
        )


def _masked(mask, prompt, now, columns):
    n, t = prompt.real.shape
    if mask.shape[1] != t or n % len(mask):
        raise ValueError(
            f"The mask in where has shape {tuple(mask.shape)}, but the prompt has {n} sequences "
            f"of {t} tokens."
        )
    # Beams repeat each sequence.
    mask = mask.repeat_interleave(n // len(mask), dim=0)
    # Tokens of the prompt that this pass reads.
    inside = (columns >= prompt.first) & (columns < prompt.end)
    chosen = torch.zeros_like(now.real)
    chosen[:, inside] = mask[:, columns[inside] - prompt.first]
    return chosen


def _reader(base, path):
    """Return the innermost module around `path` that is given tokens; None for images."""
    names = path.split(".") if path else []
    for n in range(len(names), -1, -1):
        module = base.get_submodule(".".join(names[:n]))
        # BERT's embeddings take ids as well, but no mask.
        if {"input_ids", "attention_mask"} <= set(_parameters(module)):
            return module
    # Nor does all of xLSTM.
    return base if "input_ids" in _parameters(base) else None


def _parameters(module):
    """Return the names of the arguments of a module's forward pass."""
    if isinstance(module, torch.jit.ScriptModule):  # has no signature
        return []
    return list(inspect.signature(plain(module).forward).parameters)


def _read(call, before):
    """Return the `_Pass` of a call's arguments; `before` is the pass before, or None."""
    tokens = call.get("input_ids")
    tokens = call.get("inputs_embeds") if tokens is None else tokens
    if tokens is None:
        raise ValueError("A model that is steered or patched needs input_ids or inputs_embeds.")
    memories = [call[name] for name in _MEMORIES if call.get(name) is not None]
    lengths = [_length(memory) for memory in memories]
    counted = None not in lengths
    first = max(lengths, default=0) if counted else 0
    if not counted and before is not None:
        counted, first = before.counted, before.end
    real = _ones(tokens.shape[:2], tokens.device)
    mask = call.get("attention_mask")
    # A mask of four dimensions says what is attended to; padding is what nothing attends to, so
    # whatever happens there has no effect.
    if isinstance(mask, torch.Tensor) and mask.ndim == 2:
        real = mask[:, -tokens.shape[1] :].to(tokens.device) != 0
    return _Pass(tokens, first, real, cached=bool(memories), counted=counted)


def _length(memory):
    """Return the number of tokens read before, None for a state that does not record it."""
    if hasattr(memory, "seqlen_offset"):  # xLSTM
        return int(memory.seqlen_offset)
    if not hasattr(memory, "get_seq_length"):  # RWKV: a list of tensors, made by the first pass
        return None
    try:
        length = int(memory.get_seq_length())
    except ValueError:  # nothing but states in it (Mamba)
        return None if memory.has_previous_state() else 0
    if length:
        return length
    # The first layer may have its state elsewhere (MiniMax).
    layers = [layer for layer in getattr(memory, "layers", ()) if hasattr(layer, "get_seq_length")]
    return max((int(layer.get_seq_length()) for layer in layers), default=0)


def _ones(shape, device):
    return torch.ones(shape, dtype=torch.bool, device=device)
