"""When to stop: no improvement by more than `tol` for a number of passes."""

import math


class Stopping:
    """Follow a score (greater is better) and keep a copy of the best weights.

    Parameters
    ----------
    tol : float
        Improvement that counts.
    patience : int
        Passes without improvement after which `update` returns True.
    """

    def __init__(self, tol, patience):
        self.tol, self.patience = tol, patience
        self.best, self.best_weights, self.waited = -math.inf, None, 0
        self._reference = -math.inf

    def update(self, score, weights=None):
        """Record the score of a pass; return True when it is time to stop."""
        if score > self.best:
            self.best = score
            if weights is not None:
                self.best_weights = {name: w.detach().clone() for name, w in weights.items()}
        if score > self._reference + self.tol:
            self._reference, self.waited = score, 0
        else:
            self.waited += 1
        return self.waited >= self.patience
