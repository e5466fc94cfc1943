"""`BaseSAE`: the estimator that every variant shares, and the only ``fit``.

A variant is one file that says what differs: its parameter rules, its constructor, and

======================= ==========================================================================
hook                    default
======================= ==========================================================================
`_initial_weights`      unit decoder rows near rows of the data, the encoder 0.3 times them
`_rule`                 abstract: which entries of a batch can have a code or a gradient
`_objective`            abstract: the loss of a batch's entries and their codes, under autograd
`_fitted_rule`          inference: pre-activations above `threshold_` (0 where there is none)
`_fold`, `_unfold`      the affine algebra of `_folding`; variants with more weights add theirs
`_hyperparameters`      nothing; what ``k=None`` or ``alpha=None`` becomes for data of this shape
`_calibrated`           nothing; what inference needs beside the weights of training
`_after_step`           nothing; work between optimiser steps, such as resampling
======================= ==========================================================================
"""

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from sksae._arrays import (
    as_input,
    check_fits_in_memory,
    check_same_space,
    choose_device,
    compute_dtype,
    float_dtypes,
    from_torch,
    row_weights,
    space_of,
    to_torch,
)
from sksae._callbacks import CallbackSupportMixin, with_callbacks
from sksae._drafts import on_a_draft
from sksae._params import Bool, Float, Instance, Int, Option, Pair, Seed, Verbosity, check_params
from sksae._threads import threads_for
from sksae.autoencoders import _fitting, _folding, _inference
from sksae.autoencoders._naming import NamedFeaturesMixin
from sksae.autoencoders._saving import SavingMixin
from sksae.autoencoders._starting import directions
from sksae.kernels import Rule


