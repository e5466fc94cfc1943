"""From the internal unit of training to raw units, and back (algebra, in float64).

Training sees ``x~ = scale (x - mean)``. Folding absorbs that affine map, and the norms of the
decoder rows, into the weights: codes, dictionary and biases then act on raw X, and nothing of the
training unit survives the fit.
"""

import torch

_DEAD_NORM = 1e-12


def fold(weights, normalization, *, pre_bias=True):
    """Raw-unit parameters with unit-norm components.

    Parameters
    ----------
    weights : dict of Tensor
        "components" (m, d), "encoder_coef" (m, d), "encoder_intercept" (m,), "intercept" (d,) and,
        where there is one, "threshold" (m,).
    normalization : Normalization
    pre_bias : bool
        Whether training subtracted "intercept" before encoding.

    Returns
    -------
    folded : dict of Tensor, float64
        The same names. Codes change their unit by the norm of the decoder row over the scale.
    """
    # Copies, worked on in place: of a wide dictionary there should be as few as can be.
    w = {name: value.detach().cpu().to(torch.float64, copy=True) for name, value in weights.items()}
    mean, scale = normalization
    norms = w["components"].norm(dim=1)
    alive = (norms >= _DEAD_NORM).double()
    unit = norms * alive / scale
    origin = scale * mean + (w["intercept"] if pre_bias else 0)
    encoder_intercept = unit * (w["encoder_intercept"] - w["encoder_coef"] @ origin)
    folded = {
        "components": w["components"].div_(torch.where(alive > 0, norms, 1.0)[:, None]),
        "encoder_coef": w["encoder_coef"].mul_((scale * unit)[:, None]),
        "encoder_intercept": encoder_intercept,
        "intercept": mean + w["intercept"] / scale,
    }
    if "threshold" in w:
        folded["threshold"] = norms / scale * w["threshold"]
    return folded


def unfold(folded, normalization, *, pre_bias=True):
    """Undo `fold`: internal-unit weights (with unit-norm components) of the same function."""
    f = {name: value.detach().cpu().double() for name, value in folded.items()}
    mean, scale = normalization
    intercept = scale * (f["intercept"] - mean)
    origin = scale * mean + (intercept if pre_bias else 0)
    weights = {
        "components": f["components"],
        "encoder_coef": f["encoder_coef"],
        "encoder_intercept": scale * f["encoder_intercept"] + f["encoder_coef"] @ origin,
        "intercept": intercept,
    }
    if "threshold" in f:
        weights["threshold"] = scale * f["threshold"]
    return weights
