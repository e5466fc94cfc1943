"""Parameters of a fit that are left at None, by the number of rows and of features.

The rules were chosen from the measurements of ``docs/defaults.md``.
"""

import math

MINIMUM_STEPS = 2000
"""Optimiser steps over which the rises of a stream go, whose end is not known."""

MANY_ROWS = 2**15
"""Rows from which on a fit takes axes of its own, and longer steps if it is short."""

_FEWEST_PER_FEATURE, _MOST_PER_FEATURE = 4, 8  # latents
_NARROW = 128  # latents up to which there are the most per feature
_ROWS_PER_LATENT, _ENOUGH_PER_LATENT = 2, 16  # rows at least, and rows that allow more latents
_LEARNT_BY_HEART = 512  # rows up to which a latent for each of them is better than half as many
_SMALL = 64  # rows up to which nothing depends on their number, and a step takes all of them
_LARGEST_BATCH = 4096
_MANY = 1500  # rows from which on the smallest batch has 64 of them, and 32 below
_WHOLE = 512  # rows up to which a step takes all of them, where that is better
_PASSES = 30  # of few rows with a latent for each; of many rows, with latents for half of them
_STEPS = 480  # between the two
_STEPS_OF_A_CLUSTERING = 1000
_MOST_STEPS = 2000
_SHORT = 400  # steps up to which a fit of many rows makes haste


def default_width(n_samples, n_features, k=None):
    """Latents: eight per feature up to 128, then four, and eight again where rows are many.

    A latent has at least two rows, as it could learn a single one by heart; from 16 rows per
    latent on there may be up to eight latents per feature. Where rows keep several codes, up to
    512 rows are best learnt by heart, and may have a latent each. Tables of up to 64 rows count as
    64, so that to repeat a row is the same as to double its weight.

    Parameters
    ----------
    n_samples : int or None
        Number of rows; None where it is not known.
    n_features : int
        Number of columns.
    k : float, default=None
        Codes kept per row; None where a penalty decides.

    Returns
    -------
    n_components : int
        At least 1.
    """
    most = _MOST_PER_FEATURE * n_features
    if n_samples is None:
        return most
    width = max(_FEWEST_PER_FEATURE * n_features, _NARROW, n_samples // _ENOUGH_PER_LATENT)
    allowed = max(n_samples, _SMALL) // _ROWS_PER_LATENT
    if k is not None and k > 1 and n_samples > _SMALL:
        allowed = max(allowed, min(n_samples, _LEARNT_BY_HEART))
    return min(width, most, allowed)


def default_batch_size(n_samples, n_active=None):
    """Rows per step: the power of two nearest to ``sqrt(n_samples)``, from 32 to 4096.

    Up to 64 rows each step takes all of them, and from 1500 rows on at least 64.

    A single code per row is a clustering of the rows, which small batches disturb: there a step
    takes at least 512 rows.

    Parameters
    ----------
    n_samples : int or None
        Number of rows; None where it is not known.
    n_active : float, default=None
        Codes per row, where they are known.

    Returns
    -------
    batch_size : int
        At most `n_samples`; 512 where the number of rows is not known.
    """
    if n_samples is None:
        return _WHOLE
    if n_samples <= _SMALL:
        return n_samples
    smallest = _WHOLE if _is_clustering(n_active) else _smallest_batch(n_samples)
    nearest = 2 ** round(math.log2(n_samples) / 2)
    return min(n_samples, max(smallest, min(_LARGEST_BATCH, nearest)))


def default_max_iter(n_samples, n_components, batch_size, n_active=None, fewest_steps=200):
    """Passes over the data, by the number of steps that many latents can make before they overfit.

    With a latent for every row that is 30 passes of batches of 32, up to 480 steps, or as many as
    15 passes of batches of 64. With two rows or more per latent it is twice as many. It is between
    200 and 2000, and 1000 with a single code per row.

    Parameters
    ----------
    n_samples, n_components : int
        Rows of a pass, and latents.
    batch_size : int
        Rows of a step.
    n_active : float, default=None
        Codes per row, where they are known.
    fewest_steps : int, default=200
        Steps that are made however few the rows.

    Returns
    -------
    max_iter : int
        At least 1.
    """
    n_steps = min(_PASSES * n_samples / 32, max(_STEPS, _PASSES / 2 * n_samples / 64))
    n_steps = min(_MOST_STEPS, n_steps * min(2, max(1, n_samples / n_components)))
    if _is_clustering(n_active):
        n_steps = _STEPS_OF_A_CLUSTERING
    n_steps = max(n_steps, fewest_steps)
    return math.ceil(n_steps / math.ceil(n_samples / batch_size))


def _smallest_batch(n_samples):
    return 64 if n_samples >= _MANY else 32


def _is_clustering(n_active):
    return n_active is not None and n_active <= 1


def default_haste(n_samples, batch_size, n_steps):
    """Return how much longer than usual the steps of a fit may be: ``sqrt(B / 256)``, or 0.

    Gradients of more rows bear longer steps, by the square root, and need fewer of them for a
    smooth mean (Malladi et al. 2022). Up to 400 steps learn more in this way; of more, which get
    far enough, some learn less, and haste falls as their number grows.

    Parameters
    ----------
    n_samples : int
        Rows; fewer than 32 768 allow no haste.
    batch_size : int
        Rows per step, B.
    n_steps : int or None
        None of a stream, whose end is not known: no haste.

    Returns
    -------
    haste : float

    References
    ----------
    .. [1] S. Malladi, K. Lyu, A. Panigrahi and S. Arora, "On the SDEs and scaling rules for
       adaptive gradient algorithms", NeurIPS 2022, arXiv:2205.10287.
    """
    if n_steps is None or n_samples < MANY_ROWS:
        return 0.0
    return math.sqrt(batch_size / 256) * min(1.0, _SHORT / n_steps)


def default_learning_rate(n_components, haste=0.0):
    """Return ``3e-3 sqrt(2^14 / m)``, at most 6e-3, or 6e-3 times a haste above 1.

    The law in the width is that of Gao et al. (2024). Their constant, 2e-4, is for runs of 10^5
    steps; fits of a few thousand steps leave much of the variance unexplained with it.
    """
    return min(6e-3 * max(1.0, haste), 3e-3 * math.sqrt(2**14 / n_components))


def default_betas(haste=0.0):
    """Return Adam's decay rates: (0.9, 0.99), or (0.8, 0.97) in haste."""
    return (0.8, 0.97) if haste >= 1 else (0.9, 0.99)


def default_dead_window(batch_size, n_samples, max_iter=1):
    """Rows without firing after which a latent counts as dead: a tenth of those of the fit.

    The published ten million tokens are an upper bound: data of a scikit-learn user's size would
    never reach them, and dead latents would never be revived. Of a small table a tenth of one pass
    is too little: latents that fire on few rows would be taken for dead.
    """
    return min(10_000_000, max(10 * batch_size, max_iter * n_samples // 10))
