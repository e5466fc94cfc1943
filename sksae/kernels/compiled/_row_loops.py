"""Loops over rows: how they are compiled and divided among threads, and products over entries.

Rows are independent of each other, so that results do not depend on the number of threads. Entries
lie in compressed rows, as in `sksae.kernels.ActiveSet`: those of row r are ``pointer[r]`` to
``pointer[r + 1]``.
"""

from itertools import pairwise

import numba
import numpy as np
import torch

from sksae.kernels.compiled._torch_threads import on_threads

# Sums may be reordered, but NaN and infinity mean what they say.
_OPTIONS = {
    "nogil": True,
    "cache": True,
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
    "error_model": "numpy",  # no check of every divisor
}
compiled = numba.njit(**_OPTIONS)
inlined = numba.njit(inline="always", **_OPTIONS)  # a call with arrays takes as long as a short row

_SHARED = 2**20  # multiplications from which on rows are divided among threads
_PARTS = 2  # per thread: more even than one, where other programs run


def by_rows(loop, n_rows, n_operations, *arguments):
    """Call ``loop(*arguments, start, stop)`` for all rows, divided among torch's threads."""
    n_threads = min(torch.get_num_threads(), n_rows)
    if n_threads < 2 or n_operations < _SHARED:
        loop(*arguments, 0, n_rows)
        return
    n_parts = min(_PARTS * n_threads, n_rows)
    parts = pairwise([n_rows * i // n_parts for i in range(n_parts + 1)])

    def take_parts():
        for part in parts:  # one iterator for all: whoever is free takes the next part
            loop(*arguments, *part)

    on_threads(take_parts, n_threads)


@compiled
def _centred_rows(array, index, centre, factor, rows, start, stop):
    for r in range(start, stop):
        row = array[index[r]]
        for j in range(len(row)):
            rows[r, j] = (row[j] - centre[j]) * factor


def centred_rows(array, index, centre, factor):
    """``factor (array[index] - centre)``.

    Parameters
    ----------
    array : ndarray of shape (n, d), float32 or float64
    index : Tensor of int64 of shape (n_rows,)
    centre : Tensor of shape (d,), of the array's dtype
    factor : float

    Returns
    -------
    rows : Tensor of shape (n_rows, d)
    """
    rows = np.empty((len(index), array.shape[1]), array.dtype)
    arguments = array, index.numpy(), centre.numpy(), array.dtype.type(factor)
    # A row takes longer to fetch than to compute.
    by_rows(_centred_rows, len(rows), 8 * rows.size, *arguments, rows)
    return torch.from_numpy(rows)


@inlined
def dot(left, right):
    total = left.dtype.type(0)
    for i in range(len(left)):
        total += left[i] * right[i]
    return total


@inlined
def add_rows(values, indices, matrix, total):
    """Add ``sum_i values[i] matrix[indices[i]]`` to a row, four at a time."""
    n, i = len(indices), 0
    while i + 4 <= n:
        a, b, c, d = values[i], values[i + 1], values[i + 2], values[i + 3]
        row_a, row_b = matrix[indices[i]], matrix[indices[i + 1]]
        row_c, row_d = matrix[indices[i + 2]], matrix[indices[i + 3]]
        for j in range(len(total)):
            total[j] += a * row_a[j] + b * row_b[j] + c * row_c[j] + d * row_d[j]
        i += 4
    while i < n:
        value, row = values[i], matrix[indices[i]]
        for j in range(len(total)):
            total[j] += value * row[j]
        i += 1


@compiled
def _segment_sum_rows(values, indices, pointer, matrix, sums, start, stop):
    for s in range(start, stop):
        first, last = pointer[s], pointer[s + 1]
        sums[s] = 0
        add_rows(values[first:last], indices[first:last], matrix, sums[s])


def segment_sums(values, indices, pointer, matrix):
    """``sum of values[i] * matrix[indices[i]]`` over the entries i of every segment.

    Parameters
    ----------
    values : Tensor of shape (nnz,)
    indices : Tensor of int64 of shape (nnz,)
    pointer : Tensor of int64 of shape (n_segments + 1,)
    matrix : Tensor of shape (rows, d)

    Returns
    -------
    sums : Tensor of shape (n_segments, d)
    """
    n, d = len(pointer) - 1, matrix.shape[1]
    sums = np.empty((n, d), matrix.numpy().dtype)
    arrays = values.numpy(), indices.numpy(), pointer.numpy(), matrix.numpy()
    by_rows(_segment_sum_rows, n, len(indices) * d, *arrays, sums)
    return torch.from_numpy(sums)


@compiled
def _dot_rows(left, right, pointer, latents, values, start, stop):
    for r in range(start, stop):
        for i in range(pointer[r], pointer[r + 1]):
            values[i] += dot(left[r], right[latents[i]])


def dots(left, right, pointer, latents, values):
    """Add ``left[r] . right[latents[i]]`` to the value of every entry i of every row r, in place.

    Parameters
    ----------
    left : Tensor of shape (n, d)
    right : Tensor of shape (m, d)
    pointer : Tensor of int64 of shape (n + 1,)
    latents : Tensor of int64 of shape (nnz,)
    values : Tensor of shape (nnz,)

    Returns
    -------
    values : Tensor of shape (nnz,)
    """
    arrays = [tensor.numpy() for tensor in (left, right, pointer, latents, values)]
    by_rows(_dot_rows, len(left), len(latents) * left.shape[1], *arrays)
    return values


@compiled
def _error_rows(
    codes, latents, pointer, components, offset, x, share, error, pulls, scaled, losses, start, stop
):
    for r in range(start, stop):
        first, last = pointer[r], pointer[r + 1]
        for j in range(x.shape[1]):
            error[r, j] = offset[j] - x[r, j]
        add_rows(codes[first:last], latents[first:last], components, error[r])
        losses[r] = share[r] * dot(error[r], error[r])
        # The dictionary's rows are still in the cache.
        for i in range(first, last):
            pulls[i] = 2 * share[r] * dot(error[r], components[latents[i]])
            scaled[i] = 2 * share[r] * codes[i]


def error_and_pulls(codes, latents, pointer, components, *, offset, x, share):
    """Decode, and differentiate the squared error by the codes.

    Parameters
    ----------
    codes : Tensor of shape (nnz,)
    latents : Tensor of int64 of shape (nnz,)
    pointer : Tensor of int64 of shape (n + 1,)
    components : Tensor of shape (m, t)
    offset : Tensor of shape (t,)
    x : Tensor of shape (n, t)
    share : Tensor of shape (n,)

    Returns
    -------
    error : Tensor of shape (n, t)
        ``codes components + offset - x``.
    pulls : Tensor of shape (nnz,)
        ``2 share error . components``, the gradient of the loss by the codes.
    scaled : Tensor of shape (nnz,)
        ``2 share codes``: times `error`, the gradient of the loss by the dictionary.
    losses : Tensor of shape (n,)
        ``share |error|^2``.
    """
    inputs = [tensor.numpy() for tensor in (codes, latents, pointer, components, offset, x, share)]
    outputs = [np.empty_like(inputs[i]) for i in (5, 0, 0, 6)]
    by_rows(_error_rows, len(x), 2 * len(latents) * x.shape[1], *inputs, *outputs)
    return tuple(map(torch.from_numpy, outputs))


@compiled
def _sort_by_latent(latents, row_pointer, order, rows, pointer):
    pointer[:] = 0
    for latent in latents:
        pointer[latent + 1] += 1
    for j in range(len(pointer) - 1):
        pointer[j + 1] += pointer[j]
    place = pointer[:-1].copy()
    for r in range(len(row_pointer) - 1):
        for i in range(row_pointer[r], row_pointer[r + 1]):
            order[place[latents[i]]] = i
            rows[place[latents[i]]] = r
            place[latents[i]] += 1


def by_latent(latents, pointer, n_latents):
    """Entries in the order of their latents, and of their rows within a latent.

    Parameters
    ----------
    latents : Tensor of int64 of shape (nnz,)
    pointer : Tensor of int64 of shape (n + 1,)
    n_latents : int

    Returns
    -------
    order, rows : Tensor of int64 of shape (nnz,)
        Places of the entries, and their rows.
    pointer : Tensor of int64 of shape (n_latents + 1,)
    """
    order, rows = np.empty((2, len(latents)), np.int64)
    latent_pointer = np.empty(n_latents + 1, np.int64)
    _sort_by_latent(latents.numpy(), pointer.numpy(), order, rows, latent_pointer)
    return tuple(map(torch.from_numpy, (order, rows, latent_pointer)))
