"""Inference with fitted arrays: rows to codes and back, chunk by chunk."""

from dataclasses import replace

import numpy as np
import torch
from scipy import sparse

from sksae._arrays import (
    choose_device,
    compute_dtype,
    from_torch,
    row_chunks,
    space_of,
    stack_csr,
    to_torch,
)
from sksae._modes import own_modes
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
    precision : {"float32", "bfloat16"}
        Whether codes are exact, or may be left in bfloat16 where that is faster.
    """

    def __init__(self, coef, intercept, rule, device, dtype, precision="float32"):
        self.coef = to_torch(coef, device, dtype)
        self.intercept = to_torch(intercept, device, dtype)
        self.rule, self.device, self.dtype = rule, device, dtype
        if rule.k is None:
            bound = to_torch(rule.bound, device, dtype).clamp(min=0)
            self.rule = replace(rule, bound=bound.expand(len(self.coef)))
        else:
            self.rule = replace(rule, k=min(int(rule.k), len(self.coef)))
        self._search = Search(exact=precision == "float32")

    @property
    def width(self):
        """Number of latents."""
        return len(self.coef)

    @torch.no_grad()
    def __call__(self, x):
        """Codes of a tensor of rows, dense."""
        if halves(x, self.width):
            active, values = self.active(x)
            return active.to_dense(values)
        with threads_for(2 * len(x) * self.coef.numel()):
            z = torch.addmm(self.intercept, x, self.coef.T)
            if self.rule.k is not None:
                return keep_top_k(z, self.rule.k, magnitude=self.rule.magnitude)
            return threshold_codes(z, self.rule.bound)

    @torch.no_grad()
    def active(self, x):
        """The codes of a tensor of rows that are not 0: an `ActiveSet`, and their values."""
        if not runs_on(x.device):
            codes = self(x)
            positions = flat_nonzero(codes != 0)
            return ActiveSet.from_flat(positions, *codes.shape), codes.flatten()[positions]
        with threads_for(2 * len(x) * self.coef.numel()):
            active, values = self._search(x, self.coef, self.intercept, self.rule)
        # Among the k largest of a row there may be some that are negative, and no codes.
        present = values != 0 if self.rule.magnitude else values > 0
        if bool(present.all()):
            return active, values
        return active.where(present), values[present]

    def chunks(self, X):
        """Yield ``(rows, x)`` over all rows of `X`: a slice and a tensor."""
        X = X if isinstance(X, np.ndarray) else to_torch(X)
        for rows in row_chunks(X.shape[0], max(self.width, X.shape[1])):
            yield rows, to_torch(X[rows], self.device, self.dtype)


def encoder_of(attributes, settings, X):
    """Return the `Encoder` of fitted attributes, by name, for rows like X.

    `settings` has the parameters ``device`` and ``precision``.
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
    )


@own_modes()
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


@own_modes()
def csr_codes(encoder, X):
    """Codes as a CSR container with sorted indices and no explicit zero."""
    blocks = []
    for _, x in encoder.chunks(X):
        active, values = encoder.active(x)
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
        fired += active.latent_totals(w[active.rows]).cpu().double()
        weight += float(w.sum())
    return fired / weight


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
    return torch.addmm(intercept, codes, components)


@own_modes()
@torch.no_grad()
def predictions(encoder, X, space, *, components, intercept, skip_coef=None):
    """``codes @ components + intercept``, and ``X @ skip_coef.T``, without all codes at once."""
    components = to_torch(components, encoder.device, encoder.dtype)
    intercept = to_torch(intercept, encoder.device, encoder.dtype)
    out = intercept.new_empty((X.shape[0], components.shape[1]))
    for rows, x in encoder.chunks(X):
        torch.addmm(intercept, encoder(x), components, out=out[rows])
        if skip_coef is not None:
            out[rows] += x @ to_torch(skip_coef, encoder.device, encoder.dtype).T
    return from_torch(out, space)


@own_modes()
def pooled_r2(encoder, components, intercept, X, *, weight, rows):
    """``1 - sum w |x - x^|^2 / sum w |x - mean|^2``, streamed in float64.

    A constant X scores 1 if it is reconstructed exactly and 0 otherwise, as in `r2_score`.
    """
    wide = torch.float32 if encoder.device.type == "mps" else torch.float64
    mean = rows.average(lambda x: x).to(wide).to(encoder.device)
    components = to_torch(components, encoder.device, encoder.dtype)
    intercept = to_torch(intercept, encoder.device, encoder.dtype)
    residual, total = 0.0, 0.0
    for chunk, x in encoder.chunks(X):
        reconstruction = torch.addmm(intercept, encoder(x), components)
        error = (x - reconstruction).to(wide).square().sum(1)
        spread = (x.to(wide) - mean).square().sum(1)
        w = 1.0 if weight is None else weight[chunk].to(wide).to(x.device)
        residual += float((error * w).sum())
        total += float((spread * w).sum())
    if total == 0:
        return 1.0 if residual == 0 else 0.0
    return 1.0 - residual / total
