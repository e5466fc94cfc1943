"""JumpReLUSAE (Rajamanoharan et al. 2024, arXiv 2407.14435; Anthropic, January 2025)."""

import math

import torch

from sksae._params import Float, Option
from sksae.autoencoders._folding import scales
from sksae.autoencoders._objective import reconstruction_loss, row_mean
from sksae.autoencoders._penalised import PenalisedSAE
from sksae.kernels import decode, heaviside, jump_relu, pre_activations


class JumpReLUSAE(PenalisedSAE):
    """TODO."""

    _param_rules = {
        **PenalisedSAE._param_rules,
        "alpha_warm_up": Float(0, 1, none=True),
        "penalty": Option("l0", "tanh"),
        "bandwidth": Float(0, open_="low", none=True),
        "threshold_init": Float(0, none=True),
        "tanh_scale": Float(0, open_="low"),
        "pre_activation_alpha": Float(0),
    }
    _fold_names = (*PenalisedSAE._fold_names, "threshold")

    def __init__(
        self,
        n_components=None,
        *,
        alpha=None,
        target_l0=None,
        penalty="l0",
        bandwidth=None,
        threshold_init=None,
        tanh_scale=4.0,
        pre_activation_alpha=3e-6,
        expansion_factor=8,
        alpha_warm_up=None,
        dead_window=None,
        max_iter=None,
        batch_size=None,
        learning_rate=None,
        learning_rate_warm_up=0.0,
        learning_rate_decay=0.2,
        betas=(0.9, 0.999),
        max_grad_norm=1.0,
        normalize="rms",
        tol=0.0,
        n_iter_no_change=10,
        early_stopping=False,
        validation_fraction=0.1,
        warm_start=False,
        sparse_output=False,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        super().__init__(
            n_components,
            alpha=alpha,
            target_l0=target_l0,
            expansion_factor=expansion_factor,
            alpha_warm_up=alpha_warm_up,
            dead_window=dead_window,
            max_iter=max_iter,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_warm_up=learning_rate_warm_up,
            learning_rate_decay=learning_rate_decay,
            betas=betas,
            max_grad_norm=max_grad_norm,
            normalize=normalize,
            tol=tol,
            n_iter_no_change=n_iter_no_change,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            warm_start=warm_start,
            sparse_output=sparse_output,
            device=device,
            random_state=random_state,
            verbose=verbose,
        )
        self.penalty = penalty
        self.bandwidth = bandwidth
        self.threshold_init = threshold_init
        self.tanh_scale = tanh_scale
        self.pre_activation_alpha = pre_activation_alpha

    def _choose(self, value, l0, tanh):
        """Return `value`, or the default of the penalty in use."""
        if value is not None:
            return value
        return l0 if self.penalty == "l0" else tanh

    @property
    def _unit_norm(self):
        return self._choose(None, ("components",), ())

    @property
    def _pre_bias(self):
        return self._choose(None, True, False)

    @property
    def _alpha_warm_up(self):
        return self._choose(self.alpha_warm_up, 0.05, 1.0)

    def _alpha_for(self, size):
        return 0.1 * size**2

    def _rate_scales(self, n_steps, learning_rate, alpha):
        """Let thresholds travel: a step moves them by the rate, and they end near sqrt(alpha)."""
        reach = learning_rate * n_steps
        return {"threshold": max(1.0, 3 * math.sqrt(alpha) / reach)}

    def _initial_weights(self, rows, n_components, generator):
        weights = super()._initial_weights(rows, n_components, generator)
        threshold = self._choose(self.threshold_init, 1.0, 0.1)
        weights["threshold"] = torch.full((n_components,), float(threshold), dtype=torch.float64)
        return weights

    def _objective(self, x, w, weights, alpha, dead):
        z = pre_activations(x, weights, pre_bias=self._pre_bias)
        threshold = weights["threshold"]
        bandwidth = self._choose(self.bandwidth, 1.0, 2.0)
        step = {"bandwidth": bandwidth, "to_input": self.penalty == "tanh"}
        codes = jump_relu(z, threshold, **step)
        loss = reconstruction_loss(decode(codes, weights), x, w)
        if self.penalty == "l0":
            return loss + alpha * row_mean(heaviside(z, threshold, **step).sum(1), w), codes
        norms = weights["components"].norm(dim=1)
        sparsity = torch.tanh(self.tanh_scale * codes * norms).sum(1)
        silence = (torch.relu(threshold - z) * norms).sum(1)
        loss = loss + alpha * row_mean(sparsity, w)
        return loss + self.pre_activation_alpha * row_mean(silence, w), codes

    def _fold(self, weights, normalization):
        folded = super()._fold(weights, normalization)
        threshold = weights["threshold"].detach().cpu().double()
        return {**folded, "threshold": scales(weights, normalization) * threshold}

    def _unfold(self, fitted, normalization):
        weights = super()._unfold(fitted, normalization)
        weights["threshold"] = fitted["threshold"].double() * normalization.scale
        return weights
