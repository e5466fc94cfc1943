"""From the internal unit of training to raw units, and back (algebra, in float64).

Training sees ``x~ = scale (x - mean)``. Folding absorbs that affine map, and the norms of the
decoder rows, into the weights: codes, dictionary and biases then act on raw X, and nothing of the
training unit survives the fit.
"""

import torch

# Fitted arrays and their axes: m latents, d features, t targets (d where rows are their own).
WEIGHTS = {
    "components": "mt",
    "encoder_coef": "md",
    "encoder_intercept": "m",
    "intercept": "t",
    "skip_coef": "td",
    "threshold": "m",
    "gate_intercept": "m",
    "gain": "m",
    "activation_frequency": "m",
}

_DEAD_NORM = 1e-12


def fold(weights, normalization, *, pre_bias=True):
    """Raw-unit parameters with unit-norm components.

    Parameters
    ----------
    weights : dict of Tensor
        "components" (m, t), "encoder_coef" (m, d), "encoder_intercept" (m,), "intercept" (t,) and,
        where there are any, "threshold" (m,) and "skip_coef" (t, d). Rows that are their own
        targets have ``t = d``.
    normalization : Normalization
    pre_bias : bool
        Whether training subtracted "intercept" before encoding.

    Returns
    -------
    folded : dict of Tensor, float64
        The same names. Codes change their unit by the norm of the decoder row over the scale of
        what is reconstructed.
    """
    # Copies, worked on in place: of a wide dictionary there should be as few as can be.
    w = {name: value.detach().cpu().to(torch.float64, copy=True) for name, value in weights.items()}
    inputs, targets = _parts(w, normalization)
    norms = w["components"].norm(dim=1)
    alive = (norms >= _DEAD_NORM).double()
    unit = norms * alive / targets.scale
    origin = inputs.scale * inputs.mean + (w["intercept"] if pre_bias else 0)
    encoder_intercept = unit * (w["encoder_intercept"] - w["encoder_coef"] @ origin)
    folded = {
        "components": w["components"].div_(torch.where(alive > 0, norms, 1.0)[:, None]),
        "encoder_coef": w["encoder_coef"].mul_((inputs.scale * unit)[:, None]),
        "encoder_intercept": encoder_intercept,
        "intercept": targets.mean + w["intercept"] / targets.scale,
    }
    if "threshold" in w:
        folded["threshold"] = norms / targets.scale * w["threshold"]
    if "skip_coef" in w:
        folded["skip_coef"] = w["skip_coef"].mul_(inputs.scale / targets.scale)
        folded["intercept"] -= folded["skip_coef"] @ inputs.mean
    return folded


def unfold(folded, normalization, *, pre_bias=True):
    """Undo `fold`: internal-unit weights, with unit-norm components, of the same function.

    Of the same but for what a top-k rule chooses, where weights that were learnt elsewhere have
    components of different norms: among unit-norm rows it chooses by what a code contributes.
    """
    f = {name: value.detach().cpu().double() for name, value in folded.items()}
    inputs, targets = _parts(f, normalization)
    norms = f["components"].norm(dim=1)
    norms = torch.where(norms >= _DEAD_NORM, norms, 1.0)
    offset = f["skip_coef"] @ inputs.mean if "skip_coef" in f else 0
    intercept = targets.scale * (f["intercept"] + offset - targets.mean)
    coef = (targets.scale / inputs.scale * norms)[:, None] * f["encoder_coef"]
    origin = inputs.scale * inputs.mean + (intercept if pre_bias else 0)
    weights = {
        "components": f["components"] / norms[:, None],
        "encoder_coef": coef,
        "encoder_intercept": targets.scale * norms * f["encoder_intercept"] + coef @ origin,
        "intercept": intercept,
    }
    if "threshold" in f:
        weights["threshold"] = targets.scale * norms * f["threshold"]
    if "skip_coef" in f:
        weights["skip_coef"] = targets.scale / inputs.scale * f["skip_coef"]
    return weights


def _parts(weights, normalization):
    """The maps of inputs and targets; the same one twice where rows are their own targets."""
    d, t = weights["encoder_coef"].shape[1], weights["components"].shape[1]
    total = len(normalization.mean)
    return normalization.part(slice(0, d)), normalization.part(slice(total - t, total))
