"""Conversion of weights from the internal unit of training to raw units, and back, in float64.

Training sees ``x~ = scale (x - mean)``, block of columns by block, or such rows along other axes.
Folding absorbs that affine map, and the norms of the dictionary's rows, into the weights: codes,
dictionary and biases then act on raw rows, and nothing of the training unit survives the fit.
Weights are handled by their declarations.
"""

import torch

from sksae.training import row_norms

_DEAD_NORM = 1e-12


def fold(weights, declared, normalization, *, pre_bias=True, blocks=()):
    """Return raw-unit arrays with unit-norm components.

    Parameters
    ----------
    weights : dict of Tensor
        "components" (m, t), "encoder_coef" (m, d), "encoder_intercept" (m,), "intercept" (t,) and
        others that are declared. Rows that are their own targets have ``t = d``.
    declared : dict of Weight
    normalization : Normalization
    pre_bias : bool
        Whether training subtracted "intercept" before encoding.
    blocks : tuple of int
        Widths of the blocks of columns over which norms are summed.

    Returns
    -------
    folded : dict of Tensor, float64
        Arrays of the fitted weights by the same names. Codes change their unit by the norm of the
        dictionary's row over the scale of the targets. Of targets with several scales norms are
        taken in the unit of training, and relative to the one of `Normalization.relative`.
    """
    # Copies, worked on in place: of a wide dictionary there should be as few as can be.
    w = {name: value.detach().cpu().to(torch.float64, copy=True) for name, value in weights.items()}
    if normalization.axes is not None:
        w = _turned(w, declared, normalization.axes.T)
    inputs, targets = _sides(w, normalization)
    read_scale, read_factors = inputs.relative()
    scale, factors = targets.relative()
    norms = row_norms(w["components"], blocks)
    if factors is not None:  # columns of targets with units of their own, in a common one
        w["components"].div_(factors)
    alive = (norms >= _DEAD_NORM).double()
    unit = norms * alive / scale  # raw size of a code of size 1 in training
    origin = inputs.scale * inputs.mean + (w["intercept"] if pre_bias else 0)
    folded = {
        # E (scale (x - mean) - intercept) + b = (E scale) x + (b - E origin).
        "encoder_intercept": unit * (w["encoder_intercept"] - w["encoder_coef"] @ origin),
        "components": w["components"].div_(torch.where(alive > 0, norms, 1.0)[:, None]),
        "encoder_coef": w["encoder_coef"].mul_((read_scale * unit)[:, None]),
        # The reconstruction D^T z + c is of scale (y - mean): solved for y.
        "intercept": targets.mean + w["intercept"] / targets.scale,
    }
    if read_factors is not None:
        folded["encoder_coef"].mul_(read_factors)
    for name, weight in declared.items():
        if weight.unit == "column":
            folded[name] = torch.ones_like(targets.mean) / targets.scale
        if name in folded or name not in w or not weight.fitted:
            continue
        if weight.axes == "td":
            # It acts on x - mean; its part of the mean goes to the intercept.
            folded[name] = _mapped(w[name], inputs, targets)
            folded["intercept"] -= folded[name] @ inputs.mean
        else:
            folded[name] = norms / scale * w[name] if weight.unit == "code" else w[name]
    return folded


def unfold(folded, declared, normalization, *, pre_bias=True, blocks=()):
    """Undo `fold`: internal-unit weights, with unit-norm components, of the same function.

    Of the same but for the choice of a top-k rule, where weights that were learnt elsewhere have
    components of different norms: among unit-norm rows it chooses by what a code contributes.
    """
    f = {name: value.detach().cpu().double() for name, value in folded.items()}
    inputs, targets = _sides(f, normalization)
    read_scale, read_factors = inputs.relative()
    scale, factors = targets.relative()
    components = f["components"] if factors is None else f["components"] * factors
    norms = row_norms(components, blocks)
    norms = torch.where(norms >= _DEAD_NORM, norms, 1.0)
    # The inverse of `fold`, its last step first: what linear maps took of the mean, returned.
    offset = sum(f[name] @ inputs.mean for name, weight in declared.items() if weight.axes == "td")
    intercept = targets.scale * (f["intercept"] + offset - targets.mean)
    # Raw codes times scale * norms are codes of training; rows read read_scale times as large.
    coef = (scale / read_scale * norms)[:, None] * f["encoder_coef"]
    coef = coef if read_factors is None else coef / read_factors
    origin = inputs.scale * inputs.mean + (intercept if pre_bias else 0)
    weights = {
        "components": components / norms[:, None],
        "encoder_coef": coef,
        "encoder_intercept": scale * norms * f["encoder_intercept"] + coef @ origin,
        "intercept": intercept,
    }
    for name, weight in declared.items():
        if name in weights or name not in f or not weight.trained:
            continue
        if weight.axes == "td":
            weights[name] = _mapped(f[name], inputs, targets, back=True)
        else:
            weights[name] = scale * norms * f[name] if weight.unit == "code" else f[name]
    return weights if normalization.axes is None else _turned(weights, declared, normalization.axes)


def _turned(weights, declared, axes):
    """Weights along other axes of the rows."""
    along = {name for name, weight in declared.items() if weight.axes in ("d", "t", "md", "mt")}
    return {name: w @ axes if name in along else w for name, w in weights.items()}


def _mapped(coef, inputs, targets, *, back=False):
    """A linear map of shape (t, d) from inputs to targets, from training to raw units or back."""
    ratio = torch.as_tensor(inputs.scale, dtype=torch.float64)
    ratio = ratio / torch.as_tensor(targets.scale, dtype=torch.float64).reshape(-1, 1)
    return coef / ratio if back else coef * ratio


def _sides(weights, normalization):
    """The units of inputs and targets; the same twice where rows are their own targets."""
    d, t = weights["encoder_coef"].shape[1], weights["components"].shape[1]
    # Rows are inputs (d) before targets (t): d + t columns, or d where both are the same.
    total = len(normalization.mean)
    return normalization.part(slice(0, d)), normalization.part(slice(total - t, total))
