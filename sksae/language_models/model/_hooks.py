"""Tensors inside a forward pass, read or changed by torch hooks that always come off again."""

import contextlib
import inspect
import threading
from typing import NamedTuple

import torch

from sksae._modes import evaluation, uncompiled
from sksae._threads import threads_of_process
from sksae.language_models.model._scopes import is_inherited, scope
from sksae.language_models.model._torch_dictionary import wide

# Training flags and the forward of a base are changed for a pass: they belong to the model.
one_pass_at_a_time = threading.RLock()

_this_thread = threading.local()

# Beside 64², no norm's epsilon is seen; its square fits into float16, and it is exact in any dtype.
_PROBE = 64.0


class HookPoint(NamedTuple):
    """One tensor of a forward pass, computed from a tensor at the module at `path`.

    It is ``scale * seen + sign * earlier``. For most hook points that is the tensor seen at the
    module. But what a module adds to the residual stream may be scaled afterwards (Granite) or
    include the stream (BLOOM), and the stream between attention and MLP is a sum that no module
    returns.

    Parameters
    ----------
    path : str
        The module.
    side : {"input", "output", "normalized"}, default="output"
        Which tensor of the module; "normalized" for what a norm makes before it multiplies by its
        weights and adds its bias.
    scale : float, default=1.0
        The factor that the model multiplies it with.
    earlier : HookPoint, default=None
        A tensor seen earlier in the same pass; the tensor seen here takes its shape.
    sign : {-1, 0, 1}, default=0
        The factor of `earlier` before it is added.
    """

    path: str
    side: str = "output"
    scale: float = 1.0
    earlier: "HookPoint | None" = None
    sign: int = 0

    def __str__(self):
        side = "normalized input" if self.side == "normalized" else self.side
        return f"the {side} of the module {self.path!r}"

    def value(self, tensor, earlier):
        """The tensor of this hook point, from the tensors at its module and at `earlier`."""
        if earlier is not None:
            tensor = tensor.reshape(earlier.shape)
        x = tensor if self.scale == 1 else tensor * self.scale
        return x + self.sign * earlier.to(x.device) if self.sign else x

    def module_tensor(self, tensor, x, new):
        """The tensor at the module that makes the value `new` instead of `x`."""
        if self.scale == 1 and not self.sign:
            return new.reshape(tensor.shape)
        # As a difference, so that nothing changes where `new` equals `x`.
        # x = scale * tensor + sign * earlier, solved for a change of the tensor.
        return tensor + ((new - x) / self.scale).reshape(tensor.shape)


class _CapturedAll(Exception):  # noqa: N818 - it is not an error
    """All tensors have been captured; the rest of the forward pass is not needed."""


def capture(model, points, inputs):
    """Run `model` up to the last of `points` and return copies of the tensors there.

    The model runs without gradients, as in evaluation; its training flags are put back.

    Parameters
    ----------
    model : torch.nn.Module
        The model to run.
    points : dict of str to HookPoint
        The tensors to copy, by a name of the caller's choice.
    inputs : dict of str to Tensor
        Keyword arguments of the model's forward pass.

    Returns
    -------
    tensors : dict of str to Tensor
        One detached copy per hook point, on its device and in its dtype.

    Raises
    ------
    RuntimeError
        If the forward pass ends without passing one of the hook points.
    """
    tensors = {}

    def keep(name, x):
        # Falcon changes its MLP's output in place afterwards: copy at once.
        # Of a module that runs several times, the first tensor.
        tensors.setdefault(name, x.detach().clone())
        if len(tensors) == len(points):
            raise _CapturedAll

    visits = [(point, lambda x, name=name: keep(name, x)) for name, point in points.items()]
    with (
        own_pass(model),
        torch.no_grad(),
        visiting(model, visits),
        contextlib.suppress(_CapturedAll),
    ):
        model(**inputs, **without_cache(model))
    for name, point in points.items():
        if name not in tensors:
            raise RuntimeError(f"{type(model).__name__} never ran {point}.")
    return tensors


@contextlib.contextmanager
def visiting(model, visits):
    """Let functions see, and change, the tensors at hook points while the context is open.

    They get the tensors of passes in this context only (see `_scopes`). Compiled code runs as the
    plain code that it was made of, since compiled code skips hooks.

    Parameters
    ----------
    model : torch.nn.Module
        The model that the paths of the hook points are relative to.
    visits : list of (HookPoint, callable)
        ``visit(x)`` gets the tensor of the hook point, which it must not change in place, and
        returns None or the tensor that replaces it. Visits of one hook point run in this order.

    Raises
    ------
    ValueError
        If a hook point is inside of code that ignores hooks.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(uncompiled())
        passes = stack.enter_context(scope())
        for point, visit in visits:
            stack.enter_context(_visited(model, point, visit, passes))
        yield


@contextlib.contextmanager
def _visited(model, point, visit, passes):
    """Call `visit` at one hook point, in passes that belong to a `Scope`."""
    memory = threading.local()

    def remember(x):
        memory.tensor = x

    def change(tensor):
        # Each pass takes its own; an earlier one must not be left over.
        earlier = memory.__dict__.pop("tensor", None)
        if point.earlier is not None and earlier is None:
            raise RuntimeError(f"{point.earlier} must pass before {point}.")
        x = point.value(tensor, earlier)
        new = visit(x)
        return None if new is None else point.module_tensor(tensor, x, new)

    first = _attach(model, point.earlier, remember, passes) if point.earlier else None
    try:
        second = _attach(model, point, change, passes)
        try:
            yield
        finally:
            second.remove()
    finally:
        if first is not None:
            first.remove()


def _attach(model, point, change, passes):
    """Register the hook of one module, for passes that belong to a `Scope`; return its handle."""
    module = model.get_submodule(point.path)
    _refuse_scripted(model, point)
    if point.side == "normalized":
        change = _before_weights(module, point, change)
    if point.side != "input":

        def after(_module, _args, output):
            if not passes.is_here():
                return None
            # Some blocks return a tuple; [0] of a tensor would be the first sequence of the batch.
            is_tensor = isinstance(output, torch.Tensor)
            new = change(_tensor(output if is_tensor else output[0], point))
            if new is None:
                return None
            return new if is_tensor else (new, *output[1:])

        return module.register_forward_hook(after)

    def before(_module, args, kwargs):
        if not passes.is_here():
            return None
        # Blocks get their hidden states by position, most attention modules by keyword.
        new = change(_tensor(args[0] if args else kwargs["hidden_states"], point))
        if new is None:
            return None
        if args:
            return (new, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": new}

    return module.register_forward_pre_hook(before, with_kwargs=True)


def _before_weights(module, point, change):
    """Return the change of a norm's output that `change` of what its weights multiply makes."""
    parts = []

    def changed(output):
        x = output.to(wide(output))
        if not parts:
            with torch.no_grad():
                parts.extend(_parts_of_norm(module, point, x))
        gain, bias = parts
        new = change(((x - bias) / gain).to(output.dtype))
        return None if new is None else (new.to(x) * gain + bias).to(output.dtype)

    return changed


