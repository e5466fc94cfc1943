"""One thread for work too small to share: handing it out would cost more than it saves."""

from contextlib import contextmanager

import torch

_WORTH_SHARING = 1e8


@contextmanager
def threads_for(flop):
    """Compute on one thread inside the block if a step of it takes fewer than 10^8 operations.

    The caller's number of threads is back afterwards, whatever happened inside.
    """
    threads = torch.get_num_threads()
    if flop >= _WORTH_SHARING or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
