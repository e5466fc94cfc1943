"""The sparse part of a training step in Triton: selection, products, sums, the weight update.

A TopK step is one dense product (the encoder's), left to the vendor's library, and what is here.
Entries lie in compressed rows: those of row i, or of latent i, are ``pointer[i]`` to
``pointer[i + 1]``. Sums are taken in float32, or in float64 if an input is; each has one owner and
one order, so the same input gives the same bits each time, and nothing is added atomically. Nothing
is differentiable. Tensors that are not contiguous are copied first. Indices are not held against
their bounds, which would make the host wait for the device.

The module is imported only once a CUDA tensor is at hand: Triton comes with torch's CUDA builds.
The kernels were checked in Triton's interpreter and have not been run on a GPU yet; the sizes of
their tiles are guesses.
"""

import torch
import triton
import triton.language as tl
from triton.language import constexpr

_KEY_BITS = {torch.float16: 16, torch.bfloat16: 16, torch.float32: 32}
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (torch.int32, torch.int64)


def top_k(z, k):
    """The k largest entries of every row, equal ones by lowest column first.

    Parameters
    ----------
    z : Tensor of shape (n, m), float16, bfloat16 or float32, without NaN
    k : int in [1, m]

    Returns
    -------
    values : Tensor of shape (n, k)
    columns : Tensor of int64 of shape (n, k)
        Ascending within a row.
    """
    _check("z", z, ("n", "m"), z.device, _KEY_BITS)
    n, m = z.shape
    if not (isinstance(k, int) and 1 <= k <= m):
        raise ValueError(f"k must be an integer from 1 to {m}. Got {k!r} instead.")
    values = torch.empty((n, k), dtype=z.dtype, device=z.device)
    columns = torch.empty((n, k), dtype=torch.int64, device=z.device)
    # One program per row.
    _launch(_top_k_kernel, (n,), z, values, columns, m, k, BITS=_KEY_BITS[z.dtype], TILE=1024)
    return values, columns


def dots(left, right, pointer, latents):
    """``left[r] . right[latents[i]]`` for every entry i of every row r.

    Parameters
    ----------
    left : Tensor of shape (n, d)
    right : Tensor of shape (m, d)
    pointer : Tensor of int of shape (n + 1,)
    latents : Tensor of int of shape (nnz,)

    Returns
    -------
    values : Tensor of shape (nnz,)
    """
    _check("left", left, ("n", "d"), left.device)
    n, d = left.shape
    _check("right", right, ("m", d), left.device)
    _check("pointer", pointer, (n + 1,), left.device, _INTEGERS)
    _check("latents", latents, ("nnz",), left.device, _INTEGERS)
    values = torch.empty(latents.shape, dtype=_sum_dtype(left, right), device=left.device)
    # One program per row of `left`; it takes ENTRIES rows of `right` at a time.
    _launch(_dots_kernel, (n,), left, right, pointer, latents, values, d, ENTRIES=16, TILE=128)
    return values


def segment_sums(values, pointer, indices, matrix):
    """``sum of values[i] * matrix[indices[i]]`` over the entries i of every segment.

    With rows as segments and the dictionary as `matrix` it decodes; with latents as segments and
    the rows of a batch as `matrix` it gives the gradient of a weight.

    Parameters
    ----------
    values : Tensor of shape (nnz,)
    pointer : Tensor of int of shape (n_segments + 1,)
    indices : Tensor of int of shape (nnz,)
    matrix : Tensor of shape (n_rows, d)

    Returns
    -------
    sums : Tensor of shape (n_segments, d)
    """
    segments, d = _check_sums(values, pointer, indices, matrix)
    sums = torch.empty((segments, d), dtype=_sum_dtype(values, matrix), device=matrix.device)
    # One program per segment and tile of columns; tl.arange needs a power of two.
    tile = triton.next_power_of_2(min(max(d, 1), 256))
    inputs, grid = (values, pointer, indices, matrix), (segments, triton.cdiv(d, tile))
    _launch(_segment_sums_kernel, grid, *inputs, sums, d, TILE=tile)
    return sums


