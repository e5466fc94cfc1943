"""L1: a penalty on the size of the codes (Bricken et al. 2023; Anthropic, April 2024)."""

from dataclasses import dataclass

import torch

from sksae.kernels import Rule, where_positive
from sksae.objectives._objective import Objective, reconstruction_loss
from sksae.objectives._start import closing_bias
from sksae.training import Resampling, geometric_median

_MEDIAN_ROWS = 32_768


@dataclass
class L1(Objective):
    """Reconstruction loss and the L1 norm of the codes.

    ``|x - x^|^2 + alpha sum_i f_i |D_i|``, with codes ``f = relu(z)``.

    Parameters
    ----------
    alpha : float
        Weight of the penalty.
    alpha_warm_up : float, default=0.0
        Share of the steps over which the penalty rises from 0.
    target_l0 : float, default=None
        Codes per row that the penalty is steered to.
    unit_norm : bool, default=False
        Whether rows of the dictionary stay on the unit sphere. Then the bias of the dictionary
        starts at the geometric median, and dead latents are resampled.

    See Also
    --------
    sksae.SparseAutoencoder : The estimator.

    References
    ----------
    .. [1] T. Bricken et al., "Towards monosemanticity: decomposing language models with dictionary
       learning", Transformer Circuits Thread, 2023.
    .. [2] T. Conerly et al., "Update on how we train SAEs", Transformer Circuits Thread, April
       2024.

    Examples
    --------
    >>> from sksae.objectives import L1
    >>> L1(alpha=2.0).rule({}).bound
    0.0
    """

    alpha: float
    alpha_warm_up: float = 0.0
    target_l0: float | None = None
    unit_norm: bool = False

    resolved = ("alpha",)
    encoder_scale = 1.0
    rates = {}

    def rule(self, weights):
        """Return the rule of the positive entries."""
        return Rule(bound=0.0)

    def loss(self, entries, alpha, dead):
        """Return the loss and the codes."""
        codes = torch.relu(entries.z)
        sizes = codes if self.unit_norm else codes * entries.norms()
        loss = reconstruction_loss(entries, entries.decode(codes))
        return loss + alpha * entries.row_mean(sizes), codes

    @torch.no_grad()
    def backward(self, entries, alpha, dead):
        """Return the loss and the codes; the gradients are known."""
        codes = torch.relu(entries.z)
        # The slope of the penalty in a code of row i.
        slopes = entries.of_rows(alpha * entries.share)
        loss, _, z = entries.squared_error(codes)
        penalties = slopes * codes
        if not self.unit_norm:
            norms = entries.norms()
            entries.norms_backward(penalties)
            slopes, penalties = slopes * norms, penalties * norms
        entries.encode_backward(where_positive(codes, z + slopes))
        return loss + penalties.sum(), codes

    def initial_weights(self, rows, n_components, generator):
        """Return a start with biases that leave most latents silent."""
        weights = super().initial_weights(rows, n_components, generator)
        if self.unit_norm:
            x, w = rows.take(torch.arange(min(rows.n_samples, _MEDIAN_ROWS)))
            targets = x[:, rows.targets].cpu().double()
            weights["intercept"] = geometric_median(targets, w.cpu().double())
        else:  # small rows, so that the norm-weighted penalty does not start out dominant
            weights["components"] *= 0.1
            weights["encoder_coef"] *= 0.1
        weights["encoder_intercept"] = closing_bias(weights, rows, pre_bias=self.pre_bias)
        return weights

    def events(self, rows, n_steps, generator):
        """Return the resampling of dead latents, with unit-norm rows."""
        return [Resampling(rows, n_steps, generator)] if self.unit_norm else []
