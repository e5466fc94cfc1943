"""The principal axes of rows, along which many rows are trained on.

An autoencoder of turned rows is the turned autoencoder of the rows: neither its codes nor its
errors see the axes. Adam does: it takes steps of about equal length along every axis, which go
furthest where the axes do not depend on each other. Where rows are few, though, directions of
little variance are learnt by heart in this way (``docs/defaults.md``).
"""

import torch

from sksae._arrays import row_chunks
from sksae._processes import copy_from_first
from sksae.training._defaults import MANY_ROWS

_MEASURED = 2**14  # rows of which the covariance is taken, at most
_PER_LATENT = 32  # rows, as well, per latent or per column where there are more of these
_NOTHING = 1e-10  # share of the largest variance up to which there is none


def covariance(rows, centre=0.0):
    """Return the weighted sum of the products of all pairs of columns, on the CPU.

    Parameters
    ----------
    rows : Batches
    centre : Tensor of shape (d,) or float, default=0.0
        Subtracted from the rows.

    Returns
    -------
    products : Tensor of shape (d, d), float64
        The covariance times the weight of all rows.
    """
    d = rows.n_features
    products = torch.zeros(d, d, dtype=torch.float64)
    for chunk in row_chunks(rows.n_samples, 4 * d):
        x, w = (part.cpu().double() for part in rows.take(torch.arange(chunk.start, chunk.stop)))
        products += ((x - centre) * w[:, None]).T @ (x - centre)
    return products


def principal_axes(rows, n_components):
    """Return the principal axes of rows, where these are many for the latents to be learnt.

    Parameters
    ----------
    rows : Batches
        Centred rows in the unit of training; 16 384 of them are measured, at most.
    n_components : int
        Latents.

    Returns
    -------
    axes : Tensor of shape (d, d), float64, on the CPU, or None
        The axes as columns; zeros for directions in which there is no variance. None where rows are
        few, fewer than 32 768 or than 32 per latent or column; where they have targets or blocks of
        columns; and where all are equal.
    """
    fewest = max(MANY_ROWS, _PER_LATENT * max(n_components, rows.n_features))
    if rows.n_samples < fewest or len(rows.blocks) > 1:
        return None
    variances, axes = torch.linalg.eigh(covariance(rows.thinned(_MEASURED)))
    if variances[-1] <= 0:
        return None
    # Nothing but rounding errors would be learnt there, in steps of the same length.
    axes *= variances > _NOTHING * variances[-1]
    copy_from_first([axes])
    return axes
