"""Mini-batches of rows: read lazily, normalised, moved to the device."""

import math
from copy import copy
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from sksae._arrays import row_chunks, to_torch
from sksae._processes import NEGLIGIBLE, RowShare, sum_over_processes
from sksae.kernels import compiled_for

_KEPT = 2**20  # entries of an array up to which its rows are prepared once
_MEASURED = 2**15  # rows that stand for all where something is measured before or after training
_MAX_SHUFFLED = 10_000_000  # rows that are permuted one by one
_BLOCK = 4096  # consecutive rows that move together beyond that
_SMALLEST = 1e-300  # sizes below it are not scaled: the scale would overflow
_UNDERFLOW = 1e-150  # sizes below it have squares that vanish or lose digits in float64
_ROUNDING = 2.0**-46  # spread relative to the mean up to which rows count as equal
_LARGE = 2.0**100  # bound of a factor of a scale, as float32 ends at 2^128


class Normalization(NamedTuple):
    """The internal unit of training, ``x~ = scale (x - mean)``, along other axes if there are any.

    Parameters
    ----------
    mean : Tensor of shape (d,), float64, on the CPU
    scale : float or Tensor of shape (d,)
        A tensor where blocks of columns, side by side, have a scale each.
    constant : bool
        Whether all rows of a block are equal, but for rounding.
    axes : Tensor of shape (d, d) or None
        Orthogonal axes as columns, by which rows are multiplied; zeros where nothing varies.
    """

    mean: torch.Tensor
    scale: float | torch.Tensor
    constant: bool = False
    axes: torch.Tensor | None = None

    @classmethod
    def from_rows(cls, rows, method):
        """Measure `rows` in float64, chunk by chunk.

        Parameters
        ----------
        rows : Batches
            Read in order, in raw units.
        method : {"rms", "anthropic", "unit", None}
            "rms": centred, mean squared norm d. "anthropic": not centred, mean norm sqrt(d).
            "unit": not centred, mean squared norm 1. None: untouched.

        Every block of columns is measured by itself, on at most 32 768 rows.
        """
        rows = rows.thinned()
        # One pass over the rows for the mean, and another per block for its size.
        mean = rows.average()
        units = [cls._measured(rows, method, columns, mean[columns]) for columns in rows.blocks]
        if len(units) == 1:
            return units[0]
        scales = [torch.full_like(unit.mean, unit.scale) for unit in units]
        constant = any(unit.constant for unit in units)
        return cls(torch.cat([unit.mean for unit in units]), torch.cat(scales), constant)

    @classmethod
    def _measured(cls, rows, method, columns, mean):
        d = len(mean)
        # What is subtracted is subtracted in the dtype that rows are read in.
        centre = mean.to(rows.read_dtype).double() if method == "rms" else torch.zeros_like(mean)
        if method == "anthropic":
            norm = rows.average(lambda x: x[:, columns].norm(dim=1, keepdim=True))
            size = float(norm) ** 2
        else:
            square = rows.average(lambda x: (x[:, columns] - centre).square().sum(1, keepdim=True))
            size = float(square)
        if not (bool(torch.isfinite(mean).all()) and math.isfinite(size)):
            raise ValueError("Input X contains NaN, infinity or a value too large for its dtype.")
        size, constant = math.sqrt(size), False
        if method in ("rms", "unit") and size < _UNDERFLOW:
            # Squares relative to the mean of the rows' largest entries do not vanish.
            entries = rows.average(lambda x: (x[:, columns] - centre).abs().amax(1, keepdim=True))
            if unit := float(entries):
                ratios = rows.average(
                    lambda x: ((x[:, columns] - centre) / unit).square().sum(1, keepdim=True)
                )
                size = unit * math.sqrt(float(ratios))
        if method == "rms" and size <= _ROUNDING * float(mean.norm()):
            # Equal rows differ from their mean by its rounding: they are the centre and the unit.
            size, constant = float(mean.norm()), True
            centre = rows.take(torch.zeros(1, dtype=torch.int64))[0][0, columns].cpu().double()
        unscaled = method is None or size < _SMALLEST
        scale = 1.0 if unscaled else math.sqrt(1 if method == "unit" else d) / size
        return cls(centre, scale, constant)

    def part(self, columns):
        """Return the map of some columns; its scale is a float where they share one."""
        scale = self.scale
        if torch.is_tensor(scale):
            scale = scale[columns]
            scale = float(scale[0]) if bool((scale == scale[0]).all()) else scale
        return Normalization(self.mean[columns], scale)

    def relative(self):
        """Return one scale, and the factors of the columns relative to it (None if all are 1).

        The one scale is that of the root mean square of the columns' units.
        """
        if not torch.is_tensor(self.scale):
            return self.scale, None
        smallest = self.scale.min()  # its unit, the largest, keeps squares in range
        common = float(smallest / (smallest / self.scale).square().mean().sqrt())
        return common, self.scale / common


