"""Processes of torch.distributed on this machine, for tests."""

import multiprocessing
import os
import tempfile
import warnings
from datetime import timedelta
from pathlib import Path

import pytest
from torch import distributed

needs_processes = pytest.mark.skipif(
    not (hasattr(os, "fork") and distributed.is_available() and distributed.is_gloo_available()),
    reason="processes are not forked here, or torch has no gloo",
)


def together(function, *args, n=2, timeout=60):
    """Call ``function(rank, *args)`` in n processes of one group; return what each returned.

    An error is returned in place of a result, and None of a process that ended without one.
    """
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # Children of fork do without the threads of their parent: sksae computes on one there.
        warnings.simplefilter("ignore", DeprecationWarning)
        pipes = [context.Pipe(duplex=False) for _ in range(n)]
        processes = [
            context.Process(target=_work, args=(rank, n, folder, pipe[1], function, args))
            for rank, pipe in enumerate(pipes)
        ]
        for process in processes:
            process.start()
        for _, sender in pipes:
            sender.close()
        results = [_received(receiver, timeout) for receiver, _ in pipes]
        for process in processes:
            process.join(timeout)
            process.kill()
    return results


def _work(rank, n, folder, sender, function, args):
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{Path(folder) / 'meeting'}",
        rank=rank,
        world_size=n,
        timeout=timedelta(seconds=20),
    )
    try:
        result = function(rank, *args)
    except Exception as error:
        # Without its cause, which cannot be pickled in every case.
        result = type(error)(*map(str, error.args))
    sender.send(result)
    sender.close()
    os._exit(0)  # without what the parent has registered for its own end


def _received(receiver, timeout):
    if not receiver.poll(timeout):
        return TimeoutError(f"no result after {timeout} s")
    try:
        return receiver.recv()
    except EOFError:
        return None