@torch.no_grad()
def update_latents(
    weights, moments, gradient, *, step, learning_rate, betas, extra=None, clip=1.0, unit_norm=False
):
    """One step of Adam on every row of `weights`, in place, without a gradient in memory.

    One program owns a latent. It sums the gradient's row, adds the dense part `extra`, drops with
    `unit_norm` what is parallel to the weight row, multiplies by `clip`, moves moments and weight
    row, and with `unit_norm` brings the row back to the sphere; a row is in registers at once.

    Parameters
    ----------
    weights : Tensor of shape (m, d)
    moments : pair of Tensor of shape (m, d)
        Running means of the gradient and of its square, changed in place.
    gradient : tuple (values, pointer, indices, matrix)
        What `segment_sums` takes, with the m latents as segments.
    step : int, counted from 1
    learning_rate : float
    betas : pair of float
    extra : Tensor of shape (m, d), default=None
    clip : float or Tensor of shape (), default=1.0
        Factor of the gradient; of a tensor on the device the host need not know the value.
    unit_norm : bool, default=False
    """
    m, d = _check_sums(*gradient)
    device, dtype = gradient[3].device, _sum_dtype(weights, *moments, gradient[0], gradient[3])
    _check("weights", weights, (m, d), device)
    for moment in moments:
        _check("moments", moment, (m, d), device)
    if extra is not None:
        _check("extra", extra, (m, d), device)
    if not (isinstance(step, int) and step >= 1):
        raise ValueError(f"step must be an integer, at least 1. Got {step!r} instead.")
    if not isinstance(clip, torch.Tensor):
        clip = torch.full((), clip, dtype=dtype, device=device)
    _check("clip", clip, (), device)
    # Adam's corrections of the moments, in the rate and in the scale of the root.
    corrections = [1 - beta**step for beta in betas]
    rates = (learning_rate / corrections[0], 1 - betas[0], 1 - betas[1], corrections[1] ** -0.5)
    # A whole row per program: with unit_norm there are sums over it.
    tile = triton.next_power_of_2(max(d, 1))
    sizes = {"UNIT_NORM": unit_norm, "TILE": tile, "num_warps": 8 if tile > 1024 else 4}
    ours = [tensor.contiguous() for tensor in (weights, *moments)]
    _launch(_update_kernel, (m,), *ours, *gradient, extra, clip.to(dtype), d, *rates, **sizes)
    for tensor, copy in zip((weights, *moments), ours, strict=True):
        tensor.copy_(copy)  # nothing if they are the same


def _sum_dtype(*tensors):
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def _check(name, tensor, shape, device, dtypes=_FLOATS):
    """Raise a ValueError unless `tensor` is as described; axes with names may have any size."""
    sizes = zip(shape, tensor.shape, strict=False)
    if tensor.ndim != len(shape) or any(a != b for a, b in sizes if not isinstance(a, str)):
        expected = ", ".join(map(str, shape))
        raise ValueError(
            f"{name} must be of shape ({expected}). Got {tuple(tensor.shape)} instead."
        )
    if tensor.dtype not in dtypes:
        expected = ", ".join(map(str, dtypes))
        raise ValueError(f"{name} must be one of {expected}. Got {tensor.dtype} instead.")
    if tensor.device != device:
        raise ValueError(f"{name} must be on {device}. Got {tensor.device} instead.")


def _check_sums(values, pointer, indices, matrix):
    _check("matrix", matrix, ("n_rows", "d"), matrix.device)
    _check("pointer", pointer, ("n_segments + 1",), matrix.device, _INTEGERS)
    _check("indices", indices, ("nnz",), matrix.device, _INTEGERS)
    _check("values", values, indices.shape, matrix.device)
    return max(len(pointer) - 1, 0), matrix.shape[1]


