"""Matryoshka: nested dictionaries of one code (Bussmann et al. 2025, arXiv 2503.17547)."""

from dataclasses import dataclass

import torch

from sksae.kernels import where_positive
from sksae.objectives._batch_topk import BatchTopK
from sksae.objectives._objective import reconstruction_loss


@dataclass
class Matryoshka(BatchTopK):
    """The loss of `BatchTopK`, summed over reconstructions by the first latents alone.

    ``sum_g |x - x^_g|^2``, where ``x^_g`` is decoded from the codes of the first ``widths[g]``
    latents; all codes are selected at once, and the auxiliary loss is that of all latents.

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
    widths : tuple of int
        Numbers of latents of the nested dictionaries, increasing, the last one all of them.

    See Also
    --------
    sksae.MatryoshkaSAE : The estimator.

    References
    ----------
    .. [1] B. Bussmann, N. Nabeshima, A. Karvonen and N. Nanda, "Learning multi-level features with
       Matryoshka sparse autoencoders", 2025, arXiv:2503.17547.

    Examples
    --------
    >>> from sksae.objectives import Matryoshka
    >>> Matryoshka(k=1.5, widths=(2, 4)).widths
    (2, 4)
    """

    widths: tuple = ()

    resolved = ("k", "widths")

    def _nested(self, entries, codes):
        """Yield the codes of the first latents alone, for every width."""
        latents = torch.arange(self.widths[-1], device=codes.device)
        for width in self.widths:
            yield codes * entries.at(latents < width)

    def loss(self, entries, alpha, dead):
        """Return the loss and the codes."""
        codes, total = self._codes(entries), 0.0
        for part in self._nested(entries, codes):
            reconstruction = entries.decode(part)
            total = total + reconstruction_loss(entries, reconstruction)
        return total + self._revival(entries, reconstruction, dead), codes

    @torch.no_grad()
    def backward(self, entries, alpha, dead):
        """Return the loss and the codes; the gradients are known."""
        codes, total, z = self._codes(entries), 0.0, 0.0
        for part in self._nested(entries, codes):
            loss, error, pulls = entries.squared_error(part)
            total, z = total + loss, z + where_positive(part, pulls)
        total = total + self._revival_backward(entries, error, dead)
        entries.encode_backward(z)
        return total, codes
