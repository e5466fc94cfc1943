"""`Transcoder`: sparse codes of one site's activations that predict those of another."""

from sklearn.base import RegressorMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_array, check_consistent_length

from sksae._arrays import as_input, float_dtypes, from_torch, space_of, to_torch
from sksae._params import Bool
from sksae._threads import threads_for
from sksae.autoencoders import _inference
from sksae.autoencoders._base import Autoencoder, BaseSAE
from sksae.objectives import Weight

_SKIP_RATE = 0.3


def _codes_suffice(transcoder):
    if transcoder.skip:
        raise AttributeError(
            "The codes alone do not tell what the skip connection adds: use predict(X)."
        )
    return True


class Transcoder(RegressorMixin, BaseSAE):
    """Sparse codes of X from which y is predicted, such as an MLP's output from its input.

    An autoencoder explains activations, a transcoder a computation: the encoder reads one site of a
    model, the dictionary writes another. ``Z = X E^T + b``, codes F are made of Z as by the
    estimator, ``Y^ = F D + intercept``, and with `skip` ``+ X S^T``, a linear map past the codes.
    The objective is that of the estimator, with the residual of y.

    Parameters
    ----------
    estimator : BaseSAE
        The autoencoder whose codes, objective and parameters of training are used, such as
        ``TopKSAE(1024, k=32)``. It is not changed.
    skip : bool, default=False
        Whether y is also predicted linearly from X, past the codes.

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
        Pre-activations above it are codes; where the estimator has it.
    gate_intercept_, gain_ : ndarray of shape (n_components_,)
        The gate of a `GatedSAE`.
    k_ : int or float
        Codes kept per row; where the estimator has it.
    alpha_ : float
        Penalty used; where the estimator has it.
    activation_frequency_ : ndarray of shape (n_components_,)
        Share of the training rows (of `partial_fit`'s last call) on which each latent fires.
    single_target_ : bool
        Whether y was one-dimensional; `predict` then is, too.
    n_components_ : int
        Number of latents.
    batch_size_ : int
        Rows per step.
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
    >>> from sksae import TopKSAE, Transcoder
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(2000, 8))
    >>> Y = np.maximum(X, 0) @ rng.normal(size=(8, 4))
    >>> transcoder = Transcoder(TopKSAE(16, k=4, max_iter=20, random_state=0)).fit(X, Y)
    >>> transcoder.transform(X).shape, transcoder.predict(X).shape
    ((2000, 16), (2000, 4))
    >>> transcoder.score(X, Y) > 0.9
    True
    """

    _param_rules = {"estimator": Autoencoder(), "skip": Bool()}

    def __init__(self, estimator, *, skip=False):
        self.estimator = estimator
        self.skip = skip

    @property
    def _settings(self):
        return self.estimator

    def _make_objective(self, n_features, n_components, n_targets):
        """Return the estimator's objective for targets in another space than the rows."""
        objective = self.estimator._make_objective(n_features, n_components, n_targets)
        objective.pre_bias = False  # the bias of the dictionary is in the space of the targets
        # The encoder has more to find than where its own dictionary points: no halved rate.
        objective.rates = {**objective.rates, "encoder_coef": 1.0}
        if self.skip:
            objective.weights = {**objective.weights, "skip_coef": Weight("td")}
            objective.rates = {**objective.rates, "skip_coef": _SKIP_RATE}
        return objective

    def fit(self, X, y=None, sample_weight=None):
        """Learn the dictionary from the rows of X and their targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows that the encoder reads. A memory-mapped file is read a batch at a time, like that
            of y.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets to predict, computed in the dtype of X.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        ValueError
            If a parameter breaks its rule, X or y is not a finite matrix, or they do not have the
            same number of rows.
        FloatingPointError
            If the loss stops being finite.

        Warns
        -----
        UserWarning
            If all rows are equal, there are more components than rows, `k` is more than there are
            components (all are kept then), held-out rows (those of `early_stopping` or `target_l0`)
            are explained much worse than the others, or training was interrupted.
        ConvergenceWarning
            If reconstructions end much further from the rows than their mean is, as after steps
            that were too large, or a `tol` or a `target_l0` was not reached.
        """
        return super().fit(X, y, sample_weight=sample_weight)

    def partial_fit(self, X, y=None, sample_weight=None):
        """Continue with one pass over X and y, in mini-batches.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The next rows of a stream.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Their targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        ValueError
            With ``early_stopping=True`` or a `target_l0`, which need all rows at once; otherwise
            as `fit`.
        """
        return super().partial_fit(X, y, sample_weight=sample_weight)

    def _check_data(self, X, y, sample_weight, *, reset):
        rows = super()._check_data(X, None, sample_weight, reset=reset)
        targets, single = self._check_targets(rows.X, y, fitted=not reset)
        return rows._replace(targets=targets, attributes={"single_target_": single})

    def _check_targets(self, X, y, *, fitted):
        """Validate y; return it as a matrix, and whether it was one-dimensional."""
        name = type(self).__name__
        if y is None:
            raise ValueError(
                f"This {name} estimator requires y to be passed, but the target y is None."
            )
        with threads_for(0):
            y = as_input(y, "y")
            y = check_array(y, dtype=float_dtypes(y), order="C", ensure_2d=False, input_name="y")
        check_consistent_length(X, y)
        if space_of(X) != space_of(y):
            y = from_torch(to_torch(y), space_of(X))
        single = y.ndim == 1
        targets = y[:, None] if single else y  # (n_samples, n_targets)
        if fitted and targets.shape[1] != self.components_.shape[1]:
            raise ValueError(
                f"y has {targets.shape[1]} targets, but this {name} was fitted with "
                f"{self.components_.shape[1]}."
            )
        return targets, single

    def predict(self, X):
        """Predict the targets of the rows of X from their codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the unit of the training data.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_targets)
            Predictions in the unit of the y given to `fit`, and of its number of dimensions.
        """
        X, space = self._check_new_rows(X, "predict")
        y = _inference.predictions(self._encoder(X), X, space, self._decoder)
        return y[:, 0] if getattr(self, "single_target_", False) else y

    def score(self, X, y=None, sample_weight=None):
        """Explained variance of the targets, pooled over them.

        ``1 - sum |y - y^|^2 / sum |y - mean|^2``, one minus the fraction of variance unexplained.
        Where no target is constant it equals ``r2_score(y, predict(X),
        multioutput="variance_weighted")``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to predict from.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        score : float
            Explained variance, at most 1.
        """
        X, _ = self._check_new_rows(X, "score")
        targets, _ = self._check_targets(X, y, fitted=True)
        return self._explained(X, targets, sample_weight)

    @available_if(_codes_suffice)
    def inverse_transform(self, X):
        """Predict targets from codes, ``X @ components_ + intercept_``.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_components_)
            Codes.

        Returns
        -------
        y : ndarray of shape (n_samples, n_targets)
            Predictions: of y, not of the rows that were transformed.

        Raises
        ------
        AttributeError
            With ``skip=True``: codes do not know what the skip connection adds.
        """
        return super().inverse_transform(X)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
