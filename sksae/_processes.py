"""Sums over the processes of `torch.distributed`, which fit one estimator on rows of their own.

Where `torch.distributed` is not initialised, or has one process, every function here returns what
it was given. Otherwise each is called by all processes, in the same order.
"""

from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import distributed

NEGLIGIBLE = 2.0**-100
"""Weight of a row that stands for none, in a process that has no row of a batch."""


def n_processes():
    """Return the number of processes that work together: 1 without `torch.distributed`."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size()
    return 1


def is_first():
    """Whether this process is the one that prints and writes."""
    return process_number() == 0


def process_number():
    """Return the number of this process, from 0."""
    return 0 if n_processes() == 1 else distributed.get_rank()


def sum_over_processes(value):
    """Return the sum of a tensor over the processes, or of a number; the tensor's memory is used.

    The bits of the sum are the same in every process.
    """
    return value if n_processes() == 1 else _reduced(value, distributed.ReduceOp.SUM)


def highest_over_processes(value):
    """Return the largest of the numbers of the processes."""
    return value if n_processes() == 1 else _reduced(float(value), distributed.ReduceOp.MAX)


def lowest_over_processes(value):
    """Return the smallest of the numbers of the processes."""
    return value if n_processes() == 1 else _reduced(float(value), distributed.ReduceOp.MIN)


def any_process(flag):
    """Whether the flag is true in at least one process."""
    return bool(highest_over_processes(flag))


def gathered(tensor):
    """Return the rows of a tensor in all processes, in the order of the processes."""
    if n_processes() == 1:
        return tensor
    lengths = [length for (length,) in all_of((len(tensor),))]  # rows of each process
    device = _device_for(tensor)
    # Collectives want tensors of one shape: the longest, of which the rest is not read.
    padded = tensor.new_zeros(max(lengths), *tensor.shape[1:], device=device)
    padded[: len(tensor)] = tensor
    parts = [torch.empty_like(padded) for _ in lengths]
    with _answers():
        distributed.all_gather(parts, padded)
    pairs = zip(parts, lengths, strict=True)
    return torch.cat([part[:length] for part, length in pairs]).to(tensor.device)


def all_of(numbers):
    """Return tuples of integers, one of each process, in the order of the processes."""
    if n_processes() == 1:
        return [tuple(numbers)]
    sent = torch.tensor(numbers, dtype=torch.int64)
    sent = sent.to(_device_for(sent))
    parts = [torch.empty_like(sent) for _ in range(n_processes())]
    with _answers():
        distributed.all_gather(parts, sent)
    return [tuple(part.tolist()) for part in parts]


def from_first(make):
    """Return what `make()` returns in the first process, which can be pickled, in all of them."""
    if n_processes() == 1:
        return make()
    values = [make() if is_first() else None]
    with _answers():
        distributed.broadcast_object_list(values, src=0)
    return values[0]


def copy_from_first(tensors):
    """Overwrite tensors by those of the first process.

    Sums have the same bits everywhere, what processors make of them may not: differences of the
    last digit would add up.
    """
    if n_processes() == 1:
        return
    for tensor in tensors:  # the backend may not take tensors of this device
        carried = tensor.to(_device_for(tensor)).contiguous()
        with _answers():
            distributed.broadcast(carried, src=0)
        tensor.copy_(carried)


def wait_for_all():
    """Return once all processes are here."""
    all_of((0,))


def check_same(make_facts):
    """Raise a ValueError in all processes where facts differ between them.

    Parameters
    ----------
    make_facts : callable
        Returns a dict of what is to be the same, by name; not called where there is one process.
    """
    if n_processes() == 1:
        return
    facts = make_facts()
    everywhere = [None] * n_processes()
    with _answers():
        distributed.all_gather_object(everywhere, facts)
    for number, theirs in enumerate(everywhere):
        for name in sorted({*everywhere[0], *theirs}):
            first, value = everywhere[0].get(name), theirs.get(name)
            if first != value:
                raise ValueError(
                    f"The processes of torch.distributed do this together, but {name} is "
                    f"{first} in process 0 and {value} in process {number}. Give them the same, or "
                    f"do it before torch.distributed is initialised."
                )


class RowShare(NamedTuple):
    """The rows of this process among those of all processes, numbered process after process.

    Parameters
    ----------
    first : int
        Number of its first row.
    n_rows : int
        Number of its rows.
    total : int
        Number of the rows of all processes.
    """

    first: int
    n_rows: int
    total: int

    @classmethod
    def of(cls, n_rows):
        """Return the share of a process with so many rows."""
        lengths = [length for (length,) in all_of((n_rows,))]  # as many rows as each process has
        return cls(sum(lengths[: process_number()]), n_rows, sum(lengths))

    @property
    def is_all(self):
        """Whether there are no other rows."""
        return self.n_rows == self.total

    def mask(self, numbers):
        """Mask of the rows of this process among rows by their numbers."""
        return (numbers >= self.first) & (numbers < self.first + self.n_rows)


def _reduced(value, operation):
    is_number = not isinstance(value, torch.Tensor)
    tensor = torch.tensor(value, dtype=torch.float64) if is_number else value
    reduced = tensor.to(_device_for(tensor)).contiguous()
    with _answers():
        distributed.all_reduce(reduced, operation)
    return float(reduced) if is_number else reduced.to(tensor.device)


def _device_for(tensor):
    """Return the device on which the backend takes this tensor."""
    # As in "cpu:gloo,cuda:nccl".
    pairs = distributed.get_backend_config().split(",")
    backends = dict(pair.split(":") for pair in pairs)
    kind = tensor.device.type
    # Gloo takes tensors of a GPU for some operations only.
    if kind in backends and (kind == "cpu" or backends[kind] != "gloo"):
        return tensor.device
    return torch.device("cpu" if "cpu" in backends else next(iter(backends)))


@contextmanager
def _answers():
    """Explain the error where a collective operation fails."""
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError(
            "Another process of torch.distributed has ended, failed or not answered in time, and "
            "this one cannot go on alone. Its own error, if it has one, says why."
        ) from error
