"""FrozenTopK: the codes of TopK with directions that were drawn (Korznikov et al. 2026)."""

from dataclasses import dataclass, field

import torch

from sksae._arrays import rows_per_chunk
from sksae.objectives._start import drawn_rows, sample
from sksae.objectives._topk import TopK
from sksae.training import covariance

_FROZEN = {
    "random": ("components", "encoder_coef", "encoder_intercept", "intercept"),
    "data": ("components", "encoder_coef", "encoder_intercept", "intercept"),
    "pca": ("components", "encoder_coef", "encoder_intercept", "intercept"),
    "frozen_decoder": ("components",),
    "soft_frozen_decoder": (),
    "frozen_encoder": ("encoder_coef", "encoder_intercept"),
}
"""Weights that stay as they are at the start, by strategy."""

_LEAST_COSINE = 0.8  # of a component with its start, where it is softly frozen
_SAMPLE = 1024  # rows by which the size of codes is measured
_NO_DIRECTION = 1e-12
_NO_VARIANCE = 1e-13  # share of the largest variance that is rounding


@dataclass
class FrozenTopK(TopK):
    """The codes of `TopK` with directions that are drawn, some of them never to be trained.

    Components are unit vectors: random ones, rows of the data less their mean, or principal
    components and their opposites. The encoder starts as the components times the one number with
    which codes reconstruct best.

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
    strategy : {"random", "data", "pca", "frozen_decoder", "soft_frozen_decoder", \
"frozen_encoder"}, default="random"
        What is drawn, and what of it is trained; see :class:`sksae.DummySAE`.

    See Also
    --------
    sksae.DummySAE : The estimator.

    References
    ----------
    .. [1] A. Korznikov et al., "Sanity checks for sparse autoencoders: do SAEs beat random
       baselines?", 2026, arXiv:2602.14111.

    Examples
    --------
    >>> from sksae.objectives import FrozenTopK
    >>> FrozenTopK(k=2, strategy="frozen_decoder").rates["components"]
    0.0
    """

    strategy: str = "random"
    turns = False  # a frozen dictionary is that of the rows as they are
    _start: torch.Tensor | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self):
        self.rates = {**TopK.rates, **dict.fromkeys(_FROZEN[self.strategy], 0.0)}
        # Frozen rows are not brought back to norm 1. Those of a frozen encoder's dictionary have
        # the size that the encoder cannot have.
        self.unit_norm = self.strategy not in ("frozen_decoder", "frozen_encoder")
        # A trained pre-bias would move what a frozen encoder reads.
        self.pre_bias = self.strategy != "frozen_encoder"
        if self.is_drawn:
            self.fewest_steps = 0

    @property
    def is_drawn(self):
        """Whether there is nothing to train."""
        return len(_FROZEN[self.strategy]) == 4

    def initial_weights(self, rows, n_components, generator):
        """Return the drawn components, and the encoder that goes with them."""
        if rows.inputs != rows.targets:
            raise ValueError("DummySAE draws directions of X: it cannot predict other targets.")
        if self.widths_of_blocks:
            raise ValueError("DummySAE draws directions of whole rows: it has no blocks.")
        centre = rows.average()
        varies = torch.ones(n_components, 1, dtype=torch.bool)
        if self.strategy == "pca":
            components, varies = _principal(rows, n_components, centre)
        else:
            size = n_components, rows.n_features
            components = _unit(torch.randn(size, generator=generator, dtype=torch.float64))
        if self.strategy == "data":
            data = drawn_rows(rows, n_components, components[0], generator) - centre
            has_direction = data.norm(dim=1, keepdim=True) > _NO_DIRECTION
            components = torch.where(has_direction, _unit(data), components)
        if self.strategy == "soft_frozen_decoder":
            self._start = components
        factor = _best_factor(rows, components, centre, int(self.k))
        # A direction in which the rows do not vary is arbitrary, and is not read.
        coef = torch.where(varies, factor * components, 0.0)
        shift = torch.zeros(n_components, dtype=torch.float64) if self.pre_bias else -coef @ centre
        return {
            "components": components,
            "encoder_coef": coef,
            "encoder_intercept": shift,
            "intercept": centre,
        }

    def events(self, rows, n_steps, generator):
        """Return what keeps softly frozen components near their start."""
        # The start is handed over, so that a fitted estimator does not keep it.
        start, self._start = self._start, None
        return [] if start is None else [_Cone(start)]

    def fold(self, weights, normalization):
        """Return the fitted arrays; components of a frozen encoder keep their norms."""
        folded = super().fold(weights, normalization)
        return self._resized(folded, weights["components"])

    def unfold(self, fitted, normalization):
        """Return the weights of training that continue fitted arrays."""
        weights = super().unfold(fitted, normalization)
        return self._resized(weights, fitted["components"])

    def _resized(self, weights, components):
        """Give components their norms back where codes are chosen by a frozen encoder."""
        if self.strategy != "frozen_encoder":
            return weights
        norms = components.detach().cpu().double().norm(dim=1)
        norms = torch.where(norms >= _NO_DIRECTION, norms, 1.0)
        return {
            **weights,
            "components": weights["components"] * norms[:, None],
            "encoder_coef": weights["encoder_coef"] / norms[:, None],
            "encoder_intercept": weights["encoder_intercept"] / norms,
        }


class _Cone:
    """Event that turns components back to the least cosine with their start."""

    def __init__(self, start):
        self.start = start

    def __call__(self, run):
        """Act after a step of `run`."""
        components = run.weights["components"]
        self.start = self.start.to(components)
        cosine = torch.linalg.vecdot(components, self.start)[:, None]
        aside = components - cosine * self.start
        turned = _LEAST_COSINE * self.start + (1 - _LEAST_COSINE**2) ** 0.5 * _unit(aside)
        components.copy_(torch.where(cosine < _LEAST_COSINE, turned, components))


def _principal(rows, n_components, centre):
    """Principal components and their opposites, in turn, and whether the rows vary along them."""
    d = rows.n_features
    if n_components > 2 * d:
        raise ValueError(
            f"n_components={n_components} is more than there are principal components and their "
            f"opposites: {2 * d} of {d} features."
        )
    # In ascending order, vectors as columns.
    variances, vectors = torch.linalg.eigh(covariance(rows, centre))
    variances, vectors = variances.flip(0), vectors.T.flip(0)
    # The largest entry is positive, whatever the library of linear algebra returns.
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    vectors = torch.where(largest < 0, -vectors, vectors)
    components = torch.stack([vectors, -vectors], 1).reshape(2 * d, d)[:n_components]
    varies = (variances > _NO_VARIANCE * variances[0]).repeat_interleave(2)[:n_components]
    return components.contiguous(), varies[:, None]


def _best_factor(rows, components, centre, k):
    """The number by which the k largest projections are multiplied to reconstruct best."""
    x, w = (part.double() for part in sample(rows, _SAMPLE))
    x = x - centre
    explained, size = 0.0, 0.0
    n_rows = rows_per_chunk(len(components))
    for x_part, w_part in zip(x.split(n_rows), w.split(n_rows), strict=True):
        values, latents = torch.topk(x_part @ components.T, k, dim=1)
        codes = torch.zeros(len(x_part), len(components), dtype=torch.float64)
        estimate = codes.scatter_(1, latents, torch.relu(values)) @ components
        explained += float(w_part @ torch.linalg.vecdot(estimate, x_part))
        size += float(w_part @ estimate.square().sum(1))
    return explained / size if explained > 0 else 1.0


def _unit(rows):
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=_NO_DIRECTION)
