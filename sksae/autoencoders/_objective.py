"""Pieces of the objectives: sums over features, means over rows."""

import torch


def row_mean(values, w):
    """Weighted mean over rows, ``sum w v / sum w``."""
    return (w @ values) / w.sum()


def reconstruction_loss(entries, reconstruction):
    """Mean squared norm of the residual: summed over features, averaged over rows."""
    return row_mean((reconstruction - entries.x).square().sum(1), entries.w)


def auxiliary_k_loss(entries, reconstruction, *, dead, k_aux):
    """Let dead latents explain what the living ones leave (AuxK, Gao et al. 2024, appendix A.2).

    The `k_aux` largest pre-activations among the dead latents decode, without bias, an estimate of
    the detached residual ``e``; the loss is its squared error over the variance of ``e``, so that
    it is 1 for latents that explain nothing.

    Parameters
    ----------
    entries : AllEntries or ActiveEntries
    reconstruction : Tensor of shape (n, d)
    dead : Tensor of bool of shape (m,)
    k_aux : int
        Upper bound; at most all dead latents are used.

    Returns
    -------
    loss : Tensor, scalar
        0 without dead latents.
    """
    latents = dead.nonzero().flatten()
    if len(latents) == 0:
        return reconstruction.new_zeros(())
    w = entries.w
    residual = (entries.x - reconstruction).detach()
    components, z = entries.rows_of(latents)
    values, columns = torch.topk(z, min(k_aux, len(latents)), dim=1)
    estimate = torch.zeros_like(z).scatter(1, columns, torch.relu(values)) @ components
    mean = (w @ residual) / w.sum()
    spread = row_mean((residual - mean).square().sum(1), w)
    # A residual without variance (one row, say) has nothing to explain: infinity makes that 0.
    spread = torch.where(spread > 0, spread, torch.inf)
    return row_mean((estimate - residual).square().sum(1), w) / spread
