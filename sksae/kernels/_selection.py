"""Which pre-activations become codes: the k largest of a row, or those above a threshold."""

import torch


def top_k(z, k):
    """The k largest entries of every row, equal ones by lowest column first.

    Parameters
    ----------
    z : Tensor of shape (n, m)
    k : int in [1, m]

    Returns
    -------
    values, columns : Tensor of shape (n, k)
    """
    m = z.shape[1]
    # One entry more than asked shows, at no cost, whether the k-th place is tied.
    values, columns = torch.topk(z, min(k + 1, m), dim=1)
    if k < m:
        tied = values[:, k - 1] == values[:, k]
        values, columns = values[:, :k].contiguous(), columns[:, :k].contiguous()
        if bool(tied.any()):
            order = torch.sort(z[tied], dim=1, descending=True, stable=True)
            values[tied], columns[tied] = order.values[:, :k], order.indices[:, :k]
    return values, columns


def keep_top_k(z, k):
    """Codes of a TopK autoencoder: ``relu(z)`` on the k largest of every row, 0 elsewhere.

    Differentiable in `z` at fixed support (Gao et al. 2024).
    """
    with torch.no_grad():
        _, columns = top_k(z.detach(), k)
    values = z.gather(1, columns)
    values = torch.where(values > 0, values, 0.0)  # relu(-0.0) is -0.0
    return torch.zeros_like(z).scatter(1, columns, values)


def threshold_codes(z, threshold=0.0):
    """``z`` where it exceeds ``max(threshold, 0)``, 0 elsewhere (never -0.0)."""
    if isinstance(threshold, torch.Tensor):
        threshold = threshold.clamp(min=0)
    else:
        threshold = max(threshold, 0.0)
    return torch.where(z > threshold, z, 0.0)
