"""Contexts without torch's ambient modes: autocast, default device, compilation, training."""

import threading
from contextlib import ExitStack, contextmanager

import torch

_DEVICES = ("cpu", "cuda", "mps", "xpu")


@contextmanager
def own_modes():
    """Compute with gradients on, autocast off, and the CPU as the default device.

    Use it as a decorator, ``@own_modes()``, or in a ``with`` statement; the caller's modes are
    back afterwards.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in _DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


class _Uncompiled:
    """The compiler's stance "force_eager", from the first block that needs it to the last."""

    def __init__(self):
        self._lock = threading.Lock()
        self._n_blocks = 0
        self._stance = None

    def begin(self):
        with self._lock:
            if not self._n_blocks:
                self._stance = torch.compiler.set_stance("force_eager")
            self._n_blocks += 1

    def end(self):
        with self._lock:
            self._n_blocks -= 1
            if not self._n_blocks:
                # Puts back the stance that there was.
                self._stance.__exit__(None, None, None)


_uncompiled = _Uncompiled()


@contextmanager
def uncompiled():
    """Run compiled code as the plain code that `torch.compile` made it from.

    Compiled code does not look at hooks that were registered later, whichever way it was compiled:
    a whole model, some of its modules, a `forward`, or a function that calls a model. The stance is
    one of the process: compiled code in other threads is slower meanwhile, and the same otherwise.
    """
    _uncompiled.begin()
    try:
        yield
    finally:
        _uncompiled.end()


@contextmanager
def evaluation(model):
    """Switch dropout and the like off; afterwards each module has its own mode back."""
    training = [module for module in model.modules() if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True
