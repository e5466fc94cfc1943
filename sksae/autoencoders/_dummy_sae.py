"""`DummySAE`: baselines that learn nothing, or less than they could (Korznikov et al. 2026)."""

import torch
from sklearn.utils.metaestimators import available_if

from sksae._params import Option
from sksae._processes import sum_over_processes
from sksae.autoencoders._resolved_parameters import auxk_options, default_k
from sksae.autoencoders._topk_sae import TopKSAE
from sksae.objectives import FrozenTopK, reconstruction_loss

_SOFT = "soft_frozen_decoder"


def _has_no_start_to_keep(sae):
    if sae.strategy == _SOFT:
        raise AttributeError(
            f"partial_fit does not support strategy={_SOFT!r}: the components do not know where "
            f"they began."
        )
    return True


class DummySAE(TopKSAE):
    """Baseline with the whole interface of a sparse autoencoder, with directions that are drawn.

    What a score says about a trained autoencoder shows only beside the same score of directions
    that nobody learnt: frozen random dictionaries come close to trained ones in several of the
    field's measures [1]_. Codes are those of `TopKSAE`, ``F = relu(Z)`` on the `k` largest entries
    of each row of ``Z = X E^T + b``, so that both are as sparse. The strategies:

    ========================== ================================ ====================================
    `strategy`                 components                       trained
    ========================== ================================ ====================================
    ``"random"``               random directions                nothing
    ``"data"``                 rows of X less their mean        nothing
    ``"pca"``                  principal components and their   nothing
                               opposites, in turn
    ``"frozen_decoder"``       random directions, unchanged     encoder and biases
    ``"soft_frozen_decoder"``  random directions, which keep a  everything
                               cosine of .8 with their start
    ``"frozen_encoder"``       begin as the random directions   dictionary and its bias
                               that the encoder keeps
    ========================== ================================ ====================================

    Where nothing is trained, a latent reads along its own component: its code is the projection of
    the row on it, less that of the mean, times one number for all codes, with which they
    reconstruct best. The k largest projections on principal components and their opposites
    reconstruct as :class:`~sklearn.decomposition.PCA` does if `k` is half of `n_components`.

    Parameters
    ----------
    n_components : int, default=None
        Number of latents, the rows of the dictionary. None takes `expansion_factor` times the
        number of features; if that is None too, 4 to 8 times it, by the number of rows, but at
        most half the rows, or all of up to 512. With "pca" there are at most twice as many as
        features, which is what None takes.
    strategy : {"random", "data", "pca", "frozen_decoder", "soft_frozen_decoder", \
"frozen_encoder"}, default="random"
        What is drawn, and what is trained.
    k : int, default=None
        Codes kept per row, at most: codes are never negative, and `k` is clipped to the width. None
        takes 32 from 512 features on and an eighth of the features below.
    expansion_factor : float, default=None
        Latents per feature of X, where `n_components` is None.
    auxk_alpha : float, default=1/32
        Weight of the auxiliary loss that revives dead latents; 0 turns it off.
    k_aux : int, default=None
        Dead latents used per row by the auxiliary loss. None takes half the number of features.
    dead_window : int, default=None
        Rows without firing after which a latent counts as dead during training. None takes
        a tenth of the rows of all passes, at least ten batches and at most 10 million.
    max_iter : int, default=None
        Passes over the data of the strategies that train. None makes 200 to 2000 steps, by the
        numbers of rows and latents; with ``k=1``, 1000.
    batch_size : int, default=None
        Rows per step. None takes the power of two nearest to the square root of the number of
        rows, from 32 (with ``k=1``, 512) to 4096; in `partial_fit`, 512.
    learning_rate : float, default=None
        Adam's step size, halved for the encoder. None takes ``3e-3 sqrt(2^14 / n_components)``,
        at most 6e-3; up to 400 steps of a fit of 32 768 rows or more, at most
        ``6e-3 sqrt(batch_size / 256)``.
    learning_rate_warm_up : float, default=0.0
        Share of the steps over which the learning rate rises from 0.
    learning_rate_decay : float, default=0.4
        Share of the steps, at the end, over which the learning rate falls to 0.
    betas : tuple of two floats, default=None
        Adam's decay rates of the running mean and the running square. None takes (0.9, 0.99); up
        to 400 steps of a fit of 32 768 rows or more, in batches of 256 or more, take (0.8, 0.97).
    max_grad_norm : float, default=1.0
        Bound on the norm of the gradient of what is trained. None does not clip.
    normalize : {"rms", "anthropic", "unit", None}, default="rms"
        Internal unit of training; fitted attributes and codes are in the unit of X whatever it
        is. "rms" centres and scales to a mean squared norm of `n_features_in_`, "anthropic"
        scales to a mean norm of its square root, "unit" to a mean squared norm of 1.
    tol : float, default=0.0
        Improvement of the loss (of the validation score, with `early_stopping`) that counts.
        0 does not stop on the training loss.
    n_iter_no_change : int, default=10
        Passes without such an improvement after which training stops.
    early_stopping : bool, default=False
        Whether to hold out rows, to score them after every pass and to keep the best weights.
    validation_fraction : float, default=0.1
        Share of the rows held out, where rows are held out.
    warm_start : bool, default=False
        Whether `fit` continues from the previous fit; not with "soft_frozen_decoder".
    sparse_output : bool, default=False
        Whether `transform` returns a CSR matrix. Of a wide dictionary on many rows, the dense
        codes may not fit in memory.
    device : str, default="auto"
        Where to compute: "auto" takes CUDA or MPS if there is one, else the CPU. A tensor X
        stays where it is.
    precision : {"auto", "float32", "float64", "bfloat16"}, default="auto"
        Arithmetic of the training. "auto" is float64 for X of float64 and a dictionary of at most
        8192 entries, float32 otherwise. "bfloat16" is faster and leaves values off by about a
        part in 300, in `transform` as well, which otherwise computes in the dtype of X.
    random_state : int, RandomState instance or None, default=None
        Draws the directions, and seeds the order of the rows.
    verbose : int or bool, default=0
        Whether to print the progress of the passes.

    Attributes
    ----------
    components_ : ndarray of shape (n_components_, n_features_in_)
        The dictionary; rows have norm 1, but for those of a frozen encoder, which make up for the
        size of its codes.
    intercept_ : ndarray of shape (n_features_in_,)
        ``inverse_transform(F) = F @ components_ + intercept_``.
    encoder_coef_ : ndarray of shape (n_components_, n_features_in_)
        Encoder; pre-activations are ``Z = X @ encoder_coef_.T + encoder_intercept_``.
    encoder_intercept_ : ndarray of shape (n_components_,)
        Bias of the encoder.
    k_ : int
        Codes kept per row.
    activation_frequency_ : ndarray of shape (n_components_,)
        Share of the training rows on which each latent fires; 0 for a dead one. After
        `partial_fit`, of the rows of its last call.
    n_components_ : int
        Number of latents.
    batch_size_ : int
        Rows per step.
    learning_rate_ : float
        Step size used.
    n_iter_ : int
        Passes made; 1, over which the loss is measured, where nothing is trained.
    n_steps_ : int
        Optimiser steps made: none by "random", "data" and "pca".
    loss_curve_ : list of float of length n_iter_
        Mean training loss of every pass, in the internal unit.
    validation_scores_ : list of float
        Explained variance of the held-out rows after every pass; only with `early_stopping`.
    n_features_in_ : int
        Number of features of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features; only if X has string column names.

    See Also
    --------
    TopKSAE : The autoencoder that learns.
    sksae.model_selection.compare : Compares estimators on the same splits.
    sksae.language_models.randomized_model : A language model that has learnt nothing.

    References
    ----------
    .. [1] Korznikov, Galichin, Dontsov, Rogov, Oseledets and Tutubalina, "Sanity checks for sparse
       autoencoders: do SAEs beat random baselines?", 2026, arXiv:2602.14111. The frozen and the
       softly frozen decoder and the frozen encoder are theirs.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sksae import DummySAE, TopKSAE
    >>> X = load_digits().data
    >>> dummy = DummySAE(64, strategy="random", k=4, random_state=0).fit(X)
    >>> dummy.transform(X).shape, dummy.n_steps_
    ((1797, 64), 0)
    >>> sae = TopKSAE(64, k=4, max_iter=5, random_state=0).fit(X)
    >>> dummy.score(X) < sae.score(X)
    True
    """

    _param_rules = {
        **TopKSAE._param_rules,
        "strategy": Option(
            "random", "data", "pca", "frozen_decoder", "soft_frozen_decoder", "frozen_encoder"
        ),
    }

    def __init__(
        self,
        n_components=None,
        *,
        strategy="random",
        k=None,
        expansion_factor=None,
        auxk_alpha=1 / 32,
        k_aux=None,
        dead_window=None,
        max_iter=None,
        batch_size=None,
        learning_rate=None,
        learning_rate_warm_up=0.0,
        learning_rate_decay=0.4,
        betas=None,
        max_grad_norm=1.0,
        normalize="rms",
        tol=0.0,
        n_iter_no_change=10,
        early_stopping=False,
        validation_fraction=0.1,
        warm_start=False,
        sparse_output=False,
        device="auto",
        precision="auto",
        random_state=None,
        verbose=0,
    ):
        super().__init__(
            n_components,
            k=k,
            expansion_factor=expansion_factor,
            auxk_alpha=auxk_alpha,
            k_aux=k_aux,
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
        self.strategy = strategy

    def _make_objective(self, n_features, n_components, n_targets):
        k = min(int(self.k or default_k(n_features)), n_components)
        return FrozenTopK(k, **auxk_options(self, n_targets), strategy=self.strategy)

    def _default_width(self, n_samples, n_features):
        if self.strategy == "pca":
            return 2 * n_features  # a direction and its opposite for each principal component
        return super()._default_width(n_samples, n_features)

    @available_if(_has_no_start_to_keep)
    def partial_fit(self, X, y=None, sample_weight=None):
        """Continue with one pass over X, in mini-batches; not with "soft_frozen_decoder".

        Where nothing is trained, the first call draws the directions, and later ones only measure
        how often latents fire.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The next rows of a stream.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        ValueError
            With ``early_stopping=True``, or if `strategy` is not that of the calls before.
        """
        return super().partial_fit(X, y, sample_weight)

    def _learn(self, X, y, sample_weight, *, streams):
        if self.strategy == _SOFT and self.warm_start:
            raise ValueError(
                f"warm_start=True does not support strategy={_SOFT!r}: the components do not know "
                f"where they began."
            )
        if self._is_fitted() and (streams or self.warm_start):
            before = self._objective.strategy
            if before != self.strategy:
                raise ValueError(
                    f"This DummySAE continues a fit with strategy={before!r}, but strategy is "
                    f"{self.strategy!r}. Start anew with fit and warm_start=False."
                )
        return super()._learn(X, y, sample_weight, streams=streams)

    def _train(self, fit, data, y, *, streams):
        if not fit.objective.is_drawn:
            super()._train(fit, data, y, streams=streams)
            return
        # One pass, which measures.
        fit.losses.append(_mean_loss(fit))
        if fit.held_out is not None:
            fit.scores.append(fit.held_out.explained_variance(fit.run.weights))
        fit.max_iter = 0
        if streams:
            self._keep(fit.result())
        else:
            super()._train(fit, data, y, streams=False)


@torch.no_grad()
def _mean_loss(fit):
    """Mean loss per row of the weights at the start."""
    total, weight = 0.0, 0.0
    for x, w in fit.rows:
        entries, codes = fit.run.engine.coded(x, w, fit.run.weights)
        loss = reconstruction_loss(entries, entries.decode(codes))
        total += float(loss * w.sum())  # the loss is a mean over the rows by weight
        weight += float(w.sum())
    return sum_over_processes(total) / sum_over_processes(weight)
