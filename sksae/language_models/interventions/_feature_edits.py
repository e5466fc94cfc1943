"""Edits of rows in the span of the directions of some features."""

from collections.abc import Mapping
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse

from sksae._params import Float
from sksae.language_models.model import TorchDictionary

_WITHOUT_VALUES = ("ablate", "project_out")
_CODES_AT_A_TIME = 2**24


class Edit(NamedTuple):
    """A change of the rows of a site along the directions of features."""

    dictionary: TorchDictionary
    features: torch.Tensor  # (s,)
    values: torch.Tensor  # (s,), in units of a step along a direction
    directions: torch.Tensor  # (s, width); for projections an orthonormal basis of their span
    how: str
    relative: bool  # whether a step is multiplied with the norm of the row
    only_active: bool = False  # rows change only where a feature fires
    preserve_norm: bool = False  # changed rows get their norm back

    def __call__(self, rows, source):
        """Return the edited rows; codes are made of the rows `source`."""
        step = self._step(rows, source)
        new = rows + step
        if not self.preserve_norm:
            return new
        # (n, 1) each
        old, norm = (torch.linalg.vector_norm(x, dim=-1, keepdim=True) for x in (rows, new))
        changed = (step != 0).any(-1, keepdim=True) & (norm > 0)
        return torch.where(changed, new * (old / norm), new)

    def _step(self, rows, source):
        values, directions = (x.to(rows.device, rows.dtype) for x in (self.values, self.directions))
        if self.how == "project_out":
            # The rows of `directions` are orthonormal: this takes all of their span away.
            step = -(rows @ directions.T) @ directions
            if self.only_active:
                step = step * (self._codes(source) > 0).any(-1, keepdim=True)
            return step
        if self.how == "add" and not self.only_active:  # the same for all rows, summed in float64
            step = (self.values @ self.directions).to(rows.device, rows.dtype).expand_as(rows)
        elif self.how == "add":
            step = (values * (self._codes(source) > 0)) @ directions
        else:
            codes = self._codes(source)
            # (n, s) or a number
            goal = {"clamp": values, "scale": values * codes, "ablate": 0}[self.how]
            gate = codes > 0 if self.only_active else 1
            step = ((goal - codes) * gate) @ directions  # (n, width)
        return (
            # Of unit "norm", steps are given in units of the row's norm.
            step * torch.linalg.vector_norm(rows, dim=-1, keepdim=True) if self.relative else step
        )

    def _codes(self, source):
        """Return the codes of the features in question, (n, s)."""
        # All codes of a row are there for a while only.
        n = max(1, _CODES_AT_A_TIME // self.dictionary.n_features)
        features = self.features.to(source.device)
        return torch.cat([self.dictionary.encode(block)[:, features] for block in source.split(n)])


def read_edit(dictionary, features, how, unit, maxima):
    """Return the `Edit` for the arguments of `steer`, in float64 on the CPU."""
    features, values = _read_features(dictionary, features, how)
    # (s, width), in float64
    directions = dictionary.components(torch.zeros(0, dtype=torch.float64))[features]
    if how == "project_out":
        directions = _basis(directions)
    elif how == "add" and unit == "max":
        values = values * _read_maxima(maxima, features, dictionary.n_features)
    elif how == "add":
        sizes = torch.linalg.vector_norm(directions, dim=1, keepdim=True)
        if not sizes.all():
            nowhere = int(features[(sizes == 0)[:, 0]][0])
            raise ValueError(f"Feature {nowhere} has no direction: its row of components_ is zero.")
        directions = directions / sizes
    return Edit(dictionary, features, values, directions, how, relative=unit == "norm")


def _read_features(dictionary, features, how):
    """Return features and values as tensors, int64 and float64; unused values are 0."""
    if how in _WITHOUT_VALUES:
        numbers = [features] if isinstance(features, Integral) else features
        numbers = dictionary.check_features(_listed(numbers))
        if len(numbers.unique()) < len(numbers):
            raise ValueError(f"A feature is given more than once: {numbers.tolist()}.")
        return numbers, torch.zeros(len(numbers), dtype=torch.float64)
    if not isinstance(features, Mapping):
        raise TypeError(
            f"how={how!r} needs a mapping of features to values, such as {{7: 2.0}}. "
            f"Got {features!r}."
        )
    numbers = dictionary.check_features(features)
    return numbers, _numbers(features, numbers, "The value of feature")


def _listed(features):
    if isinstance(features, str) or not hasattr(features, "__iter__"):
        raise TypeError(f"Features are ints, one or several. Got {features!r}.")
    return list(features)


def _read_maxima(maxima, features, n_features):
    """Return the largest codes of `features`, float64."""
    if maxima is None:
        raise ValueError("unit='max' needs maxima, the largest code of each feature.")
    if not isinstance(maxima, Mapping):
        array = maxima_array(maxima, n_features)
        maxima = {i: array[i].item() for i in features.tolist()}
    largest = _numbers(maxima, features, "The maximum of feature")
    if (largest <= 0).any():
        never = int(features[largest <= 0][0])
        raise ValueError(f"The maximum of feature {never} is not positive: it never fires.")
    return largest


def maxima_array(maxima, n_features):
    """Return largest codes as an array, (n_features,); they may be the maximum of sparse codes."""
    if sparse.issparse(maxima):
        array = maxima.toarray().ravel()
    else:
        array = np.asarray(maxima.cpu() if isinstance(maxima, torch.Tensor) else maxima)
    if array.shape != (n_features,):
        raise ValueError(
            f"maxima must have one number for each of {n_features} features. Got an array of "
            f"shape {array.shape}."
        )
    return array


def _numbers(mapping, features, what):
    """Return the values of a mapping at features, float64, or raise an error that names one."""
    values = []
    for feature in features.tolist():
        if feature not in mapping:
            raise ValueError(f"{what} {feature} is missing.")
        value = mapping[feature]
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
            raise TypeError(f"{what} {feature} must be a number. Got {value!r}.")
        if not Float().accepts(value):
            raise ValueError(f"{what} {feature} must be finite. Got {value!r}.")
        values.append(float(value))
    return torch.tensor(values, dtype=torch.float64)


def _basis(directions):
    """Return an orthonormal basis of the span of some rows, (at most s, width), float64."""
    # Not from QR, which goes wrong where directions repeat each other.
    _, sizes, basis = torch.linalg.svd(directions, full_matrices=False)
    # Singular vectors of values above the rounding.
    return basis[sizes > sizes[0] * len(directions) * torch.finfo(directions.dtype).eps]
