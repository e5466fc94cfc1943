"""BatchTopK: the largest pre-activations of a batch (Bussmann et al. 2024, arXiv 2412.06410)."""

from dataclasses import dataclass

import torch

from sksae._processes import sum_over_processes
from sksae.kernels import Rule
from sksae.objectives._objective import Weight
from sksae.objectives._topk import TopK


@dataclass
class BatchTopK(TopK):
    """The loss of `TopK` with the ``k n`` largest positive codes among all n rows of a batch.

    At inference codes are the pre-activations above a threshold, which `calibrated` takes from the
    training rows, so that the codes of a row do not depend on the rows beside it.

    Parameters
    ----------
    k : float
        Codes kept per row, on average.
    auxk_alpha : float, default=0.0
        Weight of the auxiliary loss; 0 turns it off.
    k_aux : int, default=1
        Dead latents used per row by the auxiliary loss.
    variance : float, default=None
        Variance of the targets in the unit of training. None measures it in every batch.

    See Also
    --------
    sksae.BatchTopKSAE : The estimator.

    References
    ----------
    .. [1] B. Bussmann, P. Leask and N. Nanda, "BatchTopK sparse autoencoders", 2024,
       arXiv:2412.06410.

    Examples
    --------
    >>> from sksae.objectives import BatchTopK
    >>> BatchTopK(k=1.5).rule({}).pooled
    True
    """

    weights = {"threshold": Weight("m", unit="code", trained=False)}

    def rule(self, weights):
        """Return the rule of the ``k n`` largest positive entries of a batch."""
        return Rule(k=self.k, pooled=True)

    def fitted_rule(self, fitted):
        """Return the rule of raw pre-activations above the threshold."""
        return Rule(bound=fitted["threshold"])

    @torch.no_grad()
    def calibrated(self, weights, engine, rows):
        """Add the threshold: the mean over batches of the cut between kept and dropped entries."""
        total, weight = 0.0, 0.0
        for x, w in rows:
            total += engine.entries(x, w, weights).cut() * float(w.sum())
            weight += float(w.sum())
        mean = sum_over_processes(total) / sum_over_processes(weight)
        threshold = torch.full_like(weights["encoder_intercept"], mean)
        return {**weights, "threshold": threshold}
