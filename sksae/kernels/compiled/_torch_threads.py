"""The threads of torch, lent to a Python function.

torch's threads wait for work in a busy loop. Threads of our own would share the cores with them;
torch's own take work at once. GNU's OpenMP starts a function on them by ``GOMP_parallel``, which
LLVM's and Intel's have as well; where there is none, a pool of threads does the work.
"""

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache

_REGION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@cache
def _openmp():
    """Return the ``GOMP_parallel`` that torch itself calls, or None."""
    if os.name != "posix":
        return None
    # torch makes the symbols of its OpenMP visible to the whole process.
    start = getattr(ctypes.CDLL(None), "GOMP_parallel", None)
    if start is not None:
        start.argtypes = _REGION, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint
        start.restype = None
    return start


@cache
def _pool(n_threads):
    return ThreadPoolExecutor(n_threads)


if hasattr(os, "register_at_fork"):  # the threads of a process do not live on in its copies
    os.register_at_fork(after_in_child=_pool.cache_clear)


def on_threads(function, n_threads):
    """Call a function on the threads of torch at once: on up to `n_threads`, this one included.

    Parameters
    ----------
    function : callable
        Takes its share of the work from what all calls have in common, until nothing is left.
    n_threads : int

    Raises
    ------
    BaseException
        What the first call to fail raised, once all have returned.
    """
    errors = []

    def guarded(_=None):
        try:
            function()
        except BaseException as error:  # C has no exceptions
            errors.append(error)

    start = _openmp()
    if start is not None:
        start(_REGION(guarded), None, n_threads, 0)
    else:
        others = [_pool(n_threads).submit(guarded) for _ in range(n_threads - 1)]
        guarded()
        wait(others)
    if errors:
        raise errors[0]
