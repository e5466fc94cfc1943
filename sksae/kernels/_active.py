"""The active set: the entries (row, latent) of a code matrix that can be other than zero."""

import warnings
from functools import cache, cached_property

import numpy as np
import torch
from torch.nn.functional import embedding_bag


class ActiveSet:
    """Positions in an (n, m) matrix, row by row, and the three products that touch no others.

    Parameters
    ----------
    pointer : Tensor of int64 of shape (n + 1,)
        Entries ``pointer[r] : pointer[r + 1]`` belong to row r.
    latents : Tensor of int64 of shape (nnz,)
        Column of every entry.
    n_latents : int
        Number of columns, m.
    """

    def __init__(self, pointer, latents, n_latents):
        self.pointer, self.latents, self.n_latents = pointer, latents, n_latents

    @classmethod
    def from_rows(cls, latents, n_latents):
        """Return the set of ``latents`` of shape (n, k): as many entries in every row."""
        n, k = latents.shape
        # Row r has the entries r k : (r + 1) k.
        pointer = torch.arange(n + 1, device=latents.device) * k
        return cls(pointer, latents.reshape(-1), n_latents)

    @classmethod
    def from_flat(cls, positions, n_rows, n_latents):
        """Return the set of ascending positions ``row * n_latents + latent``."""
        rows = torch.div(positions, n_latents, rounding_mode="floor")
        active = cls(count_pointer(rows, n_rows), positions - rows * n_latents, n_latents)
        active.rows = rows
        return active

    def __len__(self):
        return len(self.latents)

    @property
    def n_rows(self):
        """Number of rows, n."""
        return len(self.pointer) - 1

    @cached_property
    def rows(self):
        """Row of every entry, shape (nnz,)."""
        rows = torch.arange(self.n_rows, device=self.latents.device)
        # With the size given, the host need not wait for the device to count.
        return torch.repeat_interleave(rows, self.pointer.diff(), output_size=len(self))

    def where(self, mask):
        """Return the set of the entries that `mask` of shape (nnz,) keeps."""
        rows = self.rows[mask]
        subset = ActiveSet(count_pointer(rows, self.n_rows), self.latents[mask], self.n_latents)
        subset.rows = rows
        return subset

    def to_dense(self, values):
        """Return the (n, m) matrix with `values` at the entries, 0 elsewhere."""
        dense = values.new_zeros(self.n_rows * self.n_latents)
        # No position occurs twice, so that assignment loses nothing.
        dense[self.rows * self.n_latents + self.latents] = values
        return dense.view(self.n_rows, self.n_latents)

    def dots(self, left, right, bias=None):
        """Return ``left[row] . right[latent] (+ bias[latent])`` of every entry, shape (nnz,)."""
        values = left.new_zeros(len(self)) if bias is None else bias[self.latents]
        if len(self) == 0:
            return values
        if uses_triton(left):
            from sksae.kernels import _triton

            return _triton.dots(left, right, self.pointer, self.latents) + values
        if loops := compiled_for(left):
            return loops.dots(left, right, self.pointer, self.latents, values)
        # sampled_addmm computes beta * sampled + left right^T at the entries of `sampled` alone.
        sampled = _csr(self.pointer, self.latents, values, (self.n_rows, self.n_latents))
        beta = float(bias is not None)
        return torch.sparse.sampled_addmm(sampled, left, right.T, beta=beta).values()

    def row_sums(self, values, matrix):
        """Return ``sum of values * matrix[latent]`` over the entries of every row, shape (n, d)."""
        return segment_sums(values, self.latents, self.pointer, matrix)

    @cached_property
    def by_latent(self):
        """The entries sorted by latent: ``(order, rows, pointer)``, the last of shape (m + 1,)."""
        if self.latents.device.type == "cpu" and (loops := _compiled_loops()):
            return loops.by_latent(self.latents, self.pointer, self.n_latents)
        # Stable: the rows of a latent stay ascending, and sums over them have one order.
        latents, order = torch.sort(self.latents, stable=True)
        return order, self.rows[order], count_pointer(latents, self.n_latents)

    def latent_totals(self, values):
        """Return the sum of `values` over the entries of every latent, shape (m,)."""
        return values.new_zeros(self.n_latents).index_add_(0, self.latents, values)


