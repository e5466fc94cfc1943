"""Rows kept out of training, and what they are asked."""

import torch
from sklearn.model_selection import train_test_split

_L0_ROWS = 2048


def weighted_rows(n_samples, sample_weight):
    """Row numbers that count: a weight of zero means that the row is not there."""
    if sample_weight is None:
        return torch.arange(n_samples)
    return sample_weight.nonzero().flatten()


def split(sae, n_samples, sample_weight, generator):
    """Return training rows and, where early stopping or an asked L0 needs them, held-out rows."""
    rows = weighted_rows(n_samples, sample_weight)
    if not sae.early_stopping and getattr(sae, "target_l0", None) is None:
        return rows, None
    if len(rows) < 2:
        why = "early_stopping=True" if sae.early_stopping else "target_l0"
        raise ValueError(
            f"{why} holds out rows and needs at least 2 that count; there is n_samples={len(rows)}."
        )
    seed = int(torch.randint(2**31 - 1, (1,), generator=generator))
    train, held_out = train_test_split(
        rows.numpy(), test_size=sae.validation_fraction, random_state=seed
    )
    return torch.from_numpy(train), torch.from_numpy(held_out)


class HeldOut:
    """Held-out rows in the internal unit, seen through the weights under training.

    Parameters
    ----------
    engine : Engine
    rows : Batches
    """

    def __init__(self, engine, rows):
        self.engine, self.rows = engine, rows
        self.mean = rows.average(lambda x: x)[rows.parts[-1]].to(rows.device, rows.dtype)
        self._sample = rows.take(torch.arange(min(rows.n_samples, _L0_ROWS)))

    def _coded(self, x, w, weights):
        """Entries of rows and their codes."""
        entries = self.engine.entries(x, w, weights)
        dead = torch.zeros(len(weights["components"]), dtype=torch.bool, device=x.device)
        return entries, self.engine.objective(entries, 0.0, dead)[1]

    @torch.no_grad()
    def l0(self, weights):
        """Mean number of non-zero codes over at most `_L0_ROWS` of the rows."""
        x, w = self._sample
        entries, codes = self._coded(x, w, weights)
        return float(w @ entries.counts(codes).to(w.dtype) / w.sum())

    @torch.no_grad()
    def explained_variance(self, weights):
        """Pooled explained variance over all of the rows."""
        residual, total = 0.0, 0.0
        for x, w in self.rows:
            entries, codes = self._coded(x, w, weights)
            error = entries.x - entries.decode(codes)
            residual += float(w @ error.square().sum(1))
            total += float(w @ (entries.x - self.mean).square().sum(1))
        return 1.0 - residual / total if total > 0 else 0.0
