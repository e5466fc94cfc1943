"""Where training starts from: how wide the gates are open, and second starts for dead latents."""

import torch

from sksae.training import draw_rows, resample

OPEN_DEVIATIONS = 1.645
"""Standard deviations that a normal variable exceeds on one row in twenty."""

_SAMPLE = 4096
_BLOCK = 1024
_REVIVALS = 40
_SHORT = 200


def closing_bias(weights, rows, *, pre_bias=True):
    """Bias that leaves a latent active on about one row in twenty, at first.

    With no bias half of the rows activate a latent: the first steps then mostly push codes down,
    and cost several times as much as those of sparse codes.

    Parameters
    ----------
    weights : dict of Tensor
    rows : Batches
        Of which at most 4096, evenly spread, are looked at.
    pre_bias : bool
        Whether the decoder's bias is subtracted before encoding.

    Returns
    -------
    bias : Tensor of shape (m,)
        Minus the mean and `OPEN_DEVIATIONS` standard deviations of ``x E^T``.
    """
    n = rows.n_samples
    x, w = rows.take(torch.arange(min(n, _SAMPLE)) * n // min(n, _SAMPLE))
    x, w = x.cpu().double(), w.cpu().double()
    centred = x - weights["intercept"] if pre_bias else x
    bias = []
    for coef in weights["encoder_coef"].split(_BLOCK):
        z = centred @ coef.T
        mean = w @ z / w.sum()
        bias.append(-mean - OPEN_DEVIATIONS * (w @ (z - mean).square() / w.sum()).sqrt())
    return torch.cat(bias)


def revival(rows, n_steps, generator):
    """Return a hook that starts dead latents anew, up to forty times in the first 60 % of a fit.

    Each gets the direction of a residual, of a row drawn in proportion to its squared loss, and
    half the median threshold, so that it fires again. Short fits have no time for it.
    """
    interval = max(1, n_steps // _REVIVALS)

    def hook(run):
        early = run.n_steps < 0.6 * n_steps and n_steps >= _SHORT
        dead = run.dead().nonzero().flatten()
        if early and run.n_steps % interval == 0 and len(dead):
            _revive(run, rows, dead, generator)

    return hook


@torch.no_grad()
def _revive(run, rows, dead, generator):
    x, w = rows.take(torch.randperm(rows.n_samples, generator=generator)[:_SAMPLE])
    entries = run.engine.entries(x, w, run.weights)
    _, codes = run.engine.objective(entries, 0.0, torch.zeros_like(run.dead()))
    residual = x - entries.decode(codes)
    drawn = draw_rows(residual.square().sum(1), w, len(dead), generator).to(x.device)
    resample(run.weights, run.moments, dead, residual[drawn])
    run.weights["threshold"][dead] = 0.5 * run.weights["threshold"].median()
    for moment in run.moments["threshold"]:
        moment[dead] = 0
    run.since_fired[dead] = 0
