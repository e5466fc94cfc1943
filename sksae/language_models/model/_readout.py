"""Logits of hidden states: by the own head of a model, and by its final norm and unembedding."""

import contextlib
import weakref
from dataclasses import dataclass

import torch
from torch import nn

from sksae._modes import own_modes
from sksae.language_models.model._hooks import (
    is_norm,
    own_pass,
    probed_norm,
    visiting,
    without_cache,
    without_interventions,
)
from sksae.language_models.model._model_loading import check_causal
from sksae.language_models.model._scopes import scope
from sksae.language_models.model._site_checks import short_inputs
from sksae.language_models.model._sites import base_of, find_blocks, input_device, text_config
from sksae.language_models.model._torch_dictionary import wide

_ROWS_AT_A_TIME = 64

_passed = weakref.WeakSet()
_around = weakref.WeakKeyDictionary()
_ROUNDINGS = 64  # that the two ways to the same logits may differ by; they do the same sums


@dataclass(frozen=True, eq=False)
class Readout:
    """The map from the stream behind the last block to logits.

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
        Whether the norm subtracts the mean.
    factor : float
        The factor of the logits (Cohere, Granite).
    softcap : float or None
        The bound of the logits in models with ``softcap * tanh(logits / softcap)`` (Gemma 2). No
        method here applies it.
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
        d = d.to(self.gain)  # a LayerNorm takes the mean of its input away
        return self.gain * (d - d.mean(-1, keepdim=True) if self.centred else d)

    @torch.no_grad()
    def scale(self, x):
        """Return the scale `s` of each token of the stream, (..., width): one number each."""
        if self.norm is None:
            return torch.ones(x.shape[:-1], dtype=self.gain.dtype, device=self.gain.device)
        x = x.to(self.gain.device, self.dtype)
        # normed = direction / s, solved for s by least squares.
        normed, direction = self.norm(x).to(self.gain) - self.bias, self.direction(x)
        return (direction * direction).sum(-1) / (direction * normed).sum(-1)

    def unembed(self, v):
        """Return the logits of `v`, (..., width), behind the norm: linear, without constants."""
        v = v.to(self.gain.device, self.dtype)
        # Less the biases.
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
        for block in ids.to(self.gain.device).split(_ROWS_AT_A_TIME):
            # The logits are linear in v: their gradient is the row, wherever the weights are.
            with torch.enable_grad():
                v = torch.zeros(len(block), self.width, dtype=self.dtype, device=self.gain.device)
                logits = self._logits(v.requires_grad_())
                # Gradient of the logit of each id, (n_block, width).
                parts.append(torch.autograd.grad(logits.gather(1, block[:, None]).sum(), v)[0])
        rows = torch.cat(parts).to(self.gain) * self.gain
        # Centring is its own transpose.
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
        The map from the stream behind the last block to logits.

    Raises
    ------
    ValueError
        If that is something else than a norm, linear maps and a factor.
    """
    with own_modes(), torch.no_grad(), without_interventions(), own_pass(model):
        stream, calls, read, raw, logits = _watched(model)
        chain, end = _chain(stream, calls)
        factor, softcap = _bending(model, raw, logits)
        norm = chain.pop(0) if chain and is_norm(chain[0], stream) else None
        before = _ratio(read, end)
        if before is None:
            raise ValueError(_unknown(model, "its unembedding does not read the final norm"))
        if before != 1:
            chain.append(lambda v: before * v)  # a factor between the norm and the unembedding
        gain, bias, centred = probed_norm(norm, stream)
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
        # Half of it, twice: nonlinear parts show.
        half = readout.direction(stream) / readout.scale(stream)[..., None] / 2
        if not _close(2 * readout.unembed(half) + readout.constants(), factor * raw):
            why = "its final norm is no LayerNorm and no RMSNorm, or its unembedding is not linear"
            raise ValueError(_unknown(model, why))
    return readout


def _watched(model):
    """Run six tokens and watch the modules behind the last block.

    Returns the stream, the calls of modules after it as ``(module, input, output)``, input and
    output of the unembedding, and the logits.
    """
    base = base_of(model)
    path = find_blocks(base)
    last, head = base.get_submodule(path)[-1], model.get_output_embeddings()
    record = {"calls": []}

    def note(module, args, kwargs, output):
        if not passes.is_here():
            return
        output = output[0] if isinstance(output, tuple) else output
        if module is last:
            record.update(stream=output.clone(), calls=[])
            # The calls before are not behind the last block.
            return
        argument = next(iter((*args, *kwargs.values())), None)
        if not isinstance(argument, torch.Tensor) or not isinstance(output, torch.Tensor):
            return
        if module is head:
            record.update(read=argument.clone(), raw=output.clone())
        else:
            record["calls"].append((module, argument.clone(), output.clone()))

    with contextlib.ExitStack() as handles:
        passes = handles.enter_context(scope())
        for module in {last, head, *_beside(base, path)}:
            handle = module.register_forward_hook(note, with_kwargs=True)
            handles.callback(handle.remove)
        logits = model(**short_inputs(base), **without_cache(model)).logits
    if "raw" not in record or "stream" not in record:
        raise ValueError(_unknown(model, "its unembedding is not called"))
    return record["stream"], record["calls"], record["read"], record["raw"], logits


def _beside(base, path):
    """Yield the modules next to the stack of blocks, and next to the modules around it."""
    around = base
    for name in path.split("."):
        yield from (module for child, module in around.named_children() if child != name)
        around = getattr(around, name)


