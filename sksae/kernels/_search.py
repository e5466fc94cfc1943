"""The search for active entries: one matrix product into a reused buffer, then a selection.

Where the processor multiplies bfloat16 faster, the product only preselects: candidates with a
margin, whose values are then computed in the working dtype. What the margin may have missed is
done again in full, so that the entries found are those of the working dtype.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from sksae._arrays import rows_per_chunk
from sksae._processes import gathered, lowest_over_processes, n_processes, sum_over_processes
from sksae.kernels._active import ActiveSet, compiled_for, flat_nonzero
from sksae.kernels._selection import grouped_top_k, refined_top_k

_WORTH_HALVING = 2**25  # multiplications below which copies in bfloat16 cost more than they save
_ROUNDING = 2.0**-8  # relative error of a number in bfloat16
_SPREAD = 4.0  # standard deviations of the error of a product that the margin covers


@dataclass(frozen=True, eq=False)
class Rule:
    """The entries of ``Z = X E^T + b`` that can have a code or a gradient.

    Exactly one of `bound` and `k` is given.

    Parameters
    ----------
    bound : Tensor of shape (m,) or float, default=None
        Active where ``z > bound``.
    k : float, default=None
        Active are the k largest entries of every row.
    pooled : bool, default=False
        Whether instead the ``k n`` largest positive ones of all n rows are.
    magnitude : bool, default=False
        Whether the k largest are those with the largest absolute value, of either sign.
    bias : str or None, default="encoder_intercept"
        Name of the weight b; None for ``Z = X E^T``.

    See Also
    --------
    sksae.objectives.Objective.rule : Returns the rule of an objective.

    Examples
    --------
    >>> from sksae.objectives import Rule
    >>> Rule(k=32).pooled
    False
    """

    bound: object = None
    k: float | None = None
    pooled: bool = False
    magnitude: bool = False
    bias: str | None = "encoder_intercept"

    def __post_init__(self):
        if (self.bound is None) == (self.k is None):
            raise ValueError("A Rule needs either bound or k.")
        if self.pooled and (self.magnitude or self.k is None):
            raise ValueError("A Rule with pooled=True needs k, and cannot go by magnitude.")
        if self.magnitude and self.k is None:
            raise ValueError("A Rule with magnitude=True needs k.")


class Search:
    """Finds active entries, chunk by chunk, in buffers of its own.

    Parameters
    ----------
    exact : bool, default=True
        Whether values that bfloat16 preselected are computed again in the working dtype.

    Attributes
    ----------
    cut : float
        The largest entry that the last pooled search dropped, 0 if it kept all positive ones.
    """

    def __init__(self, *, exact=True):
        self.exact = exact
        self._buffers = {}
        self._guess = None
        self.cut = 0.0

    def buffer(self, name, shape, dtype, device):
        """Return an uninitialised tensor in memory that the next call of this name uses again."""
        size = int(np.prod(shape))
        flat = self._buffers.get(name)
        if flat is None or len(flat) < size or flat.dtype != dtype or flat.device != device:
            flat = self._buffers[name] = torch.empty(size, dtype=dtype, device=device)
        return flat[:size].view(shape)

    @torch.no_grad()
    def __call__(self, x, coef, bias, rule, w=None):
        """Return the active set of ``x coef^T + bias`` under `rule` and its values.

        Parameters
        ----------
        x : Tensor of shape (n, d)
        coef : Tensor of shape (m, d)
        bias : Tensor of shape (m,)
        rule : Rule
        w : Tensor of shape (n,), default=None
            Weights of the rows, for a pooled rule.

        Returns
        -------
        active : ActiveSet
        values : Tensor of shape (nnz,)
        """
        if rule.pooled:
            return self._pooled(x, coef, bias, rule.k, w)
        if rule.k is None:
            return self.above(x, coef, bias, rule.bound)
        k = min(int(rule.k), len(coef))
        values, latents = self.largest(x, coef, bias, k, magnitude=rule.magnitude)
        return ActiveSet.from_rows(latents, len(coef)), values.reshape(-1)

    # The k largest of every row ------------------------------------------------------------------

    def largest(self, x, coef, bias, k, *, magnitude=False):
        """Return values and latents of the k largest entries of every row, each of shape (n, k).

        They are in no particular order.
        """
        n, m = len(x), len(coef)
        half = halves(x, m)
        values = x.new_empty(n, k)
        latents = torch.empty(n, k, dtype=torch.int64, device=x.device)
        for rows, z in self._products(x, coef, bias, half):
            if half and self.exact:  # candidates by rough values, then exact ones of these
                values[rows], latents[rows] = refined_top_k(
                    z, x[rows], coef, bias, k, magnitude=magnitude
                )
            elif not magnitude and (loops := compiled_for(z)):
                values[rows], latents[rows] = loops.top_k(z, k)
            else:
                values[rows], latents[rows] = grouped_top_k(
                    z, k, settle=not half, magnitude=magnitude
                )
        return values, latents

    # All above a bound ---------------------------------------------------------------------------

    def above(self, x, coef, bias, bound):
        """Return the active set and the values of the entries above `bound`."""
        n, m = len(x), len(coef)
        half = halves(x, m)
        refine = half and self.exact
        # A rough product is held against a lower bound: what is truly above `bound` is above it.
        lowered = _lowered(bound, bias) if refine else bound
        if refine and (loops := compiled_for(x)):
            return self._looped_above(loops, x, coef, bias, bound, lowered)
        flat, values = [], []  # positions in the flattened (n, m) matrix, chunk by chunk
        for rows, z in self._products(x, coef, bias, half, slack=refine):
            mask = self.buffer("mask", z.shape, torch.bool, z.device)
            torch.gt(z, lowered, out=mask)
            positions = flat_nonzero(mask)
            flat.append(positions + rows.start * m)
            if not refine:
                values.append(z.view(-1)[positions].to(x.dtype))
        active = ActiveSet.from_flat(torch.cat(flat), n, m)
        if not refine:
            return active, torch.cat(values)
        values = active.dots(x, coef, bias)
        keep = values > (bound[active.latents] if isinstance(bound, torch.Tensor) else bound)
        return active.where(keep), values[keep]

    def _looped_above(self, loops, x, coef, bias, bound, lowered):
        """Return what `above` does, by compiled loops over a rough product."""
        bound = torch.as_tensor(bound).to(x).expand(len(coef)).contiguous()
        lowered = lowered.expand(len(coef)).contiguous()
        parts = [
            loops.refined_above(z, x[rows], coef, bias, lowered=lowered, bound=bound)
            for rows, z in self._products(x, coef, bias, True, slack=True)
        ]
        values, latents, counts = (torch.cat(part) for part in zip(*parts, strict=True))
        pointer = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return ActiveSet(pointer, latents, len(coef)), values

    # The largest of a batch ----------------------------------------------------------------------

    def _pooled(self, x, coef, bias, k, w):
        """Keep the ``k n`` largest positive entries, by a running guess of the cut."""
        w = x.new_ones(len(x)) if w is None else w
        budget = sum_over_processes(_budget(k, w))
        guess = self._guess
        if guess is None:
            guess = lowest_over_processes(self._first_guess(x, coef, bias, k))
        active, values = self.above(x, coef, bias, guess)
        # Too few entries above the guess: the cut is below it.
        while guess > 0 and sum_over_processes(float(w[active.rows].double().sum())) <= budget:
            guess = 0.5 * guess if 1e-3 < guess < torch.inf else 0.0
            active, values = self.above(x, coef, bias, guess)
        cut = _cut(values, active.rows, w, k)
        # The cut moves little from batch to batch: the next search begins a little below it.
        self.cut, self._guess = cut, 0.95 * cut
        if loops := compiled_for(values):
            values, latents, pointer = loops.keep_above(values, active.latents, active.pointer, cut)
            return ActiveSet(pointer, latents, len(coef)), values
        keep = values > cut
        return active.where(keep), values[keep]

    def _first_guess(self, x, coef, bias, k):
        # From a few rows, half as many entries again as their share.
        rows = x[: max(1, min(len(x), 256))]
        z = torch.addmm(bias, rows, coef.T).flatten()
        count = min(len(z), int(1.5 * k * len(rows)) + 1)
        # kthvalue counts from the smallest: this is the last of the `count` largest.
        return max(0.0, float(torch.kthvalue(z, len(z) - count + 1).values))

    # The product ---------------------------------------------------------------------------------

    def product(self, left, right, bias=None):
        """``left @ right (+ bias)``, in bfloat16 where that is faster and will do."""
        if not self.exact and halves(left, right.shape[1]):
            product = left.to(torch.bfloat16) @ right.to(torch.bfloat16)
            return product.to(left.dtype) if bias is None else product.to(left.dtype).add_(bias)
        return left @ right if bias is None else torch.addmm(bias, left, right)

    def add_product(self, out, left, right):
        """Add ``left @ right`` to `out`."""
        if not self.exact and halves(left, right.shape[1]):
            out += left.to(torch.bfloat16) @ right.to(torch.bfloat16)
        else:
            out.addmm_(left, right)

    def _products(self, x, coef, bias, half, *, slack=False):
        """Yield ``(rows, z)``: a slice and its pre-activations, in a buffer that is overwritten."""
        n, m = len(x), len(coef)
        if half:
            x, coef, bias = self._halved(x, coef, bias, slack)
        step = min(n, rows_per_chunk(m))
        for start in range(0, n, max(step, 1)):
            rows = slice(start, min(start + step, n))
            z = self.buffer("z", (rows.stop - start, m), x.dtype, x.device)
            torch.addmm(bias, x[rows], coef.T, out=z)
            yield rows, z

    def _halved(self, x, coef, bias, slack):
        """Return bfloat16 copies; `slack` rides along as one more feature, a bound of the error.

        Rounding both factors moves a dot product by about ``2^-8 |x|_4 |w|_4`` (the Cauchy-Schwarz
        bound of the standard deviation, for independent errors); four times that is added.
        """
        extra = 8 if slack else 0
        shapes = {"x": (len(x), x.shape[1] + extra), "coef": (len(coef), x.shape[1] + extra)}
        halved = []
        for (name, shape), full in zip(shapes.items(), (x, coef), strict=True):
            copy = self.buffer(name, shape, torch.bfloat16, x.device)
            copy[:, : full.shape[1]] = full
            # One column for the bound of the error, seven of zeros for an even number of columns.
            if slack:
                copy[:, full.shape[1] :] = 0
                squares = full * full  # torch takes six times as long over a fourth power
                copy[:, full.shape[1]] = torch.linalg.vecdot(squares, squares).sqrt().sqrt()
            halved.append(copy)
        if slack:
            halved[1][:, x.shape[1]] *= _SPREAD * _ROUNDING
        return *halved, bias.to(torch.bfloat16)


def halves(x, n_latents):
    """Whether to preselect in bfloat16: large float32 products on a processor made for it."""
    large = x.numel() * n_latents >= _WORTH_HALVING
    return x.dtype == torch.float32 and large and _has_bfloat16(x.device.type)


@cache
def _has_bfloat16(kind):
    if kind == "cuda":
        return torch.cuda.is_bf16_supported()
    if kind != "cpu":
        return False
    has = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.10 does not tell
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


def _lowered(bound, bias):
    """Return `bound` less what rounding bound, bias and result to bfloat16 can take."""
    size = bias.abs() + (bound.abs() if isinstance(bound, torch.Tensor) else abs(bound))
    return (bound - 2 * _ROUNDING * size).to(torch.bfloat16)


def pooled_cut(z, k, w):
    """Return the cut that keeps the ``k n`` largest positive entries of z, of shape (n, m).

    Entries above it weigh at most ``k sum(w)``, as if rows were repeated; equal entries stay or
    fall together. The batch is that of all processes.
    """
    if n_processes() == 1 and bool((w == w[0]).all()):
        return _raised(_first_dropped(z.flatten(), k, len(w)))
    rows = torch.arange(len(z), device=z.device)[:, None].expand_as(z)
    positive = z > 0
    return _cut(z[positive], rows[positive], w, k)


def _budget(k, w):
    # float32 weights add up to a whole number but for their rounding.
    return k * float(w.double().sum()) * (1 + 1e-6)


def _cut(values, rows, w, k):
    weights = None
    if n_processes() > 1:  # the entries of all processes, of which each has the weight of its row
        values, weights = gathered(torch.stack([values, w[rows].to(values.dtype)], 1)).unbind(1)
        w = gathered(w)
    # With equal weights the cut is an order statistic, for which nothing need be sorted.
    if bool((w == w[0]).all()):
        cut = _first_dropped(values, k, len(w))
    else:
        ordered, order = torch.sort(values, descending=True, stable=True)
        # Every entry weighs as much as its row; the cut is the first that exceeds the budget.
        weights = w[rows] if weights is None else weights
        over = torch.cumsum(weights[order].double(), 0) > _budget(k, w)
        if not bool(over.any()):
            return 0.0
        cut = ordered[over.nonzero()[0]]
    return _raised(cut)


def _first_dropped(values, k, n_rows):
    """The largest value after the ``k n`` largest of n rows, 0 if there is none."""
    place = len(values) - int(k * n_rows + 1e-6) - 1  # in ascending order
    if place < 0:
        return values.new_zeros(())
    if loops := compiled_for(values):
        return values.new_tensor(loops.nth_largest(values, len(values) - place))
    if values.device.type == "cpu":  # numpy divides faster than torch
        return torch.from_numpy(np.partition(values.numpy(), place))[place]
    return torch.kthvalue(values, place + 1).values


def _raised(cut):
    """The cut as a number, a little raised and not below 0."""
    # Repeated rows differ by rounding, according to their places in a product: still equal.
    return max(0.0, float(cut) * (1 + 256 * torch.finfo(cut.dtype).eps))
