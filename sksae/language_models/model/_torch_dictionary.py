"""Fitted sparse autoencoders and transcoders on tensors of any device and dtype."""

import copy

import numpy as np
import torch
from sklearn.base import is_regressor
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from sksae._arrays import to_torch


class TorchDictionary:
    """Codes and reconstructions of a fitted estimator for tensors of any device and dtype.

    The estimator is seen by `transform` and its fitted attributes. The arithmetic is at least
    float32, whatever the model's is; results come on the device of what is given. Directions are
    those of the site that the estimator writes to, for a transcoder its target.

    Parameters
    ----------
    sae : estimator
        A fitted sparse autoencoder or transcoder.
    width : int, default=None
        The features that the site has which it reads, if it is known.

    Raises
    ------
    TypeError
        If the estimator lacks a method or attribute.
    ValueError
        If it was fitted on rows of another width.
    """

    def __init__(self, sae, width=None):
        sae = fitted_estimator(sae)
        for name in ("components_", "intercept_"):
            if not hasattr(sae, name):
                raise TypeError(
                    f"{type(sae).__name__} has no {name}, as a sparse autoencoder has: give the "
                    f"autoencoder itself."
                )
        if getattr(sae, "sparse_output", False):
            # On a copy: the caller's estimator stays as it is.
            sae = copy.copy(sae).set_params(sparse_output=False)
        self.sae = sae
        self._components = to_torch(sae.components_, "cpu")
        self._intercept = to_torch(sae.intercept_, "cpu")
        skip = getattr(sae, "skip_coef_", None) if is_transcoder(sae) else None
        self._skip = None if skip is None else to_torch(skip, "cpu")
        self._n_read = self._components.shape[1]
        if is_transcoder(sae):
            self._n_read = sae.n_features_in_
        if width is not None:
            self.check_width(width)

    @property
    def n_features(self):
        """Number of features."""
        return len(self._components)

    def check_width(self, width):
        """Raise a ValueError unless the site has as many columns as the estimator was fitted on."""
        if self._n_read != width:
            raise ValueError(
                f"{type(self.sae).__name__} was fitted on {self._n_read} columns, but the "
                f"activations of this site have {width}."
            )

    def check_target_width(self, width):
        """Raise a ValueError unless the site that is written to is as wide as the directions."""
        if self._components.shape[1] != width:
            raise ValueError(
                f"{type(self.sae).__name__} has directions of {self._components.shape[1]} columns, "
                f"but the activations of its target site have {width}."
                + _several_layers(self._components.shape[1], width)
            )

    def check_features(self, features):
        """Return features as an int64 tensor, or raise a ValueError that names the first wrong."""
        array = np.asarray(list(features) if hasattr(features, "__iter__") else features)
        if array.ndim != 1 or not len(array) or array.dtype.kind not in "iu":
            raise ValueError(f"Features are numbers of columns of the codes. Got {features!r}.")
        wrong = array[(array < 0) | (array >= self.n_features)]
        if len(wrong):
            raise ValueError(
                f"There is no feature {wrong[0]}: {type(self.sae).__name__} has "
                f"{self.n_features}, counted from 0."
            )
        return torch.from_numpy(array.astype(np.int64))

    def components(self, x):
        """The directions, (n_features, width), on the device of `x` and in its arithmetic."""
        # Moved once, not for every batch.
        if self._components.device != x.device or self._components.dtype != wide(x):
            self._components = self._components.to(x.device, wide(x))
            self._intercept = self._intercept.to(x.device, wide(x))
        return self._components

    def intercept(self, x):
        """The intercept, (width,), on the device of `x` and in its arithmetic."""
        self.components(x)
        return self._intercept

    @torch.no_grad()
    def encode(self, x):
        """Return the codes of `x`, (..., width), dense: (..., n_features)."""
        self.check_width(x.shape[-1])
        rows = _numpy(x)
        if not len(rows):
            return torch.zeros(*x.shape[:-1], self.n_features, dtype=wide(x), device=x.device)
        codes = to_torch(np.asarray(self.sae.transform(rows)), x.device, wide(x))
        return codes.reshape(*x.shape[:-1], self.n_features)

    def decode(self, codes):
        """Return the reconstructions of codes, (..., n_features): (..., width).

        What a skip connection adds is not among them.
        """
        return codes @ self.components(codes) + self.intercept(codes)

    @torch.no_grad()
    def past_codes(self, x):
        """Return the part of the reconstruction of `x` that no code has, (..., width).

        It is the intercept, and in a transcoder with a skip connection what that adds.
        """
        intercept = self.intercept(x)
        if self._skip is None:
            return intercept.expand(*x.shape[:-1], -1)
        return x.to(wide(x)) @ self._skip.to(x.device, wide(x)).T + intercept  # (..., width)


