"""From the last block to the logits: the final norm, found by probing, and the unembedding.

What leaves the last block becomes, for all families, ``logits = W (gain * C x / s + bias) + b``:
`C` takes the mean off (LayerNorm) or does nothing (RMSNorm), `s` is the size of ``C x``, one number
a token. With `s` held fixed this is linear, so that it can be read for a part of `x` alone.

The gain is measured, not read: Gemma's is one plus its weight, and weights that accelerate has
offloaded cannot be read at all. Modules are called, which fetches them.
"""

import contextlib
from dataclasses import dataclass

import torch
from torch import nn

from sksae._modes import own_modes
from sksae.language_models._dictionary import wide
from sksae.language_models._hooks import own_pass, untouched, without_cache
from sksae.language_models._identities import short_inputs
from sksae.language_models._scopes import scope
from sksae.language_models._sites import base_of, find_blocks, text_config

# Beside 64², no norm's epsilon is seen; its square fits into float16, and it is exact in any dtype.
_PROBE = 64.0
_ROWS_AT_A_TIME = 64


@dataclass(frozen=True, eq=False)
class Readout:
    """How the stream behind the last block becomes logits.

    Parameters
    ----------
    norm : torch.nn.Module or None
        The final norm, where there is one.
    tail : tuple of torch.nn.Module
        Linear maps between the norm and the unembedding (OPT's `project_out`).
    head : torch.nn.Module
        The unembedding.
    gain, bias : Tensor of shape (width,)
        Of the norm; ones and zeros without one. At least float32.
    centred : bool
        Whether the norm takes the mean off.
    factor : float
        What the model multiplies the logits with (Cohere, Granite).
    softcap : float or None
        Where the model bends its logits, ``softcap * tanh(logits / softcap)``, which no method here
        does (Gemma 2).
    dtype : torch.dtype
        Of the stream.
    """

    norm: nn.Module | None
    tail: tuple
    head: nn.Module
    gain: torch.Tensor
    bias: torch.Tensor
    centred: bool
    factor: float
    softcap: float | None
    dtype: torch.dtype

    @property
    def width(self):
        """The features of the stream."""
        return len(self.gain)

    def direction(self, d):
        """Return ``gain * C d``: what `d`, (..., width), is behind a norm of scale 1."""
        d = d.to(self.gain)
        return self.gain * (d - d.mean(-1, keepdim=True) if self.centred else d)

    @torch.no_grad()
    def scale(self, x):
        """Return the scale `s` of each token of the stream, (..., width): one number each."""
        if self.norm is None:
            return torch.ones(x.shape[:-1], dtype=self.gain.dtype, device=self.gain.device)
        x = x.to(self.gain.device, self.dtype)
        seen, whole = self.norm(x).to(self.gain) - self.bias, self.direction(x)
        return (whole * whole).sum(-1) / (whole * seen).sum(-1)

    def unembed(self, v):
        """Return the logits of `v`, (..., width), behind the norm: linear, without constants."""
        v = v.to(self.gain.device, self.dtype)
        return self._logits(v).to(wide(v)) - self._logits(v.new_zeros(self.width))

    @torch.no_grad()
    def constants(self):
        """Return the logits that do not depend on the stream: of the biases, (n_tokens,)."""
        return self._logits(self.bias.to(self.dtype)).to(self.gain.dtype)

    def rows(self, ids):
        """Return, for each token id, the vector whose product with `x` / `s` is its logit.

        (n_ids, width): a row of the unembedding as the stream sees it.
        """
        parts = []
        for some in ids.to(self.gain.device).split(_ROWS_AT_A_TIME):
            # The logits are linear in v: their gradient is the row, wherever the weights are.
            with torch.enable_grad():
                v = torch.zeros(len(some), self.width, dtype=self.dtype, device=self.gain.device)
                logits = self._logits(v.requires_grad_())
                parts.append(torch.autograd.grad(logits.gather(1, some[:, None]).sum(), v)[0])
        rows = torch.cat(parts).to(self.gain) * self.gain
        return rows - rows.mean(-1, keepdim=True) if self.centred else rows

    def _logits(self, v):
        for module in self.tail:
            v = module(v)
        return self.factor * self.head(v)


def find_readout(model):
    """Return the `Readout` of a causal language model, after a test on six tokens.

    Parameters
    ----------
    model : torch.nn.Module
        A model that predicts tokens.

    Returns
    -------
    readout : Readout
        How the stream behind the last block becomes logits.

    Raises
    ------
    ValueError
        If that is something else than a norm, linear maps and a factor.
    """
    with own_modes(), torch.no_grad(), untouched(), own_pass(model):
        stream, calls, read, raw, logits = _watched(model)
        chain, end = _chain(stream, calls)
        factor, softcap = _bending(model, raw, logits)
        norm = chain.pop(0) if chain and _is_norm(chain[0], stream) else None
        before = _ratio(read, end)
        if before is None:
            raise ValueError(_unknown(model, "its unembedding does not read the final norm"))
        if before != 1:
            chain.append(lambda v: before * v)
        gain, bias, centred = _probed(norm, stream)
        readout = Readout(
            norm=norm,
            tail=tuple(chain),
            head=model.get_output_embeddings(),
            gain=gain,
            bias=bias,
            centred=centred,
            factor=factor,
            softcap=softcap,
            dtype=stream.dtype,
        )
        # Half of it, twice: what is not linear shows.
        half = readout.direction(stream) / readout.scale(stream)[..., None] / 2
        if not _close(2 * readout.unembed(half) + readout.constants(), factor * raw):
            why = "its final norm is no LayerNorm and no RMSNorm, or its unembedding is not linear"
            raise ValueError(_unknown(model, why))
    return readout


