"""Gated: a gate apart from the magnitude (Rajamanoharan et al. 2024, arXiv 2404.16014)."""

from dataclasses import dataclass

import torch

from sksae.kernels import Rule, where_positive
from sksae.objectives._objective import Objective, Weight, reconstruction_loss
from sksae.objectives._start import closing_bias


@dataclass
class Gated(Objective):
    """Loss of codes ``relu(M)`` where a gate ``G > 0`` is open, with a penalty on the gate.

    With ``U = (x - b_dec) W^T``, ``G = U + gate_intercept`` and ``M = e^log_gain U + b``,

    ``|x - x^(f)|^2 + alpha sum_i relu(g_i) + |x - x^(relu(g))|^2``.

    Parameters
    ----------
    alpha : float
        Weight of the penalty.
    alpha_warm_up : float, default=0.0
        Share of the steps over which the penalty rises from 0.
    target_l0 : float, default=None
        Codes per row that the penalty is steered to.
    unit_norm : bool, default=True
        Whether rows of the dictionary stay on the unit sphere and are frozen in the last term
        (the paper); otherwise they are free, nothing is frozen, and the penalty is weighted by
        their norms.

    See Also
    --------
    sksae.GatedSAE : The estimator.

    References
    ----------
    .. [1] S. Rajamanoharan et al., "Improving dictionary learning with gated sparse autoencoders",
       2024, arXiv:2404.16014.

    Examples
    --------
    >>> from sksae.objectives import Gated
    >>> sorted(Gated.weights)
    ['gain', 'gate_intercept', 'log_gain', 'threshold']
    """

    alpha: float
    alpha_warm_up: float = 0.0
    target_l0: float | None = None
    unit_norm: bool = True

    resolved = ("alpha",)
    turns = True
    weights = {
        "gate_intercept": Weight("m"),
        "log_gain": Weight("m", fitted=False),
        "gain": Weight("m", trained=False),
        "threshold": Weight("m", unit="code", trained=False),
    }

    def rule(self, weights):
        """Return the rule of the entries with an open gate."""
        return Rule(bound=-weights["gate_intercept"], bias=None)

    def fitted_rule(self, fitted):
        """Return the rule of raw pre-activations above the thresholds."""
        return Rule(bound=fitted["threshold"])

    def _parts(self, entries):
        """Return gain, codes and positive part of the gate at the entries."""
        weights, projections = entries.weights, entries.z
        gate = projections + entries.at(weights["gate_intercept"])
        gain = entries.at(weights["log_gain"].exp())
        magnitude = projections * gain + entries.at(weights["encoder_intercept"])
        codes = where_positive(gate, torch.relu(magnitude))
        return gain, codes, torch.relu(gate)

    def loss(self, entries, alpha, dead):
        """Return the loss and the codes."""
        _, codes, open_gate = self._parts(entries)
        # Frozen: the gate must not bend the dictionary to its own ends.
        frozen = self.unit_norm
        sizes = open_gate if frozen else open_gate * entries.norms()
        loss = reconstruction_loss(entries, entries.decode(codes))
        loss = loss + alpha * entries.row_mean(sizes)
        auxiliary = entries.decode(open_gate, frozen=frozen)
        return loss + reconstruction_loss(entries, auxiliary), codes

    @torch.no_grad()
    def backward(self, entries, alpha, dead):
        """Return the loss and the codes; the gradients are known."""
        gain, codes, open_gate = self._parts(entries)
        frozen = self.unit_norm
        slopes = entries.of_rows(alpha * entries.share)
        loss, _, pulls = entries.squared_error(codes)
        magnitude = where_positive(codes, pulls)
        auxiliary_loss, _, gate = entries.squared_error(open_gate, frozen=frozen)
        penalties = slopes * open_gate
        if not frozen:
            norms = entries.norms()
            entries.norms_backward(penalties)
            slopes, penalties = slopes * norms, penalties * norms
        gate = where_positive(open_gate, gate + slopes)
        # magnitude = e^r z + b, gate = z + c, as functions of r, b, c and z.
        entries.vector_backward("log_gain", magnitude * gain * entries.z)
        entries.vector_backward("encoder_intercept", magnitude)
        entries.vector_backward("gate_intercept", gate)
        entries.encode_backward(magnitude * gain + gate)
        return loss + auxiliary_loss + penalties.sum(), codes

    def initial_weights(self, rows, n_components, generator):
        """Return a start with gates that are closed on most rows."""
        weights = super().initial_weights(rows, n_components, generator)
        weights["gate_intercept"] = closing_bias(weights, rows, pre_bias=self.pre_bias)
        return weights

    def fold(self, weights, normalization):
        """Fold into a JumpReLU: ``E = e^r W``, ``threshold = max(0, b_mag - e^r b_gate)``."""
        gain = weights["log_gain"].detach().cpu().double().exp()
        # The bias of the gate acts on U, that of the magnitude on e^r U: two encoders to fold.
        gate = super().fold(
            {**weights, "encoder_intercept": weights["gate_intercept"]}, normalization
        )["encoder_intercept"]
        encoder = gain[:, None] * weights["encoder_coef"].detach().cpu().double()
        folded = super().fold({**weights, "encoder_coef": encoder}, normalization)
        threshold = (folded["encoder_intercept"] - gain * gate).clamp(min=0)
        return {**folded, "gate_intercept": gate, "gain": gain, "threshold": threshold}

    def unfold(self, fitted, normalization):
        """Undo `fold`."""
        gain = fitted["gain"].double()
        coef = fitted["encoder_coef"].double() / gain[:, None]
        gate = {**fitted, "encoder_coef": coef, "encoder_intercept": fitted["gate_intercept"]}
        weights = super().unfold(fitted, normalization)
        weights["encoder_coef"] = weights["encoder_coef"] / gain[:, None]
        weights["gate_intercept"] = super().unfold(gate, normalization)["encoder_intercept"]
        weights["log_gain"] = gain.log()
        return weights