def _launch(kernel, grid, first, *others, **sizes):
    """Run one program per point of `grid`, on contiguous tensors and their device."""
    arguments = [a.contiguous() if isinstance(a, torch.Tensor) else a for a in (first, *others)]
    with torch.cuda.device_of(first):
        if all(grid):
            kernel[grid](*arguments, **sizes)


@triton.jit
def _keys(entries, BITS: constexpr):
    """Unsigned integers in the order of `entries`; both zeros share one."""
    SIGN: constexpr = 1 << (BITS - 1)
    bits = entries.to(tl.uint16 if BITS == 16 else tl.uint32, bitcast=True).to(tl.uint32)
    # On integers: a comparison of floats might take subnormal numbers for zeros.
    bits = tl.where(bits == SIGN, 0, bits)
    # Negative numbers go below SIGN in reverse order, the others above it.
    return tl.where(bits >= SIGN, 2 * SIGN - 1 - bits, bits + SIGN)


@triton.jit
def _kth_key(row, m, k, BITS: constexpr, TILE: constexpr):
    """The k-th largest key of a row, and how many of its equals are among the k largest."""
    # Radix selection, 8 bits per pass from the highest: `prefix` holds the bits of the k-th key
    # that are known, `needed` its rank among the keys that begin with them.
    prefix = tl.full((), 0, tl.uint32)
    needed = tl.full((), 0, tl.int32) + k
    for shift in tl.static_range(BITS - 8, -1, -8):
        counts = tl.zeros((256,), tl.int32)
        for low in range(0, m, TILE):
            column = low + tl.arange(0, TILE)
            key = _keys(tl.load(row + column, mask=column < m, other=0.0), BITS)
            # Two shifts, because one by 32 is undefined.
            chosen = (column < m) & ((key >> shift >> 8) == prefix)
            # The others fall into bin 0; no bin has it above, so its count is never used.
            digit = tl.where(chosen, (key >> shift) & 255, 0)
            counts += tl.histogram(digit.to(tl.int32), 256)
        # Entries of higher digits, by digit; the first that has fewer than needed is the next.
        above = tl.sum(counts) - tl.cumsum(counts)
        enough = above >= needed
        needed -= tl.max(tl.where(enough, 0, above))
        prefix = (prefix << 8) | tl.sum(enough.to(tl.int32)).to(tl.uint32)
    return prefix, needed


@triton.jit
def _top_k_kernel(z, values, columns, m, k, BITS: constexpr, TILE: constexpr):
    n = tl.program_id(0).to(tl.int64)
    # In int64, because n * m can exceed 2^31.
    bound, needed = _kth_key(z + n * m, m, k, BITS, TILE)
    n_kept, n_tied = tl.full((), 0, tl.int32), tl.full((), 0, tl.int32)
    for low in range(0, m, TILE):
        column = low + tl.arange(0, TILE)
        entries = tl.load(z + n * m + column, mask=column < m, other=0.0)
        key = _keys(entries, BITS)
        equal = (column < m) & (key == bound)
        # All keys above the bound, and of those equal to it the first `needed` by column.
        rank = n_tied + tl.cumsum(equal.to(tl.int32))
        keep = ((column < m) & (key > bound)) | (equal & (rank <= needed))
        # Row n of the outputs begins at n * k; each tile goes on after the tiles before it.
        place = n * k + n_kept + tl.cumsum(keep.to(tl.int32)) - 1
        tl.store(values + place, entries, mask=keep)
        tl.store(columns + place, column.to(tl.int64), mask=keep)
        n_kept += tl.sum(keep.to(tl.int32))
        n_tied += tl.sum(equal.to(tl.int32))


