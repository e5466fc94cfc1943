"""`BaseSAE`: the estimator that all variants share, and the only ``fit``."""

from typing import NamedTuple

import torch
from sklearn.base import BaseEstimator, TransformerMixin, is_regressor
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from sksae._arrays import (
    as_input,
    check_fits_in_memory,
    check_same_space,
    compute_dtype,
    float_dtypes,
    from_torch,
    row_weights,
    space_of,
    to_torch,
)
from sksae._callbacks import CallbackSupportMixin, with_callbacks
from sksae._drafts import on_a_draft
from sksae._modes import own_modes
from sksae._params import Bool, Float, Instance, Int, Option, Pair, Seed, Verbosity, check_params
from sksae._processes import check_same, highest_over_processes
from sksae._reprs import DocLinked
from sksae._threads import threads_for
from sksae.autoencoders import _inference
from sksae.autoencoders._fit import Fit
from sksae.autoencoders._fitted_arrays import SavingMixin
from sksae.autoencoders._naming import NamedFeaturesMixin, forget_fit
from sksae.autoencoders._resolved_parameters import default_k, work_per_step
from sksae.autoencoders._training_passes import Passes
from sksae.callbacks import Checkpoint
from sksae.training import Batches, default_width

_CPU = torch.device("cpu")
_SCORED_ROWS = 4096
# Parameters that processes which fit together may have different values of.
_OF_A_PROCESS = {"device", "random_state", "verbose"}


class Rows(NamedTuple):
    """Validated training data, and fitted attributes that only the validation knows."""

    X: object
    targets: object
    weight: torch.Tensor | None
    attributes: dict = {}