class Batches:
    """Mini-batches of ``(x, w)`` from the rows of an array that may be larger than memory.

    A row is made of blocks of columns: those of the inputs, then those of the targets. Without
    `targets` the inputs are their own targets.

    Parameters
    ----------
    inputs : array of shape (n, d), or list of such arrays
        ndarray, memmap, Tensor or array API array; a list has one entry per block.
    sample_weight : Tensor of shape (n,) or None
    batch_size : int
    dtype, device
        Of the batches.
    rows : Tensor of int, default=None
        The rows to use; None for all.
    share : RowShare, default=None
        Where the arrays are the share of one of several processes, which. Rows are then numbered
        over all processes, batches are of all of them, and an iteration yields those rows of a
        batch that are in the arrays. None where the arrays are all there is.
    generator : torch.Generator, default=None
        Source of the shuffling. None reads in order.
    targets : array of shape (n, t), or list of such arrays, default=None
        The rows that are to be predicted, if these are not the inputs.
    blocks : sequence of int, default=()
        Widths of the blocks that the columns of all arrays are; a block per array where there are
        none.

    Attributes
    ----------
    blocks : list of slice
        Columns of every block, each of which has a unit of its own.
    inputs, targets : slice
        Columns that the encoder reads, and columns that are reconstructed.
    n_features : int
        Number of all columns.
    read_dtype : dtype
        In which rows are read and centred; `dtype` or wider.
    position : int
        Batches of this pass that were given out.
    """

    def __init__(
        self,
        inputs,
        sample_weight,
        batch_size,
        dtype,
        device,
        *,
        rows=None,
        share=None,
        generator=None,
        targets=None,
        blocks=(),
    ):
        read, predicted = _listed(inputs), _listed(targets)
        self._arrays = [
            _resident(A if isinstance(A, np.ndarray) else to_torch(A), torch.device(device))
            for A in (*read, *predicted)
        ]
        self._weight, self._rows = sample_weight, rows
        self.dtype, self.device, self._generator = dtype, torch.device(device), generator
        # Rows are centred in float64 where the inputs have it, and the device.
        is_exact = to_torch(self._arrays[0][:0]).dtype == torch.float64
        self.read_dtype = torch.float64 if is_exact and self.device.type != "mps" else dtype
        self._looped = _looped(self._arrays, self.read_dtype)
        n_rows = int(read[0].shape[0])
        self._share = RowShare(0, n_rows, n_rows) if share is None else share
        self.n_samples = self._share.total if rows is None else len(rows)
        # Columns at which the blocks begin and end.
        edges = np.cumsum([0, *(int(A.shape[1]) for A in self._arrays)]).tolist()
        ends = np.cumsum([0, *blocks]).tolist() if blocks else edges
        self.blocks = [slice(*pair) for pair in pairwise(ends)]
        self.n_features = edges[-1]
        self.inputs = slice(0, edges[len(read)])
        self.targets = slice(edges[len(read)], edges[-1]) if predicted else self.inputs
        self.batch_size = min(batch_size, self.n_samples)
        self._normalization, self._shift, self._scales, self._axes = None, None, (), None
        self.position, self._before, self._resumed = 0, None, None
        self._n_entries, self._whole = n_rows * self.n_features, None

    def normalize(self, normalization):
        """Yield rows in the internal unit from now on; return self."""
        self._normalization, self._whole = normalization, None
        self._shift = normalization.mean.to(self.read_dtype).to(self.device)
        # In two factors: a scale that makes up for subnormal rows is no number in their dtype.
        self._scales = [
            part.to(self.read_dtype).to(self.device) if torch.is_tensor(part) else part
            for part in _factors(normalization.scale)
        ]
        axes = self._axes = normalization.axes
        if axes is not None:
            if len(self._scales) == 1:  # one product scales and turns
                axes = axes * self._scales.pop()
            self._axes = axes.to(self.dtype).to(self.device)
        return self

    def shuffled(self, seed):
        """Return the same batches in an order of their own, which draws from no other generator."""
        batches = copy(self)
        batches._generator = torch.Generator().manual_seed(seed)
        return batches

    def thinned(self, most=_MEASURED):
        """Return the same batches of at most `most` rows, one drawn from each of as many spans."""
        n = self.n_samples
        if n <= most:
            return self
        batches = copy(self)
        # Drawn, because rows at equal distances may all be the first tokens of their texts; by a
        # seed of their own, so that the same rows are taken wherever something is measured.
        within = torch.rand(most, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        positions = ((torch.arange(most) + within) * (n / most)).long().clamp(max=n - 1)
        batches._rows = positions if self._rows is None else self._rows[positions]
        batches.n_samples, batches.batch_size = most, min(self.batch_size, most)
        return batches

    def __len__(self):
        return math.ceil(self.n_samples / self.batch_size)

    def __iter__(self):
        order, first = self._begin()
        # The last batch may be smaller.
        for start in range(first * self.batch_size, self.n_samples, self.batch_size):
            self.position = start // self.batch_size + 1
            index, is_none = self._own(order[start : start + self.batch_size])
            x, w = self._take(index)
            yield (x, w.fill_(NEGLIGIBLE)) if is_none else (x, w)

    def generator_states(self):
        """Return the states of the generator before this pass drew its order, and now."""
        return self._before, self._generator.get_state()

    def resume(self, position, before, now):
        """Have the next pass be the rest of one, of which `position` batches were seen.

        Parameters
        ----------
        position : int
        before, now : Tensor
            What `generator_states` returned.
        """
        self._resumed = position, before, now

    def _begin(self):
        """Return the order of a pass, and how many of its batches were seen before."""
        if self._resumed is None:
            self._before = None if self._generator is None else self._generator.get_state()
            return self._order(), 0
        (position, self._before, now), self._resumed = self._resumed, None
        self._generator.set_state(self._before)
        order = self._order()
        self._generator.set_state(now)
        return order, position

    def take(self, positions):
        """Return the rows at `positions` (indices into these rows) as ``(x, w)``."""
        index = positions if self._rows is None else self._rows[positions]
        if self._share.is_all:
            return self._take(index)
        # Places that are other processes' are 0 here, and this process's are 0 there.
        mask = self._share.mask(index)
        own_x, own_w = self._take(index[mask] - self._share.first)
        x, w = own_x.new_zeros(len(index), self.n_features), own_w.new_zeros(len(index))
        mask = mask.to(self.device)
        x[mask], w[mask] = own_x, own_w
        return sum_over_processes(x), sum_over_processes(w)

    def average(self, function=None):
        """Weighted mean over all rows of ``function(x)``, or of x; in float64, on the CPU."""
        axes = None if self._normalization is None else self._normalization.axes
        total, weight = 0.0, 0.0
        for chunk in row_chunks(self.n_samples, 4 * self.n_features):
            positions = torch.arange(chunk.start, chunk.stop)
            index = positions if self._rows is None else self._rows[positions]
            index, is_none = self._own(index)
            # On the CPU, wherever batches go: not every device has float64.
            x = self._read(index).cpu().double()
            if self._normalization is not None:
                x = (x - self._normalization.mean) * self._normalization.scale
            if function is not None:
                x = function(x if axes is None else x @ axes)
            w = self._weights_of(index, is_none)
            total = total + w.double() @ x
            weight += float(w.sum())
        mean = sum_over_processes(total) / sum_over_processes(weight)
        # The mean of turned rows is the turned mean.
        return mean if function is not None or axes is None else mean @ axes

    def _own(self, index):
        """Return the rows of this process among others, as places in its arrays.

        Where it has none of them, its first row stands for them: the second result says so, and it
        has next to no weight.
        """
        if self._share.is_all:
            return index, False
        own = index[self._share.mask(index)] - self._share.first
        return (own, False) if len(own) else (torch.zeros(1, dtype=torch.int64), True)

    def _weights_of(self, index, is_none):
        if is_none:
            return torch.full((len(index),), NEGLIGIBLE)
        return torch.ones(len(index)) if self._weight is None else self._weight[index]

    def _order(self):
        """Row numbers of one pass; a single full batch needs no shuffling."""
        n = self.n_samples
        if self._generator is None or self.batch_size >= n:
            order = torch.arange(n)
        elif n <= _MAX_SHUFFLED:
            order = torch.randperm(n, generator=self._generator)
        else:  # a permutation of 10^8 rows takes seconds: blocks, then rows within a window
            blocks = torch.randperm(math.ceil(n / _BLOCK), generator=self._generator)
            order = (blocks[:, None] * _BLOCK + torch.arange(_BLOCK)).flatten()
            order = order[order < n]
            # Windows are views of `order`.
            for window in order.split(256 * _BLOCK):
                window[:] = window[torch.randperm(len(window), generator=self._generator)]
        return order if self._rows is None else self._rows[order]

    def _take(self, index):
        if self._n_entries > _KEPT or self.device.type == "cuda":
            return self._prepared(index)
        # Few enough to be prepared once instead of at every step.
        if self._whole is None:
            self._whole = self._prepared(torch.arange(len(self._arrays[0])))
        return tuple(part.index_select(0, index) for part in self._whole)

    def _prepared(self, index):
        """Return rows in the unit and the dtype of training, and their weights."""
        x = self._centred(index).to(self.dtype)
        if self._axes is not None:
            x = x @ self._axes
        if self._weight is None:
            return x, torch.ones(len(x), dtype=self.dtype, device=self.device)
        return x, self._weight[index].to(self.dtype).to(self.device)

    def _centred(self, index):
        """Return rows in the unit of training and the dtype of reading."""
        if self._normalization is not None and (loops := compiled_for(self._shift)):
            scales = self._scales or [1.0]
            if self._looped is not None and len(scales) == 1 and isinstance(scales[0], float):
                return loops.centred_rows(self._looped, index, self._shift, *scales)
        x = self._read(index)
        if self.device.type == "cuda" and x.device.type == "cpu":
            x = x.pin_memory()  # so that the host does not wait for the copy
        # Rows far from the origin are centred with all the digits that they have.
        x = x.to(self.device, self.read_dtype, non_blocking=True)
        if self._normalization is not None:
            x.sub_(self._shift)  # `x` is ours: `_read` copies
            for scale in self._scales:
                x.mul_(scale)
        return x

    def _read(self, index):
        if len(self._arrays) == 1:
            return _rows_of(self._arrays[0], index)
        blocks = [_rows_of(array, index).to(self.read_dtype) for array in self._arrays]
        if len({block.device for block in blocks}) > 1:  # the GPU holds only some of them
            blocks = [block.to(self.device) for block in blocks]
        return torch.cat(blocks, 1)


def _listed(arrays):
    """Return blocks of columns as a list."""
    if arrays is None:
        return []
    return list(arrays) if isinstance(arrays, (list, tuple)) else [arrays]


def _looped(arrays, dtype):
    """Return the array whose rows compiled loops can read: one of `dtype`, row after row; or None.

    Parameters
    ----------
    arrays : list of ndarray or Tensor
    dtype : torch.dtype

    Returns
    -------
    array : ndarray or None
    """
    array = arrays[0]
    if len(arrays) > 1 or to_torch(array[:0]).dtype != dtype:
        return None
    if isinstance(array, torch.Tensor):
        return array.detach().numpy() if array.is_cpu and array.is_contiguous() else None
    return np.asarray(array) if array.flags.c_contiguous and array.dtype.isnative else None


def _factors(scale):
    """Return one or two factors of a scale that float32 can hold."""
    largest = float(scale.max()) if torch.is_tensor(scale) else scale
    if largest < _LARGE:
        return [scale]
    if torch.is_tensor(scale):
        first = torch.where(scale < _LARGE, 1.0, _LARGE)
        return [first, scale / first]
    return [_LARGE, scale / _LARGE]


def _rows_of(array, index):
    if isinstance(array, np.ndarray):
        return to_torch(np.take(array, index.numpy(), axis=0))
    return array[index.to(array.device)]


def _resident(X, device):
    """Return X on the GPU if it takes at most a quarter of what is free there, else as it is."""
    if device.type != "cuda" or (isinstance(X, torch.Tensor) and X.is_cuda):
        return X
    dtype = to_torch(X[:0]).dtype
    free, _ = torch.cuda.mem_get_info(device)
    if X.shape[0] * X.shape[1] * dtype.itemsize > free // 4:
        return X
    on_device = torch.empty(X.shape, dtype=dtype, device=device)
    for rows in row_chunks(*X.shape):
        on_device[rows] = to_torch(X[rows], device)
    return on_device


def geometric_median(x, w, *, max_iter=100, tol=1e-5):
    """Return the point with the least weighted sum of distances to the rows of `x` (Weiszfeld)."""
    point = (w @ x) / w.sum()
    for _ in range(max_iter):
        # A row that equals the point has distance 0, and would have an infinite weight.
        inverse = w / (x - point).norm(dim=1).clamp(min=1e-12)
        previous, point = point, (inverse @ x) / inverse.sum()
        if bool((point - previous).norm() <= tol * point.norm().clamp(min=1e-12)):
            break
    return point
