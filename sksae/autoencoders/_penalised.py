"""What the variants with a sparsity penalty share: its weight, its warm-up, an asked L0."""

import math

from sksae._params import Float
from sksae.autoencoders._base import BaseSAE


def default_k(n_features):
    """Return the number of active latents a row that the defaults aim at."""
    return 32 if n_features >= 512 else max(1, n_features // 8)


class PenalisedSAE(BaseSAE):
    """A `BaseSAE` whose objective has a penalty of weight `alpha`."""

    _param_rules = {
        **BaseSAE._param_rules,
        "alpha": Float(0, none=True),
        "alpha_warm_up": Float(0, 1),
        "target_l0": Float(0, open_="low", none=True),
    }

    def __init__(self, n_components=None, *, alpha, alpha_warm_up, target_l0, **shared):
        super().__init__(n_components, **shared)
        self.alpha = alpha
        self.alpha_warm_up = alpha_warm_up
        self.target_l0 = target_l0

    @property
    def _alpha_warm_up(self):
        return self.alpha_warm_up

    def _alpha_for(self, size):
        """Penalty for codes of this typical size (about ``sqrt(d / K)`` for K active latents)."""
        raise NotImplementedError

    def _hyperparameters(self, n_features, n_components, n_targets):
        if self.alpha is not None:
            return {"alpha_": float(self.alpha)}
        active = self.target_l0 or default_k(n_features)
        return {"alpha_": self._alpha_for(math.sqrt(n_targets / active))}
