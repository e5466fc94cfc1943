"""Early stopping: rows kept out of training, their scores, and the end of training by a score."""

import math

import torch
from sklearn.model_selection import train_test_split

from sksae._processes import sum_over_processes

_L0_ROWS = 2048  # enough for a mean that is measured hundreds of times per fit


def hold_out(rows, fraction, generator):
    """Divide row numbers at random; return those to train on and those held out.

    Parameters
    ----------
    rows : Tensor of int of shape (n,)
    fraction : float
        Share of the rows to hold out.
    generator : torch.Generator
    """
    # Its seed is drawn from the generator, the one source of randomness of a fit.
    seed = int(torch.randint(2**31 - 1, (1,), generator=generator))
    train, held_out = train_test_split(rows.numpy(), test_size=fraction, random_state=seed)
    return torch.from_numpy(train), torch.from_numpy(held_out)


class HeldOut:
    """Measures of the weights under training on held-out rows in the internal unit.

    Parameters
    ----------
    engine : Engine
    rows : Batches
    """

    def __init__(self, engine, rows):
        self.engine, self.rows = engine, rows
        # The reference of the explained variance, over the columns that are reconstructed.
        self.mean = rows.average()[rows.targets].to(rows.device, rows.dtype)
        self._sample = rows.take(torch.arange(min(rows.n_samples, _L0_ROWS)))

    @torch.no_grad()
    def l0(self, weights):
        """Mean number of non-zero codes over at most `_L0_ROWS` of the rows."""
        x, w = self._sample
        entries, codes = self.engine.coded(x, w, weights)
        return float(w @ entries.per_row((codes != 0).to(w.dtype)) / w.sum())

    @torch.no_grad()
    def explained_variance(self, weights):
        """Pooled explained variance over all of the rows."""
        residual, total = 0.0, 0.0
        for x, w in self.rows:
            entries, codes = self.engine.coded(x, w, weights)
            error = entries.x - entries.decode(codes)
            residual += float(w @ error.square().sum(1))
            total += float(w @ (entries.x - self.mean).square().sum(1))
        residual, total = sum_over_processes(residual), sum_over_processes(total)
        return 1.0 - residual / total if total > 0 else 0.0


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
        # The best weights follow every improvement, patience only those of more than tol.
        if score > self._reference + self.tol:
            self._reference, self.waited = score, 0
        else:
            self.waited += 1
        return self.waited >= self.patience

    def state(self):
        """Return what the next `update` depends on beside the best weights, as JSON."""
        return [self.best, self.waited, self._reference]

    def restore(self, state, best_weights):
        """Continue from what `state` returned, with the best weights of then."""
        (self.best, self.waited, self._reference), self.best_weights = state, best_weights
