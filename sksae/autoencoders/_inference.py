"""Fitted arrays at work: rows to codes and back, chunk by chunk, never a needless dense matrix."""

import numpy as np
import torch
from scipy import sparse

from sksae._arrays import from_torch, row_chunks, stack_csr, to_torch
from sksae._modes import own_modes
from sksae._threads import threads_for


class Encoder:
    """The fitted encoder on a device.

    Parameters
    ----------
    coef : array of shape (m, d)
    intercept : array of shape (m,)
    activation : callable
        Pre-activations of shape (n, m) to codes.
    device : torch.device
    dtype : torch.dtype
        Of the arithmetic.
    """

    def __init__(self, coef, intercept, activation, device, dtype):
        self.coef = to_torch(coef, device, dtype)
        self.intercept = to_torch(intercept, device, dtype)
        self.activation, self.device, self.dtype = activation, device, dtype

    @property
    def width(self):
        """Number of latents."""
        return len(self.coef)

    @torch.no_grad()
    def __call__(self, x):
        """Codes of a tensor of rows."""
        with threads_for(2 * len(x) * self.coef.numel()):
            return self.activation(torch.addmm(self.intercept, x, self.coef.T))

    def chunks(self, X):
        """Yield ``(rows, x, codes)`` over all rows of `X`: a slice and two tensors."""
        X = X if isinstance(X, np.ndarray) else to_torch(X)
        for rows in row_chunks(X.shape[0], self.width):
            x = to_torch(X[rows], self.device, self.dtype)
            yield rows, x, self(x)


@own_modes()
def dense_codes(encoder, X, space):
    """Codes as one dense array of `space`, filled in place."""
    shape = (X.shape[0], encoder.width)
    if space.namespace is None:
        out = np.empty(shape, dtype=torch.empty(0, dtype=encoder.dtype).numpy().dtype)
        for rows, _, codes in encoder.chunks(X):
            out[rows] = codes.cpu().numpy()
        return out
    out = torch.empty(shape, dtype=encoder.dtype, device=encoder.device)
    for rows, _, codes in encoder.chunks(X):
        out[rows] = codes
    return from_torch(out, space)


@own_modes()
def csr_codes(encoder, X):
    """Codes as a CSR container with sorted indices and no explicit zero."""
    blocks = []
    for _, _, codes in encoder.chunks(X):
        codes = codes.cpu().numpy()
        flat = np.flatnonzero(codes)
        rows, columns = np.divmod(flat, codes.shape[1])
        counts = np.bincount(rows, minlength=len(codes))
        blocks.append((counts, columns.astype(np.int32), codes.reshape(-1)[flat]))
    dtype = torch.empty(0, dtype=encoder.dtype).numpy().dtype
    return stack_csr(blocks, (X.shape[0], encoder.width), dtype)


def firing_frequency(encoder, batches):
    """Share of the rows (by weight) on which each latent fires, float64 of shape (m,)."""
    fired = torch.zeros(encoder.width, dtype=torch.float64)
    weight = 0.0
    for x, w in batches:
        fired += (w @ (encoder(x) > 0).to(w.dtype)).cpu().double()
        weight += float(w.sum())
    return fired / weight


@own_modes()
def decode(codes, components, intercept):
    """``codes @ components + intercept`` for dense or CSR numpy codes and tensors."""
    if sparse.issparse(codes):
        return np.asarray(codes @ components) + intercept
    if isinstance(codes, np.ndarray):
        return codes @ components + intercept
    return torch.addmm(intercept, codes, components)


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
    for chunk, x, codes in encoder.chunks(X):
        error = (x - torch.addmm(intercept, codes, components)).to(wide).square().sum(1)
        spread = (x.to(wide) - mean).square().sum(1)
        w = 1.0 if weight is None else weight[chunk].to(wide).to(x.device)
        residual += float((error * w).sum())
        total += float((spread * w).sum())
    if total == 0:
        return 1.0 if residual == 0 else 0.0
    return 1.0 - residual / total
