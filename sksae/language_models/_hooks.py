"""Tensors inside a forward pass, read or changed by torch hooks that always come off again."""

import contextlib
import inspect
import threading
from typing import NamedTuple

import torch

from sksae._modes import uncompiled
from sksae._threads import threads_of_process
from sksae.language_models._scopes import is_inherited, scope

# Training flags and the forward of a base are changed for a pass: they belong to the model.
one_pass_at_a_time = threading.RLock()

_this_thread = threading.local()


class Place(NamedTuple):
    """One tensor of a forward pass, computed from what passes the module at `path`.

    It is ``scale * seen + sign * other``: most places are what is seen, but what a module adds to
    the residual stream may be scaled afterwards (Granite) or have the stream in it (BLOOM), and the
    stream between attention and MLP is a sum that no module puts out.

    Parameters
    ----------
    path : str
        The module.
    side : {"input", "output"}, default="output"
        Which of its tensors is seen.
    scale : float, default=1.0
        What the model multiplies it with.
    other : Place, default=None
        A tensor seen earlier in the same pass; what is seen takes its shape.
    sign : {-1, 0, 1}, default=0
        What `other` is multiplied with before it is added.
    """

    path: str
    side: str = "output"
    scale: float = 1.0
    other: "Place | None" = None
    sign: int = 0

    def __str__(self):
        return f"the {self.side} of the module {self.path!r}"

    def value(self, seen, other):
        """The tensor of this place, from the tensors seen here and at `other`."""
        if other is not None:
            seen = seen.reshape(other.shape)
        x = seen if self.scale == 1 else seen * self.scale
        return x + self.sign * other.to(x.device) if self.sign else x

    def seen(self, seen, x, new):
        """What has to pass the module so that the value is `new` instead of `x`."""
        if self.scale == 1 and not self.sign:
            return new.reshape(seen.shape)
        # As a difference, so that nothing changes where `new` equals `x`.
        return seen + ((new - x) / self.scale).reshape(seen.shape)


class _FoundAll(Exception):  # noqa: N818 - it is not an error
    """Every wanted tensor has been seen; the rest of the forward pass is not needed."""


def capture(model, places, inputs):
    """Run `model` up to the last of `places` and return copies of what passed there.

    The model runs without gradients, as in evaluation; its training flags are put back.

    Parameters
    ----------
    model : torch.nn.Module
        The model to run.
    places : dict of str to Place
        What to copy, by a name of the caller's choice.
    inputs : dict of str to Tensor
        Keyword arguments of the model's forward pass.

    Returns
    -------
    tensors : dict of str to Tensor
        One detached copy for each place, on the device and in the dtype it was seen in.

    Raises
    ------
    RuntimeError
        If the forward pass ends without passing one of the places.
    """
    found = {}

    def keep(name, x):
        # Falcon changes its MLP's output in place afterwards: copy at once.
        found.setdefault(name, x.detach().clone())
        if len(found) == len(places):
            raise _FoundAll

    visits = [(place, lambda x, name=name: keep(name, x)) for name, place in places.items()]
    with (
        own_pass(model),
        torch.no_grad(),
        visiting(model, visits),
        contextlib.suppress(_FoundAll),
    ):
        model(**inputs, **without_cache(model))
    for name, place in places.items():
        if name not in found:
            raise RuntimeError(f"{type(model).__name__} never ran {place}.")
    return found


@contextlib.contextmanager
def visiting(model, visits):
    """Let functions see, and change, what passes places of `model` while the context is open.

    They get what passes in this context only (see `_scopes`), and compiled code runs as the plain
    code that it was made of, in which hooks are looked at.

    Parameters
    ----------
    model : torch.nn.Module
        The model that the paths of the places are relative to.
    visits : list of (Place, callable)
        ``visit(x)`` gets the tensor of the place, which it must not change in place, and returns
        None or the tensor that the model goes on with. Visits of one place run in this order.

    Raises
    ------
    ValueError
        If a place is inside of code that looks at no hooks.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(uncompiled())
        here = stack.enter_context(scope())
        for place, visit in visits:
            stack.enter_context(_visited(model, place, visit, here))
        yield


@contextlib.contextmanager
def _visited(model, place, visit, here):
    earlier = threading.local()

    def remember(x):
        earlier.tensor = x

    def change(seen):
        other = earlier.__dict__.pop("tensor", None)
        if place.other is not None and other is None:
            raise RuntimeError(f"{place.other} must pass before {place}.")
        x = place.value(seen, other)
        new = visit(x)
        return None if new is None else place.seen(seen, x, new)

    first = _attach(model, place.other, remember, here) if place.other else None
    try:
        second = _attach(model, place, change, here)
        try:
            yield
        finally:
            second.remove()
    finally:
        if first is not None:
            first.remove()


def _attach(model, place, change, here):
    """Register the hook of one plain place, for passes in the scope `here`; return its handle."""
    module = model.get_submodule(place.path)
    _refuse_scripted(model, place)
    if place.side == "output":

        def after(_module, _args, output):
            if not here.is_here():
                return None
            # Some blocks return a tuple; [0] of a tensor would be the first sequence of the batch.
            whole = isinstance(output, torch.Tensor)
            new = change(_tensor(output if whole else output[0], place))
            if new is None:
                return None
            return new if whole else (new, *output[1:])

        return module.register_forward_hook(after)

    def before(_module, args, kwargs):
        if not here.is_here():
            return None
        # Blocks get their hidden states by position, most attention modules by keyword.
        new = change(_tensor(args[0] if args else kwargs["hidden_states"], place))
        if new is None:
            return None
        if args:
            return (new, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": new}

    return module.register_forward_pre_hook(before, with_kwargs=True)


def _refuse_scripted(model, place):
    """Raise a ValueError if TorchScript runs what is around the module of a place."""
    names = place.path.split(".")
    for around in (".".join(names[:n]) for n in range(len(names) if place.path else 0)):
        if isinstance(model.get_submodule(around), torch.jit.ScriptModule):
            where = f"The module {around!r}" if around else type(model).__name__
            raise ValueError(
                f"{where} was scripted or traced by torch.jit, which ignores hooks inside of it: "
                f"{place} cannot be seen or changed. Use the module that it was made of."
            )


def _tensor(value, place):
    if not isinstance(value, torch.Tensor):
        raise ValueError(f"No tensor, but a {type(value).__name__} passed {place}.")
    return value


@contextlib.contextmanager
def untouched():
    """Run the passes of this thread as if no `steer` and no `patch` was open around them.

    For passes that ask how the model is built, not what it says.
    """
    before = is_untouched()
    _this_thread.untouched = True
    try:
        yield
    finally:
        _this_thread.untouched = before


def is_untouched():
    """Whether this thread is inside of `untouched`."""
    return getattr(_this_thread, "untouched", False)


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
    if is_inherited() and not is_untouched():
        raise RuntimeError(
            f"This thread was started inside of a block that steers or patches a model. Whether "
            f"what is read of {type(model).__name__} here is to be changed is not known: read in "
            f"the thread of the block, or start this one outside of it. If it is to be changed, "
            f"run it by contextvars.copy_context().run."
        )
    with one_pass_at_a_time, evaluation(model), uncompiled(), threads_of_process():
        yield


@contextlib.contextmanager
def evaluation(model):
    """Switch dropout and its like off; afterwards each module has its own flag back."""
    training = [module for module in model.modules() if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True
