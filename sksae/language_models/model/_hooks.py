"""Tensors inside a forward pass, read or changed by torch hooks that always come off again."""

import contextlib
import inspect
import threading
from typing import NamedTuple

import torch

from sksae._modes import evaluation, uncompiled
from sksae._threads import threads_of_process
from sksae.language_models.model._scopes import is_inherited, scope

# Training flags and the forward of a base are changed for a pass: they belong to the model.
one_pass_at_a_time = threading.RLock()

_this_thread = threading.local()


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
    side : {"input", "output"}, default="output"
        Which tensor of the module.
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
        return f"the {self.side} of the module {self.path!r}"

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
    if point.side == "output":

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
