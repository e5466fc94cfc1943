"""TopK: the k largest pre-activations of every row (Gao et al. 2024, arXiv 2406.04093)."""

from dataclasses import dataclass

import torch

from sksae.kernels import Rule, compiled_for, pooled_cut, positive_part, where_positive
from sksae.objectives._objective import Objective, reconstruction_loss
from sksae.training import auxiliary_k_backward, auxiliary_k_loss, total_variance


@dataclass
class TopK(Objective):
    """Reconstruction loss of the k largest codes of every row, and AuxK for dead latents.

    ``|x - x^|^2 + auxk_alpha variance |e - e^|^2 / Var(e)``, where ``e^`` is the reconstruction of
    the detached residual ``e = x - x^`` by the `k_aux` strongest dead latents. Where these
    are many, it is estimated on some of the rows (`sksae.training.auxiliary_k_loss`).

    Parameters
    ----------
    k : int
        Codes kept per row.
    auxk_alpha : float, default=0.0
        Weight of the auxiliary loss; 0 turns it off.
    k_aux : int, default=1
        Dead latents used per row by the auxiliary loss.
    variance : float, default=None
        Variance of the targets in the unit of training. None measures it in every batch.

    See Also
    --------
    sksae.TopKSAE : The estimator.

    References
    ----------
    .. [1] L. Gao et al., "Scaling and evaluating sparse autoencoders", 2024, arXiv:2406.04093.

    Examples
    --------
    >>> from sksae.objectives import TopK
    >>> TopK(k=2).rule({}).k
    2
    """

    k: float
    auxk_alpha: float = 0.0
    k_aux: int = 1
    variance: float | None = None

    resolved = ("k",)
    turns = True
    fewest_steps = 200

    @property
    def n_active(self):
        """Codes per row."""
        return self.k

    def rule(self, weights):
        """Return the rule of the k largest entries of every row."""
        return Rule(k=self.k)

    def _codes(self, entries):
        """Return the codes of the entries."""
        return entries.kept(positive_part(entries.z))

    def loss(self, entries, alpha, dead):
        """Return the loss and the codes."""
        codes = self._codes(entries)
        reconstruction = entries.decode(codes)
        loss = reconstruction_loss(entries, reconstruction)
        return loss + self._revival(entries, reconstruction, dead), codes

    @torch.no_grad()
    def backward(self, entries, alpha, dead):
        """Return the loss and the codes; the gradients are known.

        With ``pull = 2 (x^ - x) / n``, that of the codes is ``pull D^T``, and those of the
        pre-activations are the same where there is a code.
        """
        codes = self._codes(entries)
        loss, error, pulls = entries.squared_error(codes)
        z = where_positive(codes, pulls)
        loss = loss + self._revival_backward(entries, error, dead)
        entries.encode_backward(z)
        return loss, codes

    def compiled_backward(self, entries, dead):
        """Return the loss, the gradients, and the latents that fired."""
        loops, rule = compiled_for(entries.x), entries.rule
        if loops is None or entries.linear_maps or rule.k is None or rule.magnitude:
            return None
        cut = pooled_cut(entries.z, rule.k, entries.w) if rule.pooled else None
        return loops.top_k_gradients(
            entries.x,
            entries.share,
            entries.weights,
            entries.z,
            entries.centred,
            k=0 if rule.pooled else min(int(rule.k), len(dead)),
            cut=cut,
            dead=dead,
            k_aux=self.k_aux,
            factor=self.auxk_alpha,
            variance=self.variance,
            pre_bias=self.pre_bias,
        )

    def _revival(self, entries, reconstruction, dead):
        """Return the weighted auxiliary loss, 0 without dead latents."""
        if self.auxk_alpha == 0:
            return 0.0
        auxiliary = auxiliary_k_loss(entries, reconstruction, dead=dead, k_aux=self.k_aux)
        return self.auxk_alpha * self._total_variance(entries) * auxiliary

    def _revival_backward(self, entries, error, dead):
        """Hand in the gradients of the weighted auxiliary loss, and return it."""
        if self.auxk_alpha == 0:
            return 0.0
        factor = self.auxk_alpha * self._total_variance(entries)
        options = {"dead": dead, "k_aux": self.k_aux, "factor": factor}
        return auxiliary_k_backward(entries, error, **options)

    def _total_variance(self, entries):
        """Total variance of the targets: the auxiliary loss is relative to it."""
        if self.variance is not None:
            return self.variance
        return total_variance(entries.x, entries)
