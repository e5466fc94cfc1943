"""Selection of codes: the k largest pre-activations of a row, or those above a threshold."""

import numpy as np
import torch

from sksae.kernels._active import ActiveSet, compiled_for, flat_nonzero, uses_triton

MARGIN = 12
"""Candidates beyond k that a rough product proposes."""

_PACKED = 2**13  # entries from which on numpy is faster than torch.topk
_GROUP = 8  # entries of a group, of which the largest is ranked first


def top_k(z, k, *, magnitude=False):
    """The k largest entries of every row, equal ones by lowest column first.

    Parameters
    ----------
    z : Tensor of shape (n, m)
    k : int in [1, m]
    magnitude : bool, default=False
        Whether entries are compared by their absolute values.

    Returns
    -------
    values, columns : Tensor of shape (n, k)
    """
    if magnitude:
        columns = top_k(z.abs(), k)[1]
        return z.gather(1, columns), columns
    m = z.shape[1]
    # One entry more than asked shows, at no cost, whether the k-th place is tied.
    values, columns = torch.topk(z, min(k + 1, m), dim=1)
    if k < m:
        tied = values[:, k - 1] == values[:, k]
        values, columns = values[:, :k].contiguous(), columns[:, :k].contiguous()
        if bool(tied.any()):
            # A stable sort has equal entries in the order of their columns.
            order = torch.sort(z[tied], dim=1, descending=True, stable=True)
            values[tied], columns[tied] = order.values[:, :k], order.indices[:, :k]
    return values, columns


def keep_top_k(z, k, *, magnitude=False):
    """Codes of a TopK autoencoder: ``relu(z)`` on the k largest of every row, 0 elsewhere.

    Differentiable in `z` at fixed support (Gao et al. 2024). With `magnitude`, ``z`` itself on the
    k largest absolute values.
    """
    return where_top_k(z, k, z if magnitude else positive_part(z), magnitude=magnitude)


def where_top_k(z, k, values, *, magnitude=False):
    """`values` where `z` is among the k largest of its row, 0 elsewhere.

    Parameters
    ----------
    z : Tensor of shape (n, m)
        What is compared, by `top_k`'s rules; its gradient is not followed.
    k : int
        At least 1; all entries are kept from m on.
    values : Tensor of shape (n, m)
    magnitude : bool, default=False
        Whether entries of `z` are compared by their absolute values.

    Returns
    -------
    kept : Tensor of shape (n, m)
    """
    m = z.shape[1]
    if k >= m:
        return values
    z = z.detach()
    sizes = z.abs() if magnitude else z
    if z.device.type == "cpu" and z.dtype in (torch.float32, torch.float64):
        # To divide a row takes numpy a fifth of the time in which torch ranks its largest entries.
        divided = np.partition(sizes.numpy(), m - k - 1, axis=1)
        dropped = divided[:, m - k - 1 : m - k]  # the largest of each row
        # Neither equal entries nor NaN may stand at the border, and differences must be numbers.
        n_above = np.count_nonzero(divided[:, m - k :] > dropped)
        if n_above == k * len(z) and dropped.min(initial=np.inf) > -np.inf:
            return where_positive(sizes - torch.from_numpy(dropped), values)
    _, columns = top_k(z, k, magnitude=magnitude)
    return torch.zeros_like(values).scatter(1, columns, values.gather(1, columns))


def threshold_codes(z, threshold=0.0):
    """``z`` where it exceeds ``max(threshold, 0)``, 0 elsewhere (never -0.0)."""
    if isinstance(threshold, torch.Tensor):
        return where_positive(z - threshold.clamp(min=0), z)
    return torch.threshold(z, max(threshold, 0.0), 0.0)


def positive_part(z):
    """``max(z, 0)``, never -0.0, which `torch.relu` keeps."""
    return torch.threshold(z, 0.0, 0.0)


def where_positive(gate, values):
    """`values` where `gate` is above 0, and 0 elsewhere; both of the same shape.

    `torch.where` branches per entry, and takes five to ten times as long.
    """
    return torch.ops.aten.threshold_backward(values, gate, 0.0)


def refined_top_k(z, x, coef, bias, k, *, magnitude=False):
    """The k largest exact entries of every row, preselected by the rough pre-activations `z`."""
    m = z.shape[1]
    if not magnitude and (loops := compiled_for(x)):
        return loops.refined_top_k(z, x, coef, bias, k)
    rough, latents = grouped_top_k(z, min(k + MARGIN, m), settle=False, magnitude=magnitude)
    rough = rough.to(x.dtype)
    exact = ActiveSet.from_rows(latents, m).dots(x, coef, bias).view(rough.shape)
    # Entries are ranked by their sizes: the values themselves, or their magnitudes.
    sizes = exact.abs() if magnitude else exact
    largest, places = torch.topk(sizes, min(k + 1, exact.shape[1]), dim=1)
    last = largest[:, k - 1]
    # What was left out is at most the last candidate plus an error like those made around it.
    error = 2 * (exact - rough)[:, max(0, k - MARGIN) :].abs().amax(1)
    unseen = (rough[:, -1].abs() if magnitude else rough[:, -1]) + error
    doubtful = (unseen >= last) & (rough.shape[1] < m)
    if k < largest.shape[1]:
        doubtful |= last == largest[:, k]
    doubtful &= torch.maximum(unseen, last) > 0  # below 0 there are no codes to mistake
    places = places[:, :k]
    values, latents = exact.gather(1, places), latents.gather(1, places)
    again = doubtful.nonzero().flatten()
    if len(again):
        lowest = (last - error)[again]
        values[again], latents[again] = _widened_top_k(
            z[again], lowest, x[again], coef, bias, k, magnitude=magnitude
        )
    return values, latents


