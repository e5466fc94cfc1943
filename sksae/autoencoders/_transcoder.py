"""Transcoder: sparse codes of one site's activations that predict those of another."""

import torch

from sksae._params import Bool, Float, Option, check_params
from sksae.autoencoders._base import BaseSAE
from sksae.autoencoders._batch_topk import BatchTopKSAE
from sksae.autoencoders._gated import GatedSAE
from sksae.autoencoders._jumprelu import JumpReLUSAE
from sksae.autoencoders._l1 import SparseAutoencoder
from sksae.autoencoders._predicting import PredictingSAE
from sksae.autoencoders._topk import TopKSAE
from sksae.kernels import Rule

_SPARSITY = ("k", "alpha", "target_l0")


def _without_pre_bias(variant):
    """The variant for a decoder whose bias is in another space than the rows."""
    return type(variant.__name__, (variant,), {"_pre_bias": False})


_ACTIVATIONS = {
    "topk": _without_pre_bias(TopKSAE),
    "batch_topk": _without_pre_bias(BatchTopKSAE),
    "relu": _without_pre_bias(SparseAutoencoder),
    "jumprelu": _without_pre_bias(JumpReLUSAE),
    "gated": _without_pre_bias(GatedSAE),
}


class Transcoder(PredictingSAE):
    """Sparse codes of X from which y is predicted, such as an MLP's output from its input.

    An autoencoder explains activations, a transcoder a computation: the encoder reads one site of a
    model, the dictionary writes another. ``Z = X E^T + b``, ``F = activation(Z)``,
    ``Y^ = F D + intercept``, and with `skip` ``+ X S^T``, a linear map past the codes. The
    objective is that of the autoencoder with the same activation, with the residual of y.

    Parameters
    ----------
    n_components : int, default=None
        Number of latents, the rows of the dictionary. None takes `expansion_factor` times the
        number of features.
    activation : {"topk", "batch_topk", "relu", "jumprelu", "gated"}, default="topk"
        Codes, objective and recipe of `TopKSAE`, `BatchTopKSAE`, `SparseAutoencoder`,
        `JumpReLUSAE` or `GatedSAE`.
    k : int or float, default=None
        Codes kept a row; only used by ``"topk"`` and ``"batch_topk"``. None takes 32 from 512
        features on and an eighth of the features below.
    alpha : float, default=None
        Weight of the sparsity penalty; only used by the other activations, None as there.
    target_l0 : float, default=None
        Codes a row that the penalty is steered to; only used by the other activations.
    skip : bool, default=False
        Whether y is also predicted linearly from X, past the codes.
    expansion_factor : float, default=8
        Latents a feature of X, where `n_components` is None.
    dead_window : int, default=None
        Rows without firing after which a latent counts as dead. None as for the autoencoders.
    max_iter : int, default=None
        Passes over the data. None takes as many as make 2000 optimiser steps.
    batch_size : int, default=None
        Rows a step. None takes all rows up to 512, then 512, 1024 from 100 000 rows and 4096
        from a million.
    learning_rate : float, default=None
        Adam's step size. None takes ``3e-3 sqrt(2^14 / n_components)``, at most 6e-3.
    learning_rate_warm_up, learning_rate_decay : float, default=0.0, 0.4
        Shares of the steps, at the start and at the end, over which the rate rises from and
        falls to 0.
    betas : tuple of two floats, default=(0.9, 0.99)
        Adam's decay rates of the running mean and the running square.
    max_grad_norm : float, default=1.0
        Bound on the norm of the whole gradient. None does not clip.
    normalize : {"rms", "anthropic", "unit", None}, default="rms"
        Internal unit of training, of X and of y; fitted attributes act on raw X and predict raw y.
    tol : float, default=0.0
        Improvement of the loss (of the validation score, with `early_stopping`) that counts.
    n_iter_no_change : int, default=10
        Passes without such an improvement after which training stops.
    early_stopping : bool, default=False
        Whether to hold out rows, to score them after every pass and to keep the best weights.
    validation_fraction : float, default=0.1
        Share of the rows held out, where rows are held out.
    warm_start : bool, default=False
        Whether `fit` continues from the previous fit.
    sparse_output : bool, default=False
        Whether `transform` returns a CSR matrix.
    device : str, default="auto"
        Where to compute: "auto" takes CUDA or MPS if there is one, else the CPU.
    precision : {"float32", "bfloat16"}, default="float32"
        "bfloat16" is faster and leaves values off by about a part in 300.
    random_state : int, RandomState instance or None, default=None
        Seeds the initial weights and the order of the rows.
    verbose : int or bool, default=0
        Whether to print the progress of the passes.

    Attributes
    ----------
    components_ : ndarray of shape (n_components_, n_targets)
        The dictionary, of directions in the space of y; rows have norm 1.
    intercept_ : ndarray of shape (n_targets,)
        ``predict(X) = transform(X) @ components_ + intercept_`` (``+ X @ skip_coef_.T``).
    skip_coef_ : ndarray of shape (n_targets, n_features_in_)
        The linear map past the codes; only with `skip`.
    encoder_coef_ : ndarray of shape (n_components_, n_features_in_)
        Encoder; pre-activations are ``Z = X @ encoder_coef_.T + encoder_intercept_``.
    encoder_intercept_ : ndarray of shape (n_components_,)
        Bias of the encoder.
    threshold_ : ndarray of shape (n_components_,)
        Pre-activations above it are codes; with "batch_topk", "jumprelu" and "gated".
    gate_intercept_, gain_ : ndarray of shape (n_components_,)
        The gate of "gated", as for `GatedSAE`.
    k_ : int or float
        Codes kept a row, with "topk" and "batch_topk".
    alpha_ : float
        Penalty used, with the other activations.
    activation_frequency_ : ndarray of shape (n_components_,)
        Share of the training rows (of `partial_fit`'s last call) on which each latent fires.
    single_target_ : bool
        Whether y was one-dimensional; `predict` then is, too.
    n_components_ : int
        Number of latents.
    batch_size_ : int
        Rows a step.
    learning_rate_ : float
        Step size used.
    n_iter_ : int
        Passes made.
    n_steps_ : int
        Optimiser steps made.
    loss_curve_ : list of float of length n_iter_
        Mean training loss of every pass, in the internal unit.
    validation_scores_ : list of float
        Explained variance of the held-out targets after every pass; only with `early_stopping`.
    n_features_in_ : int
        Number of features of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features; only if X has string column names.

    See Also
    --------
    TopKSAE : Codes of X that reconstruct X itself.
    sklearn.linear_model.MultiTaskLasso : Sparse linear maps without latents between.

    References
    ----------
    Dunefsky, Chlenski and Nanda, "Transcoders find interpretable LLM feature circuits", 2024,
    arXiv:2406.11944.

    Paulo, Shabalin and Belrose, "Transcoders beat sparse autoencoders for interpretability", 2025,
    arXiv:2501.18823.

    Examples
    --------
    >>> import numpy as np
    >>> from sksae import Transcoder
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(2000, 8))
    >>> Y = np.maximum(X, 0) @ rng.normal(size=(8, 4))
    >>> transcoder = Transcoder(16, k=4, max_iter=100, random_state=0).fit(X, Y)
    >>> transcoder.transform(X).shape, transcoder.predict(X).shape
    ((2000, 16), (2000, 4))
    >>> transcoder.score(X, Y) > 0.9
    True
    """

    _param_rules = {
        **BaseSAE._param_rules,
        "activation": Option(*_ACTIVATIONS),
        "k": Float(0, open_="low", none=True),
        "alpha": Float(0, none=True),
        "target_l0": Float(0, open_="low", none=True),
        "skip": Bool(),
    }

    def __init__(
        self,
        n_components=None,
        *,
        activation="topk",
        k=None,
        alpha=None,
        target_l0=None,
        skip=False,
        expansion_factor=8,
        dead_window=None,
        max_iter=None,
        batch_size=None,
        learning_rate=None,
        learning_rate_warm_up=0.0,
        learning_rate_decay=0.4,
        betas=(0.9, 0.99),
        max_grad_norm=1.0,
        normalize="rms",
        tol=0.0,
        n_iter_no_change=10,
        early_stopping=False,
        validation_fraction=0.1,
        warm_start=False,
        sparse_output=False,
        device="auto",
        precision="float32",
        random_state=None,
        verbose=0,
    ):
        super().__init__(
            n_components,
            expansion_factor=expansion_factor,
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
            precision=precision,
            random_state=random_state,
            verbose=verbose,
        )
        self.activation = activation
        self.k = k
        self.alpha = alpha
        self.target_l0 = target_l0
        self.skip = skip

    _pre_bias = False

    def _variant(self):
        """Return the autoencoder with this activation and these parameters."""
        variant = _ACTIVATIONS[self.activation]
        names = [*BaseSAE._param_rules, *(n for n in _SPARSITY if n in variant._param_rules)]
        return variant(**{name: getattr(self, name) for name in names})

    def _check_params(self):
        check_params(self)
        check_params(self._variant())

    @property
    def _unit_norm(self):
        return self._variant()._unit_norm

    @property
    def _alpha_warm_up(self):
        return self._variant()._alpha_warm_up

    @property
    def _fold_names(self):
        return self._variant()._fold_names + (("skip_coef",) if self.skip else ())

    @property
    def _weight_names(self):
        return self._variant()._weight_names + (("skip_coef",) if self.skip else ())

    def _initial_weights(self, rows, n_components, generator):
        weights = self._variant()._initial_weights(rows, n_components, generator)
        if self.skip:
            t, d = weights["components"].shape[1], weights["encoder_coef"].shape[1]
            weights["skip_coef"] = torch.zeros(t, d, dtype=torch.float64)
        return weights

    def _rule(self, weights):
        return self._variant()._rule(weights)

    def _objective(self, entries, alpha, dead):
        return self._variant()._objective(entries, alpha, dead)

    def _hyperparameters(self, n_features, n_components, n_targets):
        return self._variant()._hyperparameters(n_features, n_components, n_targets)

    def _rate_scales(self, plan):
        """The encoder has more to find than where its own dictionary points: no halved rate."""
        return {**self._variant()._rate_scales(plan), "encoder_coef": 1.0, "skip_coef": 0.3}

    def _calibrated(self, weights, engine, rows):
        return self._variant()._calibrated(weights, engine, rows)

    def _after_step(self, rows, n_steps, generator):
        return self._variant()._after_step(rows, n_steps, generator)

    def _fitted_rule(self):
        if not hasattr(self, "threshold_") and hasattr(self, "k_"):
            return Rule(k=self.k_)
        return super()._fitted_rule()

    def _fold(self, weights, normalization):
        return self._variant()._fold(weights, normalization)

    def _unfold(self, fitted, normalization):
        return self._variant()._unfold(fitted, normalization)
