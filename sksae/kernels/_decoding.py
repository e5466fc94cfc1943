"""The two affine maps of an autoencoder."""

import torch


def pre_activations(x, weights, *, pre_bias=True):
    """``Z = (x - intercept) E^T + b``; without `pre_bias`, ``Z = x E^T + b``.

    Parameters
    ----------
    x : Tensor of shape (n, d)
    weights : dict with "encoder_coef" (m, d), "encoder_intercept" (m,) and "intercept" (d,)
    pre_bias : bool
        Whether the decoder's bias is subtracted before encoding (Bricken et al. 2023).

    Returns
    -------
    z : Tensor of shape (n, m)
    """
    centred = x - weights["intercept"] if pre_bias else x
    return torch.addmm(weights["encoder_intercept"], centred, weights["encoder_coef"].T)


def decode(codes, weights):
    """``codes @ components + intercept``, of shape (n, d)."""
    return torch.addmm(weights["intercept"], codes, weights["components"])
