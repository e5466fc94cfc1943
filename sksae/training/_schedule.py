"""The course of the learning rate and of the penalty over the steps of a fit."""

import math

from sksae.training._defaults import MINIMUM_STEPS


def ramp_up(step, n_steps):
    """From 0 at step 0 linearly to 1 at step `n_steps`, then 1."""
    return min(1.0, step / n_steps) if n_steps > 0 else 1.0


def ramp_down(step, total, fraction):
    """1, then linearly towards 0 over the last `fraction` of `total` steps (never 0 itself)."""
    return min(1.0, (total - step) / (fraction * total)) if fraction > 0 else 1.0


class Schedule:
    """Weight of the penalty and factor of the learning rate, by optimiser step.

    The penalty rises from exactly 0; the learning rate falls to 0 at the end of a fit. In a stream,
    whose end is not known, the rises last as long as in a fit of `MINIMUM_STEPS` steps.

    Parameters
    ----------
    n_steps : int or None
        Steps of the fit, None for a stream.
    alpha : float
        Weight of the penalty once it has risen.
    alpha_warm_up, warm_up, decay : float
        Shares of the steps over which the penalty rises, and the learning rate rises and falls.

    Attributes
    ----------
    controller : SparsityController or None
        What multiplies the penalty, if anything does.
    """

    def __init__(self, n_steps, *, alpha=0.0, alpha_warm_up=0.0, warm_up=0.0, decay=0.0):
        total = n_steps or MINIMUM_STEPS
        self.total, self.alpha, self.controller = total, alpha, None
        self.alpha_steps, self.warm_up_steps = round(alpha_warm_up * total), round(warm_up * total)
        self.decay = 0.0 if n_steps is None else decay

    def __call__(self, step):
        """Return ``(alpha, rate)`` of the optimiser step `step`, counted from 0."""
        factor = 1.0 if self.controller is None else self.controller.factor
        # The rise of the rate counts from 1, because a step at rate 0 would be lost.
        rate = ramp_up(step + 1, self.warm_up_steps) * ramp_down(step, self.total, self.decay)
        return self.alpha * factor * ramp_up(step, self.alpha_steps), rate


class SparsityController:
    """Multiply the penalty by a factor that follows the ratio of measured to asked L0.

    An integral controller on the logarithm: ``log factor += gain * log(L0 / target)``, the step
    bounded so that a start far from the target (or a penalty still warming up) cannot run away.

    Parameters
    ----------
    target : float
        Mean number of non-zero codes per row.
    measure : callable
        ``measure() -> float``, the L0 of held-out rows under the current weights.
    interval : int
        Optimiser steps between measurements.
    first : int
        Step of the first measurement, after the penalty's warm-up.
    """

    gain = 0.2
    bound = 0.05

    def __init__(self, target, measure, *, interval, first):
        self.target, self.measure = target, measure
        self.interval, self.first = interval, first
        self.factor = 1.0

    def __call__(self, run):
        """Update the factor after an optimiser step of `run`."""
        if run.n_steps < self.first or run.n_steps % self.interval:
            return
        # Bounded below, because the logarithm of an L0 of 0 is infinite.
        error = math.log(max(self.measure(), 1e-3 * self.target) / self.target)
        self.factor *= math.exp(max(-self.bound, min(self.bound, self.gain * error)))
