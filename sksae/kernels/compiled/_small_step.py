"""The gradients of a small batch of TopK as one compiled loop.

The arithmetic of a small batch takes less time than the hundred calls that describe it. What is
computed is written in `sksae.objectives.TopK`, and tests hold the loop against it.
"""

import numpy as np
import torch

from sksae.kernels.compiled._row_loops import add_rows, compiled, dot
from sksae.kernels.compiled._selection_loops import bits_of, largest_columns, room_for


@compiled
def _variance(rows, share):
    """Weighted total variance of rows."""
    mean = np.zeros(rows.shape[1], rows.dtype)
    for r in range(len(rows)):
        for j in range(len(mean)):
            mean[j] += share[r] * rows[r, j]
    total = 0.0
    for r in range(len(rows)):
        deviation = rows[r] - mean
        total += share[r] * dot(deviation, deviation)
    return total


@compiled
def _positive(columns, z, latents, codes):
    """Write the columns of positive numbers, and these; return how many there are."""
    n_positive = 0
    for column in columns:  # written over by the next, unless it counts
        latents[n_positive], codes[n_positive] = column, z[column]
        n_positive += z[column] > 0
    return n_positive


@compiled
def _backward(
    latents, codes, centred, twice, error, components, components_grad, coef_grad, bias_grad
):
    """Add the gradients of ``twice / 2 |error|^2`` by all that made the codes and decoded them."""
    for i in range(len(latents)):
        latent, scaled = latents[i], twice * codes[i]
        pull = twice * dot(error, components[latent])
        component, coef = components_grad[latent], coef_grad[latent]
        bias_grad[latent] += pull
        for j in range(len(error)):
            component[j] += scaled * error[j]
        for j in range(len(centred)):
            coef[j] += pull * centred[j]


@compiled
def _reconstruct(
    x, z, bits, centred, twice, components, intercept, k, cut, errors, by_latent, fired
):
    """Write the errors of all rows, add the gradients of their squares, and return the loss."""
    components_grad, coef_grad, bias_grad = by_latent
    m, loss, room = z.shape[1], 0.0, room_for(bits[0])
    columns, all_latents, all_codes = np.arange(m), np.empty(m, np.int64), np.empty(m, z.dtype)
    for r in range(len(x)):
        if k > 0:
            largest_columns(bits[r], k, room, columns)
            n_active = _positive(columns[:k], z[r], all_latents, all_codes)
        else:
            n_active = _above(z[r], cut, all_latents, all_codes)
        error, latents, codes = errors[r], all_latents[:n_active], all_codes[:n_active]
        for j in range(len(error)):
            error[j] = intercept[j] - x[r, j]
        add_rows(codes, latents, components, error)
        loss += twice[r] / 2 * dot(error, error)
        _backward(
            latents, codes, centred[r], twice[r], error, components,
            components_grad, coef_grad, bias_grad
        )  # fmt: skip
        for latent in latents:
            fired[latent] = True
    return loss


@compiled
def _above(z, cut, latents, codes):
    """Write the columns of numbers above a cut that is not below 0; return how many there are."""
    n_above = 0
    for j in range(len(z)):
        latents[n_above], codes[n_above] = j, z[j]
        n_above += z[j] > cut
    return n_above


@compiled
def _revive(dead, k, z, dead_z, dead_bits, centred, twice, components, errors, by_latent):
    """Have the k strongest dead latents decode the residuals, as `_reconstruct` the rows."""
    components_grad, coef_grad, bias_grad = by_latent
    loss, room, error = 0.0, room_for(dead_bits), np.empty_like(errors[0])
    columns, all_latents, all_codes = (
        np.empty(k, np.int64),
        np.empty(k, np.int64),
        np.empty(k, z.dtype),
    )
    for r in range(len(errors)):
        for i in range(len(dead)):
            dead_z[i] = z[r, dead[i]]
        largest_columns(dead_bits, k, room, columns)
        n_active = _positive(columns, dead_z, all_latents, all_codes)
        latents, codes = dead[all_latents[:n_active]], all_codes[:n_active]
        error[:] = errors[r]  # the residual is the error, with the opposite sign
        add_rows(codes, latents, components, error)
        loss += twice[r] / 2 * dot(error, error)
        _backward(
            latents, codes, centred[r], twice[r], error, components,
            components_grad, coef_grad, bias_grad
        )  # fmt: skip
    return loss


def top_k_gradients(
    x, share, weights, z, centred, *, k, cut, dead, k_aux, factor, variance, pre_bias
):
    """Return the loss of `sksae.objectives.TopK`, its gradients, and the latents that fired.

    Parameters
    ----------
    x : Tensor of shape (n, t)
        Rows to reconstruct.
    share : Tensor of shape (n,)
        Weights of the rows relative to their sum.
    weights : dict of Tensor
        "components" (m, t), "encoder_coef" (m, d), "encoder_intercept" (m,), "intercept" (t,).
    z : Tensor of shape (n, m)
        Pre-activations.
    centred : Tensor of shape (n, d)
        What the encoder is multiplied with.
    k : int
        Codes per row, at most m; 0 if entries above `cut` are codes.
    cut : float or None
    dead : Tensor of bool of shape (m,)
    k_aux, factor, variance : int, float, float or None
        Parameters of the auxiliary loss, of weight `factor` times `variance`.
    pre_bias : bool
        Whether `centred` depends on the intercept.

    Returns
    -------
    loss : Tensor, scalar
    gradients : dict of Tensor
    fired : Tensor of bool of shape (m,)
    """
    dtype = x.dtype
    x, z, centred, share = x.numpy(), z.numpy(), centred.numpy(), share.numpy()
    components, intercept = weights["components"].numpy(), weights["intercept"].numpy()
    errors, twice, cut = np.empty_like(x), 2 * share, x.dtype.type(cut or 0)
    grads = {name: np.zeros(weight.shape, x.dtype) for name, weight in weights.items()}
    by_latent = tuple(grads[n] for n in ("components", "encoder_coef", "encoder_intercept"))
    fired = np.zeros(len(components), np.bool_)
    loss = _reconstruct(
        x, z, bits_of(z), centred, twice, components, intercept, k, cut, errors, by_latent, fired
    )
    dead = np.flatnonzero(dead.numpy()) if factor else ()
    spread = _variance(errors, share) if len(dead) else 0.0
    if spread > 0:
        factor *= (_variance(x, share) if variance is None else variance) / spread
        dead_z, twice_factor = np.empty(len(dead), z.dtype), (factor * twice).astype(z.dtype)
        room = dead_z, bits_of(dead_z)
        k_aux = min(k_aux, len(dead))
        loss += _revive(dead, k_aux, z, *room, centred, twice_factor, components, errors, by_latent)
    gradients = {name: torch.from_numpy(grad) for name, grad in grads.items()}
    gradients["intercept"] += torch.from_numpy(twice) @ torch.from_numpy(errors)
    if pre_bias:
        gradients["intercept"] -= gradients["encoder_intercept"] @ weights["encoder_coef"]
    return torch.tensor(loss, dtype=dtype), gradients, torch.from_numpy(fired)