class BaseSAE(
    SavingMixin, NamedFeaturesMixin, CallbackSupportMixin, TransformerMixin, BaseEstimator
):
    """Everything that sparse autoencoders have in common; see the variants for use."""

    _param_rules = {
        "n_components": Int(1, none=True),
        "expansion_factor": Float(0, open_="low"),
        "max_iter": Int(1, none=True),
        "batch_size": Int(1, none=True),
        "learning_rate": Float(0, open_="low", none=True),
        "learning_rate_warm_up": Float(0, 1),
        "learning_rate_decay": Float(0, 1),
        "betas": Pair(Float(0, 1, open_="high")),
        "max_grad_norm": Float(0, open_="low", none=True),
        "dead_window": Int(1, none=True),
        "normalize": Option("rms", "anthropic", "unit", None),
        "tol": Float(0),
        "n_iter_no_change": Int(1),
        "early_stopping": Bool(),
        "validation_fraction": Float(0, 1, open_="low high"),
        "warm_start": Bool(),
        "sparse_output": Bool(),
        "precision": Option("float32", "bfloat16"),
        "device": Instance(str, description="a str such as 'auto', 'cpu' or 'cuda'"),
        "random_state": Seed(),
        "verbose": Verbosity(),
    }

    def __init__(
        self,
        n_components=None,
        *,
        expansion_factor=8,
        max_iter=None,
        batch_size=None,
        learning_rate=None,
        learning_rate_warm_up=0.0,
        learning_rate_decay=0.4,
        betas=(0.9, 0.99),
        max_grad_norm=1.0,
        dead_window=None,
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
        self.n_components = n_components
        self.expansion_factor = expansion_factor
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_warm_up = learning_rate_warm_up
        self.learning_rate_decay = learning_rate_decay
        self.betas = betas
        self.max_grad_norm = max_grad_norm
        self.dead_window = dead_window
        self.normalize = normalize
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.sparse_output = sparse_output
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    # What a variant overrides --------------------------------------------------------------------

    _unit_norm = ("components",)
    _pre_bias = True
    _alpha_warm_up = 0.0
    _encoder_scale = 0.3
    _fold_names = ("components", "encoder_coef", "encoder_intercept", "intercept")

    @property
    def _weight_names(self):
        """Fitted arrays without which nothing can be transformed, without their underscores."""
        return self._fold_names

    def _initial_weights(self, rows, n_components, generator):
        """Weights in the internal unit, float64 on the CPU: E a multiple of D, biases zero."""
        centre = rows.average(lambda x: x)
        inputs, components = directions(rows, n_components, centre, generator)
        return {
            "components": components,
            "encoder_coef": self._encoder_scale * inputs,
            "encoder_intercept": torch.zeros(n_components, dtype=torch.float64),
            "intercept": centre[rows.parts[-1]],
        }

    def _rule(self, weights):
        """Return the `Rule` of the entries that can have a code or a gradient."""
        raise NotImplementedError

    def _objective(self, entries, alpha, dead):
        """Loss of the `entries` of a batch (see `AllEntries`), and their codes."""
        raise NotImplementedError

    def _hyperparameters(self, n_features, n_components, n_targets):
        """Fitted attributes that stand for parameters left at None, such as ``{"k_": 4}``."""
        return {}

    def _rate_scales(self, plan):
        """Multipliers of the learning rate by weight name."""
        return {"encoder_coef": 0.5}

    def _calibrated(self, weights, engine, rows):
        """Weights that inference needs, from those that training left."""
        return weights

    def _after_step(self, rows, n_steps, generator):
        """Callables ``hook(run)`` to run after every optimiser step."""
        return []

    def _fitted_rule(self):
        """Return the `Rule` of raw-unit pre-activations that are codes, row by row."""
        return Rule(bound=getattr(self, "threshold_", np.zeros(1)))

    def _fold(self, weights, normalization):
        """Fitted arrays by weight name, in raw units, float64."""
        return _folding.fold(weights, normalization, pre_bias=self._pre_bias)

    def _unfold(self, fitted, normalization):
        """Weights that continue from the fitted arrays `fitted` (the inverse of `_fold`)."""
        return _folding.unfold(fitted, normalization, pre_bias=self._pre_bias)

    # Fitting -------------------------------------------------------------------------------------

    @on_a_draft
    @with_callbacks
    def fit(self, X, y=None, sample_weight=None):
        """Learn the dictionary from the rows of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows; float32 and float64 are computed in as they are, anything else in
            float32. A memory-mapped file is read a batch at a time.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows. Integer weights equal repeated rows exactly as long as the data
            fit in one batch, and statistically beyond.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        ValueError
            If a parameter breaks its rule or X is not a finite matrix.
        FloatingPointError
            If the loss stops being finite.

        Warns
        -----
        UserWarning
            If all rows are equal, `n_components` is more than there are rows, `k` is more than
            there are components (all are kept then), or training was interrupted.
        ConvergenceWarning
            If reconstructions end much further from the rows than their mean is, as after steps
            that were too large, or a `tol` or a `target_l0` was not reached.
        """
        check_params(self)
        _fitting.forget_unless_continued(self)
        X, sample_weight = self._check_rows(X, sample_weight, reset=not self._continues())
        _fitting.fit(self, X, sample_weight, y)
        return self

    @on_a_draft
    def partial_fit(self, X, y=None, sample_weight=None):
        """Continue with one pass over X, in mini-batches.

        The unit of training is measured on the first call and kept; the learning rate stays
        constant, because the end is not known. Nothing else differs from `fit`.

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
            With ``early_stopping=True`` or a `target_l0`, which need all rows at once; otherwise
            as `fit`.
        """
        check_params(self)
        self._check_streams()
        X, sample_weight = self._check_rows(X, sample_weight, reset=not self._is_fitted())
        _fitting.partial_fit(self, X, sample_weight)
        return self

    def _check_rows(self, X, sample_weight, *, reset):
        with threads_for(0):  # of a tensor; numpy has no threads here
            X = as_input(X)
            X = validate_data(self, X, reset=reset, dtype=float_dtypes(X), order="C")
        return X, row_weights(sample_weight, X.shape[0])

    def _check_streams(self):
        if self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True.")
        if getattr(self, "target_l0", None) is not None:
            raise ValueError("partial_fit does not support target_l0: set alpha instead.")

    def _is_fitted(self):
        return hasattr(self, "components_")

    def _continues(self):
        return self.warm_start and self._is_fitted()

    # Use -----------------------------------------------------------------------------------------

    def transform(self, X):
        """Sparse non-negative codes of the rows of X, each row on its own.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the unit of the training data.

        Returns
        -------
        codes : {ndarray, sparse matrix} of shape (n_samples, n_components_)
            Codes in the unit of X, CSR with ``sparse_output=True``.

        Raises
        ------
        MemoryError
            If dense codes cannot fit in memory; ``sparse_output=True`` is the remedy.
        """
        X, space = self._check_new_rows(X, "transform")
        if self.sparse_output and space.namespace is not None:
            raise ValueError(
                f"sparse_output=True is available for numpy input only, X is a "
                f"{space.namespace.__name__} array."
            )
        encoder = self._encoder(X, space)
        if self.sparse_output:
            return _inference.csr_codes(encoder, X)
        itemsize = torch.empty(0, dtype=encoder.dtype).element_size()
        check_fits_in_memory((X.shape[0], encoder.width), itemsize, "code matrix")
        return _inference.dense_codes(encoder, X, space)

    def inverse_transform(self, X):
        """Reconstruct rows from codes, ``X @ components_ + intercept_``.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_components_)
            Codes.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features_in_)
            Reconstructed rows.
        """
        check_is_fitted(self)
        with threads_for(0):
            X = as_input(X)
            codes = check_array(X, accept_sparse="csr", dtype=float_dtypes(X)[:2])
        if codes.shape[1] != self.components_.shape[0]:
            raise ValueError(
                f"X has {codes.shape[1]} columns, but this {type(self).__name__} has "
                f"{self.components_.shape[0]} components."
            )
        space = space_of(codes)
        if space.namespace is None:
            dtype = codes.dtype
            components = _inference.as_numpy(self.components_, dtype)
            return _inference.decode(codes, components, _inference.as_numpy(self.intercept_, dtype))
        codes = to_torch(codes)
        components, intercept = to_torch(self.components_), to_torch(self.intercept_)
        return from_torch(
            _inference.decode(codes, components.to(codes), intercept.to(codes)), space
        )

    def score(self, X, y=None, sample_weight=None):
        """Explained variance of the reconstruction, pooled over features.

        ``1 - sum |x - x^|^2 / sum |x - mean|^2``: 1 is perfect, 0 is as good as the mean of X.
        Where no feature is constant it equals ``r2_score(X, X_reconstructed,
        multioutput="variance_weighted")``. The densest model always wins by it: search with a refit
        rule of `sksae.model_selection`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to reconstruct.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        score : float
            Explained variance, at most 1.
        """
        X, _ = self._check_new_rows(X, "score")
        return _fitting.score(self, X, row_weights(sample_weight, X.shape[0]))

    def _check_new_rows(self, X, method):
        check_is_fitted(self)
        X, _ = self._check_rows(X, None, reset=False)
        space = space_of(X)
        check_same_space(self, method, space_of(self.components_), space)
        return X, space

    def _encoder(self, X, space):
        device = choose_device(self.device, space)
        return _inference.Encoder(
            self.encoder_coef_,
            self.encoder_intercept_,
            self._fitted_rule(),
            device,
            compute_dtype(X, device),
            self.precision,
            centre=self._centre,
        )

    @property
    def _centre(self):
        """A point near the rows that the encoder reads, or None where no fitted array is one."""
        return self.intercept_

    @property
    def _decoder(self):
        return self.components_, self.intercept_, getattr(self, "skip_coef_", None)

    # scikit-learn's contract ---------------------------------------------------------------------

    @property
    def _n_features_out(self):
        return self.components_.shape[0]

    def __sklearn_is_fitted__(self):
        return self._is_fitted()

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.array_api_support = not self.sparse_output
        return tags

    def __getstate__(self):
        state = super().__getstate__()
        return {
            name: value.cpu() if isinstance(value, torch.Tensor) else value
            for name, value in state.items()
        }
