"""Normalisation of every row before encoding, which no weights can absorb."""

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from sksae._arrays import check_rows
from sksae._drafts import on_a_draft
from sksae._params import Option, check_params
from sksae._reprs import DocLinked

_EPSILON = 1e-5


class RowNormalizer(DocLinked, OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Bring every row to the same size, by its own numbers.

    Some autoencoders read rows that were divided by their own size. That is not linear, so that it
    stays a step of its own in front of them, and their reconstructions are of such rows: `restore`
    puts the size of the rows back, which codes do not have.

    Parameters
    ----------
    method : {"layer_norm", "norm"}, default="layer_norm"
        "layer_norm" subtracts the mean of the row and divides by its standard deviation, with
        ``n_features - 1`` as the divisor, plus 1e-5. "norm" scales the row to a norm of
        ``sqrt(n_features)``; a row of zeros stays.

    Attributes
    ----------
    n_features_in_ : int
        Number of features of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features; only if X has string column names.

    See Also
    --------
    read_openai : Reads autoencoders that need it.
    sklearn.preprocessing.Normalizer : Scales rows to unit norm.

    References
    ----------
    .. [1] Gao et al., "Scaling and evaluating sparse autoencoders", 2024, arXiv:2406.04093.

    Examples
    --------
    >>> import numpy as np
    >>> from sksae.formats import RowNormalizer
    >>> X = np.array([[1.0, 2.0, 3.0]])
    >>> normalizer = RowNormalizer().fit(X)
    >>> normalizer.transform(X).round(3)
    array([[-1.,  0.,  1.]])
    >>> normalizer.restore([[-1.0, 0.0, 1.0]], X)
    array([[1., 2., 3.]])
    """

    _param_rules = {"method": Option("layer_norm", "norm")}

    def __init__(self, method="layer_norm"):
        self.method = method

    @on_a_draft
    def fit(self, X, y=None):
        """Check the rows; there is nothing to learn.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The transformer.
        """
        check_params(self)
        check_rows(X, "X")
        validate_data(self, X, dtype=[np.float64, np.float32])
        return self

    def transform(self, X):
        """Normalise rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        X_normalized : ndarray of shape (n_samples, n_features)
            The rows, of the same size all.
        """
        check_is_fitted(self)
        check_rows(X, "X")
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        mean, size = self._of(X)
        if self.method == "layer_norm":
            # As OpenAI's code does, which adds it to the size and not to the variance.
            return (X - mean) / (size + X.dtype.type(_EPSILON))
        return X / size

    def restore(self, X_normalized, X):
        """Give reconstructions of normalised rows the size of the rows themselves.

        Parameters
        ----------
        X_normalized : array-like of shape (n_samples, n_features)
            What an autoencoder makes of `transform` of `X`.
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features)
            Reconstructions in the unit of `X`.

        Raises
        ------
        ValueError
            If there is not a row of one for each row of the other.
        """
        check_is_fitted(self)
        check_rows(X, "X")
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        X_normalized = check_array(X_normalized, dtype=[np.float64, np.float32])
        if X_normalized.shape != X.shape:
            raise ValueError(
                f"Reconstructions of shape {X_normalized.shape} do not belong to rows of shape "
                f"{X.shape}."
            )
        mean, size = self._of(X)
        return X_normalized * size + mean

    def _of(self, X):
        """Mean and size of every row, as columns."""
        if self.method == "layer_norm":
            mean = X.mean(axis=1, keepdims=True)
            squares = np.square(X - mean).sum(axis=1, keepdims=True)
            # Sample standard deviation, (n_samples, 1).
            return mean, np.sqrt(squares / max(X.shape[1] - 1, 1))
        norm = np.linalg.norm(X, axis=1, keepdims=True)
        # Of a row of standard normal numbers it is about 1.
        size = norm / X.dtype.type(np.sqrt(X.shape[1]))
        return np.zeros_like(size), np.where(size > 0, size, 1).astype(X.dtype)

    def __sklearn_is_fitted__(self):
        return hasattr(self, "n_features_in_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
