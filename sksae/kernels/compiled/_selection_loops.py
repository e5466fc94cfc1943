"""Loops that select: the largest entries of a row, exact or preselected by a rough product.

Floats are compared as integers that sort like them. The largest of groups of entries say which
groups need be looked at.
"""

import numpy as np
import torch

from sksae.kernels.compiled._row_loops import by_rows, compiled, dot, inlined

_GROUP = 16  # entries of a row of which the largest is looked at first: four halvings
_BESIDE = 6  # candidates beyond k that a rough product proposes, at least
_FEW = 48  # keys that are compared with each other


@compiled
def _order(bits, keys):
    """Write the bits of floats as integers that sort like the floats."""
    shift = keys.dtype.type(8 * keys.itemsize - 1)
    # The shift gives -1 for negative numbers: all their bits but the sign are flipped.
    highest = np.iinfo(keys.dtype).max
    for j in range(len(bits)):
        keys[j] = bits[j] ^ ((bits[j] >> shift) & keys.dtype.type(highest))


@inlined
def _count(keys, border):
    """How many keys reach `border`, which has their dtype."""
    n_reaching = np.int32(0)  # as narrow as keys, for as many at a time
    for j in range(len(keys)):
        n_reaching = np.int32(n_reaching + (keys[j] >= border))
    return n_reaching


@compiled
def _border(keys, count):
    """A number that about `count` keys reach: exactly so many, or more if the last are equal."""
    lowest = highest = keys[0]
    for j in range(len(keys)):
        lowest = keys[j] if keys[j] < lowest else lowest
        highest = keys[j] if keys[j] > highest else highest
    border = lowest
    if len(keys) <= _FEW:
        # The highest that enough of them reach: more comparisons, but no branch to mispredict.
        for j in range(len(keys)):
            is_reached = _count(keys, keys[j]) >= count
            border = keys[j] if is_reached and keys[j] > border else border
        return border
    low, high = np.int64(lowest), np.int64(highest)
    while low < high:
        # Midway, rounded up, without overflow.
        middle = (low | high) - ((low ^ high) >> 1)
        n_reaching = _count(keys, keys.dtype.type(middle))
        if n_reaching == count:
            low = high = middle
        elif n_reaching > count:
            low = middle
        else:
            high = middle - 1
    return keys.dtype.type(low)


