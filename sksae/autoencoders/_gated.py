"""GatedSAE (Rajamanoharan et al. 2024, Google DeepMind, arXiv 2404.16014)."""

import torch

from sksae._params import Option
from sksae.autoencoders import _folding
from sksae.autoencoders._objective import reconstruction_loss, row_mean
from sksae.autoencoders._penalised import PenalisedSAE
from sksae.kernels import decode


class GatedSAE(PenalisedSAE):
    """TODO."""

    _param_rules = {**PenalisedSAE._param_rules, "recipe": Option("frozen", "ri_l1")}
    _fold_names = (*PenalisedSAE._fold_names, "gate_intercept", "gain")

    def __init__(
        self,
        n_components=None,
        *,
        alpha=None,
        target_l0=None,
        recipe="frozen",
        expansion_factor=8,
        alpha_warm_up=0.05,
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
        self.recipe = recipe

    @property
    def _unit_norm(self):
        return ("components",) if self.recipe == "frozen" else ()

    def _alpha_for(self, size):
        return 1.2 * size

    def _initial_weights(self, rows, n_components, generator):
        weights = super()._initial_weights(rows, n_components, generator)
        zeros = torch.zeros(n_components, dtype=torch.float64)
        return {**weights, "gate_intercept": zeros, "log_gain": zeros.clone()}

    def _objective(self, x, w, weights, alpha, dead):
        projections = (x - weights["intercept"]) @ weights["encoder_coef"].T
        gate = projections + weights["gate_intercept"]
        magnitude = projections * weights["log_gain"].exp() + weights["encoder_intercept"]
        codes = torch.where(gate > 0, torch.relu(magnitude), 0.0)
        open_gate = torch.relu(gate)
        if self.recipe == "frozen":  # the gate must not bend the dictionary to its own ends
            frozen = {name: weights[name].detach() for name in ("components", "intercept")}
            auxiliary, sizes = decode(open_gate, frozen), open_gate
        else:
            auxiliary = decode(open_gate, weights)
            sizes = open_gate * weights["components"].norm(dim=1)
        loss = reconstruction_loss(decode(codes, weights), x, w)
        loss = loss + alpha * row_mean(sizes.sum(1), w) + reconstruction_loss(auxiliary, x, w)
        return loss, codes

    def _fold(self, weights, normalization):
        """Fold into a JumpReLU: ``E = e^r W``, ``threshold = max(0, b_mag - e^r b_gate)``."""
        gain = weights["log_gain"].detach().cpu().double().exp()
        gate = _folding.fold(
            {**weights, "encoder_intercept": weights["gate_intercept"]}, normalization
        )["encoder_intercept"]
        encoder = gain[:, None] * weights["encoder_coef"].detach().cpu().double()
        folded = _folding.fold({**weights, "encoder_coef": encoder}, normalization)
        threshold = (folded["encoder_intercept"] - gain * gate).clamp(min=0)
        return {**folded, "threshold": threshold, "gate_intercept": gate, "gain": gain}

    def _unfold(self, fitted, normalization):
        gain = fitted["gain"].double()
        weights = _folding.unfold(fitted, normalization)
        weights["encoder_coef"] /= gain[:, None]
        gate = {
            **fitted,
            "encoder_coef": fitted["encoder_coef"].double() / gain[:, None],
            "encoder_intercept": fitted["gate_intercept"],
        }
        weights["gate_intercept"] = _folding.unfold(gate, normalization)["encoder_intercept"]
        weights["log_gain"] = gain.log()
        return weights