def _watched(model):
    """Run six tokens; return what leaves the last block and what is made of it.

    The stream, the calls of modules after it as ``(module, input, output)``, what the unembedding
    reads and makes, and the logits.
    """
    base = base_of(model)
    path = find_blocks(base)
    last, head = base.get_submodule(path)[-1], model.get_output_embeddings()
    seen = {"calls": []}

    def note(module, args, kwargs, output):
        if not here.is_here():
            return
        output = output[0] if isinstance(output, tuple) else output
        if module is last:
            seen.update(stream=output.clone(), calls=[])
            return
        given = next(iter((*args, *kwargs.values())), None)
        if not isinstance(given, torch.Tensor) or not isinstance(output, torch.Tensor):
            return
        if module is head:
            seen.update(read=given.clone(), raw=output.clone())
        else:
            seen["calls"].append((module, given.clone(), output.clone()))

    with contextlib.ExitStack() as handles:
        here = handles.enter_context(scope())
        for module in {last, head, *_beside(base, path)}:
            handle = module.register_forward_hook(note, with_kwargs=True)
            handles.callback(handle.remove)
        logits = model(**short_inputs(base), **without_cache(model)).logits
    if "raw" not in seen or "stream" not in seen:
        raise ValueError(_unknown(model, "its unembedding is not called"))
    return seen["stream"], seen["calls"], seen["read"], seen["raw"], logits


def _beside(base, path):
    """Yield the modules next to the stack of blocks, and next to what it is a part of."""
    here = base
    for name in path.split("."):
        yield from (module for other, module in here.named_children() if other != name)
        here = getattr(here, name)


def _chain(stream, calls):
    """Return the modules that the stream goes through, one after the other, and what comes out."""
    chain, x = [], stream
    for module, given, made in calls:
        if given.shape == x.shape and torch.equal(given, x.to(given.device)):
            chain.append(module)
            x = made
    return chain, x


def _bending(model, raw, logits):
    """Return ``(factor, softcap)``: what happens to the output of the unembedding."""
    cap = getattr(text_config(base_of(model)), "final_logit_softcapping", None)
    if cap and _close(cap * torch.tanh(raw.to(wide(raw)) / cap), logits):
        return 1.0, float(cap)
    factor = _ratio(logits, raw)
    if factor is None:
        raise ValueError(_unknown(model, "its logits are not a multiple of its unembedding's"))
    return factor, None


def _ratio(one, other):
    """Return the number that `other` times makes `one`, or None if there is none."""
    if one.shape != other.shape:
        return None
    one, other = one.to(wide(one)), other.to(one.device, wide(one))
    if torch.equal(one, other):
        return 1.0
    ratio = float((one * other).sum() / (other * other).sum())
    return ratio if _close(ratio * other, one) else None


def _is_norm(module, x):
    """Whether `module` makes the same of `x` and of twice `x`."""
    once, twice = module(x), module(x + x)
    return once.shape == x.shape and bool((twice - once).norm() < 0.1 * once.norm())


def _probed(norm, stream):
    """Return ``(gain, bias, centred)`` of a norm, from what it makes of three vectors."""
    width = stream.shape[-1]
    pattern = torch.ones(width, dtype=wide(stream), device=stream.device)
    if norm is None:
        return pattern, torch.zeros_like(pattern), False
    constant = _PROBE * pattern
    # Of mean zero, so that a LayerNorm takes nothing off, and zero nowhere.
    pattern[1::2] = -1
    if width % 2:
        pattern[-3:] = torch.tensor([1.0, 1.0, -2.0])
    probes = torch.stack([torch.zeros_like(pattern), _PROBE * pattern, constant])
    bias, swung, flat = norm(probes[None].to(stream.dtype))[0].to(pattern)
    gain = (swung - bias) * pattern.square().mean().sqrt() / pattern
    return gain, bias, bool((flat - bias).norm() < 0.5 * gain.norm())


def _close(one, other):
    """Whether two tensors are equal up to the rounding of the coarser of them."""
    eps = max(torch.finfo(one.dtype).eps, torch.finfo(other.dtype).eps)
    one, other = one.to(wide(one)), other.to(one.device, wide(other))
    return bool((one - other).abs().max() <= max(1e-4, 16 * eps) * other.abs().max())


def _unknown(model, why):
    return f"How {type(model).__name__} makes logits of its last block is not known: {why}."