def _chain(stream, calls):
    """Return the modules that the stream goes through, one after the other, and their result."""
    chain, x = [], stream
    for module, argument, output in calls:
        if argument.shape == x.shape and torch.equal(argument, x.to(argument.device)):
            chain.append(module)
            x = output
    return chain, x


def _bending(model, raw, logits):
    """Return ``(factor, softcap)`` of the output of the unembedding."""
    cap = getattr(text_config(base_of(model)), "final_logit_softcapping", None)
    if cap and _close(cap * torch.tanh(raw.to(wide(raw)) / cap), logits):
        return 1.0, float(cap)
    factor = _ratio(logits, raw)
    if factor is None:
        raise ValueError(_unknown(model, "its logits are not a multiple of its unembedding's"))
    return factor, None


def _ratio(x, y):
    """Return the number r with ``x = r * y``, or None if there is none."""
    if x.shape != y.shape:
        return None
    x, y = x.to(wide(x)), y.to(x.device, wide(x))
    if torch.equal(x, y):
        return 1.0
    ratio = float((x * y).sum() / (y * y).sum())  # least squares
    return ratio if _close(ratio * y, x) else None


def _close(x, y):
    """Whether two tensors are equal up to the rounding of the coarser of them."""
    eps = max(torch.finfo(x.dtype).eps, torch.finfo(y.dtype).eps)
    # In the wider dtype, with room for sums in the coarser one.
    x, y = x.to(wide(x)), y.to(x.device, wide(y))
    return bool((x - y).abs().max() <= max(1e-4, 16 * eps) * y.abs().max())


def _unknown(model, why):
    return f"How {type(model).__name__} makes logits of its last block is not known: {why}."


class _Output:
    """Output of a base as any head reads it: hidden states, and None for all else."""

    def __init__(self, hidden):
        self.last_hidden_state = hidden

    def __getitem__(self, i):
        return (self.last_hidden_state,)[i]

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)


def final_hidden(model, inputs, visits=()):
    """Return the final hidden states, (n_sequences, n_positions, width).

    Parameters
    ----------
    model : torch.nn.Module
        A model that predicts tokens.
    inputs : dict of str to Tensor
        Keyword arguments of its forward pass.
    visits : list of (HookPoint, callable), default=()
        As for `visiting`.
    """
    base = base_of(model)
    with own_pass(base), visiting(base, visits):
        return base(**inputs, **without_cache(base))[0]


def logits_of(model, hidden):
    """Return the logits that `model` makes of final hidden states, (..., width): (..., n_tokens).

    `check_head` says whether they are those of a plain pass.
    """
    rows = hidden.reshape(1, -1, hidden.shape[-1])
    base = base_of(model)
    # These ids are never read; there are as many as rows.
    ids = torch.zeros(rows.shape[:2], dtype=torch.long, device=input_device(base))
    with contextlib.ExitStack() as stack:
        stack.enter_context(own_pass(model))
        stack.enter_context(without_interventions())
        passes = stack.enter_context(scope())
        for path in _trunks(model):
            stack.enter_context(_returning(base.get_submodule(path), _Output(rows), passes))
        logits = model(input_ids=ids, **without_cache(model))[0]
    return logits.reshape(*hidden.shape[:-1], logits.shape[-1])


def _trunks(model):
    """Return the paths in the base of the modules around the blocks, which may return the states.

    A head may call what is inside of the base, as OPT's calls the decoder.
    """
    if model not in _around:
        base = base_of(model)
        try:
            names = find_blocks(base).split(".")
        except ValueError:  # several stacks: then the base itself returns them
            names = [""]
        _around[model] = [".".join(names[:n]) for n in range(len(names))]
    return _around[model]


@contextlib.contextmanager
def _returning(module, output, passes):
    """Let `module` return `output` in passes that belong to a `Scope`, whatever its inputs."""
    # accelerate has put a forward of its own on the object; it goes back.
    earlier, plain = vars(module).get("forward"), module.forward

    def forward(*args, **kwargs):
        return output if passes.is_here() else plain(*args, **kwargs)

    module.forward = forward
    try:
        yield
    finally:
        if earlier is None:
            del module.forward
        else:
            module.forward = earlier


def check_head(model):
    """Raise a ValueError unless `logits_of` is right for `model`: tried once, on a few tokens."""
    check_causal(model)
    if model in _passed:
        return
    inputs = short_inputs(base_of(model))
    with own_modes(), torch.no_grad(), without_interventions(), own_pass(model):
        expected = model(**inputs, **without_cache(model))[0]
        try:
            logits = logits_of(model, final_hidden(model, inputs))
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            why = f"{type(error).__name__}: {error}"
            raise ValueError(_cannot(model, why)) from error
    if logits.shape != expected.shape:
        shapes = f"of shape {tuple(logits.shape)} instead of {tuple(expected.shape)}"
        raise ValueError(_cannot(model, f"they are {shapes}"))
    eps = torch.finfo(expected.dtype).eps
    logits, expected = logits.to(wide(expected)), expected.to(wide(expected))
    difference, size = float((logits - expected).abs().max()), float(expected.abs().max())
    if not difference <= _ROUNDINGS * eps * size:
        raise ValueError(_cannot(model, f"they differ by {difference:.3g} from those of a pass"))
    _passed.add(model)


def _cannot(model, why):
    return (
        f"{type(model).__name__} makes something else of the output of its base than logits, "
        f"alone and from the last hidden states only: {why}."
    )
