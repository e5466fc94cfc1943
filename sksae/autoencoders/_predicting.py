"""`PredictingSAE`: a `BaseSAE` whose dictionary is of other activations than its encoder's."""

from sklearn.base import RegressorMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_array, check_consistent_length

from sksae._arrays import as_input, float_dtypes, from_torch, row_weights, space_of, to_torch
from sksae._callbacks import with_callbacks
from sksae._drafts import on_a_draft
from sksae._params import check_params
from sksae._threads import threads_for
from sksae.autoencoders import _fitting, _inference
from sksae.autoencoders._base import BaseSAE


def _codes_tell_all(sae):
    if sae.skip:
        raise AttributeError(
            "The codes alone do not tell what the skip connection adds: use predict(X)."
        )
    return True


class PredictingSAE(RegressorMixin, BaseSAE):
    """A transformer of X to codes, and a regressor from the codes to y."""

    @on_a_draft
    @with_callbacks
    def fit(self, X, y=None, sample_weight=None):
        """Learn the dictionary from the rows of X and their targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            What the encoder reads. A memory-mapped file is read a batch at a time, like that of y.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            What is to be predicted, computed in the dtype of X.
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
            If all rows are equal, `n_components` is more than there are rows, `k` is more than
            there are components (all are kept then), or training was interrupted.
        ConvergenceWarning
            If reconstructions end much further from the rows than their mean is, as after steps
            that were too large, or a `tol` or a `target_l0` was not reached.
        """
        self._check_params()
        _fitting.forget_unless_continued(self)
        X, y, sample_weight = self._check_pairs(X, y, sample_weight, continues=self._continues())
        self.single_target_ = y.ndim == 1
        _fitting.fit(self, X, sample_weight, y, y[:, None] if self.single_target_ else y)
        return self

    @on_a_draft
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
        self._check_params()
        self._check_streams()
        X, y, sample_weight = self._check_pairs(X, y, sample_weight, continues=self._is_fitted())
        self.single_target_ = y.ndim == 1
        _fitting.partial_fit(self, X, sample_weight, y[:, None] if self.single_target_ else y)
        return self

    @property
    def _centre(self):
        return None

    def _check_params(self):
        check_params(self)

    def _check_pairs(self, X, y, sample_weight, *, continues):
        X, sample_weight = self._check_rows(X, sample_weight, reset=not continues)
        return X, self._check_targets(X, y, fitted=continues), sample_weight

    def _check_targets(self, X, y, *, fitted):
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
        n_targets = 1 if y.ndim == 1 else y.shape[1]
        if fitted and n_targets != self.components_.shape[1]:
            raise ValueError(
                f"y has {n_targets} targets, but this {name} was fitted with "
                f"{self.components_.shape[1]}."
            )
        return y

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
        y = _inference.predictions(self._encoder(X, space), X, space, self._decoder)
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
        y = self._check_targets(X, y, fitted=True)
        weight = row_weights(sample_weight, X.shape[0])
        return _fitting.score(self, X, weight, y[:, None] if y.ndim == 1 else y)

    @available_if(_codes_tell_all)
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
