"""Moving the penalty until the codes are as sparse as asked."""

import math


class SparsityController:
    """Multiply the penalty by a factor that follows the ratio of measured to asked L0.

    An integral controller on the logarithm: ``log factor += gain * log(L0 / target)``, the step
    bounded so that a start far from the target (or a penalty still warming up) cannot run away.

    Parameters
    ----------
    target : float
        Mean number of non-zero codes a row.
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
        error = math.log(max(self.measure(), 1e-3 * self.target) / self.target)
        self.factor *= math.exp(max(-self.bound, min(self.bound, self.gain * error)))
