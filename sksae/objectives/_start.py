"""The start of training: directions near the data, and biases that leave most latents silent."""

import torch

OPEN_DEVIATIONS = 1.645
"""Standard deviations that a normal variable exceeds on one row in twenty."""

_SAMPLE = 4096
_NO_DIRECTION = 1e-12
_OPPOSITE = 1e-6
_BLOCK = 1024


def directions(rows, n_components, centre, generator):
    """Unit directions: each halfway between a random one and a row of the data.

    Rows of the data explain much at once, random ones leave no latent behind: together they do
    both. The draw does not depend on the order of the rows, and a repeated row is drawn as often as
    one of that weight. Where rows have targets, a latent's two directions are near a row and near
    its target.

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
        For the dictionary; the same tensor where rows are their own targets.
    """
    sides = [rows.inputs] if rows.inputs == rows.targets else [rows.inputs, rows.targets]
    random = torch.randn(n_components, rows.n_features, generator=generator, dtype=torch.float64)
    for columns in sides:
        random[:, columns] /= random[:, columns].norm(dim=1, keepdim=True)
    data = drawn_rows(rows, n_components, random[0], generator) - centre
    unit_rows = [_halfway(random[:, columns], data[:, columns]) for columns in sides]
    return unit_rows[0], unit_rows[-1]


def drawn_rows(rows, n_rows, direction, generator):
    """Rows of the data, drawn independently of their order; a heavy or a repeated one more often.

    Parameters
    ----------
    rows : Batches
        Of which at most `n_rows` (or 4096), evenly spread, are drawn from.
    n_rows : int
    direction : Tensor of shape (d,)
        A random one.
    generator : torch.Generator

    Returns
    -------
    x : Tensor of shape (n_rows, d), float64, on the CPU
    """
    x, w = sample(rows, max(n_rows, _SAMPLE))
    # Rows in the order of their projection on one direction, which no shuffling changes.
    order = torch.argsort(x.double() @ direction, stable=True)
    cumulated = torch.cumsum(w[order].double(), 0)
    # One draw in each of as many equal parts of the weight.
    within = torch.rand(n_rows, generator=generator, dtype=torch.float64)
    places = (torch.arange(n_rows) + within) / n_rows
    drawn = order[torch.searchsorted(cumulated, places * cumulated[-1]).clamp(max=len(order) - 1)]
    return x[drawn].double()


def _halfway(random, data):
    """Unit rows in the middle between unit rows `random` and the directions of `data`."""
    between = random + data / data.norm(dim=1, keepdim=True).clamp(min=_NO_DIRECTION)
    sizes = between.norm(dim=1, keepdim=True)
    return torch.where(sizes > _OPPOSITE, between / sizes, random)


def sample(rows, size):
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
        Whether the dictionary's bias is subtracted before encoding.

    Returns
    -------
    bias : Tensor of shape (m,)
        Minus the mean and `OPEN_DEVIATIONS` standard deviations of ``x E^T``.
    """
    x, w = (part.double() for part in sample(rows, _SAMPLE))
    inputs = x[:, rows.inputs]
    centred = inputs - weights["intercept"] if pre_bias else inputs
    bias = []
    for coef in weights["encoder_coef"].split(_BLOCK):  # blocks of latents, to bound the memory
        z = centred @ coef.T
        mean = w @ z / w.sum()
        bias.append(-mean - OPEN_DEVIATIONS * (w @ (z - mean).square() / w.sum()).sqrt())
    return torch.cat(bias)
