"""Number of threads: one for small work, and one in a forked process."""

import math
import os
from contextlib import contextmanager

import torch

_WORTH_SHARING = 1e8
_PROCESS = os.getpid()


@contextmanager
def threads_for(flop):
    """Compute on one thread inside the block if a step of it takes fewer than 10^8 operations.

    Handing out small work would cost more than it saves. A child made by fork computes on one
    thread whatever the work: it has not the threads that torch started in its parent, and would
    wait for them for ever. The caller's number of threads is back afterwards, whatever happened
    inside.
    """
    threads = torch.get_num_threads()
    forked = os.getpid() != _PROCESS
    if threads == 1 or (flop >= _WORTH_SHARING and not forked):
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def threads_of_process():
    """Compute on one thread inside the block in a child made by fork, as `threads_for` does."""
    return threads_for(math.inf)
