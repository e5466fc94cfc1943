"""Tensors from inside a forward pass, by plain torch hooks that are always taken off again."""

import contextlib
import inspect
import threading
from typing import NamedTuple

import torch

# A hook fires for every forward pass of its module, whichever thread runs it.
_one_pass_at_a_time = threading.RLock()


class Place(NamedTuple):
    """One tensor of a forward pass: the input or the output of the module at `path`."""

    path: str
    side: str = "output"

    def __str__(self):
        return f"the {self.side} of the module {self.path!r}"


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

    def see(name, value):
        # Some blocks return a tuple; [0] of a tensor would be the first sequence of the batch.
        tensor = value[0] if isinstance(value, tuple) else value
        if not isinstance(tensor, torch.Tensor):
            raise ValueError(f"No tensor, but a {type(value).__name__} passed {places[name]}.")
        # Falcon changes its MLP's output in place afterwards: copy at once.
        found.setdefault(name, tensor.detach().clone())
        if len(found) == len(places):
            raise _FoundAll

    if "use_cache" in inspect.signature(model.forward).parameters:
        inputs = {**inputs, "use_cache": False}
    with _one_pass_at_a_time, _evaluation(model), torch.no_grad(), contextlib.ExitStack() as hooks:
        for name, place in places.items():
            hooks.callback(_attach(model, name, place, see).remove)
        with contextlib.suppress(_FoundAll):
            model(**inputs)
    for name, place in places.items():
        if name not in found:
            raise RuntimeError(f"{type(model).__name__} never ran {place}.")
    return found


def _attach(model, name, place, see):
    """Register the hook of one place and return its handle."""
    module = model.get_submodule(place.path)
    if place.side == "output":
        return module.register_forward_hook(lambda _module, _args, output: see(name, output))

    def before(_module, args, kwargs):
        # Blocks get their hidden states by position, most attention modules by keyword.
        see(name, args[0] if args else kwargs["hidden_states"])

    return module.register_forward_pre_hook(before, with_kwargs=True)


@contextlib.contextmanager
def _evaluation(model):
    """Switch dropout and its like off; afterwards each module has its own flag back."""
    training = [module for module in model.modules() if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True