class BaseSAE(
    DocLinked,
    SavingMixin,
    NamedFeaturesMixin,
    CallbackSupportMixin,
    TransformerMixin,
    BaseEstimator,
):
    """The common part of sparse autoencoders; see the variants for use.

    A variant adds its docstring, `_param_rules`, ``__init__`` and `_make_objective`.
    """

    _param_rules = {
        "n_components": Int(1, none=True),
        "expansion_factor": Float(0, open_="low", none=True),
        "max_iter": Int(1, none=True),
        "batch_size": Int(1, none=True),
        "learning_rate": Float(0, open_="low", none=True),
        "learning_rate_warm_up": Float(0, 1),
        "learning_rate_decay": Float(0, 1),
        "betas": Pair(Float(0, 1, open_="high"), none=True),
        "max_grad_norm": Float(0, open_="low", none=True),
        "dead_window": Int(1, none=True),
        "normalize": Option("rms", "anthropic", "unit", None),
        "tol": Float(0),
        "n_iter_no_change": Int(1),
        "early_stopping": Bool(),
        "validation_fraction": Float(0, 1, open_="low high"),
        "warm_start": Bool(),
        "sparse_output": Bool(),
        "precision": Option("auto", "float32", "float64", "bfloat16"),
        "device": Instance(str, description="a str such as 'auto', 'cpu' or 'cuda'"),
        "random_state": Seed(),
        "verbose": Verbosity(),
    }

    def __init__(
        self,
        n_components=None,
        *,
        expansion_factor=None,
        max_iter=None,
        batch_size=None,
        learning_rate=None,
        learning_rate_warm_up=0.0,
        learning_rate_decay=0.4,
        betas=None,
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
        precision="auto",
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

    def _make_objective(self, n_features, n_components, n_targets):
        """Return the `Objective` of a fit to data of this shape, with all parameters resolved."""
        raise NotImplementedError

    def _default_width(self, n_samples, n_features):
        """Return the number of latents where neither of its parameters is given."""
        k = (self.k or default_k(n_features)) if "k" in self._param_rules else None
        return default_width(n_samples, n_features, k)

    @property
    def _settings(self):
        """The estimator whose parameters of training and inference hold for this one."""
        return self

    def _check_data(self, X, y, sample_weight, *, reset):
        """Validate training data; return `Rows`."""
        with threads_for(0):  # of a tensor; numpy has no threads here
            X = as_input(X)
            X = validate_data(self, X, reset=reset, dtype=float_dtypes(X), order="C")
        weight = row_weights(sample_weight, X.shape[0], highest=highest_over_processes)
        return Rows(X, None, weight)

    # Fitting -------------------------------------------------------------------------------------

    @on_a_draft
    @with_callbacks
    def fit(self, X, y=None, sample_weight=None):
        """Learn the dictionary from the rows of X.

        Processes of an initialised `torch.distributed` fit together, each on rows of its own.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows; float64 is read as it is, anything else as float32. A memory-mapped file
            is read a batch at a time.
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
            If all rows are equal, there are more components than rows, `k` is more than there are
            components (all are kept then), held-out rows (those of `early_stopping` or `target_l0`)
            are explained much worse than the others, or training was interrupted.
        ConvergenceWarning
            If reconstructions end much further from the rows than their mean is, as after steps
            that were too large, or a `tol` or a `target_l0` was not reached.
        """
        return self._learn(X, y, sample_weight, streams=False)

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
        return self._learn(X, y, sample_weight, streams=True)

    def _learn(self, X, y, sample_weight, *, streams):
        """Validate, train and keep the result: a whole fit, or one pass of a stream."""
        check_params(self)
        if self._settings is not self:
            check_params(self._settings)
        if streams and self._settings.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True.")
        continues = self._is_fitted() if streams else self._continues()
        check_same(lambda: self._shared_facts(sample_weight))
        if not continues:
            forget_fit(self)
        data = self._check_data(X, y, sample_weight, reset=not continues)
        vars(self).update(data.attributes)
        with own_modes(), threads_for(work_per_step(self, data.X, streams=streams)):
            checkpoint = None if streams else Checkpoint.of(self)
            seed = None if checkpoint is None else checkpoint.seed()
            fit = Fit(self, data.X, data.targets, data.weight, streams=streams, seed=seed)
            self._train(fit, data, y, streams=streams)
        return self

    def _shared_facts(self, sample_weight):
        """Return what has to be the same in all processes that fit together, by name."""
        callbacks = [type(callback).__name__ for callback in getattr(self, "_skl_callbacks", [])]
        facts = {
            "the class": type(self).__name__,
            "whether there is a fit to continue": self._is_fitted(),
            "whether there are sample weights": sample_weight is not None,
            "the list of callbacks": callbacks,
            **self.get_params(),
        }
        return {
            # Of an estimator as a parameter, its parameters are among them.
            name: type(value).__name__ if hasattr(value, "get_params") else repr(value)
            for name, value in facts.items()
            if name.rpartition("__")[2] not in _OF_A_PROCESS
        }

    def _train(self, fit, data, y, *, streams):
        """Make the passes of a fit, or one of a stream, and keep the result."""
        if streams:
            fit.train_pass()
            self._keep(fit.result())
            return
        passes = Passes(self, fit, data.X, y, data.weight)
        passes.make()
        self._keep(fit.result())
        passes.end()

    def _keep(self, attributes):
        """Take over fitted attributes, and remove those of the objective before."""
        if "_objective" in vars(self):  # of the fit before
            for name in (*self._objective.declared, *self._objective.resolved):
                vars(self).pop(name + "_", None)
        vars(self).pop("validation_scores_", None)
        vars(self).update(attributes)

    def _is_fitted(self):
        return hasattr(self, "components_")

    def _continues(self):
        return self._settings.warm_start and self._is_fitted()

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
        sparse_output = self._settings.sparse_output
        if sparse_output and space.namespace is not None:
            raise ValueError(
                f"sparse_output=True is available for numpy input only, X is a "
                f"{space.namespace.__name__} array."
            )
        encoder = self._encoder(X)
        if sparse_output:
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
        return self._explained(X, None, sample_weight)

    def _explained(self, X, targets, sample_weight, decoder=None):
        """Explained variance of X, or of targets that it predicts, by this decoder or its own."""
        weight = row_weights(sample_weight, X.shape[0])
        rows = Batches(X, weight, _SCORED_ROWS, compute_dtype(X, _CPU), _CPU, targets=targets)
        options = {"rows": rows, "weight": weight, "targets": targets}
        return _inference.pooled_r2(self._encoder(X), X, decoder or self._decoder, **options)

    def _check_new_rows(self, X, method):
        check_is_fitted(self)
        X = BaseSAE._check_data(self, X, None, None, reset=False).X
        space = space_of(X)
        check_same_space(self, method, space_of(self.components_), space)
        return X, space

    def _encoder(self, X):
        # The intercept is near the rows that are read, unless others are predicted from them.
        centre = None if is_regressor(self) else self.intercept_
        return _inference.encoder_of(vars(self), self._settings, X, centre=centre)

    @property
    def _decoder(self):
        linear_maps = (getattr(self, name + "_") for name in self._objective.linear_maps)
        return self.components_, self.intercept_, *linear_maps

    # scikit-learn's contract ---------------------------------------------------------------------

    @property
    def _n_features_out(self):
        return self.components_.shape[0]

    def __sklearn_is_fitted__(self):
        return self._is_fitted()

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.array_api_support = not getattr(self._settings, "sparse_output", False)
        return tags

    def __getstate__(self):
        state = super().__getstate__()
        return {
            name: value.cpu() if isinstance(value, torch.Tensor) else value
            for name, value in state.items()
        }


class Autoencoder:
    """Rule of the `estimator` parameter of a meta-estimator."""

    def accepts(self, value):
        """Whether `value` is an autoencoder of rows by themselves."""
        return isinstance(value, BaseSAE) and value._settings is value

    def __str__(self):
        return "a sparse autoencoder such as TopKSAE()"