@torch.no_grad()
def reconstruct(sae, x, width=None, see_codes=None):
    """Return the reconstruction of `x`, (..., n), by a fitted estimator or a pipeline.

    Of a transcoder it is the prediction of the target. The result is on the device of `x`, in the
    dtype of the arithmetic next to it.

    Parameters
    ----------
    sae : estimator
        A fitted estimator, as from `fitted_estimator`.
    x : Tensor of shape (..., n)
        Rows of the site that it reads.
    width : int, default=None
        The columns of the site that it writes to. None is n.
    see_codes : callable, default=None
        It is called with the codes.

    Returns
    -------
    reconstruction : Tensor of shape (..., width)
        The rows.
    """
    rows = _numpy(x)
    width = rows.shape[1] if width is None else width
    if not len(rows):
        return torch.zeros(*x.shape[:-1], width, dtype=wide(x), device=x.device)
    predicts = is_transcoder(sae)
    # A transcoder with a skip connection predicts from rows, not from codes.
    codes = None if predicts and see_codes is None else sae.transform(rows)
    if see_codes is not None:
        see_codes(codes)
    # (n_rows, width), or (n_rows,) of a single target
    rebuilt = np.asarray(sae.predict(rows) if predicts else sae.inverse_transform(codes))
    rebuilt = rebuilt.reshape(len(rows), -1)  # a single target is one-dimensional
    if rebuilt.shape[1] != width:
        raise ValueError(
            f"{type(sae).__name__} makes {rebuilt.shape[1]} columns of the {width} of the site."
            + _several_layers(rebuilt.shape[1], width)
        )
    return to_torch(rebuilt, x.device, wide(x)).reshape(*x.shape[:-1], width)


def _several_layers(n_columns, width):
    """Return the end of a message about columns that may be those of several sites."""
    if n_columns % width:
        return ""
    return (
        f" If they are those of {n_columns // width} layers side by side, it is of use in "
        f"attribution_graph only, for the layer with so many from it to the last."
    )


def check_fitted_on(sae, width, target_width=None):
    """Raise a ValueError if a site has another number of columns than `sae` was fitted on.

    `target_width` is the number of columns of the site that a transcoder writes to.
    """
    expected = getattr(sae, "n_features_in_", width)
    if expected != width:
        raise ValueError(
            f"{type(sae).__name__} was fitted on {expected} columns, but the activations of this "
            f"site have {width}."
        )
    if target_width is not None and is_transcoder(sae):
        # Raises if predictions have another width.
        reconstruct(sae, torch.zeros(1, width), target_width)


def is_transcoder(sae):
    """Whether an estimator predicts another site than it reads."""
    return hasattr(sae, "transform") and is_regressor(sae)


def fitted_estimator(sae):
    """Return the fitted autoencoder or transcoder that stands behind a frozen one or a search."""
    for name in ("transform", "predict" if is_transcoder(sae) else "inverse_transform"):
        if not hasattr(sae, name):
            raise TypeError(
                f"{type(sae).__name__} has no {name}: an autoencoder or a transcoder is needed."
            )
    check_is_fitted(sae)
    if isinstance(sae, FrozenEstimator):
        return fitted_estimator(sae.estimator)
    return getattr(sae, "best_estimator_", sae)


def wide(x):
    """The dtype of arithmetic next to a tensor: float64 for float64, else float32."""
    return torch.float64 if x.dtype is torch.float64 else torch.float32


def _numpy(x):
    """Return a tensor as an array of rows, (n, width)."""
    return x.detach().to("cpu", wide(x)).reshape(-1, x.shape[-1]).numpy()
