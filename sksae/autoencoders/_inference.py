"""Inference with fitted arrays: rows to codes and back, chunk by chunk."""

import math
from dataclasses import replace
from functools import wraps

import numpy as np
import torch
from scipy import sparse

from sksae._arrays import (
    choose_device,
    compute_dtype,
    from_torch,
    row_chunks,
    rows_per_chunk,
    space_of,
    stack_csr,
    to_torch,
)
from sksae._modes import own_modes
from sksae._processes import sum_over_processes
from sksae._threads import threads_for
from sksae.kernels import (
    ActiveSet,
    Search,
    flat_nonzero,
    halves,
    keep_top_k,
    runs_on,
    threshold_codes,
)

# How many times as large as their sum the terms of a pre-activation may be in float32.
_CANCELS = 16
_BLOCK = 1024


class Encoder:
    """The fitted encoder on a device.

    Parameters
    ----------
    coef : array of shape (m, d)
    intercept : array of shape (m,)
    rule : Rule
        Pre-activations that are codes: the k largest of a row, or all above a bound if positive.
    device : torch.device
    dtype : torch.dtype
        Of the arithmetic.
    precision : {"auto", "float32", "float64", "bfloat16"}, default="auto"
        "bfloat16" if codes may be left in it where that is faster; otherwise they are exact.
    centre : array of shape (d,), default=None
        A point near the rows, subtracted before the product if that keeps digits: where rows are
        far from the origin, product and intercept are large and nearly cancel.
    """

    def __init__(self, coef, intercept, rule, device, dtype, precision="auto", *, centre=None):
        self._centre = None
        with threads_for(coef.shape[0] * coef.shape[1]):
            self.coef = to_torch(coef, device, dtype)
            self.intercept = to_torch(intercept, device, dtype)
            self.rule, self.device, self.dtype = rule, device, dtype
            if rule.k is None:
                # Codes are not negative, whatever the threshold.
                bound = to_torch(rule.bound, device, dtype).clamp(min=0)
                self.rule = replace(rule, bound=bound.expand(len(self.coef)))
            else:
                self.rule = replace(rule, k=min(int(rule.k), len(self.coef)))
            if centre is not None and dtype == torch.float32 and device.type != "mps":
                self._move_to(to_torch(centre, device, dtype), intercept)
        self._search = Search(exact=precision != "bfloat16")

    def _move_to(self, centre, intercept):
        blocks = self.coef.split(_BLOCK)
        # E c in float64, (m,).
        shift = torch.cat([torch.mv(block.double(), centre.double()) for block in blocks])
        # The intercept for rows less the centre: E x + b = E (x - c) + (E c + b).
        near = to_torch(intercept, self.device, torch.float64) + shift
        if bool(shift.abs().max() > _CANCELS * near.abs().max()):
            self._centre, self.intercept = centre, near.to(self.dtype)

    @property
    def width(self):
        """Number of latents."""
        return len(self.coef)

    def threads(self, n_samples):
        """Return `threads_for` the work on a chunk of rows."""
        return threads_for(2 * min(n_samples, self._step) * self.coef.numel())

    @property
    def _step(self):
        return rows_per_chunk(max(self.coef.shape))

    @torch.no_grad()
    def __call__(self, x):
        """Codes of a tensor of rows, dense."""
        if halves(x, self.width):  # where the search pays, the codes come from it
            active, values = self.active(x)
            return active.to_dense(values)
        x = x if self._centre is None else x - self._centre
        z = torch.addmm(self.intercept, x, self.coef.T)  # (n, m)
        if self.rule.k is not None:
            return keep_top_k(z, self.rule.k, magnitude=self.rule.magnitude)
        return threshold_codes(z, self.rule.bound)

    @torch.no_grad()
    def active(self, x):
        """The codes of a tensor of rows that are not 0: an `ActiveSet`, and their values."""
        if not runs_on(x.device):
            codes = self(x)
            positions = flat_nonzero(codes != 0)
            # Rows and latents of the entries, and their values.
            return ActiveSet.from_flat(positions, *codes.shape), codes.flatten()[positions]
        x = x if self._centre is None else x - self._centre
        active, values = self._search(x, self.coef, self.intercept, self.rule)
        # Among the k largest of a row there may be some that are negative, and no codes.
        present = values != 0 if self.rule.magnitude else values > 0
        if bool(present.all()):
            return active, values
        return active.where(present), values[present]

    def chunks(self, X):
        """Yield ``(rows, x)`` over all rows of `X`: a slice and a tensor."""
        X = X if isinstance(X, np.ndarray) else to_torch(X)
        for rows in row_chunks(X.shape[0], max(self.coef.shape)):
            yield rows, to_torch(X[rows], self.device, self.dtype)


def encoder_of(attributes, settings, X, *, centre=None):
    """Return the `Encoder` of fitted attributes, by name, for rows like X.

    `settings` has the parameters ``device`` and ``precision``; `centre` is a point near the rows.
    """
    objective = attributes["_objective"]
    fitted = {
        name: attributes[name + "_"] for name, weight in objective.declared.items() if weight.fitted
    }
    device = choose_device(settings.device, space_of(X))
    return Encoder(
        fitted["encoder_coef"],
        fitted["encoder_intercept"],
        objective.fitted_rule(fitted),
        device,
        compute_dtype(X, device),
        settings.precision,
        centre=centre,
    )


def _of_rows(function):
    """Run ``function(encoder, X, ...)`` in modes of its own, on as many threads as X is worth."""

    @wraps(function)
    def run(encoder, X, *args, **options):
        with own_modes(), torch.no_grad(), encoder.threads(X.shape[0]):
            return function(encoder, X, *args, **options)

    return run


