"""SparseAutoencoder, the L1 variant (Bricken et al. 2023; Anthropic, April 2024)."""

import torch

from sksae._params import Option
from sksae.autoencoders._objective import reconstruction_loss, row_mean
from sksae.autoencoders._penalised import PenalisedSAE
from sksae.kernels import decode, pre_activations
from sksae.training import geometric_median, resample

_RESAMPLING_ROWS = 8192
_MEDIAN_ROWS = 32_768


class SparseAutoencoder(PenalisedSAE):
    """TODO."""

    _param_rules = {**PenalisedSAE._param_rules, "recipe": Option("april", "bricken")}

    def __init__(
        self,
        n_components=None,
        *,
        alpha=None,
        target_l0=None,
        recipe="april",
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
        return ("components",) if self.recipe == "bricken" else ()

    def _alpha_for(self, size):
        return 0.35 * size

    def _initial_weights(self, rows, n_components, generator):
        weights = super()._initial_weights(rows, n_components, generator)
        if self.recipe == "bricken":
            x, w = rows.take(torch.arange(min(rows.n_samples, _MEDIAN_ROWS)))
            weights["intercept"] = geometric_median(x.cpu().double(), w.cpu().double())
        else:  # small rows, so that the norm-weighted penalty does not start out dominant
            weights["components"] *= 0.1
            weights["encoder_coef"] *= 0.1
        return weights

    def _objective(self, x, w, weights, alpha, dead):
        codes = torch.relu(pre_activations(x, weights, pre_bias=self._pre_bias))
        sizes = codes if self._unit_norm else codes * weights["components"].norm(dim=1)
        penalty = row_mean(sizes.sum(1), w)
        return reconstruction_loss(decode(codes, weights), x, w) + alpha * penalty, codes

    def _after_step(self, rows, n_steps, generator):
        if self.recipe != "bricken":
            return []
        events = {round(fraction * n_steps) for fraction in (0.1, 0.2, 0.3, 0.4)}

        def hook(run):
            if run.n_steps in events:
                self._resample(run, rows, generator)

        return [hook]

    def _resample(self, run, rows, generator):
        """Point dead latents at rows drawn in proportion to their squared loss."""
        dead = run.dead().nonzero().flatten()
        if len(dead) == 0:
            return
        positions = torch.randperm(rows.n_samples, generator=generator)[:_RESAMPLING_ROWS]
        x, w = rows.take(positions)
        with torch.no_grad():
            alpha, _ = run.schedule(run.n_steps)
            codes = torch.relu(pre_activations(x, run.weights))
            losses = (decode(codes, run.weights) - x).square().sum(1) + alpha * codes.sum(1)
        chances = (w * losses.square()).cpu().double()
        enough = int((chances > 0).sum()) >= len(dead)
        drawn = torch.multinomial(chances, len(dead), replacement=not enough, generator=generator)
        directions = x[drawn.to(x.device)] - run.weights["intercept"].detach()
        resample(run.weights, run.moments(), dead, directions)
        run.since_fired[dead] = 0