@compiled
def _halve(numbers, halves):
    """Write the larger of every two numbers, and the last where it has none beside it."""
    for j in range(len(numbers) // 2):
        left, right = numbers[2 * j], numbers[2 * j + 1]
        halves[j] = left if left > right else right
    if len(numbers) % 2:
        halves[len(halves) - 1] = numbers[len(numbers) - 1]


@compiled
def _candidates(keys, count, largest, columns):
    """Write the columns of at least `count` largest keys, ascending; return how many, and a bound.

    All keys that reach the bound are among them. `columns` is `_room_for_columns`.
    """
    m = len(keys)
    # From the front to the back and to the front again: a loop that writes where it reads is slow.
    front, back, size = largest[: (m + 3) // 4], largest[m - (m + 1) // 2 :], (m + 7) // 8
    _halve(keys, back)
    _halve(back, front)
    _halve(front, back[:size])
    n_groups = len(columns) - m
    _halve(back[:size], largest[:n_groups])
    # If so many groups reach it, so do at least as many keys.
    border = _border(largest[:n_groups], count) if n_groups >= count else _border(keys, count)
    return _reaching(keys, largest, border, columns), border


@compiled
def _reaching(keys, largest, border, columns):
    """Write the ascending columns of the keys that reach `border`; return how many there are."""
    m, n_reaching, n_found = len(keys), 0, 0
    groups = columns[m:]  # of which one key reaches it at least
    for group in range(len(groups)):
        groups[n_reaching] = group  # written over by the next, unless it counts
        n_reaching += largest[group] >= border
    for group in groups[:n_reaching]:
        for j in range(_GROUP * group, min(m, _GROUP * (group + 1))):
            columns[n_found] = j
            n_found += keys[j] >= border
    return n_found


@compiled
def _room_for_columns(m):
    """Return room for the columns of a row, and for one more number per group of them."""
    return np.empty(m + (m + _GROUP - 1) // _GROUP, np.int64)


@compiled
def _keep_largest(keys, k, columns, kept):
    """Write those of the ascending `columns` that have the k largest keys, equal ones in order."""
    border = _border(keys, k)
    n_above = 0
    for j in range(len(keys)):
        n_above += keys[j] > border
    # If `border` separates them, all that reach it are kept; if some are equal, the first.
    n_equal, n_kept = k - n_above, 0
    for j in range(len(keys)):
        is_equal = keys[j] == border
        is_kept = (keys[j] > border) | (is_equal & (n_equal > 0))
        n_equal -= is_equal
        if is_kept:
            kept[n_kept] = columns[j]
        n_kept += is_kept


@compiled
def room_for(bits):
    """Return what `largest_columns` works in, for rows like this one."""
    m = len(bits)
    return np.empty(m, bits.dtype), np.empty(m, bits.dtype), _room_for_columns(m)


@compiled
def largest_columns(bits, k, room, chosen):
    """Write the columns of the k largest numbers of a row, ascending; of equal ones, the first."""
    keys, largest, columns = room
    _order(bits, keys)
    n_found, _ = _candidates(keys, k, largest, columns)
    for i in range(n_found):
        largest[i] = keys[columns[i]]  # those of the candidates alone
    _keep_largest(largest[:n_found], k, columns[:n_found], chosen)


@compiled
def _top_k_rows(z, bits, k, values, latents, start, stop):
    room = room_for(bits[0])
    for r in range(start, stop):
        largest_columns(bits[r], k, room, latents[r])
        for i in range(k):
            values[r, i] = z[r, latents[r, i]]


def top_k(z, k):
    """The k largest entries of every row; of equal ones, the first.

    Parameters
    ----------
    z : Tensor of shape (n, m), float32 or float64
    k : int in [1, m]

    Returns
    -------
    values : Tensor of shape (n, k)
    columns : Tensor of int64 of shape (n, k)
        Ascending within a row.
    """
    z = z.numpy()
    values, latents = np.empty((len(z), k), z.dtype), np.empty((len(z), k), np.int64)
    by_rows(_top_k_rows, len(z), 8 * z.size, z, bits_of(z), k, values, latents)
    return torch.from_numpy(values), torch.from_numpy(latents)


def bits_of(floats):
    """Return floats as integers of the same bits."""
    return floats.view(np.int32 if floats.dtype == np.float32 else np.int64)


@compiled
def _count_above(rough, lowered, counts, start, stop):
    keys = np.empty(rough.shape[1], rough.dtype)
    for r in range(start, stop):
        _order(rough[r], keys)
        n_above = np.int32(0)
        for j in range(len(keys)):
            n_above = np.int32(n_above + (keys[j] > lowered[j]))
        counts[r] = n_above


@compiled
def _write_above(
    rough, lowered, x, coef, bias, bound, pointer, latents, values, counts, start, stop
):
    keys = np.empty(rough.shape[1], rough.dtype)
    columns = np.empty(rough.shape[1], np.int64)
    for r in range(start, stop):
        _order(rough[r], keys)
        n_found = 0
        for j in range(len(keys)):
            columns[n_found] = j  # written over by the next, unless it counts
            n_found += keys[j] > lowered[j]
        place = pointer[r]
        for column in columns[:n_found]:
            value = bias[column] + dot(x[r], coef[column])
            if value > bound[column]:
                latents[place], values[place] = column, value
                place += 1
        counts[r] = place - pointer[r]


def refined_above(rough, x, coef, bias, *, lowered, bound):
    """The exact entries above a bound, preselected by a rough product.

    Parameters
    ----------
    rough : Tensor of bfloat16 of shape (n, m)
        ``x coef^T + bias``, about, and not below it by more than `lowered` is below `bound`.
    x : Tensor of float32 of shape (n, d)
    coef : Tensor of float32 of shape (m, d)
    bias : Tensor of float32 of shape (m,)
    lowered : Tensor of bfloat16 of shape (m,)
    bound : Tensor of float32 of shape (m,)

    Returns
    -------
    values : Tensor of shape (nnz,)
    columns : Tensor of int64 of shape (nnz,)
        Ascending within a row.
    counts : Tensor of int64 of shape (n,)
        Entries of every row.
    """
    n, m = rough.shape
    rough, lowered = rough.view(torch.int16).numpy(), lowered.view(torch.int16).numpy()
    lowest, counts = np.empty_like(lowered), np.empty(n, np.int64)
    _order(lowered, lowest)
    by_rows(_count_above, n, n * m, rough, lowest, counts)
    # Each row has room for all of its candidates; what is left of it is closed up.
    pointer = np.concatenate([[0], counts.cumsum()])
    latents, values = np.empty(pointer[-1], np.int64), np.empty(pointer[-1], np.float32)
    arrays = [tensor.numpy() for tensor in (x, coef, bias, bound)]
    outputs = pointer, latents, values, counts
    by_rows(_write_above, n, n * m, rough, lowest, *arrays, *outputs)
    n_entries = _close_up(*outputs)
    return tuple(map(torch.from_numpy, (values[:n_entries], latents[:n_entries], counts)))


@compiled
def _close_up(pointer, latents, values, counts):
    """Move the first entries of every row to the front; return how many there are."""
    place = 0
    for r in range(len(counts)):
        for i in range(pointer[r], pointer[r] + counts[r]):
            latents[place], values[place] = latents[i], values[i]
            place += 1
    return place


@compiled
def _keep_above(values, latents, pointer, cut, kept_values, kept_latents, kept_pointer):
    place, kept_pointer[0] = 0, 0
    for r in range(len(pointer) - 1):
        for i in range(pointer[r], pointer[r + 1]):
            if values[i] > cut:
                kept_values[place], kept_latents[place] = values[i], latents[i]
                place += 1
        kept_pointer[r + 1] = place
    return place


def keep_above(values, latents, pointer, cut):
    """The entries of compressed rows with values above a number.

    Parameters
    ----------
    values : Tensor of shape (nnz,)
    latents : Tensor of int64 of shape (nnz,)
    pointer : Tensor of int64 of shape (n + 1,)
    cut : float

    Returns
    -------
    values, latents, pointer : Tensor
        As given, of the entries that are kept.
    """
    arrays = [tensor.numpy() for tensor in (values, latents, pointer)]
    kept = [np.empty_like(array) for array in arrays]
    n_kept = _keep_above(*arrays, arrays[0].dtype.type(cut), *kept)
    return tuple(map(torch.from_numpy, (kept[0][:n_kept], kept[1][:n_kept], kept[2])))


@compiled
def _nth_largest(values, bits, n):
    keys = np.empty(len(bits), bits.dtype)
    _order(bits, keys)
    border = _border(keys, n)
    nth = np.inf
    for i in range(len(keys)):
        nth = values[i] if keys[i] >= border and values[i] < nth else nth
    return nth


def nth_largest(values, n):
    """The n-th largest of some numbers, from 1 on.

    Parameters
    ----------
    values : Tensor of shape (n_values,), float32 or float64
    n : int in [1, n_values]

    Returns
    -------
    nth : float
    """
    values = values.numpy()
    return _nth_largest(values, bits_of(values), n)


@compiled
def _refine(x, coef, bias, columns, exact, bits, keys):
    """Write exact pre-activations of these columns, and integers that sort like them."""
    for i in range(len(columns)):
        exact[i] = bias[columns[i]] + dot(x, coef[columns[i]])
    _order(bits[: len(columns)], keys[: len(columns)])


@compiled
def _refined_rows(rough, x, coef, bias, k, values, latents, start, stop):
    m = rough.shape[1]
    rough_keys, largest = np.empty(m, np.int16), np.empty(m, np.int16)
    columns, exact, keys = _room_for_columns(m), np.empty(m, np.float32), np.empty(m, np.int32)
    exact_bits = exact.view(np.int32)
    number_bits = np.empty(1, np.int32)
    number = number_bits.view(np.float32)
    for r in range(start, stop):
        _order(rough[r], rough_keys)
        n_found, border = _candidates(rough_keys, min(k + _BESIDE, m), largest, columns)
        _refine(x[r], coef, bias, columns[:n_found], exact, exact_bits, keys)
        number_bits[0] = _unordered(np.int32(_border(keys[:n_found], k)))
        last = number[0]  # the k-th largest, or a number between it and the next
        # What was left out is at most the border plus an error like those of the last candidates.
        error = np.float32(0)
        for i in range(n_found):
            if exact[i] <= last or n_found == k:
                number_bits[0] = np.int32(rough[r, columns[i]]) << np.int32(16)
                error = max(error, abs(exact[i] - number[0]))
        number_bits[0] = _unordered(np.int32(border) << np.int32(16))
        if n_found < m and number[0] + 2 * error >= last and number[0] + 2 * error > 0:
            # The high half of an ordered integer is that of the number, rounded down.
            number[0] = last - 2 * error
            _order(number_bits, number_bits)
            lower = np.int16(number_bits[0] >> np.int32(16))
            if lower < border:
                n_found = _reaching(rough_keys, largest, lower, columns)
                _refine(x[r], coef, bias, columns[:n_found], exact, exact_bits, keys)
        _keep_largest(keys[:n_found], k, columns[:n_found], latents[r])
        place = 0
        for i in range(k):
            while columns[place] != latents[r, i]:
                place += 1
            values[r, i] = exact[place]


@compiled
def _unordered(key):
    """The bits of the float whose ordered integer this is."""
    return key ^ ((key >> np.int32(31)) & np.int32(0x7FFFFFFF))


def refined_top_k(rough, x, coef, bias, k):
    """The k largest exact entries of every row, preselected by a rough product.

    Parameters
    ----------
    rough : Tensor of bfloat16 of shape (n, m)
        ``x coef^T + bias``, about.
    x : Tensor of float32 of shape (n, d)
    coef : Tensor of float32 of shape (m, d)
    bias : Tensor of float32 of shape (m,)
    k : int in [1, m]

    Returns
    -------
    values : Tensor of shape (n, k)
    columns : Tensor of int64 of shape (n, k)
        Ascending within a row.
    """
    n, m = rough.shape
    values, latents = np.empty((n, k), np.float32), np.empty((n, k), np.int64)
    arrays = rough.view(torch.int16).numpy(), x.numpy(), coef.numpy(), bias.numpy()
    by_rows(_refined_rows, n, n * m, *arrays, k, values, latents)
    return torch.from_numpy(values), torch.from_numpy(latents)