def _widened_top_k(z, lowest, x, coef, bias, k, *, magnitude=False):
    """The k largest exact entries of every row among all whose rough size is not below `lowest`."""
    n, m = z.shape
    sizes = z.abs() if magnitude else z
    active = ActiveSet.from_flat(flat_nonzero(sizes >= lowest[:, None]), n, m)
    counts = active.pointer.diff()
    width = max(k, int(counts.max()))
    # Entries of a row side by side, in a matrix as wide as the longest row; the rest is padding.
    place = torch.arange(len(active), device=z.device) - active.pointer[active.rows]
    places = active.rows * width + place
    exact = x.new_zeros(n * width)
    sizes = x.new_full((n * width,), -torch.inf)
    latents = torch.zeros(n * width, dtype=torch.int64, device=z.device)
    exact[places], latents[places] = active.dots(x, coef, bias), active.latents
    sizes[places] = exact[places].abs() if magnitude else exact[places]
    _, chosen = top_k(sizes.view(n, width), k)
    return exact.view(n, width).gather(1, chosen), latents.view(n, width).gather(1, chosen)


def grouped_top_k(z, k, *, settle=True, magnitude=False):
    """The k largest entries of every row, in descending order.

    With `settle`, equal ones are taken by lowest column first; with `magnitude`, entries are
    compared by their absolute values, on every device by the same selection of ``|z|``.

    The k groups with the largest maxima hold the k largest entries, so that only these are ranked.
    """
    if magnitude:
        columns = grouped_top_k(z.abs(), k, settle=settle)[1]
        return z.gather(1, columns), columns
    if uses_triton(z) and z.dtype != torch.float64:
        from sksae.kernels import _triton

        values, columns = _triton.top_k(z, k)
        # Triton returns ascending columns, which a stable sort by value keeps among equals.
        order = torch.sort(values, dim=1, descending=True, stable=True).indices
        return values.gather(1, order), columns.gather(1, order)
    n, m = z.shape
    blocks = m // _GROUP
    ranked = _packed_bfloat16_top_k if z.dtype == torch.bfloat16 and not settle else _packed_top_k
    if m % _GROUP or blocks < 2 * (k + 1):
        return top_k(z, k) if settle else ranked(z, k)
    n_ranked = k + 1 if settle else k
    # Group g holds the columns g, g + blocks, g + 2 blocks, ...: views without a copy.
    groups = z.view(n, _GROUP, blocks)
    # An entry outside of these groups has k others that are at least as large.
    largest = ranked(groups.amax(1), n_ranked)[1]
    members = groups.gather(2, largest.unsqueeze(1).expand(n, _GROUP, n_ranked)).view(n, -1)
    values, places = ranked(members, n_ranked)
    # A place within the members is (offset within the group) * wanted + (rank of the group).
    columns = (
        largest.gather(1, places % n_ranked) + places.div(n_ranked, rounding_mode="floor") * blocks
    )
    if not settle:
        return values, columns
    tied = (values[:, k - 1] == values[:, k]).nonzero().flatten()
    values, columns = values[:, :k].contiguous(), columns[:, :k].contiguous()
    if len(tied):
        values[tied], columns[tied] = top_k(z[tied], k)  # the lowest columns of equal entries
    return values, columns


def _packed_top_k(z, k):
    """The k largest entries of every row, in descending order, for which numpy partitions float64.

    A float32 leaves 29 bits of a float64 unused, which hold its column: what is partitioned is not
    pairs but numbers, several times faster than torch ranks pairs.
    """
    if z.device.type != "cpu" or z.dtype != torch.float32 or z.numel() < _PACKED:
        return torch.topk(z, k, dim=1)
    m = z.shape[1]
    keys = z.double().numpy()
    bits = keys.view(np.int64)
    bits |= np.arange(m)
    keys.partition(m - k, axis=1)
    # The k largest are at the end in any order, and only they are sorted.
    top = np.sort(keys[:, m - k :], axis=1)[:, ::-1]
    columns = torch.from_numpy(top.view(np.int64) & (2**29 - 1))
    values = z.gather(1, columns)
    # Infinite keys are no numbers with a column in them.
    return (values, columns) if bool(values.isfinite().all()) else torch.topk(z, k, dim=1)


def _packed_bfloat16_top_k(z, k):
    """The k largest entries of every row of bfloat16, in descending order.

    A value and its column make one integer that sorts as they do, and numpy partitions those
    several times faster than torch ranks pairs.
    """
    m = z.shape[1]
    if m > 2**16 or z.device.type != "cpu":
        return torch.topk(z, k, dim=1)
    # High 16 bits: the value. Low 16 bits: its column.
    keys = _ordered(z.view(torch.int16)).to(torch.int32) << 16
    keys |= torch.arange(m, dtype=torch.int32)
    keys = keys.numpy()
    # The k largest go to the end in any order, and only they are sorted.
    keys.partition(m - k, axis=1)
    top = torch.from_numpy(np.sort(keys[:, m - k :], axis=1)).flip(1)
    values = _ordered((top >> 16).to(torch.int16)).view(torch.bfloat16)
    return values, (top & 0xFFFF).to(torch.int64)


def _ordered(bits):
    """Bits of bfloat16 as integers that sort like the numbers; its own inverse."""
    # The shift gives -1 for negative numbers: all their bits but the sign are flipped.
    return bits ^ ((bits >> 15) & 0x7FFF)