def uses_triton(tensor):
    """Whether products with this tensor are Triton's."""
    return tensor.is_cuda


def compiled_for(tensor):
    """Return the module of compiled loops, or None where plain torch is to be used instead.

    Loops are for float32 and float64 on the CPU, and need numba.
    """
    is_looped = tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)
    return _compiled_loops() if is_looped and not uses_triton(tensor) else None


@cache
def _compiled_loops():
    # Without numba, beside a numpy that it does not know, or with its compiler switched off.
    try:
        from numba import config

        from sksae.kernels import compiled

        compiled.nth_largest(torch.zeros(1), 1)  # whether there is a compiler, or what it made
    except Exception:  # whatever a compiler may raise: there is another way
        return None
    return None if config.DISABLE_JIT else compiled


def flat_nonzero(mask):
    """Return the positions of the true entries of a mask, in the flattened mask."""
    if mask.device.type == "cpu":  # numpy's is several times faster
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.flatten().nonzero().flatten()


def count_pointer(groups, n_groups):
    """Return where each of `n_groups` begins in the ascending `groups`, shape (n_groups + 1,)."""
    counts = torch.bincount(groups, minlength=n_groups)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def segment_sums(values, indices, pointer, matrix):
    """Return ``out[s]``, the sum of ``values[i] * matrix[indices[i]]`` over the entries of s.

    These are ``pointer[s] <= i < pointer[s + 1]``.

    Parameters
    ----------
    values : Tensor of shape (nnz,)
    indices : Tensor of int64 of shape (nnz,)
    pointer : Tensor of int64 of shape (n_segments + 1,)
    matrix : Tensor of shape (rows, d)

    Returns
    -------
    out : Tensor of shape (n_segments, d)
    """
    if uses_triton(matrix):
        from sksae.kernels import _triton

        return _triton.segment_sums(values, pointer, indices, matrix)
    if loops := compiled_for(matrix):
        return loops.segment_sums(values, indices, pointer, matrix)
    # A bag is a segment, and one index and one weight belong to each of its entries.
    return embedding_bag(
        indices,
        matrix,
        pointer,
        mode="sum",
        per_sample_weights=values,
        include_last_offset=True,
    )


def runs_on(device):
    """Whether products over active entries can be had on this kind of device, and come out right.

    On CUDA they are Triton's, where it is installed; the first call compares them with dense ones.
    """
    return device.type == "cpu" or (device.type == "cuda" and _triton_is_right(device))


@cache
def _triton_is_right(device):
    try:
        from sksae.kernels import _triton
    except ImportError:
        return False
    numbers = torch.Generator().manual_seed(0)
    # Sizes that fill no tile of the kernels, so that their masks are compared as well.
    rows, matrix = (torch.randn(n, 48, generator=numbers).to(device) for n in (64, 96))
    z = rows @ matrix.T
    try:
        values, latents = _triton.top_k(z, 9)
        active = ActiveSet.from_rows(latents, 96)
        sums = active.row_sums(values.flatten(), matrix)
        dots = active.dots(rows, matrix)
    except Exception as error:  # whatever a compiler or driver may raise: there is another way
        warnings.warn(f"Plain torch is used: Triton fails on {device}: {error}", stacklevel=2)
        return False
    expected = torch.zeros_like(z).scatter(1, latents, values) @ matrix
    right_sums = torch.allclose(sums, expected, rtol=1e-4, atol=1e-3)
    right_dots = torch.allclose(dots, values.flatten(), rtol=1e-2, atol=1e-2)
    best = torch.equal(values.sort(1).values, z.topk(9).values.sort(1).values)
    if not (right_sums and right_dots and best):
        warnings.warn(f"Plain torch is used: Triton's results on {device} are wrong", stacklevel=2)
    return right_sums and right_dots and best


def _announce():
    """Have torch say once, unheard, that its CSR tensors are young.

    This happens on import, of which there is one at a time: filters of warnings belong to the whole
    process, and threads that set them aside and put them back could leave them as they found those
    of each other.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor([0, 0], [], [], size=(1, 1), device="cpu")


_announce()


def _csr(pointer, latents, values, shape):
    return torch.sparse_csr_tensor(pointer, latents, values, size=shape, check_invariants=False)
