"""Fitted sparse autoencoders on tensors of any device and dtype."""

import copy

import numpy as np
import torch
from sklearn.base import is_regressor
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from sksae._arrays import to_torch


class TorchDictionary:
    """Codes and reconstructions of a fitted estimator for tensors of any device and dtype.

    The estimator is seen by `transform`, `inverse_transform` and its fitted attributes. The
    arithmetic is at least float32, whatever the model's is; results come on the device of what is
    given.

    Parameters
    ----------
    sae : estimator
        A fitted sparse autoencoder.
    width : int, default=None
        The features that the site has, if it is known.

    Raises
    ------
    TypeError
        If the estimator lacks a method or attribute.
    ValueError
        If it was fitted on rows of another width.
    """

    def __init__(self, sae, width=None):
        sae = fitted_autoencoder(sae)
        for name in ("components_", "intercept_"):
            if not hasattr(sae, name):
                raise TypeError(
                    f"{type(sae).__name__} has no {name}, as a sparse autoencoder has: give the "
                    f"autoencoder itself."
                )
        if getattr(sae, "sparse_output", False):
            sae = copy.copy(sae).set_params(sparse_output=False)
        self.sae = sae
        self._components = to_torch(sae.components_, "cpu")
        self._intercept = to_torch(sae.intercept_, "cpu")
        if width is not None:
            self.check_width(width)

    @property
    def n_features(self):
        """Number of features."""
        return len(self._components)

    def check_width(self, width):
        """Raise a ValueError unless the site has as many columns as the estimator was fitted on."""
        if self._components.shape[1] != width:
            raise ValueError(
                f"{type(self.sae).__name__} was fitted on {self._components.shape[1]} columns, but "
                f"the activations of this site have {width}."
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
        """Return the reconstructions of codes, (..., n_features): (..., width)."""
        return codes @ self.components(codes) + self.intercept(codes)


@torch.no_grad()
def reconstruct(sae, x, see_codes=None):
    """Return the reconstruction of `x`, (..., width), by a fitted estimator or a pipeline.

    The result has the shape and the device of `x`, and the dtype of the arithmetic next to it.
    A function `see_codes` is called with the codes on the way.
    """
    rows = _numpy(x)
    if not len(rows):
        return x.to(wide(x))
    codes = sae.transform(rows)
    if see_codes is not None:
        see_codes(codes)
    rebuilt = np.asarray(sae.inverse_transform(codes))
    if rebuilt.shape != rows.shape:
        raise ValueError(
            f"{type(sae).__name__} makes {rebuilt.shape[1]} columns of the {rows.shape[1]} of the "
            f"site."
        )
    return to_torch(rebuilt, x.device, wide(x)).reshape(x.shape)


def check_fitted_on(sae, width):
    """Raise a ValueError if a site has another number of columns than `sae` was fitted on."""
    expected = getattr(sae, "n_features_in_", width)
    if expected != width:
        raise ValueError(
            f"{type(sae).__name__} was fitted on {expected} columns, but the activations of this "
            f"site have {width}."
        )


def fitted_autoencoder(sae):
    """Return the fitted estimator that stands behind a frozen one or a search."""
    for name in ("transform", "inverse_transform"):
        if not hasattr(sae, name):
            raise TypeError(f"{type(sae).__name__} has no {name}: an autoencoder is needed.")
    if is_regressor(sae):
        raise TypeError(
            f"{type(sae).__name__} predicts another site than it reads; what is put back here "
            f"is a reconstruction of the same activations: an autoencoder is needed."
        )
    check_is_fitted(sae)
    if isinstance(sae, FrozenEstimator):
        return fitted_autoencoder(sae.estimator)
    return getattr(sae, "best_estimator_", sae)


def wide(x):
    """The dtype of arithmetic next to a tensor: float64 for float64, else float32."""
    return torch.float64 if x.dtype is torch.float64 else torch.float32


def _numpy(x):
    """Return a tensor as an array of rows, (n, width)."""
    return x.detach().to("cpu", wide(x)).reshape(-1, x.shape[-1]).numpy()
