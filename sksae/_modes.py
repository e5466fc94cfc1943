"""Torch's ambient modes set aside: inside a `no_grad` or autocast block, a fit is still a fit."""

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
