"""JumpReLU: a learnt threshold per latent (Rajamanoharan et al. 2024; Anthropic, January 2025)."""

import math
from dataclasses import dataclass

import torch

from sksae.kernels import Rule, heaviside, jump_relu, near_threshold
from sksae.objectives._objective import Objective, Weight, reconstruction_loss
from sksae.training import Revival


@dataclass
class JumpReLU(Objective):
    """Reconstruction loss and a penalty on the number of codes above learnt thresholds.

    ``|x - x^|^2 + alpha sum_i 1[z_i > threshold_i]``, or with ``penalty="tanh"``
    ``|x - x^|^2 + alpha sum_i tanh(tanh_scale f_i |D_i|)
    + pre_activation_alpha sum_i relu(threshold_i - z_i) |D_i|``.

    Parameters
    ----------
    alpha : float
        Weight of the penalty.
    alpha_warm_up : float, default=0.0
        Share of the steps over which the penalty rises from 0.
    target_l0 : float, default=None
        Codes per row that the penalty is steered to.
    penalty : {"l0", "tanh"}, default="l0"
        The number of codes, or a smooth saturating form of it, with free dictionary rows.
    bandwidth : float, default=1.0
        Width of the kernel that estimates the gradient of the steps.
    threshold_init : float, default=1.0
        First value of the thresholds.
    tanh_scale, pre_activation_alpha : float, default=4.0, 3e-6
        Constants of the "tanh" penalty.

    See Also
    --------
    sksae.JumpReLUSAE : The estimator.

    References
    ----------
    .. [1] S. Rajamanoharan et al., "Jumping ahead: improving reconstruction fidelity with JumpReLU
       sparse autoencoders", 2024, arXiv:2407.14435.
    .. [2] T. Conerly et al., "Dictionary learning optimization techniques", Transformer Circuits
       Thread, January 2025.

    Examples
    --------
    >>> from sksae.objectives import JumpReLU
    >>> JumpReLU(alpha=1.0, penalty="tanh").unit_norm
    False
    """

    alpha: float
    alpha_warm_up: float = 0.0
    target_l0: float | None = None
    penalty: str = "l0"
    bandwidth: float = 1.0
    threshold_init: float = 1.0
    tanh_scale: float = 4.0
    pre_activation_alpha: float = 3e-6

    resolved = ("alpha",)
    turns = True
    weights = {"threshold": Weight("m", unit="code", nonnegative=True)}

    def __post_init__(self):
        self.unit_norm = self.pre_bias = self.penalty == "l0"

    def rule(self, weights):
        """Return the rule of the entries above the lower end of the kernel."""
        return Rule(bound=weights["threshold"] - self.bandwidth / 2)

    def fitted_rule(self, fitted):
        """Return the rule of raw pre-activations above the thresholds."""
        return Rule(bound=fitted["threshold"])

    def loss(self, entries, alpha, dead):
        """Return the loss and the codes."""
        z, threshold = entries.z, entries.at(entries.weights["threshold"])
        step = {"bandwidth": self.bandwidth, "to_input": self.penalty == "tanh"}
        codes = jump_relu(z, threshold, **step)
        loss = reconstruction_loss(entries, entries.decode(codes))
        if self.penalty == "l0":
            return loss + alpha * entries.row_mean(heaviside(z, threshold, **step)), codes
        sparsity = entries.row_mean(torch.tanh(self.tanh_scale * codes * entries.norms()))
        silence = entries.shortfall(entries.weights["threshold"])
        return loss + alpha * sparsity + self.pre_activation_alpha * silence, codes

    @property
    def knows_gradients(self):
        """Whether `backward` does without autograd."""
        return self.penalty == "l0"

    @torch.no_grad()
    def backward(self, entries, alpha, dead):
        """Return the loss and the codes; with the "l0" penalty the gradients are known.

        A threshold moves the jumps of the codes within its kernel (`sksae.kernels.jump_relu`), of
        height ``threshold``, and those of their number, of height 1.
        """
        if not self.knows_gradients:
            with torch.enable_grad():
                return super().backward(entries, alpha, dead)
        z, threshold = entries.z.detach(), entries.at(entries.weights["threshold"].detach())
        above = z > threshold
        codes = z * above
        slopes = entries.of_rows(alpha * entries.share)
        loss, _, grad = entries.squared_error(codes)
        near = near_threshold(z, threshold, self.bandwidth)
        jumps = near * (threshold * grad + slopes) / self.bandwidth
        entries.vector_backward("threshold", -jumps)
        entries.encode_backward(grad * above)
        return loss + (slopes * above).sum(), codes

    def initial_weights(self, rows, n_components, generator):
        """Return a start with equal thresholds."""
        weights = super().initial_weights(rows, n_components, generator)
        if self.penalty == "tanh":  # small rows keep the saturating penalty from killing latents
            weights["components"] *= 0.3
        weights["threshold"] += self.threshold_init
        return weights

    def rate_scales(self, reach):
        """Let thresholds travel: a step moves them by the rate, and they end near sqrt(alpha)."""
        return {**self.rates, "threshold": max(1.0, 3 * math.sqrt(self.alpha) / reach)}

    def events(self, rows, n_steps, generator):
        """Return the revival of dead latents, with the "l0" penalty."""
        if self.penalty == "tanh":
            return []
        return [Revival(rows, n_steps, generator, threshold="threshold")]
