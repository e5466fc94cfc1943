"""Where training starts from: directions, nearly closed gates, second starts for dead latents."""

import torch

from sksae.training import draw_rows, resample

OPEN_DEVIATIONS = 1.645
"""Standard deviations that a normal variable exceeds on one row in twenty."""

_SAMPLE = 4096
_NO_DIRECTION = 1e-12
_OPPOSITE = 1e-6
_BLOCK = 1024
_REVIVALS = 40
_SHORT = 200


def directions(rows, n_components, centre, generator):
    """Unit directions: each halfway between a random one and a row of the data.

    Rows of the data explain much at once, random ones leave no latent behind: together they do
    both. The draw does not depend on the order of the rows, and repeated rows are as a weight.
    Where rows have targets, a latent's two directions are near a row and near its target.

    Parameters
    ----------
    rows : Batches
        Of which at most as many as latents (or 4096), evenly spread, are drawn from.
    n_components : int
    centre : Tensor of shape (d,)
        Subtracted from the rows.
    generator : torch.Generator

    Returns
    -------
    inputs : Tensor of shape (n_components, d), float64
        For the encoder.
    components : Tensor of shape (n_components, t), float64
        For the decoder; the same tensor where rows are their own targets.
    """
    like = {"generator": generator, "dtype": torch.float64}
    random = torch.randn(n_components, rows.n_features, **like)
    for columns in rows.parts:
        random[:, columns] /= random[:, columns].norm(dim=1, keepdim=True)
    x, w = _sample(rows, max(n_components, _SAMPLE))
    order = torch.argsort(x.double() @ random[0], stable=True)
    spent = torch.cumsum(w[order].double(), 0)
    # One draw in each of as many equal parts of the weight.
    places = (torch.arange(n_components) + torch.rand(n_components, **like)) / n_components
    drawn = order[torch.searchsorted(spent, places * spent[-1]).clamp(max=len(order) - 1)]
    own = x[drawn].double() - centre
    parts = [_halfway(random[:, columns], own[:, columns]) for columns in rows.parts]
    return parts[0], parts[-1]


def _halfway(random, own):
    between = random + own / own.norm(dim=1, keepdim=True).clamp(min=_NO_DIRECTION)
    sizes = between.norm(dim=1, keepdim=True)
    return torch.where(sizes > _OPPOSITE, between / sizes, random)


def _sample(rows, size):
    """At most `size` rows and their weights, evenly spread, on the CPU."""
    n, size = rows.n_samples, min(rows.n_samples, size)
    x, w = rows.take(torch.arange(size) * n // size)
    return x.cpu(), w.cpu()


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
    x, w = (part.double() for part in _sample(rows, _SAMPLE))
    inputs = x[:, : weights["encoder_coef"].shape[1]]
    centred = inputs - weights["intercept"] if pre_bias else inputs
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
    last = 0.6 * n_steps if n_steps >= _SHORT else 0

    def hook(run):
        if run.n_steps >= last or run.n_steps % interval:
            return
        dead = run.dead().nonzero().flatten()
        if len(dead):
            _revive(run, rows, dead, generator)

    return hook


@torch.no_grad()
def _revive(run, rows, dead, generator):
    x, w = rows.take(torch.randperm(rows.n_samples, generator=generator)[:_SAMPLE])
    entries = run.engine.entries(x, w, run.weights)
    _, codes = run.engine.objective(entries, 0.0, torch.zeros_like(run.dead()))
    residual = entries.x - entries.decode(codes)
    drawn = draw_rows(residual.square().sum(1), w, len(dead), generator).to(x.device)
    inputs = entries.centred[drawn] if len(rows.parts) > 1 else None
    resample(run.weights, run.moments, dead, residual[drawn], inputs)
    run.weights["threshold"][dead] = 0.5 * run.weights["threshold"].median()
    for moment in run.moments["threshold"]:
        moment[dead] = 0
    run.since_fired[dead] = 0
