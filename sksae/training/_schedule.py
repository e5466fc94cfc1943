"""How long, how large, how fast: the defaults that derive from the data, and the ramps."""

import math

MINIMUM_STEPS = 2000
"""Optimiser steps below which dictionaries are not recovered even on toy data."""


def default_batch_size(n_samples):
    """Rows a step: small data whole, then 512, 1024 and 4096 as the data grow."""
    if n_samples < 100_000:
        return min(n_samples, 512)
    return 1024 if n_samples < 1_000_000 else 4096


def default_max_iter(batches_per_pass):
    """Passes over the data that make at least `MINIMUM_STEPS` steps."""
    return math.ceil(MINIMUM_STEPS / batches_per_pass)


def default_learning_rate(n_components):
    """Return ``3e-3 sqrt(2^14 / m)``, at most 6e-3.

    The law in the width is that of Gao et al. (2024). Their constant, 2e-4, is for runs of 10^5
    steps; at `MINIMUM_STEPS` it leaves much of the variance unexplained.
    """
    return min(6e-3, 3e-3 * math.sqrt(2**14 / n_components))


def default_dead_window(batch_size, n_samples):
    """Rows without firing after which a latent counts as dead, scaled to the data.

    The published ten million tokens are an upper bound: data of a scikit-learn user's size would
    never reach them, and dead latents would never be revived.
    """
    return min(10_000_000, max(10 * batch_size, n_samples // 10))


def ramp_up(step, n_steps):
    """From 0 at step 0 linearly to 1 at step `n_steps`, then 1."""
    return min(1.0, step / n_steps) if n_steps > 0 else 1.0


def ramp_down(step, total, fraction):
    """1, then linearly towards 0 over the last `fraction` of `total` steps (never 0 itself)."""
    return min(1.0, (total - step) / (fraction * total)) if fraction > 0 else 1.0