@triton.jit
def _dots_kernel(left, right, pointer, latents, values, d, ENTRIES: constexpr, TILE: constexpr):
    n = tl.program_id(0).to(tl.int64)
    stop = tl.load(pointer + n + 1)
    for first in range(tl.load(pointer + n), stop, ENTRIES):
        entry = first + tl.arange(0, ENTRIES)
        latent = tl.load(latents + entry, mask=entry < stop, other=0).to(tl.int64)
        # Products are added up over tiles of columns, and summed across once at the end.
        total = tl.zeros((ENTRIES, TILE), values.dtype.element_ty)
        for low in range(0, d, TILE):
            column = low + tl.arange(0, TILE)
            within = (entry < stop)[:, None] & (column < d)[None, :]
            a = tl.load(left + n * d + column, mask=column < d, other=0.0)
            b = tl.load(right + latent[:, None] * d + column[None, :], mask=within, other=0.0)
            total += a.to(total.dtype)[None, :] * b.to(total.dtype)
        tl.store(values + entry, tl.sum(total, axis=1), mask=entry < stop)


@triton.jit
def _segment_sum(values, pointer, indices, matrix, n, column, d, SUM: constexpr):
    """Columns `column` of the weighted sum of rows that belongs to segment n."""
    TILE: constexpr = column.shape[0]
    # Entries at a time, so that a tile has at most about 4096 numbers.
    ENTRIES: constexpr = 8 if TILE <= 512 else (4096 // TILE if TILE <= 4096 else 1)
    total = tl.zeros((ENTRIES, TILE), SUM)
    stop = tl.load(pointer + n + 1)
    for first in range(tl.load(pointer + n), stop, ENTRIES):
        entry = first + tl.arange(0, ENTRIES)
        index = tl.load(indices + entry, mask=entry < stop, other=0).to(tl.int64)
        value = tl.load(values + entry, mask=entry < stop, other=0.0).to(SUM)
        within = (entry < stop)[:, None] & (column < d)[None, :]
        rows = tl.load(matrix + index[:, None] * d + column[None, :], mask=within, other=0.0)
        total += value[:, None] * rows.to(SUM)
    return tl.sum(total, axis=0)


@triton.jit
def _segment_sums_kernel(values, pointer, indices, matrix, sums, d, TILE: constexpr):
    n = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * TILE + tl.arange(0, TILE)
    total = _segment_sum(values, pointer, indices, matrix, n, column, d, sums.dtype.element_ty)
    tl.store(sums + n * d + column, total, mask=column < d)


@triton.jit
def _update_kernel(
    weights, mean, square, values, pointer, indices, matrix, extra, clip, d,
    # Numbers that do not say so arrive as float32.
    rate: tl.float64, mean_share: tl.float64, square_share: tl.float64, scale: tl.float64,
    UNIT_NORM: constexpr, TILE: constexpr,
):  # fmt: skip
    SUM: constexpr = clip.dtype.element_ty
    n = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, TILE)
    offsets, within = n * d + column, column < d
    g = _segment_sum(values, pointer, indices, matrix, n, column, d, SUM)
    if extra is not None:
        g += tl.load(extra + offsets, mask=within, other=0.0).to(SUM)
    w = tl.load(weights + offsets, mask=within, other=0.0).to(SUM)
    if UNIT_NORM:
        # The row of weights has norm 1: this is the gradient's part along it.
        g -= tl.sum(g * w) * w
    g *= tl.load(clip)
    # Running means of the gradient and of its square, then Adam's step.
    first = tl.load(mean + offsets, mask=within, other=0.0).to(SUM)
    first += tl.full((), mean_share, SUM) * (g - first)
    second = tl.load(square + offsets, mask=within, other=0.0).to(SUM)
    second += tl.full((), square_share, SUM) * (g * g - second)
    root = tl.sqrt(second) * tl.full((), scale, SUM) + 1e-8
    w -= tl.full((), rate, SUM) * first / root
    if UNIT_NORM:
        w /= tl.sqrt(tl.sum(w * w))
    tl.store(mean + offsets, first, mask=within)
    tl.store(square + offsets, second, mask=within)
    tl.store(weights + offsets, w, mask=within)