def _parts_of_norm(module, point, x):
    """Return weights and bias of a norm, or raise a ValueError if they cannot be taken off."""
    probe = torch.linspace(-1, 1, x.shape[-1], dtype=x.dtype, device=x.device)[None]
    # Hooks belong to calls of the module, and not to those of its forward.
    if not is_norm(module.forward, probe.to(_dtype_of(module, x))):
        raise ValueError(f"There is no {point}: {type(module).__name__} is no norm.")
    gain, bias, _ = probed_norm(module.forward, probe.to(_dtype_of(module, x)))
    if not bool((gain.abs() > 1e-6 * gain.abs().max()).all()):
        raise ValueError(f"{point} cannot be read: some of its weights are 0.")
    return gain, bias


def _dtype_of(module, x):
    return next((weight.dtype for weight in module.parameters()), x.dtype)


def is_norm(function, x):
    """Whether a function maps `x` and twice `x` to the same."""
    once, twice = function(x), function(x + x)
    # A norm takes the scale away, a linear module doubles.
    return once.shape == x.shape and bool((twice - once).norm() < 0.1 * once.norm())


def probed_norm(norm, stream):
    """Return ``(gain, bias, centred)`` of a norm, measured on three vectors."""
    width = stream.shape[-1]
    pattern = torch.ones(width, dtype=wide(stream), device=stream.device)
    if norm is None:
        return pattern, torch.zeros_like(pattern), False
    constant = _PROBE * pattern
    # Of mean zero, so that a LayerNorm takes nothing off, and zero nowhere.
    pattern[1::2] = -1
    if width % 2:
        # Of an odd number of entries, the last three have mean zero.
        pattern[-3:] = torch.tensor([1.0, 1.0, -2.0])
    probes = torch.stack([torch.zeros_like(pattern), _PROBE * pattern, constant])
    # What the norm makes of zero is its bias.
    bias, swung, flat = norm(probes[None].to(stream.dtype))[0].to(pattern)
    # Of a probe with root mean square p the norm makes gain * probe / p + bias.
    gain = (swung - bias) * pattern.square().mean().sqrt() / pattern
    # A LayerNorm makes its bias of a constant, an RMSNorm its gain and bias.
    return gain, bias, bool((flat - bias).norm() < 0.5 * gain.norm())


def _refuse_scripted(model, point):
    """Raise a ValueError if a module around that of a hook point runs in TorchScript."""
    names = point.path.split(".")
    for around in (".".join(names[:n]) for n in range(len(names) if point.path else 0)):
        if isinstance(model.get_submodule(around), torch.jit.ScriptModule):
            where = f"The module {around!r}" if around else type(model).__name__
            raise ValueError(
                f"{where} was scripted or traced by torch.jit, which ignores hooks inside of it: "
                f"{point} cannot be seen or changed. Use the module that it was made of."
            )


def _tensor(value, point):
    if not isinstance(value, torch.Tensor):
        raise ValueError(f"No tensor, but a {type(value).__name__} passed {point}.")
    return value


@contextlib.contextmanager
def without_interventions():
    """Ignore active `steer` and `patch` contexts in this thread.

    For passes that find out how the model is built.
    """
    before = interventions_ignored()
    _this_thread.ignored = True
    try:
        yield
    finally:
        _this_thread.ignored = before


def interventions_ignored():
    """Whether this thread is inside of `without_interventions`."""
    return getattr(_this_thread, "ignored", False)


def without_cache(model):
    """Return the keyword that keeps a plain forward pass from building a key-value cache."""
    return (
        {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}
    )


@contextlib.contextmanager
def own_pass(model):
    """Run passes of `model` as in evaluation, uncompiled, and one thread at a time.

    Raises
    ------
    RuntimeError
        In a thread that was started inside of a `steer` or `patch` block: whether the passes belong
        to it is not known. Those of `generate` do, but rows may be wanted as they are.
    """
    if is_inherited() and not interventions_ignored():
        raise RuntimeError(
            f"This thread was started inside of a block that steers or patches a model. Whether "
            f"what is read of {type(model).__name__} here is to be changed is not known: read in "
            f"the thread of the block, or start this one outside of it. If it is to be changed, "
            f"run it by contextvars.copy_context().run."
        )
    with one_pass_at_a_time, evaluation(model), uncompiled(), threads_of_process():
        yield