@_of_rows
def dense_codes(encoder, X, space):
    """Codes as one dense array of `space`, filled in place."""
    shape = (X.shape[0], encoder.width)
    if space.namespace is None:
        out = np.empty(shape, dtype=torch.empty(0, dtype=encoder.dtype).numpy().dtype)
        for rows, x in encoder.chunks(X):
            out[rows] = encoder(x).cpu().numpy()
        return out
    out = torch.empty(shape, dtype=encoder.dtype, device=encoder.device)
    for rows, x in encoder.chunks(X):
        out[rows] = encoder(x)
    return from_torch(out, space)


@_of_rows
def csr_codes(encoder, X):
    """Codes as a CSR container with sorted indices and no explicit zero."""
    blocks = []
    for _, x in encoder.chunks(X):
        active, values = encoder.active(x)
        # Entries per row, latent of each entry, value of each entry.
        arrays = active.pointer.diff(), active.latents.to(torch.int32), values
        blocks.append(tuple(array.cpu().numpy() for array in arrays))
    dtype = torch.empty(0, dtype=encoder.dtype).numpy().dtype
    return stack_csr(blocks, (X.shape[0], encoder.width), dtype)


def firing_frequency(encoder, batches):
    """Share of the rows (by weight) on which each latent fires, float64 of shape (m,)."""
    fired = torch.zeros(encoder.width, dtype=torch.float64)
    weight = 0.0
    for x, w in batches:
        active, _ = encoder.active(x)
        # Weight of the rows on which each latent fires, (m,).
        fired += active.latent_totals(w[active.rows]).cpu().double()
        weight += float(w.sum())
    return sum_over_processes(fired) / sum_over_processes(weight)


def as_numpy(array, dtype):
    """Return a fitted array, whatever its namespace, as numpy of `dtype`."""
    if not isinstance(array, np.ndarray):
        array = to_torch(array).cpu().numpy()
    return array.astype(dtype, copy=False)


@own_modes()
def decode(codes, components, intercept):
    """``codes @ components + intercept`` for dense or CSR numpy codes and tensors."""
    if sparse.issparse(codes):
        return np.asarray(codes @ components) + intercept
    if isinstance(codes, np.ndarray):
        return codes @ components + intercept
    with threads_for(2 * len(codes) * components.numel()):
        return torch.addmm(intercept, codes, components)


@_of_rows
def predictions(encoder, X, space, decoder):
    """Return ``codes @ components + intercept``, plus linear maps of X, never all codes at once.

    `decoder` is a tuple of the components, the intercept and the coefficients of the maps.
    """
    decode_chunk, width = _decoder_of(encoder, decoder)
    out = torch.empty((X.shape[0], width), dtype=encoder.dtype, device=encoder.device)
    for rows, x in encoder.chunks(X):
        out[rows] = decode_chunk(x)
    return from_torch(out, space)


def _decoder_of(encoder, decoder):
    """Return a function that predicts from a chunk of rows, and the number of its columns."""
    arrays = [to_torch(array, encoder.device, encoder.dtype) for array in decoder]
    components, intercept, *linear_maps = arrays

    def decode_chunk(x):
        prediction = torch.addmm(intercept, encoder(x), components)
        for coef in linear_maps:
            prediction.addmm_(x, coef.T)  # (n_chunk, n_targets)
        return prediction

    return decode_chunk, components.shape[1]


@_of_rows
def pooled_r2(encoder, X, decoder, *, rows, weight, targets):
    """``1 - sum w |y - y^|^2 / sum w |y - mean|^2``, streamed in float64; y is X without targets.

    Constant targets score 1 if they are predicted exactly and 0 otherwise, as in `r2_score`.
    """
    wide = torch.float32 if encoder.device.type == "mps" else torch.float64
    mean, size = _mean_and_size(rows)
    mean = mean.to(wide).to(encoder.device)
    outputs = X if targets is None else targets
    outputs = outputs if isinstance(outputs, np.ndarray) else to_torch(outputs)
    # A row that counts: the one with the largest weight.
    start = 0 if weight is None else int(weight.argmax())
    first = to_torch(outputs[start : start + 1], encoder.device, wide)
    decode_chunk, _ = _decoder_of(encoder, decoder)
    residual, total, constant = 0.0, 0.0, True
    for chunk, x in encoder.chunks(X):
        y = x.to(wide) if targets is None else to_torch(outputs[chunk], encoder.device, wide)
        # Per row, in units of `size`.
        error = ((y - decode_chunk(x).to(wide)) / size).square().sum(1)
        spread = ((y - mean) / size).square().sum(1)
        w = torch.ones(len(y)) if weight is None else weight[chunk]
        w = w.to(y)
        residual += float((error * w).sum())
        total += float((spread * w).sum())
        constant = constant and not bool(((y != first).any(1) & (w > 0)).any())
    if constant:  # the total has nothing but the rounding of the mean
        return 1.0 if residual == 0 else 0.0
    return 1.0 - residual / total


def _mean_and_size(rows):
    """Mean of the targets, and a power of two near their size: squares of the ratio exist."""
    columns = rows.targets

    def both(x):
        return torch.cat([x[:, columns], x[:, columns].abs().amax(1, keepdim=True)], 1)

    # Mean per column, and mean of the largest absolute value per row.
    *mean, size = rows.average(both)
    # 2^exponent is above the size; beyond 2^1000 squares could overflow.
    exponent = math.frexp(float(size))[1] if math.isfinite(float(size)) else 1023
    return torch.stack(mean), 2.0 ** max(-1000, min(1000, exponent))
